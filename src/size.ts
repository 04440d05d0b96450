/** How many bytes a value takes when Durable Object storage serialises it, without serialising it. */

/** The two bytes with which V8's format, version 15, begins every value. */
export const ENVELOPE_BYTES = 2;

/**
 * An upper bound, in bytes, of a structured clone in the format that Durable Object storage writes (V8's value
 * serialiser, version 15; tag bytes and varints were read off rows that workerd 1.20260730 stored).
 *
 * For JSON-like data it is exact but for one byte of padding that a string outside Latin-1 may need. Objects that the
 * runtime serialises by itself (`Blob`, `Headers`, …) are counted as empty: storage refuses those that do not fit.
 */
export function serializedBytes(value: unknown): number {
  return valueBytes(value, undefined).bytes;
}

type Seen = Set<object> | undefined;

function valueBytes(value: unknown, seen: Seen): { bytes: number; seen: Seen } {
  switch (typeof value) {
    case "string":
      return { bytes: stringBytes(value), seen };
    case "number":
      return { bytes: numberBytes(value), seen };
    case "bigint":
      return { bytes: bigintBytes(value), seen };
    case "object":
      if (value === null) return { bytes: 1, seen };
      if (seen?.has(value)) return { bytes: 6, seen };
      return objectBytes(value, (seen ?? new Set()).add(value));
    default:
      return { bytes: 1, seen };
  }
}

function objectBytes(value: object, seen: Set<object>): { bytes: number; seen: Seen } {
  const inner = (part: unknown): number => valueBytes(part, seen).bytes;
  let bytes = 0;
  if (Array.isArray(value)) {
    // Sparse arrays are written with their keys; counting both forms keeps this an upper bound.
    const keys = Object.keys(value);
    const dense = keys.length === value.length;
    bytes = 3 + 2 * varintBytes(value.length) + (dense ? 0 : keys.length * 6 + value.length);
    for (const key of keys) bytes += dense || isIndex(key) ? 0 : stringBytes(key);
    for (const key of keys) bytes += inner(value[key as unknown as number]);
  } else if (value instanceof Date) bytes = 9;
  else if (value instanceof Map) {
    bytes = 2 + varintBytes(value.size * 2);
    for (const [key, part] of value) bytes += inner(key) + inner(part);
  } else if (value instanceof Set) {
    bytes = 2 + varintBytes(value.size);
    for (const part of value) bytes += inner(part);
  } else if (value instanceof ArrayBuffer) bytes = 1 + varintBytes(value.byteLength) + value.byteLength;
  else if (ArrayBuffer.isView(value)) {
    bytes = inner(value.buffer) + 3 + varintBytes(value.byteOffset) + varintBytes(value.byteLength);
  } else if (value instanceof RegExp) bytes = 1 + stringBytes(value.source) + 2;
  else if (value instanceof Error) {
    bytes = 16 + stringBytes(value.name) + stringBytes(value.message) + stringBytes(String(value.stack)) + inner(value.cause);
  } else {
    const boxed = value.valueOf();
    if (typeof boxed !== "object") return { bytes: 1 + inner(boxed) + 8, seen };
    const keys = Object.keys(value);
    bytes = 2 + varintBytes(keys.length);
    for (const key of keys) {
      bytes += isIndex(key) ? numberBytes(Number(key)) : stringBytes(key);
      bytes += inner((value as Record<string, unknown>)[key]);
    }
  }
  return { bytes, seen };
}

function isIndex(key: string): boolean {
  const index = Number(key);
  return Number.isInteger(index) && index >= 0 && index < 0xffff_ffff && String(index) === key;
}

function stringBytes(text: string): number {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the class is exactly Latin-1, which V8 stores as one byte each.
  const bytes = /[^\x00-\xff]/.test(text) ? text.length * 2 + 1 : text.length;
  return 1 + varintBytes(bytes) + bytes;
}

function numberBytes(value: number): number {
  if (!Number.isInteger(value) || value < -0x4000_0000 || value >= 0x4000_0000 || Object.is(value, -0)) return 9;
  return 1 + varintBytes(value < 0 ? -2 * value - 1 : 2 * value);
}

function bigintBytes(value: bigint): number {
  const bits = (value < 0n ? -value : value).toString(16).length * 4;
  const bytes = Math.ceil(bits / 64) * 8;
  return 1 + varintBytes(bytes * 2) + bytes;
}

function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest >= 128; rest /= 128) bytes++;
  return bytes;
}
