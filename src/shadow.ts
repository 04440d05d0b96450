/** The shadows: own properties on `ctx.storage` that stand before the native methods whose effects the outbox shares. */

import type { NativeAlarm } from "./alarm.js";
import type { Parts } from "./manager.js";

/** The native methods, bound before they are shadowed. */
export type NativeStorage = NativeAlarm & Pick<DurableObjectStorage, "deleteAll" | "transaction" | "transactionSync">;

const SHADOWED = ["getAlarm", "setAlarm", "deleteAlarm", "deleteAll", "transaction", "transactionSync"] as const;

/** Binds the native methods. Call it before `shadow`. */
export function bindNative(storage: DurableObjectStorage): NativeStorage {
  return Object.fromEntries(SHADOWED.map((name) => [name, storage[name]?.bind(storage)])) as unknown as NativeStorage;
}

/** Puts the shadows on one object's storage. Native methods stay untouched on the prototype. */
export function shadow(parts: Parts, native: NativeStorage): void {
  const { ctx, store, alarm } = parts;
  /** In a constructor the outbox has not yet read what is stored; the call waits until it has. */
  const loaded = async <T>(call: () => T | Promise<T>): Promise<T> => {
    if (parts.loading !== null) await parts.loading;
    return call();
  };
  define(ctx.storage, {
    getAlarm: (options?: DurableObjectGetAlarmOptions) => loaded(() => alarm.getAlarm(options)),
    setAlarm: (time: number | Date, options?: DurableObjectSetAlarmOptions) => loaded(() => alarm.setAlarm(time, options)),
    deleteAlarm: (options?: DurableObjectSetAlarmOptions) => loaded(() => alarm.deleteAlarm(options)),
    deleteAll: (options?: DurableObjectPutOptions) => loaded(() => deleteAll(parts, native, options)),
    transaction: <T>(closure: (txn: DurableObjectTransaction) => Promise<T>) =>
      loaded(() => native.transaction((txn) => inTransaction(parts, txn, closure))),
    transactionSync: <T>(closure: () => T): T => {
      const memory = { store: store.snapshot(), alarm: alarm.snapshot() };
      try {
        return native.transactionSync(closure);
      } catch (error) {
        store.restore(memory.store);
        alarm.restore(memory.alarm);
        throw error;
      }
    },
  });
}

/** Runs a transaction's closure with the outbox writing through `txn`; when it rolls back, memory goes back with it. */
async function inTransaction<T>(
  { store, alarm }: Parts,
  txn: DurableObjectTransaction,
  closure: (txn: DurableObjectTransaction) => Promise<T>,
): Promise<T> {
  const memory = { store: store.snapshot(), alarm: alarm.snapshot() };
  const native = {
    getAlarm: txn.getAlarm.bind(txn),
    setAlarm: txn.setAlarm.bind(txn),
    deleteAlarm: txn.deleteAlarm.bind(txn),
  };
  const rollback = txn.rollback.bind(txn);
  const outer = { writer: store.enter(txn), native: alarm.enter(native) };
  let open = true;
  const leave = (restore: boolean): void => {
    if (!open) return;
    open = false;
    store.enter(outer.writer);
    alarm.enter(outer.native);
    if (!restore) return;
    store.restore(memory.store);
    alarm.restore(memory.alarm);
  };
  define(txn, {
    getAlarm: async (options?: DurableObjectGetAlarmOptions) => alarm.getAlarm(options),
    setAlarm: async (time: number | Date, options?: DurableObjectSetAlarmOptions) => alarm.setAlarm(time, options),
    deleteAlarm: async (options?: DurableObjectSetAlarmOptions) => alarm.deleteAlarm(options),
    rollback: () => {
      rollback();
      leave(true);
    },
  });
  try {
    const result = await closure(txn);
    leave(false);
    return result;
  } catch (error) {
    leave(true);
    throw error;
  }
}

/** Deletes what is the object's own. Messages were promised: their rows are written again in the turn that deletes them. */
async function deleteAll({ ctx, store, alarm }: Parts, native: NativeStorage, options: DurableObjectPutOptions | undefined): Promise<void> {
  if (store.pending === 0) {
    const deleted = native.deleteAll(options);
    store.reset();
    alarm.forget(DELETES_ALARM);
    return deleted;
  }
  await ctx.blockConcurrencyWhile(async () => {
    const rows = await store.rows();
    const deleted = native.deleteAll(options);
    const written = store.putAll(rows);
    alarm.forget(DELETES_ALARM);
    await Promise.all([deleted, written]);
  });
}

/** Whether `deleteAll()` takes the alarm with it: a compatibility flag, on by default from 2026-02-24. */
const DELETES_ALARM = (() => {
  const flags: Record<string, boolean> =
    (globalThis as { Cloudflare?: { compatibilityFlags?: Record<string, boolean> } }).Cloudflare?.compatibilityFlags ?? {};
  return flags.delete_all_deletes_alarm === true;
})();

function define(target: object, methods: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(methods))
    Object.defineProperty(target, name, { value, writable: true, configurable: true, enumerable: false });
}
