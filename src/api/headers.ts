/** Headers: the strings that travel with a message. Their names are case-insensitive, as in HTTP, and keep the case in which they were given. */

import { expected } from "./errors.js";

/**
 * Checks headers and copies them, each read once.
 *
 * @param name the argument that errors name
 * @throws TypeError unless this is a plain object of strings: the contents of a `Headers` or a `Map` are not own properties, and would be lost.
 */
export function headersOf(name: string, given: unknown): Record<string, string> {
  const prototype: unknown = Object(given) === given ? Object.getPrototypeOf(given) : undefined;
  // `Object.prototype`, of whatever realm, has no prototype itself.
  const plain = prototype === null || (prototype !== undefined && Object.getPrototypeOf(prototype) === null);
  const copy = { ...(plain && (given as Record<string, string>)) };
  if (!plain || !Object.values(copy).every((value) => typeof value === "string")) {
    throw expected(name, "a plain object of strings", given);
  }
  return copy;
}

/** The header with this lower-case name, in whatever case it was given. */
export function headerOf(headers: Readonly<Record<string, string>> | undefined, name: string): string | undefined {
  if (!headers || Object.hasOwn(headers, name)) return headers?.[name];
  const found = Object.keys(headers).find((given) => given.toLowerCase() === name);
  return found === undefined ? undefined : headers[found];
}
