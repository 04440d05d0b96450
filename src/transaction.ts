/** Transactions: what is written in one, messages and wake-up included, commits with it or rolls back with it. */

import { expected } from "./errors.js";
import type { OutboxEvent } from "./events.js";
import { guarded } from "./guard.js";
import { bindNative, define } from "./native.js";
import type { Parts } from "./parts.js";

type Closure<T> = (txn: DurableObjectTransaction) => Promise<T>;

export interface Transactions {
  /** `storage.transaction`, with the outbox writing through `txn`. */
  transaction<T>(closure: Closure<T>): Promise<T>;
  /** `storage.transactionSync`. */
  transactionSync<T>(closure: () => T): T;
  /** Tells of what was stored: once it can't be rolled back any more. */
  tell(event: OutboxEvent): void;
}

export function transactionsOf(parts: Parts, native: DurableObjectStorage): Transactions {
  const { store, alarm, delivery, timers, settings } = parts;
  const { memory } = store;
  /** How many transactions are open, one in the other. */
  let depth = 0;

  function told(): void {
    if (depth > 0 || memory.told.length === 0) return;
    const { told } = memory;
    memory.told = [];
    for (const event of told) settings.emit(event);
  }

  /** When it rolls back, memory goes back with it. */
  async function inTransaction<T>(txn: DurableObjectTransaction, closure: Closure<T>): Promise<T> {
    const before = { ...memory };
    const outer = store.native;
    const inner = bindNative(txn);
    store.native = inner;
    store.closing = false;
    let over = false;
    const rolledBack = (): void => {
      // What is put after rollback() is outside, and stays whatever becomes of the closure.
      if (over) return;
      over = true;
      store.native = outer;
      Object.assign(memory, before);
      // A batch may have been read meanwhile, and have moved these on: too early costs a look, too late a message.
      memory.due = memory.next = 0;
    };
    define(txn, {
      ...guarded(inner, () => null),
      ...alarm.methods,
      rollback() {
        inner.rollback();
        rolledBack();
      },
    });
    try {
      const result = await closure(txn);
      // What was put in here and still reads belongs to it.
      await parts.turn;
      return result;
    } catch (error) {
      await parts.turn;
      rolledBack();
      throw error;
    } finally {
      store.native = outer;
      store.closing = outer === native;
    }
  }

  return {
    /** Until it has ended nothing is delivered: a message that may yet be rolled back must not be seen. */
    async transaction(closure) {
      if (typeof closure !== "function") throw expected("closure", "a function", closure);
      // What still reads was put before it.
      if (!store.open) await parts.turn;
      depth++;
      const done = timers.held(() => native.transaction((txn) => inTransaction(txn, closure)));
      const open = Promise.allSettled([done, store.open]).then(() => {
        if (store.open !== open) return;
        store.open = null;
        store.closing = false;
        delivery.kick();
      });
      store.open = open;
      try {
        return await done;
      } finally {
        depth--;
        told();
      }
    },

    transactionSync(closure) {
      if (typeof closure !== "function") throw expected("closure", "a function", closure);
      const before = { ...memory };
      depth++;
      try {
        return native.transactionSync(closure);
      } catch (error) {
        Object.assign(memory, before);
        throw error;
      } finally {
        depth--;
        told();
        delivery.kick();
      }
    },

    tell(event) {
      if (depth > 0) memory.told = [...memory.told, event];
      else settings.emit(event);
    },
  };
}
