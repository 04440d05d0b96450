/** The destination that is a Cloudflare Queue: splits messages by the limits of `sendBatch`. */

import { envelopeOf } from "../api/envelope.js";
import { expected, textOf } from "../api/errors.js";
import { known } from "../api/known.js";
import type { OutboxDelivery, OutboxMessage } from "../api/message.js";
import { uncloneable } from "../api/uncloneable.js";
import { contentBytes, jsonOf, serializedBytes } from "../storage/size.js";
import { checkDelivery, chunks, type Destination } from "./destination.js";
import { jsonText } from "./json.js";
import { type Sharded, shardsOf, type Unsent } from "./shards.js";

/** Options of `toQueue`, all optional. */
export interface QueueOptions<M = unknown> {
  /** What is sent for a message. Default: its envelope (docs/envelope.md). If it throws or returns `undefined`, the message becomes a dead letter. */
  body?: (message: OutboxMessage<M>) => unknown;
  /**
   * The content type of every body. Default: `"json"` if JSON can represent the body, `"v8"` otherwise. `"text"` accepts strings, `"bytes"` array buffer
   * views, `"json"` what JSON can represent; a message with any other body becomes a dead letter.
   */
  contentType?: QueueContentType;
  /**
   * With several queues, and needed there: how messages are shared out. `"key"`: messages of one ordering key go to one queue, always the same as long as
   * the list of queues is. Those without a key go to any that works.
   */
  shardBy?: "key";
}

/**
 * The limits of Queues, from its documentation (https://developers.cloudflare.com/queues/platform/limits/): 128 KB a
 * message, and 100 messages and 256 KB a batch, where 1 KB is 1,000 bytes and each message adds up to 100 bytes of
 * metadata. The local queue counts no metadata and accepts 288 KB a batch.
 */
const MAX_MESSAGES = 100;
const MAX_MESSAGE_BYTES = 128_000;
const MAX_BATCH_BYTES = 256_000;
const METADATA_BYTES = 100;

/** The end of the error for a message that is too large, from https://developers.cloudflare.com/queues/reference/error-codes/. */
const TOO_LARGE = "(10204)";

/** A queue that gets too much at a time says so in words, or by the status of its answer. No message is to blame. */
const THROTTLED = /overload|too many requests|\b429\b|\(10250\)/i;

/** So many queues may share the messages of one destination. */
const MAX_QUEUES = 100;

const CONTENT_TYPES: unknown[] = ["json", "v8", "text", "bytes"];

interface Request extends MessageSendRequest<unknown>, Sharded {
  /** With its metadata. Never too few. */
  readonly bytes: number;
}

/**
 * Sends messages to a queue, in order, in as few `sendBatch` calls as its limits allow. A message that does not fit in
 * one becomes a dead letter, and the others are sent. When a call fails, everything sent before it is delivered and
 * the error is thrown: the queue is failing, not a message. One that says that it gets too much is waited out without blame for any message.
 *
 * Several queues take several times as much (5,000 messages a second each): with `shardBy: "key"` each ordering key has its queue, so its order holds.
 * While one queue fails, or does not answer within 10 s, messages without a key go to the others, and those with a key wait for theirs without an attempt
 * counted.
 *
 * @throws TypeError when an argument is wrong.
 *
 * @example
 * class Orders extends DurableObject<Env> {
 *   sendMessages = toQueue(this.env.ORDERS_QUEUE);
 * }
 */
