/** The ledger: counts what reaches an object's native storage, below the outbox's shadows. */

/** Counted storage calls, by the billing rules: a row for each key put or deleted, a row for each alarm set. */
export interface Ledger {
  rows: number;
  alarms: number;
  /** Calls of `deleteAlarm`. */
  disarmed: number;
  reads: number;
  /** Rows that came back from reads. */
  readRows: number;
  /** Keys written and deleted, in order, without those of the object's own state. */
  keys: string[];
  /** The options of every put and delete, in order. */
  options: unknown[];
}

/** Defines own properties on `storage` that count and pass on. Called before the outbox defines its own. */
export function counted(storage: DurableObjectStorage): Ledger {
  const ledger: Ledger = { rows: 0, alarms: 0, disarmed: 0, reads: 0, readRows: 0, keys: [], options: [] };
  const define = (name: string, value: unknown) => Object.defineProperty(storage, name, { value, configurable: true, writable: true });
  const native = Object.fromEntries(
    (["get", "list", "put", "delete", "setAlarm", "deleteAlarm"] as const).map((name) => [name, storage[name].bind(storage)]),
  ) as unknown as Record<string, (...args: unknown[]) => unknown>;
  const rows = (keys: string[]) => {
    const outbox = keys.filter((key) => key.startsWith("\u{10FFFF}"));
    ledger.rows += outbox.length;
    ledger.keys.push(...outbox);
  };
  define("put", (first: string | Record<string, unknown>, ...rest: unknown[]) => {
    rows(typeof first === "string" ? [first] : Object.keys(first));
    ledger.options.push(rest[typeof first === "string" ? 1 : 0]);
    return native.put?.(first, ...rest);
  });
  // A transaction has none.
  const kv: SyncKvStorage | undefined = storage.kv;
  const putSync = kv?.put.bind(kv);
  const value = (key: string, written: unknown): void => {
    rows([key]);
    ledger.options.push(undefined);
    putSync?.(key, written);
  };
  if (kv) Object.defineProperty(kv, "put", { value, configurable: true, writable: true });
  define("delete", (first: string | string[], ...rest: unknown[]) => {
    rows([first].flat());
    ledger.options.push(rest[0]);
    return native.delete?.(first, ...rest);
  });
  define("setAlarm", (...args: unknown[]) => {
    ledger.alarms++;
    return native.setAlarm?.(...args);
  });
  define("deleteAlarm", (...args: unknown[]) => {
    ledger.disarmed++;
    return native.deleteAlarm?.(...args);
  });
  for (const name of ["get", "list"] as const) {
    define(name, (...args: unknown[]) => {
      ledger.reads++;
      const found = native[name]?.(...args) as Promise<unknown>;
      found.then(
        (result) => {
          ledger.readRows += result instanceof Map ? result.size : Number(result !== undefined);
        },
        () => {},
      );
      return found;
    });
  }
  return ledger;
}
