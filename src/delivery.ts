/** Delivery: takes batches in order, hands them to `sendMessages`, and decides what follows. */

import type { AlarmSlot } from "./alarm.js";
import { OutboxError } from "./errors.js";
import { type OutboxDelivery, type OutboxMessage, positionOf, present } from "./message.js";
import type { Settings } from "./options.js";
import { retryDelayMs } from "./retry.js";
import { NEVER, type Store } from "./store.js";

/** After this long, in milliseconds, a run hands over to the next alarm: far from the platform's limit of 15 minutes. */
const RUN_BUDGET_MS = 60_000;

/** The class's `sendMessages`, bound to the instance. */
export type SendMessages = (messages: OutboxMessage<never>[], delivery: OutboxDelivery) => unknown;

/** Delivery of one object: runs one at a time; each either empties what is due or ends with the time of the next. */
export interface Delivery {
  /** The object's `sendMessages`. Messages wait while there is none. */
  send: SendMessages | null;
  /** When the outbox must wake for what waits now; `NEVER` when nothing does. */
  nextWake(): number;
  /** How often the message at this position may have been handed over: never too few. */
  attempts(position: number): number;
  /** Starts a run, or joins the one under way. Never rejects. `died` tells that an earlier run ended with its isolate. */
  run(died: boolean): Promise<void>;
}

export function deliveryOf(store: Store, alarm: AlarmSlot, { batchSize, timeoutSeconds, retry, emit }: Settings): Delivery {
  const { memory } = store;
  let active: Promise<void> | null = null;

  async function run(died: boolean): Promise<void> {
    const deadline = Date.now() + RUN_BUDGET_MS;
    const leased = died || memory.trouble.lease;
    if (leased) {
      // From now on an alarm stands before user code runs.
      await later("died", memory.done + batchSize);
    }
    do {
      // After n failures the batch is cut in half n times, so that what breaks it is found.
      const batch = await store.read(Math.ceil(batchSize / 2 ** memory.trouble.failures), true);
      const messages = batch.messages.map(({ stream, stored }) => present(stream, stored, delivery.attempts(positionOf(stored)) + 1));
      const ids = messages.map(({ id }) => id);
      try {
        if (ids.length > 0) await attempt(messages);
      } catch (error) {
        return later("failed", memory.done + ids.length, ids, error);
      }
      const troubled = memory.trouble.retryAt > 0;
      if (troubled) memory.trouble = { ...memory.trouble, failures: 0, retryAt: 0, lease: false };
      const cleared = store.clear(batch, alarm.firing(), troubled);
      // In the same turn as the clearing: an alarm must not outlive what it was armed for.
      void alarm.setWake(delivery.nextWake());
      await cleared;
      if (ids.length > 0) emit({ type: "delivered", ids });
      // After a lease the next run has the platform's own retries behind it again, which tell a death without a row being written.
    } while (!leased && store.pending() && Date.now() < deadline);
  }

  async function attempt(messages: OutboxMessage[]): Promise<void> {
    const { send } = delivery;
    if (!send) throw new OutboxError("send_messages_missing", "The class has no sendMessages().");
    const controller = new AbortController();
    let timer = 0;
    const timeout = new Promise((_, reject) => {
      timer = setTimeout(() => {
        const error = new OutboxError("timeout", `sendMessages took over ${timeoutSeconds} s.`);
        reject(error);
        controller.abort(error);
      }, timeoutSeconds * 1000);
    });
    const sent = (async () => send(messages as OutboxMessage<never>[], { signal: controller.signal }))();
    await Promise.race([sent, timeout]).finally(() => clearTimeout(timer));
  }

  /** Nothing is cleared: the outbox waits, and begins again at the same head. */
  function later(type: "failed" | "died", handed = 0, ids: string[] = [], error?: unknown): Promise<void> {
    const { trouble } = memory;
    const failures = trouble.failures + 1;
    const attempts = (memory.done < trouble.through ? trouble.attempts : 0) + 1;
    const retryAt = Date.now() + retryDelayMs(retry, failures, Math.random());
    memory.trouble = { failures, retryAt, lease: type === "died", through: Math.max(trouble.through, handed), attempts };
    memory.taken = false;
    const saved = store.saveHeader();
    void alarm.setWake(retryAt, true);
    emit({ type, ids, error, failures, retryAt });
    return saved;
  }

  const delivery: Delivery = {
    send: null,

    nextWake: () => (store.pending() ? Math.max(memory.trouble.retryAt, Date.now()) : NEVER),

    attempts: (position) => (position <= memory.trouble.through ? memory.trouble.attempts : 0),

    run(died) {
      active ??= run(died)
        // Storage failed, not the destination. What waits is still stored; try again as after any failure.
        .catch((error) => later("failed", 0, [], error))
        .catch(() => {})
        .finally(() => {
          active = null;
        });
      return active;
    },
  };
  return delivery;
}
