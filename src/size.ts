/** How many bytes a value takes when Durable Object storage serialises it, without serialising it. */

/**
 * A close upper bound, in bytes, for a structured clone in the format that Durable Object storage writes: V8's value
 * serialiser, version 15, whose tags and varints were read off rows that workerd 1.20260730 stored.
 *
 * What the runtime serialises by itself (`Blob`, `Headers`, errors, …) counts as an empty object: storage refuses what does not fit.
 */
export function serializedBytes(value: unknown, seen: Set<unknown> = new Set()): number {
  if (typeof value === "number") return Number.isInteger(value) && Math.abs(value) < 2 ** 30 ? headBytes(Math.abs(value) * 2) : 9;
  if (typeof value === "bigint") return 24 + String(value).length;
  if (typeof value === "string") {
    // Latin-1 is stored with one byte for each character, everything else as UTF-16.
    const bytes = /[^\0-\xff]/.test(value) ? value.length * 2 + 1 : value.length;
    return headBytes(bytes) + bytes;
  }
  if (!isObject(value)) return 1;
  if (seen.has(value)) return 6;
  seen.add(value);
  const buffer = ArrayBuffer.isView(value) ? value.buffer : value;
  if (buffer instanceof ArrayBuffer) return 32 + buffer.byteLength;
  let bytes = 16;
  if (Symbol.iterator in value) for (const part of value as Iterable<unknown>) bytes += serializedBytes(part, seen);
  else for (const [key, part] of Object.entries(value)) bytes += serializedBytes(key) + serializedBytes(part, seen);
  return bytes;
}

/** A tag and a varint, whose seven bits a byte are counted as fractions, rounded up. */
function headBytes(value: number): number {
  return 2 + Math.log2(value + 1) / 7;
}

function isObject(value: unknown): value is object {
  return Object(value) === value;
}
