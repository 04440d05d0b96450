/** The destination that is another Durable Object's inbox: groups what it gets by target and calls each over RPC. */

import { textOf } from "../call.js";
import { envelopeOf, type OutboxEnvelope } from "../envelope.js";
import { expected } from "../errors.js";
import type { OutboxDelivery, OutboxMessage } from "../message.js";
import { within } from "../options.js";
import { serializedBytes } from "../size.js";
import { checkDelivery, chunks, type Destination, known, limiter, settleGroups } from "./destination.js";

/** What an inbox says of one message. */
export interface InboxResult {
  readonly id: string;
  /**
   * `processed`, `duplicate` (it was processed before) and `waiting` (it is stored there, until those before it have
   * come) are delivered; `failed` is to be sent again.
   */
  readonly status: "processed" | "duplicate" | "waiting" | "failed";
  /** Why it failed. */
  readonly error?: string;
}

/** The binding of a class whose objects have the RPC method `receiveMessages(envelopes: OutboxEnvelope[]): Promise<InboxResult[]>`. */
export interface InboxNamespace {
  idFromName(name: string): DurableObjectId;
  get(id: DurableObjectId): unknown;
}

/** Options of `toDurableObject`, all optional. */
export interface DurableObjectOptions {
  /** How many targets are called at a time. Default 6, from 1 to 100. */
  concurrency?: number;
}

interface Inbox {
  receiveMessages(envelopes: OutboxEnvelope[]): Promise<InboxResult[]>;
}

/** As many messages a call as a queue's consumer gets at most. */
const MAX_MESSAGES = 100;
/** Half of the 32 MiB that one RPC call takes (https://developers.cloudflare.com/workers/runtime-apis/rpc/#limitations), counted by an upper bound. */
const MAX_BYTES = 16 * 1024 * 1024;

/**
 * Calls `receiveMessages` of the objects that `route` names: targets side by side, the messages of each in order, at
 * most 100 and 16 MiB in a call. What an inbox has taken is delivered; what it says has failed, or says nothing of, is
 * retried. A target whose call throws has its messages retried, and the others go on; when every target's call throws,
 * the first error is thrown. An error that the platform calls retryable is tried once more at once, unless the target
 * is overloaded.
 *
 * @param route gives the target of a message: its name, or its id. A message for which it throws or gives neither
 * becomes a dead letter.
 * @throws TypeError when an argument is wrong.
 *
 * @example
 * class Orders extends DurableObject<Env> {
 *   sendMessages = toDurableObject<OrderMessage>(this.env.CUSTOMERS, ({ msg }) => msg.customer);
 * }
 */
export function toDurableObject<M = unknown>(
  namespace: InboxNamespace,
  route: (message: OutboxMessage<M>) => string | DurableObjectId,
  options: DurableObjectOptions = {},
): Destination<M> {
  if (typeof (namespace as InboxNamespace | undefined)?.idFromName !== "function") {
    throw expected("namespace", "a Durable Object namespace's binding", namespace);
  }
  if (typeof route !== "function") throw expected("route", "a function", route);
  const concurrency = within("options.concurrency", known(options, "concurrency").concurrency, [6, 1, 100, 1]);

  return async (messages, delivery) => {
    checkDelivery(delivery);
    const targets = new Map<string, { id: DurableObjectId; messages: OutboxMessage<M>[] }>();
    for (const message of messages) {
      try {
        const id = idOf(namespace, route(message));
        const target = targets.get(id.toString());
        if (target) target.messages.push(message);
        else targets.set(id.toString(), { id, messages: [message] });
      } catch (error) {
        delivery.reject(message.id, `No target: ${textOf(error)}`);
      }
    }
    const turn = limiter(concurrency);
    const groups = [...targets.values()].map(({ id, messages }) => ({
      messages,
      send: () => turn(() => sendTo(namespace, id, messages, delivery)),
    }));
    await settleGroups(groups, delivery);
  };
}

/** @throws Error when this names no object. */
function idOf(namespace: InboxNamespace, target: string | DurableObjectId): DurableObjectId {
  if (typeof target === "string" && target) return namespace.idFromName(target);
  if (Object(target) !== target) throw expected("route()", "a name or an id", target);
  // Refuses what is no id.
  namespace.get(target as DurableObjectId);
  return target as DurableObjectId;
}

async function sendTo(namespace: InboxNamespace, id: DurableObjectId, messages: OutboxMessage[], delivery: OutboxDelivery): Promise<void> {
  const sized = messages.map((message) => {
    const envelope = envelopeOf(message);
    return { envelope, bytes: serializedBytes(envelope) };
  });
  for (const chunk of chunks(sized, MAX_MESSAGES, MAX_BYTES)) {
    // After the timeout the outbox sends the rest again, and would send it twice.
    delivery.signal.throwIfAborted();
    const envelopes = chunk.map(({ envelope }) => envelope);
    const results: unknown = await received(namespace, id, envelopes);
    if (!Array.isArray(results)) throw new Error("receiveMessages() gave no list.");
    const statuses = new Map((results as InboxResult[]).map((result) => [result?.id, result?.status]));
    for (const { id } of envelopes) {
      if (TAKEN.has(statuses.get(id))) delivery.ack(id);
      else delivery.retry(id);
    }
  }
}

const TAKEN: ReadonlySet<unknown> = new Set(["processed", "duplicate", "waiting"]);

/** A stub whose call has thrown stays broken, so each try has a new one. */
async function received(namespace: InboxNamespace, id: DurableObjectId, envelopes: OutboxEnvelope[]): Promise<unknown> {
  const call = () => (namespace.get(id) as Inbox).receiveMessages(envelopes);
  try {
    return await call();
  } catch (error) {
    const { retryable, overloaded } = Object(error) as { retryable?: boolean; overloaded?: boolean };
    if (retryable !== true || overloaded) throw error;
    return await call();
  }
}
