/** The guard of the reserved range: what the object's own code reads and writes never meets a row of the outbox. */

import { OutboxError } from "../api/errors.js";
import type { Native } from "./native.js";
import { RESERVED } from "./rows.js";

/** The range of a list: the same for `storage.list`, `storage.kv.list` and `txn.list`. */
type Range = DurableObjectListOptions | undefined;

type Method = (...args: unknown[]) => unknown;

/** @throws OutboxError `reserved_key` when a key is the outbox's own. */
export function checkKey(key: string): void {
  if (key.startsWith(RESERVED)) throw new OutboxError("reserved_key", "Keys that begin with U+10FFFF are reserved for the outbox.");
}

/** One key, or several. The platform makes a text of anything: what is checked is what it gets. */
function checkKeys(given: unknown): unknown {
  if (Array.isArray(given)) return given.map((key) => checkKeys(key));
  const key = typeof given !== "string" && Object(given) === given ? `${given}` : given;
  if (typeof key === "string") checkKey(key);
  return key;
}

/** The first argument of `put`: a key or entries. */
function checkEntries(given: unknown): unknown {
  if (typeof given === "string") checkKey(given);
  else if (Object(given) === given) for (const key of Object.keys(given as object)) checkKey(key);
  return given;
}

/** Ends a range before the outbox's rows, which sort after all others: so a limit counts none of them. */
function clamped(range: Range): Range {
  if (range !== undefined && Object(range) !== range) return range;
  const given = range?.end;
  const end = given === undefined ? RESERVED : `${given}`;
  return Object.create(range ?? null, { end: { value: end.startsWith(RESERVED) ? RESERVED : end } }) as Range;
}

/** Shadows for a storage whose methods give promises. `untilWritable` is what each call has to wait for first, if anything. */
export function guarded(native: Native, untilWritable: () => Promise<unknown> | null): Record<string, Method> {
  const call = (name: "get" | "list" | "put" | "delete", checked: (first: unknown) => unknown): Method => {
    const method = native[name] as Method;
    return (...args) => {
      try {
        if (args.length > 0 || name === "list") args[0] = checked(args[0]);
        const first = untilWritable();
        if (!first) return method(...args);
        // What is written later is written as it is at the call, whatever the caller does with it meanwhile.
        if (name !== "list") args[0] = structuredClone(args[0]);
        if (name === "put" && typeof args[0] === "string") args[1] = structuredClone(args[1]);
        return first.then(() => method(...args));
      } catch (error) {
        return Promise.reject(error);
      }
    };
  };
  return {
    get: call("get", checkKeys),
    put: call("put", checkEntries),
    delete: call("delete", checkKeys),
    list: call("list", (range) => clamped((range ?? undefined) as Range)),
  };
}

/** Shadows for `storage.kv`, which is synchronous. */
export function guardedKv(native: SyncKvStorage): Record<string, Method> {
  const call =
    (method: Method): Method =>
    (...args) => {
      if (args.length > 0) args[0] = checkKeys(args[0]);
      return method(...args);
    };
  return {
    get: call(native.get as Method),
    put: call(native.put as Method),
    delete: call(native.delete as Method),
    list: (range) => native.list(clamped((range ?? undefined) as Range) as SyncKvListOptions),
  };
}
