/** The events passed to `onEvent`: one for each occurrence that an operator would count. */

import { cut } from "./errors.js";

/**
 * Why a message became a dead letter: its handler rejected it, its attempts were used up, it expired, it crashed the isolate repeatedly, an
 * upcaster of the option `messages` threw, or its destination was dropped.
 */
export type DeadReason = "rejected" | "max_attempts" | "expired" | "killed" | "upcast_failed" | "dropped";

/** The message that an event is about. */
export interface EventMessage {
  readonly id: string;
  /** Its ordering key, if it has one. */
  readonly key?: string;
  /** Its `msg.type`, if that is a string: up to 256 characters. */
  readonly messageType?: string;
}

/** What went wrong. `JSON.stringify` of the event contains all of it, including parts of `cause` that JSON would omit. */
export interface EventError {
  /** The error's message: at most 500 characters. */
  readonly error: string;
  /** The value that was thrown, or passed as the reason. */
  readonly cause?: unknown;
}

/** Messages of one call that failed. `id`, `key`, `messageType` and `attempts` are those of the first message, if there is one. */
interface FailedCall extends EventError, Partial<EventMessage> {
  readonly attempts?: number;
  readonly retryAt: number;
}

/** The name of the destination that is the class's `sendMessages`. */
export const DEFAULT_DESTINATION = "default";

/**
 * Something that happened in the outbox. Switch on `type`, and leave a default: later versions add types. `object` is the object's name, if the
 * platform knows it, and otherwise its id; `destination` is `"default"` for `sendMessages`.
 *
 * - `stored`: a message was written together with its state. The write may still be unconfirmed.
 * - `delivered`: `sendMessages` took these messages, and they were cleared.
 * - `failed`: `sendMessages` threw or timed out; everything unsettled is kept, and the outbox waits until `retryAt`.
 * - `died`: an earlier run ended with the isolate (memory, CPU limit, a kill); the next batches are smaller.
 * - `breaker_opened`: the first failure of a streak, with the number of messages `waiting`. `breaker_closed`: the first success after it.
 * - `paused`: `sendMessages` threw an error with `pause: true`; what it had not settled (`ids`) is kept, and nothing is handed over until `resume()`.
 * - `retried`: only this message has failed and is set aside until `retryAt`; all others go on.
 * - `set_aside`: these messages left the queue to wait for their time, or behind one with their ordering key.
 * - `version_ahead`: the message is in a version that this deployment does not know: it waits until a deployment does, and is looked at next at `retryAt`.
 * - `dead`: the message is a dead letter now; `list({ state: "dead" })` shows it.
 * - `dead_letters_deleted`: the limits in `deadLetters` have deleted these dead letters, because they had expired, or were more than `max`. `dead` is how
 *   many are left.
 * - `dead_message_failed`: `deadMessage` threw, took too long or ended its transaction for a message. Nothing that it wrote is kept, and the message is a
 *   dead letter all the same.
 * - `skipped`: the handler, or a consumer, has acknowledged this message with a reason not to process it, which is `error`.
 * - `late_outcome`: an outcome arrived after its call had settled or timed out; it changes nothing.
 * - `filling`: so many messages wait that four fifths of `maxPending` are reached; once, until fewer than half of it wait again.
 * - `repaired`: the wake-up was missing, overdue or too late, and was armed again.
 * - `destination_missing`: the class has no destination of this name any more. What it has yet to get is kept, and what is put meanwhile.
 * - `unreadable`: a stored row can't be deserialised. It is kept as it is and passed over.
 */
export type OutboxEvent = { readonly object: string } & Occurrence;

/** An event as it is emitted: `object` is added later. */
export type Occurrence =
  | ({ readonly type: "stored"; readonly sequence: number } & EventMessage)
  | ({ readonly type: "unreadable"; readonly row: string } & EventError)
  | { readonly type: "repaired" }
  | { readonly type: "filling"; readonly waiting: number; readonly maxPending: number }
  | ({ readonly destination: string } & (
      | { readonly type: "delivered" | "set_aside"; readonly ids: string[] }
      | ({ readonly type: "failed" | "died"; readonly ids: string[]; readonly failures: number } & FailedCall)
      | ({ readonly type: "breaker_opened"; readonly waiting: number } & FailedCall)
      | { readonly type: "breaker_closed" }
      | ({ readonly type: "paused"; readonly ids: string[]; readonly waiting: number } & Omit<FailedCall, "retryAt">)
      | { readonly type: "destination_missing"; readonly waiting: number; readonly dead: number }
      | ({ readonly type: "retried"; readonly attempts: number; readonly retryAt: number } & EventMessage & EventError)
      | ({ readonly type: "version_ahead"; readonly version: number; readonly retryAt: number } & EventMessage & EventError)
      | ({ readonly type: "dead"; readonly reason: DeadReason; readonly attempts: number } & EventMessage & EventError)
      | { readonly type: "dead_letters_deleted"; readonly limit: "expiresInSeconds" | "max"; readonly ids: string[]; readonly dead: number }
      | ({ readonly type: "skipped" | "dead_message_failed" } & EventMessage & EventError)
      | ({ readonly type: "late_outcome"; readonly outcome: "ack" | "retry" | "reject" } & EventMessage)
    ));

/** Reports an occurrence: calls the listener, and logs what an operator must not miss. Never throws. */
export type Emit = (event: Occurrence) => void;

/** What events say about a message. `msg` may be the user's own object. */
export function eventMessage(id: string, key: string | undefined, msg: unknown): EventMessage {
  const messageType = typeOf(msg);
  return { id, ...(key !== undefined && { key }), ...(messageType !== undefined && { messageType }) };
}

/** The `msg.type` of a message, if that is a string: up to 256 characters. */
export function typeOf(msg: unknown): string | undefined {
  try {
    const { type } = Object(msg) as { type?: unknown };
    return typeof type === "string" ? cut(type, 256) : undefined;
  } catch {
    return undefined;
  }
}
