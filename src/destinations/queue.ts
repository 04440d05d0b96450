/** The destination that is a Cloudflare Queue: splits what it gets by the limits of `sendBatch`. */

import { textOf } from "../call.js";
import { envelopeOf } from "../envelope.js";
import { expected } from "../errors.js";
import type { OutboxMessage } from "../message.js";
import { contentBytes, isJson, serializedBytes } from "../size.js";
import { checkDelivery, chunks, type Destination, known } from "./destination.js";

/** Options of `toQueue`, all optional. */
export interface QueueOptions<M = unknown> {
  /** What is sent of a message. Default: its envelope, version 1 (docs/envelope.md). What throws or gives `undefined` makes a dead letter. */
  body?: (message: OutboxMessage<M>) => unknown;
  /**
   * The content type of every body. Default: `"json"` where JSON holds the body, `"v8"` otherwise. `"text"` takes
   * strings, `"bytes"` takes array buffer views; a body of another type makes a dead letter.
   */
  contentType?: QueueContentType;
}

/**
 * What Queues takes, from its documentation (https://developers.cloudflare.com/queues/platform/limits/): 128 KB a
 * message, and 100 messages and 256 KB a batch, where 1 KB is 1,000 bytes and a message counts with up to 100 bytes of
 * metadata. The local queue counts no metadata and takes 288 KB a batch.
 */
const MAX_MESSAGES = 100;
const MAX_MESSAGE_BYTES = 128_000;
const MAX_BATCH_BYTES = 256_000;
const METADATA_BYTES = 100;

/** What the error of a message that is too large ends with, from https://developers.cloudflare.com/queues/reference/error-codes/. */
const TOO_LARGE = "(10204)";

const CONTENT_TYPES: unknown[] = ["json", "v8", "text", "bytes"];

interface Request extends MessageSendRequest<unknown> {
  readonly id: string;
  /** With its metadata. Never too few. */
  readonly bytes: number;
}

/**
 * Sends messages to a queue, in order, in as few `sendBatch` calls as its limits allow. A message that does not fit in
 * one becomes a dead letter, and its neighbours are sent. When a call fails, what was sent before it is delivered and
 * the error is thrown: the queue is in trouble, no message is.
 *
 * @throws TypeError when an argument is wrong.
 *
 * @example
 * class Orders extends DurableObject<Env> {
 *   sendMessages = toQueue(this.env.ORDERS_QUEUE);
 * }
 */
export function toQueue<M = unknown>(queue: Queue<never>, options: QueueOptions<M> = {}): Destination<M> {
  if (typeof (queue as unknown as Queue | undefined)?.sendBatch !== "function") throw expected("queue", "a queue's binding", queue);
  const { body = envelopeOf, contentType } = known(options, "body", "contentType");
  if (typeof body !== "function") throw expected("options.body", "a function", body);
  if (contentType !== undefined && !CONTENT_TYPES.includes(contentType)) {
    throw expected("options.contentType", '"json", "v8", "text" or "bytes"', contentType);
  }

  // One declared parameter: the outbox then hands over full batches. With two it would give one message of each ordering
  // key at a time, so that one set aside is not overtaken; but nothing is ever set aside here.
  return async (messages, ...[delivery]) => {
    checkDelivery(delivery);
    const requests: Request[] = [];
    for (const message of messages) {
      try {
        requests.push(request(message.id, body(message), contentType));
      } catch (error) {
        delivery.reject(message.id, textOf(error));
      }
    }
    for (const [i, chunk] of chunks(requests, MAX_MESSAGES, MAX_BATCH_BYTES).entries()) {
      // After the timeout the outbox sends the rest again, and would send it twice.
      if (i > 0) delivery.signal.throwIfAborted();
      try {
        await (queue as Queue).sendBatch(chunk.map(({ body, contentType }) => ({ body, contentType }) as MessageSendRequest));
        for (const { id } of chunk) delivery.ack(id);
      } catch (error) {
        const [first, second] = chunk;
        if (!first || second || !textOf(error).endsWith(TOO_LARGE)) throw error;
        delivery.reject(first.id, tooLarge(first.bytes));
      }
    }
  };
}

/** A message as `sendBatch` takes it. @throws Error that says why no queue can take it. */
function request(id: string, body: unknown, forced: QueueContentType | undefined): Request {
  if (body === undefined) throw new Error("A queue takes no body that is undefined.");
  const contentType = forced ?? (isJson(body) ? "json" : "v8");
  const [least, most] = bytesOf(body, contentType);
  if (least + METADATA_BYTES > MAX_MESSAGE_BYTES) throw new Error(tooLarge(least + METADATA_BYTES));
  return { id, body, contentType, bytes: most + METADATA_BYTES };
}

/**
 * The least and the greatest number of bytes that a body takes: the same, but for `"v8"`. Where only the queue can tell
 * whether that fits, the message goes alone, since the batch then counts as full.
 */
function bytesOf(body: unknown, contentType: QueueContentType): readonly [least: number, most: number] {
  if (contentType === "v8") {
    structuredClone(body);
    return [contentBytes(body), serializedBytes(body)];
  }
  if (contentType === "bytes") {
    if (!ArrayBuffer.isView(body)) throw new Error('A queue takes array buffer views as "bytes".');
    return [body.byteLength, body.byteLength];
  }
  const text: unknown = contentType === "json" ? JSON.stringify(body) : body;
  if (typeof text !== "string") throw new Error(`A queue does not take this body as "${contentType}".`);
  const { length } = new TextEncoder().encode(text);
  return [length, length];
}

function tooLarge(bytes: number): string {
  return `The message takes ${bytes} bytes with its metadata, the limit of a queue is ${MAX_MESSAGE_BYTES}.`;
}
