/** The guard of the reserved range: what the object's own code reads and writes never meets a row of the outbox. */

import { OutboxError } from "./errors.js";
import type { Native } from "./native.js";
import { RESERVED } from "./rows.js";

/** The range of a list: the same for `storage.list`, `storage.kv.list` and `txn.list`. */
type Range = DurableObjectListOptions | undefined;

type Method = (...args: unknown[]) => unknown;

/** @throws OutboxError `reserved_key` when a key is the outbox's own. */
export function checkKey(key: string): void {
  if (key.startsWith(RESERVED)) throw new OutboxError("reserved_key", "Keys from U+10FFFF on are the outbox's own.");
}

/** The argument of `get`, `put` or `delete`: one key, several, or entries. What is none of them is the platform's to refuse. */
function checkKeys(given: unknown): void {
  if (typeof given === "string") checkKey(given);
  else if (Array.isArray(given)) for (const key of given) checkKey(String(key));
  else if (given) for (const key of Object.keys(given)) checkKey(key);
}

/** Ends a range before the outbox's rows, which sort after all others: so a limit counts none of them. */
function clamped(range: Range): Range {
  if (range !== undefined && Object(range) !== range) return range;
  const end = range?.end;
  return { ...range, end: end === undefined || end.startsWith?.(RESERVED) ? RESERVED : end };
}

/** Shadows for a storage whose methods give promises. `gate` is what each call has to wait for first, if anything. */
export function guarded(native: Native, gate: () => Promise<unknown> | null): Record<string, Method> {
  const call = (name: "get" | "list" | "put" | "delete", checked: (args: unknown[]) => unknown[]): Method => {
    const method = native[name] as Method;
    return (...args) => {
      try {
        const given = checked(args);
        const first = gate();
        return first ? first.then(() => method(...given)) : method(...given);
      } catch (error) {
        return Promise.reject(error);
      }
    };
  };
  const keys = (args: unknown[]): unknown[] => {
    checkKeys(args[0]);
    return args;
  };
  return {
    get: call("get", keys),
    put: call("put", keys),
    delete: call("delete", keys),
    list: call("list", ([range, ...rest]) => [clamped((range ?? undefined) as Range), ...rest]),
  };
}

/** Shadows for `storage.kv`, which is synchronous. */
export function guardedKv(native: SyncKvStorage): Record<string, Method> {
  const call =
    (method: Method): Method =>
    (...args) => {
      checkKeys(args[0]);
      return method(...args);
    };
  return {
    get: call(native.get as Method),
    put: call(native.put as Method),
    delete: call(native.delete as Method),
    list: (range) => native.list(clamped((range ?? undefined) as Range) as SyncKvListOptions),
  };
}
