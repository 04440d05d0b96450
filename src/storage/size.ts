/** What a value is to storage: whether JSON holds all of it, and how many bytes it takes when it does not. */

/** A value with more parts than this is not looked through: neither a cycle nor a web of shared parts costs more. */
const MOST_PARTS = 1000;
/** The most levels of a message: storage takes about 2,000, half as many of errors, and overflows the stack when it reads them back. */
const MOST_LEVELS = 500;
/** What is expected of a message that has more. */
export const SHALLOW: string = `a value nested at most ${MOST_LEVELS} levels deep`;

/** Whether storage takes two bytes for each character of a text: it has one outside Latin-1. */
export function isWide(text: string): boolean {
  return /[^\0-\xff]/.test(text);
}

/**
 * The value as JSON, if `JSON.parse` gives the same value back as a structured clone would. Every part is read once: a getter or a proxy may
 * return something else at its next read, or throw.
 *
 * @param most of so many parts: nothing of a value that has more
 */
export function jsonOf(value: unknown, most: number = MOST_PARTS): string | undefined {
  const plain = plainOf(value, { parts: MOST_PARTS - most }, 0);
  return plain === NOT_JSON ? undefined : JSON.stringify(plain);
}

const NOT_JSON: unique symbol = Symbol();

/** The value as it was read, or `NOT_JSON`. Every put walks through its message: plain loops and spreads, because they take half the time. */
function plainOf(part: unknown, seen: { parts: number }, level: number): unknown {
  if (typeof part === "string" || typeof part === "boolean" || part === null) return part;
  if (typeof part === "number") return Number.isFinite(part) && !Object.is(part, -0) ? part : NOT_JSON;
  if (typeof part !== "object" || ++seen.parts > MOST_PARTS || level >= MOST_LEVELS || "toJSON" in part) return NOT_JSON;
  if (Array.isArray(part)) {
    if (Object.keys(part).length !== part.length) return NOT_JSON;
    const list: unknown[] = [];
    // A hole is `undefined` here, which JSON does not hold.
    for (let i = 0; i < part.length; i++) {
      const item = plainOf(part[i], seen, level + 1);
      if (item === NOT_JSON) return item;
      list.push(item);
    }
    return list;
  }
  if (Object.getPrototypeOf(part) !== Object.prototype) return NOT_JSON;
  const copy: Record<string, unknown> = { ...part };
  for (const name in copy) {
    const value = copy[name];
    const plain = plainOf(value, seen, level + 1);
    if (plain === NOT_JSON) return plain;
    if (plain === value) continue;
    if (name !== "__proto__") copy[name] = plain;
    // Assigned, it would become the prototype.
    else Object.defineProperty(copy, name, { value: plain });
  }
  return copy;
}

/**
 * What storage takes and can't read back: a buffer that is shared, wherever it is, and levels that overflow the stack. Both are all that
 * was found among everything that can be cloned (workerd 1.20260730).
 *
 * @param value a structured clone, so that reading it runs no code of the caller's
 * @returns what is expected of a message instead, or nothing
 */
export function unreadable(value: unknown): string | undefined {
  const seen = new Set<unknown>();
  const search = (part: unknown, level: number): string | undefined => {
    if (Object(part) !== part || seen.has(part)) return undefined;
    if (part instanceof SharedArrayBuffer) return "a value without a SharedArrayBuffer, which storage can't read back";
    if (level >= MOST_LEVELS) return SHALLOW;
    seen.add(part);
    for (const inner of partsOf(part as object)) {
      const found = search(inner, level + 1);
      if (found) return found;
    }
    return undefined;
  };
  return search(value, 0);
}

/** What a structured clone writes of an object, names included. */
function partsOf(value: object): Iterable<unknown> {
  if (ArrayBuffer.isView(value)) return [value.buffer];
  if (value instanceof Map) return Array.from(value).flat();
  // A sparse list is as long as what it holds. Nothing else that can be iterated is stored as what it gives.
  if (value instanceof Set || (Array.isArray(value) && Object.keys(value).length === value.length)) return value;
  // What an error says is not enumerable.
  if (value instanceof Error) {
    return Object.getOwnPropertyNames(value).flatMap((name) => [name, (value as unknown as Record<string, unknown>)[name]]);
  }
  return Object.entries(value).flat();
}

/**
 * An upper bound, in bytes, for a structured clone in the format that Durable Object storage writes: V8's value
 * serialiser, version 15, whose tags and lengths were read off rows that workerd 1.20260730 stored.
 */
export function serializedBytes(value: unknown): number {
  return typeof value === "string" ? textBytes(value) : bytesOf(value, 1, new Set());
}

/** A lower bound: the characters of its strings and the bytes of its buffers. */
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
  if (fixed === 1) bytes += hiddenBytes(value as object, seen);
  else if (value instanceof Error) return bytes + bytesOf(Object.entries(value).flat(), fixed, seen);
  for (const part of partsOf(value as object)) bytes += bytesOf(part, fixed, seen);
  return bytes;
}

/** What an object holds of which its properties show nothing. */
function hiddenBytes(value: object, seen: Set<unknown>): number {
  if (value instanceof RegExp) return textBytes(value.source) + 32;
  if (value instanceof BigInt) return bytesOf(value.valueOf(), 1, seen);
  if (value instanceof Error) return 64;
  if (value instanceof Blob) return value.size + textBytes(value.type) + 64;
  if (value instanceof Headers) return bytesOf([...value], 1, seen) + 64;
  if (value instanceof Request) {
    return (
      textBytes(value.url) +
      hiddenBytes(value.headers, seen) +
      textBytes(JSON.stringify((value as { cf?: unknown }).cf) ?? "") * 2 +
      REQUEST_BYTES
    );
  }
  return 0;
}

/** What goes with a request beside its address, its headers and `cf`. */
const REQUEST_BYTES = 1024;

/** What a row holds beside its messages, in bytes, never more: identity (about 250), header (about 800, and 1,200 of errors), a dead letter's error (3,000). */
const ROW_BYTES = 4096;

/** The largest message, in bytes, by backend (Durable Objects limits page). A local run enforces no limit on KV-backed objects. */
export function maxMessageBytes(sqlite: boolean): number {
  return 2 ** (sqlite ? 21 : 17) - ROW_BYTES;
}
