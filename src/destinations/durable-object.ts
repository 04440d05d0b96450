/** The destination that is another Durable Object's inbox: groups what it gets by target and calls each over RPC. */

import { envelopeOf, type OutboxEnvelope } from "../api/envelope.js";
import { expected, textOf } from "../api/errors.js";
import { known } from "../api/known.js";
import type { OutboxDelivery, OutboxMessage } from "../api/message.js";
import { explained } from "../api/rpc.js";
import { within } from "../api/within.js";
import { serializedBytes } from "../storage/size.js";
import { checkDelivery, chunks, type Destination } from "./destination.js";
import type { HasInbox, InboxNamespace, InboxResult, MessagesTo, Namespace } from "./namespace.js";
import { type TargetRequest, targetsOf } from "./targets.js";

/** Options of `toDurableObject`, all optional. */
export interface DurableObjectOptions {
  /** How many targets are called at a time. Default 6, from 1 to 100. */
  concurrency?: number;
  /** How long one call of a target may take, in seconds. Default 10, from 0.001 to 600. A target that takes longer counts as failing. */
  timeoutSeconds?: number;
}

interface Inbox {
  receiveMessages(envelopes: OutboxEnvelope[]): Promise<InboxResult[]>;
}

/** As many messages a call as a queue's consumer gets at most. */
const MAX_MESSAGES = 100;
/** Half of the 32 MiB that one RPC call takes (https://developers.cloudflare.com/workers/runtime-apis/rpc/#limitations), counted by an upper bound. */
const MAX_BYTES = 16 * 1024 * 1024;

/**
 * Calls `receiveMessages` of the objects that `route` names: targets side by side, the messages of each in order, at most 100 and 16 MiB in a call.
 * Messages that an inbox has accepted are delivered; those that it reports as failed, or does not report, are retried. One that its schemas refuse becomes a
 * dead letter; one in a newer version than they know is retried without counting an attempt. A target whose call throws or
 * takes longer than `timeoutSeconds` is failing: its messages are retried after a backoff of its own, without counting an attempt, and the others go on.
 * When no target succeeds, the first error is thrown. A call that fails with an error that the platform marks as retryable is repeated once immediately,
 * unless the target is overloaded.
 *
 * The messages have the type that the binding's class takes in its `receiveMessage`, unless `M` says otherwise. A binding whose class is known and has
 * no inbox does not compile.
 *
 * @param route returns the target of a message: its name, or its id. A message for which it throws or returns neither becomes a dead letter.
 * @throws TypeError when an argument is wrong.
 *
 * @example
 * class Orders extends DurableObject<Env> {
 *   sendMessages = toDurableObject(this.env.CUSTOMERS, ({ msg }) => msg.customer);
 * }
 */
export function toDurableObject<M = unknown, N extends Namespace = InboxNamespace>(
  namespace: N & HasInbox<N>,
  route: (message: OutboxMessage<MessagesTo<M, N>>) => string | DurableObjectId,
  options: DurableObjectOptions = {},
): Destination<MessagesTo<M, N>> {
  if (typeof (namespace as Partial<Namespace> | undefined)?.idFromName !== "function") {
    throw expected("namespace", "a Durable Object namespace's binding", namespace);
  }
  const objects = namespace as unknown as DurableObjectNamespace;
  if (typeof route !== "function") throw expected("route", "a function", route);
  const { concurrency, timeoutSeconds } = known("options", options, ["concurrency", "timeoutSeconds"]);
  const states = targetsOf(
    within("options.concurrency", concurrency, [6, 1, 100, 1]),
    within("options.timeoutSeconds", timeoutSeconds, [10, 0.001, 600]),
  );

  return async (messages, delivery) => {
    checkDelivery(delivery);
    const targets = new Map<string, { id: DurableObjectId; messages: OutboxMessage<M>[] }>();
    for (const message of messages) {
      if (states.settleKnown(message, delivery)) continue;
      try {
        const id = idOf(objects, route(message));
        const target = targets.get(id.toString());
        if (target) target.messages.push(message);
        else targets.set(id.toString(), { id, messages: [message] });
      } catch (error) {
        delivery.reject(message.id, `No target: ${textOf(error)}`);
      }
    }
    const groups = [...targets.values()].map(({ id, messages }) => ({
      target: id.toString(),
      requests: requestsTo(objects, id, messages),
      inOrder: true,
    }));
    await states.send(groups, delivery);
  };
}

/** @throws Error when this names no object. */
function idOf(namespace: DurableObjectNamespace, target: string | DurableObjectId): DurableObjectId {
  if (typeof target === "string" && target) return namespace.idFromName(target);
  if (Object(target) !== target) throw expected("route()", "a name or an id", target);
  // Rejects anything that is not an id.
  namespace.get(target as DurableObjectId);
  return target as DurableObjectId;
}

function requestsTo(namespace: DurableObjectNamespace, id: DurableObjectId, messages: readonly OutboxMessage[]): TargetRequest[] {
  const sized = messages.map((message) => {
    const envelope = envelopeOf(message);
    return { message, envelope, bytes: serializedBytes(envelope) };
  });
  return chunks(sized, MAX_MESSAGES, MAX_BYTES).map((chunk) => ({
    messages: chunk.map(({ message }) => message),
    send: (delivery) =>
      sendTo(
        namespace,
        id,
        chunk.map(({ envelope }) => envelope),
        delivery,
      ),
  }));
}

async function sendTo(
  namespace: DurableObjectNamespace,
  id: DurableObjectId,
  envelopes: OutboxEnvelope[],
  delivery: OutboxDelivery,
): Promise<void> {
  const results: unknown = await received(namespace, id, envelopes);
  if (!Array.isArray(results)) throw new Error("receiveMessages() returned no list.");
  const outcomes = new Map((results as InboxResult[]).map((result) => [result?.id, result]));
  for (const { id } of envelopes) {
    const { status, error, code } = outcomes.get(id) ?? {};
    if (TAKEN.has(status)) delivery.ack(id);
    // It would be refused each time.
    else if (code === "invalid_message") delivery.reject(id, error);
    // The message is not to blame: its target's next deployment knows its version.
    else if (code === "version_ahead") delivery.retry(id, { reason: error, countAttempt: false });
    else delivery.retry(id, { reason: error ?? `The target answered ${status === undefined ? "nothing" : JSON.stringify(status)}.` });
  }
}

const TAKEN: ReadonlySet<unknown> = new Set(["processed", "duplicate", "waiting"]);

/** A stub whose call has thrown stays broken, so each try has a new one. */
async function received(namespace: DurableObjectNamespace, id: DurableObjectId, envelopes: OutboxEnvelope[]): Promise<unknown> {
  const call = () => (namespace.get(id) as unknown as Inbox).receiveMessages(envelopes);
  try {
    return await call();
  } catch (error) {
    const { retryable, overloaded } = Object(error) as { retryable?: boolean; overloaded?: boolean };
    if (retryable !== true || overloaded) throw explained(error);
    return await call();
  }
}
