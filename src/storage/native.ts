/** The native storage methods, bound before the object's own code finds shadows in their place. */

const METHODS = [
  "get",
  "list",
  "put",
  "delete",
  "getAlarm",
  "setAlarm",
  "deleteAlarm",
  "rollback",
  "deleteAll",
  "transaction",
  "transactionSync",
  "sync",
];

/** What `ctx.storage` and an open transaction have in common. */
export type Native = Pick<DurableObjectTransaction, "get" | "list" | "put" | "delete" | "getAlarm" | "setAlarm" | "deleteAlarm">;

/** The most keys that one `storage.put` or `storage.delete` takes. */
export const MAX_KEYS = 128;

/** Calls `write` with as many items at a time as storage takes, all in this turn. */
export function inParts<T, R>(items: readonly T[], write: (part: T[]) => Promise<R>): Promise<R[]> {
  const writes: Promise<R>[] = [];
  for (let i = 0; i < items.length; i += MAX_KEYS) writes.push(write(items.slice(i, i + MAX_KEYS)));
  return Promise.all(writes);
}

/** Binds the methods of storage that `target` has: `ctx.storage`, its `kv`, or an open transaction. */
export function bindNative<T extends object>(target: T): T {
  const methods = target as Record<string, CallableFunction | undefined>;
  return Object.fromEntries(METHODS.filter((name) => methods[name]).map((name) => [name, methods[name]?.bind(target)])) as T;
}

/** Defines own methods that shadow those of the prototype, as if they were native: not enumerable. */
export function define(target: object, methods: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(methods)) Object.defineProperty(target, name, { value, writable: true, configurable: true });
}

/** Whether the object is SQLite-backed. On KV-backed objects the runtime refuses `sql`, locally as well (tried on workerd 1.20260730). */
export function isSqlite(storage: DurableObjectStorage): boolean {
  try {
    return storage.sql.databaseSize >= 0;
  } catch {
    return false;
  }
}
