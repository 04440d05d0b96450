/** What a value is to storage: whether JSON holds all of it, and how many bytes it takes when it does not. */

/** A value with more parts than this is not looked through: neither a cycle nor a web of shared parts costs more. */
const MOST_PARTS = 1000;

/** Whether storage takes two bytes for each character of a text: it has one outside Latin-1. */
export function isWide(text: string): boolean {
  return /[^\0-\xff]/.test(text);
}

/** Whether `JSON.parse(JSON.stringify(value))` gives the same value as a structured clone would. */
export function isJson(value: unknown): boolean {
  return isPlain(value, { parts: 0 });
}

/** Every put walks through its message: plain loops, because they take half the time. */
function isPlain(part: unknown, seen: { parts: number }): boolean {
  if (typeof part === "string" || typeof part === "boolean" || part === null) return true;
  if (typeof part === "number") return Number.isFinite(part) && !Object.is(part, -0);
  if (typeof part !== "object" || ++seen.parts > MOST_PARTS || "toJSON" in part) return false;
  if (Array.isArray(part)) {
    if (Object.keys(part).length !== part.length) return false;
    // A hole is `undefined` here, which JSON does not hold.
    for (let i = 0; i < part.length; i++) if (!isPlain(part[i], seen)) return false;
    return true;
  }
  if (Object.getPrototypeOf(part) !== Object.prototype) return false;
  for (const name in part) if (!isPlain((part as Record<string, unknown>)[name], seen)) return false;
  return true;
}

/**
 * An upper bound, in bytes, for a structured clone in the format that Durable Object storage writes: V8's value
 * serialiser, version 15, whose tags and lengths were read off rows that workerd 1.20260730 stored.
 *
 * What the runtime serialises by itself (`Blob`, `Headers`, errors, …) counts as an empty object: storage refuses what does not fit.
 */
export function serializedBytes(value: unknown): number {
  return typeof value === "string" ? textBytes(value) : bytesOf(value, 1, new Set());
}

/** A lower bound: the characters of its texts and the bytes of its buffers. */
export function contentBytes(value: unknown): number {
  return bytesOf(value, 0, new Set());
}

/** A text's tag and length. */
const TEXT_BYTES = 6;

function textBytes(text: string): number {
  return TEXT_BYTES + text.length * (isWide(text) ? 2 : 1);
}

/** `fixed` is 1 to count what each part takes beside its content, and 0 not to. */
function bytesOf(value: unknown, fixed: 0 | 1, seen: Set<unknown>): number {
  if (typeof value === "string") return fixed === 1 ? textBytes(value) : textBytes(value) - TEXT_BYTES;
  if (typeof value === "bigint") return fixed * (24 + String(value).length);
  if (Object(value) !== value || seen.has(value)) return 12 * fixed;
  seen.add(value);
  if (ArrayBuffer.isView(value)) return 32 * fixed + bytesOf(value.buffer, fixed, seen);
  if (value instanceof ArrayBuffer) return 32 * fixed + value.byteLength;
  if (value instanceof String) return bytesOf(String(value), fixed, seen);
  let bytes = 16 * fixed;
  // A sparse list is as long as what it holds. Nothing else that can be iterated is stored as what it gives.
  const whole = Array.isArray(value) ? Object.keys(value).length === value.length : value instanceof Map || value instanceof Set;
  const parts = whole ? (value as Iterable<unknown>) : Object.entries(value as object).flat();
  for (const part of parts) bytes += bytesOf(part, fixed, seen);
  return bytes;
}
