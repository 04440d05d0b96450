/** What the outbox tells `onEvent`: one event for each thing that an operator would count. */

/** Why a message became a dead letter: `sendMessages` rejected it, its attempts were used up, it expired, or it killed the isolate again and again. */
export type DeadReason = "rejected" | "max_attempts" | "expired" | "killed";

/**
 * Something that happened in the outbox. Switch on `type`, and leave a default: later versions add types.
 *
 * - `stored`: a message was written together with its state. The write may still be unconfirmed.
 * - `delivered`: `sendMessages` took these messages, and they were cleared.
 * - `failed`: `sendMessages` threw or ran out of time; what it had not settled is kept, and the outbox waits until `retryAt`.
 * - `died`: an earlier run ended with the isolate (memory, CPU limit, a kill); the next batches are smaller.
 * - `breaker_opened`: the first failure after all was well. `breaker_closed`: the first success after that.
 * - `retried`: this message alone has failed and is set aside until `retryAt`; all others go on.
 * - `set_aside`: these messages left the queue to wait for their time, or behind one with their ordering key.
 * - `dead`: the message is a dead letter now; `list({ state: "dead" })` shows it.
 * - `late_outcome`: an outcome was given after its call had settled or run out of time; it changes nothing.
 * - `repaired`: the wake-up was missing, overdue or too late, and was armed again.
 * - `unreadable`: a stored row can't be deserialised. It is kept as it is and passed over.
 */
export type OutboxEvent =
  | { type: "stored"; id: string; sequence: number }
  | { type: "delivered" | "set_aside"; ids: string[] }
  | { type: "failed" | "died"; ids: string[]; error: unknown; failures: number; retryAt: number }
  | { type: "breaker_opened"; error: unknown; retryAt: number }
  | { type: "breaker_closed" }
  | { type: "retried"; id: string; attempts: number; retryAt: number; error: string }
  | { type: "dead"; id: string; reason: DeadReason; error: string }
  | { type: "late_outcome"; id: string; outcome: "ack" | "retry" | "reject" }
  | { type: "repaired" }
  | { type: "unreadable"; row: string; error: unknown };

/** Calls the listener; what it throws is its own affair and never reaches the outbox. */
export type Emit = (event: OutboxEvent) => unknown;

/** Makes the user's `onEvent` safe to call from anywhere: one that fails must not turn a stored message into a failed put. */
export function emitter(onEvent: ((event: OutboxEvent) => unknown) | undefined): Emit {
  if (!onEvent) return () => {};
  return async (event) => {
    try {
      await onEvent(event);
    } catch {}
  };
}
