/** The shadows: own methods on `ctx.storage` that stand before the native ones whose effects the outbox shares. */

import { bindNative, define } from "./native.js";
import type { Parts } from "./parts.js";
import { RESERVED } from "./rows.js";

type Closure = (txn: DurableObjectTransaction) => Promise<unknown>;
type Method = (...args: never[]) => Promise<unknown>;

/** Puts the shadows on one object's storage. The native methods stay untouched on the prototype. */
export function shadow(parts: Parts, native: DurableObjectStorage): void {
  const { ctx, store, alarm, delivery, timers } = parts;
  const { memory } = store;
  const shadows: Record<string, unknown> = {
    transactionSync(closure: () => unknown) {
      const before = { ...memory };
      try {
        return native.transactionSync(closure);
      } catch (error) {
        Object.assign(memory, before);
        throw error;
      }
    },
  };

  /** Runs a transaction with the outbox writing through `txn`; when it rolls back, memory goes back with it. */
  async function inTransaction(txn: DurableObjectTransaction, closure: Closure): Promise<unknown> {
    const before = { ...memory };
    const outer = store.native;
    const inner = bindNative(txn);
    store.native = inner;
    const rolledBack = (): void => {
      store.native = outer;
      Object.assign(memory, before);
      // A batch may have been read meanwhile, and have moved these on: too early costs a look, too late a message.
      memory.due = memory.next = 0;
    };
    define(txn, {
      ...alarm.methods,
      rollback() {
        inner.rollback();
        rolledBack();
      },
    });
    try {
      return await closure(txn);
    } catch (error) {
      rolledBack();
      throw error;
    } finally {
      store.native = outer;
    }
  }

  /** Until it has ended nothing is delivered: a message that may yet be rolled back must not be seen. */
  async function transaction(closure: Closure): Promise<unknown> {
    const done = timers.held(() => native.transaction((txn) => inTransaction(txn, closure)));
    const open = Promise.allSettled([done, store.open]).then(() => {
      if (store.open === open) store.open = null;
    });
    store.open = open;
    try {
      return await done;
    } finally {
      delivery.kick();
    }
  }

  /** Deletes what is the object's own. Messages were promised: their rows are written again in the turn that deletes them. */
  const deleteAll = (options?: DurableObjectPutOptions): Promise<void> => {
    const keeping = async (rows?: Iterable<[string, unknown]>): Promise<void> => {
      const deleted = native.deleteAll(options);
      if (DELETES_ALARM) alarm.forget();
      if (rows) await store.put({ ...Object.fromEntries(rows), [memory.key]: store.header() });
      else {
        // The numbers are gone with the header: they must not run again.
        store.beginEpoch();
      }
      return deleted;
    };
    return store.undelivered() + memory.dead > 0 || memory.paused
      ? ctx.blockConcurrencyWhile(async () => keeping(await native.list({ prefix: RESERVED })))
      : keeping();
  };

  for (const [name, call] of Object.entries<Method>({ ...alarm.methods, transaction, deleteAll })) {
    // In a constructor the outbox has not yet read what is stored; the call waits until it has.
    shadows[name] = async (...args: never[]) => {
      if (parts.loading) await parts.loading;
      return call(...args);
    };
  }
  define(ctx.storage, shadows);
  const block = ctx.blockConcurrencyWhile.bind(ctx);
  define(ctx, { blockConcurrencyWhile: (body: () => Promise<unknown>) => timers.held(() => block(body)) });
}

/** Whether `deleteAll()` takes the alarm with it: a compatibility flag, on by default from 2026-02-24. */
const DELETES_ALARM: boolean | undefined = (globalThis as { Cloudflare?: { compatibilityFlags?: Record<string, boolean> } }).Cloudflare
  ?.compatibilityFlags?.delete_all_deletes_alarm;
