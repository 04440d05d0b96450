/** What storage refuses, on each backend: the checks that come before anything is read or written. */

import { serialize } from "node:v8";

export type Backend = "sqlite" | "kv";

/** Enforced in production on KV-backed objects, and nowhere on a local runtime (Durable Objects limits page). */
const KV_KEY_BYTES = 2048;
const KV_VALUE_BYTES = 128 * 1024;
const KV_KEYS = 128;
/** Key and value together, on SQLite-backed objects. */
const SQLITE_BYTES = 2 * 1024 * 1024;

const bytesOf = new TextEncoder();

export function checkKeys(backend: Backend, keys: readonly string[]): void {
  if (backend === "sqlite") return;
  if (keys.length > KV_KEYS) throw new RangeError(`Maximum number of keys is ${KV_KEYS}.`);
  for (const key of keys) {
    if (key.length * 3 > KV_KEY_BYTES && bytesOf.encode(key).length > KV_KEY_BYTES) {
      throw new RangeError(`Keys cannot be larger than ${KV_KEY_BYTES} bytes.`);
    }
  }
}

export function checkEntry(backend: Backend, key: string, value: unknown): void {
  const bytes = typeof value === "string" && value.length < 10_000 ? 0 : serialize(value).byteLength;
  if (backend === "kv" && bytes > KV_VALUE_BYTES) throw new RangeError(`Values cannot be larger than ${KV_VALUE_BYTES} bytes.`);
  if (backend === "sqlite" && bytes + key.length > SQLITE_BYTES) throw new Error("string or blob too big: SQLITE_TOOBIG");
}

/** What `list` wants: a range of keys. */
export function checkRange({ limit, start, startAfter }: DurableObjectListOptions): void {
  if (limit !== undefined && !(limit > 0)) throw new TypeError("List limit must be positive.");
  if (start !== undefined && startAfter !== undefined)
    throw new TypeError("list() cannot be called with both start and startAfter values.");
}

export function inRange({ start, startAfter, end, prefix }: DurableObjectListOptions, compare: (a: string, b: string) => number) {
  return (key: string): boolean =>
    (start === undefined || compare(key, start) >= 0) &&
    (startAfter === undefined || compare(key, startAfter) > 0) &&
    (end === undefined || compare(key, end) < 0) &&
    (prefix === undefined || key.startsWith(prefix));
}

/** The time that an alarm takes, in milliseconds. */
export function alarmTime(scheduledTime: unknown, now: number): number {
  const time = Math.trunc(Number(scheduledTime));
  if (!(time > 0)) throw new TypeError("setAlarm() cannot be called with an alarm time <= 0");
  return Math.max(time, now);
}
