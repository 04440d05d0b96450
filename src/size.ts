/** What a value is to storage: whether JSON holds all of it, and how many bytes it takes when it does not. */

/** A value with more parts than this is not looked through: neither a cycle nor a web of shared parts costs more. */
const MOST_PARTS = 1000;

/** Whether storage takes two bytes for each character of a text: it has one outside Latin-1. */
export function isWide(text: string): boolean {
  return /[^\0-\xff]/.test(text);
}

/** Whether `JSON.parse(JSON.stringify(value))` gives the same value as a structured clone would. */
export function isJson(value: unknown): boolean {
  let parts = 0;
  const plain = (part: unknown): boolean => {
    if (part === null || typeof part === "string" || typeof part === "boolean") return true;
    if (typeof part === "number") return Number.isFinite(part) && !Object.is(part, -0);
    if (typeof part !== "object" || ++parts > MOST_PARTS || "toJSON" in part) return false;
    // Spread, a hole is `undefined`, which JSON does not hold.
    if (Array.isArray(part)) return Object.keys(part).length === part.length && [...part].every(plain);
    return Object.getPrototypeOf(part) === Object.prototype && Object.values(part).every(plain);
  };
  return plain(value);
}

/**
 * An upper bound, in bytes, for a structured clone in the format that Durable Object storage writes: V8's value
 * serialiser, version 15, whose tags and lengths were read off rows that workerd 1.20260730 stored.
 *
 * What the runtime serialises by itself (`Blob`, `Headers`, errors, …) counts as an empty object: storage refuses what does not fit.
 */
export function serializedBytes(value: unknown, seen: Set<unknown> = new Set()): number {
  if (typeof value === "string") return 6 + value.length * (isWide(value) ? 2 : 1);
  if (typeof value === "bigint") return 24 + String(value).length;
  if (Object(value) !== value || seen.has(value)) return 12;
  seen.add(value);
  const buffer = ArrayBuffer.isView(value) ? value.buffer : value;
  if (buffer instanceof ArrayBuffer) return 32 + buffer.byteLength;
  let bytes = 16;
  // A sparse list is as long as what it holds.
  const whole = Array.isArray(value) ? Object.keys(value).length === value.length : Symbol.iterator in (value as object);
  const parts = whole ? (value as Iterable<unknown>) : Object.entries(value as object).flat();
  for (const part of parts) bytes += serializedBytes(part, seen);
  return bytes;
}
