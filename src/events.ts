/** What the outbox tells `onEvent`: one event for each thing that an operator would count. */

/**
 * Something that happened in the outbox. Switch on `type`, and leave a default: later versions add types.
 *
 * - `stored`: a message was written together with its state. The write may still be unconfirmed.
 * - `delivered`: `sendMessages` took these messages, and they were cleared.
 * - `failed`: `sendMessages` threw or ran out of time; nothing was cleared, and the outbox waits until `retryAt`.
 * - `died`: an earlier run ended with the isolate (memory, CPU limit, a kill); the next batches are smaller.
 * - `repaired`: the wake-up was missing, overdue or too late, and was armed again.
 * - `unreadable`: a stored row can't be deserialised. It is kept as it is and passed over.
 */
export type OutboxEvent =
  | { type: "stored"; id: string; sequence: number }
  | { type: "delivered"; ids: string[] }
  | { type: "failed" | "died"; ids: string[]; error: unknown; failures: number; retryAt: number }
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