export function toQueue<M = unknown>(queue: Queue<never> | readonly Queue<never>[], options: QueueOptions<M> = {}): Destination<M> {
  const isList = Array.isArray(queue);
  const queues: readonly Queue[] = isList ? [...queue] : [queue as Queue];
  for (const each of queues as readonly (Queue | undefined)[]) {
    if (typeof each?.sendBatch !== "function") throw expected("queue", "a queue's binding", each);
  }
  if (queues.length === 0 || queues.length > MAX_QUEUES) throw expected("queue", `1 to ${MAX_QUEUES} queues`, queue);
  const { body = envelopeOf, contentType, shardBy } = known("options", options, ["body", "contentType", "shardBy"]);
  if (shardBy !== (isList ? "key" : undefined)) {
    throw expected("options.shardBy", isList ? '"key" with a list of queues' : "left out with one queue", shardBy);
  }
  if (typeof body !== "function") throw expected("options.body", "a function", body);
  if (contentType !== undefined && !CONTENT_TYPES.includes(contentType)) {
    throw expected("options.contentType", '"json", "v8", "text" or "bytes"', contentType);
  }
  const shards = isList ? shardsOf<Request>(queues.length) : null;

  async function send(messages: OutboxMessage<M>[], delivery: OutboxDelivery): Promise<void> {
    checkDelivery(delivery);
    const requests: Request[] = [];
    for (const message of messages) {
      try {
        requests.push(request(message, body(message), contentType));
      } catch (error) {
        delivery.reject(message.id, textOf(error));
      }
    }
    if (shards) return await shards.send(requests, delivery, (shard, part, own) => sendAll(queues[shard] as Queue, part, own));
    const unsent = await sendAll(queues[0] as Queue, requests, delivery);
    if (unsent) throw unsent.error;
  }

  // What is set aside here takes along all that follows it of its key.
  return Object.assign(send, { ordering: "batch" as const });
}

/** Sends to one queue, until that fails: then returns what was not sent. */
async function sendAll(queue: Queue, requests: readonly Request[], delivery: OutboxDelivery): Promise<Unsent<Request> | null> {
  const parts = chunks(requests, MAX_MESSAGES, MAX_BATCH_BYTES);
  for (const [i, chunk] of parts.entries()) {
    // After the timeout the outbox sends the rest again, and would send it twice.
    if (i > 0) delivery.signal.throwIfAborted();
    try {
      await queue.sendBatch(chunk.map(({ body, contentType }) => ({ body, contentType }) as MessageSendRequest));
      for (const { id } of chunk) delivery.ack(id);
    } catch (error) {
      const [first, second] = chunk;
      const text = textOf(error);
      if (first && !second && text.endsWith(TOO_LARGE)) delivery.reject(first.id, tooLarge(first.bytes));
      else {
        const throttled = THROTTLED.test(text) && Object.assign(new Error(text, { cause: error }), { throttled: true });
        return { rest: parts.slice(i).flat(), error: throttled || error };
      }
    }
  }
  return null;
}

/** A message as `sendBatch` takes it. @throws Error that says why no queue can take it. */
function request(message: Pick<OutboxMessage, "id" | "key">, given: unknown, forced: QueueContentType | undefined): Request {
  if (given === undefined) throw new Error("A queue does not accept an undefined body.");
  // Each part takes two bytes at least: what has more of them is too large as JSON.
  const json = forced ? undefined : jsonOf(given, MAX_MESSAGE_BYTES / 2);
  const contentType = forced ?? (json === undefined ? "v8" : "json");
  const { body, least, most } = measured(given, contentType, json);
  if (least + METADATA_BYTES > MAX_MESSAGE_BYTES) throw new Error(tooLarge(least + METADATA_BYTES));
  return { id: message.id, key: message.key, body, contentType, bytes: most + METADATA_BYTES };
}

/**
 * The body, and a lower and an upper bound of its bytes: they are equal, except for `"v8"`. If only the queue can tell whether it fits, the message is sent
 * alone, since the batch then counts as full. A copy if a second read could return something else, or throw: what was measured is what is sent.
 */
function measured(
  given: unknown,
  contentType: QueueContentType,
  json?: string,
): { readonly body: unknown; readonly least: number; readonly most: number } {
  if (contentType === "v8") {
    const body = cloned(given);
    return { body, least: contentBytes(body), most: serializedBytes(body) };
  }
  if (contentType === "bytes") {
    if (!ArrayBuffer.isView(given)) throw new Error('A queue accepts only array buffer views as "bytes".');
    return { body: given, least: given.byteLength, most: given.byteLength };
  }
  const text = contentType === "json" ? (json ?? jsonText(given)) : given;
  if (typeof text !== "string") throw new Error(`A queue does not accept this body as "${contentType}".`);
  const { length } = new TextEncoder().encode(text);
  return { body: contentType === "json" ? JSON.parse(text) : text, least: length, most: length };
}

function cloned(body: unknown): unknown {
  try {
    return structuredClone(body);
  } catch (cause) {
    throw uncloneable("body", body, cause);
  }
}

function tooLarge(bytes: number): string {
  return `The message takes ${bytes} bytes with its metadata; the limit of a queue is ${MAX_MESSAGE_BYTES}.`;
}
