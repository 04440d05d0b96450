/** What storage says of a put that it refuses, as the mistake or the limit that it is. Looked for only then. */

import { cut, OutboxError, textOf } from "../api/errors.js";
import { isCloneable, uncloneable } from "../api/uncloneable.js";
import { serializedBytes } from "../storage/size.js";

/** What of a key is shown, in UTF-16 units. */
const KEY_LENGTH = 60;
/** A value of a SQLite-backed object, with its key (Durable Objects limits page). */
const SQLITE_BYTES = 2 ** 21;

/** @param keys the caller's own, all of which `entries` has */
export function refusal(error: unknown, entries: Record<string, unknown>, keys: readonly string[]): unknown {
  const isTooLarge = textOf(error).includes("SQLITE_TOOBIG");
  if (!isTooLarge && (Object(error) as Error).name !== "DataCloneError") return error;
  const bytesOf = (key: string): number => serializedBytes(entries[key]);
  const culprits = isTooLarge ? [...keys].sort((a, b) => bytesOf(b) - bytesOf(a)) : keys.filter((key) => !isCloneable(entries[key]));
  const [key = ""] = [...culprits, ...keys];
  const name = cut(key, KEY_LENGTH);
  if (!isTooLarge) return uncloneable(name, entries[key], error);
  const told = `The value of ${name} takes about ${bytesOf(key)} bytes; the limit is ${SQLITE_BYTES} with its key.`;
  return new OutboxError("too_large", told, error);
}
