/** The arguments of `put(entries, msg, options?)`, told from what only looks like them. */

import { expected, kindOf } from "../api/errors.js";
import { isPutOption } from "../api/put-options.js";

/** @throws TypeError when there are no entries, or it is `put(key, value, msg)` with its key in another place. */
export function checkEntries(given: unknown, msg: unknown, options: unknown, more: unknown): void {
  // What a Map, a promise or a list holds is not in its own properties: the put would store nothing of it.
  if (Object(given) !== given || kindOf(given) !== "Object") throw expected("key", "a string, or a plain object of entries", given);
  const [name] = Object.keys(Object(options));
  if (more === undefined && !(typeof msg === "string" && name !== undefined && !isPutOption(name))) return;
  throw expected("key", "a string before a value and a message", given, undefined, ": call put(key, value, msg) or put(entries, msg).");
}
