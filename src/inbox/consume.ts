/** The consumer: hands each message of a queue's batch to the inbox of its object. */

import { type OutboxEnvelope, readEnvelope } from "../envelope.js";
import { expected } from "../errors.js";
import { within } from "../options.js";
import type { InboxOutcome, InboxReceiver } from "./inbox.js";

/** A stub of an object with an inbox, as far as the consumer uses it. */
export type InboxStub = Pick<InboxReceiver, "receiveMessages"> & { readonly id: DurableObjectId };

export interface ConsumeOptions<E> {
  /** The object for which a message is meant: a stub of it, made anew at each call. One that throws leaves its message to the queue's retries. */
  route: (envelope: OutboxEnvelope, env: E) => InboxStub;
  /** How long the queue waits before it delivers a message again that was not taken, in seconds. Default: the queue's own. From 0 to 43,200. */
  retryDelaySeconds?: number;
  /** Told of what was not taken. What it throws is ignored. */
  onFailure?: (failure: { readonly id: string; readonly error: unknown }) => void;
}

/** The messages of a batch that go to one object. */
interface Group {
  readonly stub: InboxStub;
  readonly messages: { readonly message: Message<unknown>; readonly envelope: OutboxEnvelope }[];
}

/** So many messages go in one call. */
const MOST_MESSAGES = 100;
/** What Queues takes (https://developers.cloudflare.com/queues/configuration/batching-retries/). */
const MOST_DELAY_SECONDS = 43_200;

/**
 * Hands a batch to the inboxes of its objects: one call for each, all at the same time. Each message is acked or retried by itself: what was
 * processed, known or stored is acked, the rest goes back to the queue. Never throws because of a message.
 *
 * @example
 * async queue(batch, env) {
 *   await consumeQueue(batch, env, { route: ({ key }) => env.TABLES.getByName(key) });
 * }
 */
export async function consumeQueue<E>(batch: MessageBatch<unknown>, env: E, options: ConsumeOptions<E>): Promise<void> {
  const { route, retryDelaySeconds, onFailure } = options;
  if (typeof route !== "function") throw expected("options.route", "a function", route);
  within("options.retryDelaySeconds", retryDelaySeconds, [0, 0, MOST_DELAY_SECONDS]);
  const retry = (message: Message<unknown>, id: string, error: unknown): void => {
    message.retry(retryDelaySeconds === undefined ? undefined : { delaySeconds: retryDelaySeconds });
    try {
      onFailure?.({ id, error });
    } catch {
      // Whoever listens must not change what happens.
    }
  };

  const groups = new Map<string, Group>();
  for (const message of batch.messages) {
    try {
      const envelope = readEnvelope(message.body);
      const stub = route(envelope, env);
      // Two objects whose stubs have no id would be taken for one.
      if (Object(stub.id) !== stub.id) throw expected("options.route()", "a stub", stub);
      const name = String(stub.id);
      const group = groups.get(name) ?? { stub, messages: [] };
      group.messages.push({ message, envelope });
      groups.set(name, group);
    } catch (error) {
      retry(message, message.id, error);
    }
  }

  async function hand({ stub, messages }: Group): Promise<void> {
    for (let from = 0; from < messages.length; from += MOST_MESSAGES) {
      const part = messages.slice(from, from + MOST_MESSAGES);
      const answer = await received(stub, part);
      for (const [i, { message, envelope }] of part.entries()) {
        const outcome: InboxOutcome | undefined = Array.isArray(answer) ? answer[i] : undefined;
        if (outcome && outcome.id === envelope.id && outcome.status !== "failed") message.ack();
        else retry(message, envelope.id, outcome?.error ?? answer);
      }
    }
  }
  await Promise.all(Array.from(groups.values(), hand));
}

/** What the object says, or the error of its call. */
async function received(stub: InboxStub, part: Group["messages"]): Promise<unknown> {
  try {
    return await stub.receiveMessages(part.map(({ envelope }) => envelope));
  } catch (error) {
    return error;
  }
}
