/** The limits of keys and values that a local run does not hold an object to. */

import { OutboxError } from "../api/errors.js";
import { contentBytes } from "../storage/size.js";

/** The limits of a KV-backed object, in bytes: a key in UTF-8, and a value (Durable Objects limits page). */
export const KV_KEY_BYTES = 2048;
const KV_VALUE_BYTES = 131_072;

/**
 * A local run does not hold a KV-backed object to its limits, and a SQLite-backed one refuses a longer key when others have been deleted
 * already (Durable Objects limits page). @throws OutboxError `too_large`.
 */
export function checkKeyBytes(key: string, limit: number): void {
  // A UTF-16 unit takes three bytes at most.
  const bytes = key.length * 3 <= limit ? 0 : new TextEncoder().encode(key).length;
  if (bytes > limit) throw new OutboxError("too_large", `A key takes ${bytes} bytes; the limit is ${limit}.`);
}

/** What a local run does not hold a value of a KV-backed object to. @throws OutboxError `too_large`. */
export function checkKvValue(key: string, value: unknown): void {
  // Never more than it takes: what is in doubt is the platform's to refuse, and that refuses all or nothing.
  const bytes = contentBytes(value);
  if (bytes > KV_VALUE_BYTES)
    throw new OutboxError("too_large", `The value of ${key} takes ${bytes} bytes; the limit is ${KV_VALUE_BYTES}.`);
}
