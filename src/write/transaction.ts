/** Transactions: what is written in one, messages and wake-up included, commits with it or rolls back with it. */

import { expected } from "../api/errors.js";
import type { Occurrence } from "../api/events.js";
import type { OutboxContext } from "../context.js";
import { guarded } from "../storage/guard.js";
import type { Scope } from "../storage/memory.js";
import { bindNative, define } from "../storage/native.js";
import { lookAgain } from "../subscription/reader.js";

type Closure<T> = (txn: DurableObjectTransaction) => Promise<T>;

export interface Transactions {
  /** `storage.transaction`, with the outbox writing through `txn`. */
  transaction<T>(closure: Closure<T>): Promise<T>;
  /** `storage.transactionSync`. */
  transactionSync<T>(closure: () => T): T;
  /** Tells of what was stored: once it can't be rolled back any more. */
  emitAfterCommit(event: Occurrence): void;
}

export function transactionsOf(parts: OutboxContext, native: DurableObjectStorage): Transactions {
  const { ctx, store, alarm, delivery, timers, settings } = parts;
  const { memory } = store;
  /** How many transactions are open, one in the other. */
  let depth = 0;
  /** One of them was rolled back. */
  let rolled = false;

  function emitPending(): void {
    if (depth > 0 || memory.pendingEvents.length === 0) return;
    const { pendingEvents } = memory;
    memory.pendingEvents = [];
    for (const event of pendingEvents) settings.emit(event);
  }

  /** Enters a transaction. Gives what leaves it, and what puts memory back as it is now. */
  function enter(): { leave(): void; undo(): void } {
    const restores = [store.snapshot(), alarm.snapshot()];
    const scope: Scope = { outer: memory.scope, isGone: false };
    memory.scope = scope;
    return {
      leave() {
        memory.scope = scope.outer;
      },
      undo() {
        scope.isGone = true;
        for (const restore of restores) restore();
      },
    };
  }

  /** When it rolls back, memory goes back with it. */
  async function inTransaction<T>(txn: DurableObjectTransaction, closure: Closure<T>): Promise<T> {
    const { leave, undo } = enter();
    const outer = store.native;
    const inner = bindNative(txn);
    store.native = inner;
    store.closing = false;
    let over = false;
    const rolledBack = (): void => {
      // What is put after rollback() is outside, and stays whatever becomes of the closure.
      if (over) return;
      over = true;
      store.transactions++;
      store.rollbacks++;
      rolled = true;
      store.native = outer;
      undo();
      // A batch may have been read meanwhile, and have moved on what is known to be due.
      for (const reader of memory.readers) lookAgain(reader);
    };
    const rollback = (): void => {
      inner.rollback();
      rolledBack();
    };
    define(txn, { ...guarded(inner, () => null), ...alarm.methods, rollback });
    try {
      const result = await closure(txn);
      // What was put in here and still reads belongs to it.
      await parts.turn;
      return result;
    } catch (error) {
      await parts.turn;
      // Storage would roll back some microtasks later, and what is written in between would be lost with it while memory keeps it.
      if (!over) rollback();
      throw error;
    } finally {
      leave();
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
      store.transactions++;
      let ended = false;
      const inner = async (txn: DurableObjectTransaction) => {
        const result = await inTransaction(txn, closure);
        ended = true;
        return result;
      };
      const done = timers
        .held(() => native.transaction(inner))
        .catch((error) => {
          // The closure has ended well, and storage has not committed: memory is ahead of it.
          if (ended) ctx.abort(String(error));
          throw error;
        });
      const open = Promise.allSettled([done, store.open]).then(() => {
        if (store.open !== open) return;
        store.open = null;
        store.closing = false;
        store.transactions++;
        if (rolled) alarm.rolledBack();
        rolled = false;
        delivery.kick();
      });
      store.open = open;
      try {
        return await done;
      } finally {
        depth--;
        emitPending();
      }
    },

    transactionSync(closure) {
      if (typeof closure !== "function") throw expected("closure", "a function", closure);
      const { leave, undo } = enter();
      depth++;
      try {
        return native.transactionSync(closure);
      } catch (error) {
        undo();
        alarm.rolledBack();
        throw error;
      } finally {
        leave();
        depth--;
        emitPending();
        delivery.kick();
      }
    },

    emitAfterCommit(event) {
      if (depth > 0) memory.pendingEvents = [...memory.pendingEvents, event];
      else settings.emit(event);
    },
  };
}
