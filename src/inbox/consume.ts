/** The consumer: passes each message of a queue's batch to the inbox of its object. */

import { type OutboxEnvelope, readEnvelope } from "../api/envelope.js";
import { expected, textOf } from "../api/errors.js";
import { type EventError, type EventMessage, eventMessage } from "../api/events.js";
import { known } from "../api/known.js";
import { logOf, notify } from "../api/report.js";
import { explained } from "../api/rpc.js";
import { within } from "../api/within.js";
import type { InboxOutcome, InboxReceiver } from "./inbox.js";

/** A stub of an object with an inbox, as far as the consumer uses it. */
export type InboxStub = Pick<InboxReceiver, "receiveMessages"> & { readonly id: DurableObjectId };

export interface ConsumeOptions<E, M = unknown> {
  /** Returns a fresh stub of the object that gets the message. If it throws, the message is left to the queue's retries. */
  route: (envelope: OutboxEnvelope<M>, env: E) => InboxStub;
  /** How long the queue waits before it redelivers a message that was not accepted, in seconds. Default: the queue's own. From 0 to 43,200. */
  retryDelaySeconds?: number;
  /** Called for each message that was not accepted. What it throws is ignored. */
  onFailure?: (failure: ConsumeFailure) => void;
}

/** A message that was not accepted, and that the queue redelivers. */
export interface ConsumeFailure extends EventMessage, EventError {
  readonly queue: string;
  /** How often the queue has delivered it, this time included. */
  readonly attempts: number;
}

/** The message in a body: `unknown` unless the batch is typed as `MessageBatch<OutboxEnvelope<M>>`. */
export type MessageIn<B> = B extends OutboxEnvelope<infer M> ? M : unknown;

/** The messages of a batch that go to one object. */
interface Group {
  readonly stub: InboxStub;
  readonly messages: { readonly message: Message<unknown>; readonly envelope: OutboxEnvelope }[];
}

/** The most messages in one call. */
const MOST_MESSAGES = 100;
/** An object that has not answered after this, in milliseconds, has failed: the platform ends a consumer after 15 minutes, and others have been acked. */
const CALL_MS = 300_000;
const NO_OUTCOME = "receiveMessages() returned no outcome for this message.";
/** A consumer reports for many objects: how many lines at once. */
const warn = logOf("warn", 20);
/** The limit of Queues (https://developers.cloudflare.com/queues/configuration/batching-retries/). */
const MOST_DELAY_SECONDS = 43_200;

/**
 * Passes a batch to the inboxes of its objects: one call each, all at the same time. Each message is acked or retried on its own: messages that were
 * processed, already known or stored are acked, the rest go back to the queue, as do those of an object that does not answer within five minutes. Never
 * throws because of a message.
 *
 * @example
 * async queue(batch: MessageBatch<OutboxEnvelope<Booked>>, env: Env) {
 *   await consumeQueue(batch, env, { route: ({ msg }) => env.TABLES.getByName(msg.table) });
 * }
 */
export async function consumeQueue<E, B = unknown>(
  batch: MessageBatch<B>,
  env: E,
  options: ConsumeOptions<E, MessageIn<B>>,
): Promise<void> {
  const { route, retryDelaySeconds, onFailure } = known("options", options, ["route", "retryDelaySeconds", "onFailure"]);
  if (typeof route !== "function") throw expected("options.route", "a function", route);
  within("options.retryDelaySeconds", retryDelaySeconds, [0, 0, MOST_DELAY_SECONDS]);
  const retry = (message: Message<unknown>, envelope: OutboxEnvelope | undefined, cause: unknown): void => {
    message.retry(retryDelaySeconds === undefined ? undefined : { delaySeconds: retryDelaySeconds });
    const { queue } = batch;
    const { attempts } = message;
    const about = eventMessage(envelope?.id ?? message.id, envelope?.key, envelope?.msg);
    const error = textOf(cause);
    notify(onFailure, { queue, ...about, attempts, error, cause });
    const { id, key, messageType: type } = about;
    if (attempts <= 1) warn("consumeQueue() retries a message", error, { queue, id, key, type, attempts }, "The queue delivers it again.");
  };

  const groups = new Map<string, Group>();
  for (const message of batch.messages) {
    let envelope: OutboxEnvelope | undefined;
    try {
      envelope = readEnvelope(message.body);
      const stub: InboxStub | undefined = route(envelope as OutboxEnvelope<MessageIn<B>>, env);
      // Two objects whose stubs have no id would be confused.
      if (!stub || Object(stub.id) !== stub.id) throw expected("options.route()", "a stub of the object for this message", stub);
      const name = String(stub.id);
      const group = groups.get(name) ?? { stub, messages: [] };
      group.messages.push({ message, envelope });
      groups.set(name, group);
    } catch (error) {
      retry(message, envelope, error);
    }
  }

  async function hand({ stub, messages }: Group): Promise<void> {
    for (let from = 0; from < messages.length; from += MOST_MESSAGES) {
      const part = messages.slice(from, from + MOST_MESSAGES);
      const answer = await received(stub, part);
      for (const [i, { message, envelope }] of part.entries()) {
        const outcome = Array.isArray(answer) ? (answer[i] as InboxOutcome | undefined) : undefined;
        if (outcome && outcome.id === envelope.id && outcome.status !== "failed") message.ack();
        else retry(message, envelope, Array.isArray(answer) ? (outcome?.error ?? NO_OUTCOME) : answer);
      }
    }
  }
  await Promise.all(Array.from(groups.values(), hand));
}

/** The object's answer, a list, or the error of its call. */
async function received(stub: InboxStub, part: Group["messages"]): Promise<unknown> {
  let timer: number | null = null;
  try {
    const call = stub.receiveMessages(part.map(({ envelope }) => envelope));
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`The object has not answered within ${CALL_MS / 1000} s.`)), CALL_MS);
    });
    const answer: unknown = await Promise.race([call, late]);
    return Array.isArray(answer) ? answer : new Error("receiveMessages() returned no list.");
  } catch (error) {
    return explained(error);
  } finally {
    clearTimeout(timer);
  }
}
