/** The size of a value before it is stored: against V8 itself, and against rows that workerd wrote. */
import { isDeepStrictEqual } from "node:util";
import { serialize } from "node:v8";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { jsonOf, serializedBytes } from "../../src/storage/size.ts";
import { SEED, size } from "../support/random.ts";
import { bundled, folder, launch, storedBytes } from "./harness.ts";

/** Every value begins with a tag and a version. They belong to the row, not to the message in it. */
const ENVELOPE_BYTES = 2;

/**
 * What V8 writes for a copy, as `put` takes one before it asks for the size: in an array of doubles that is no copy even
 * whole numbers take nine bytes.
 */
function realBytes(value: unknown): number {
  return serialize(structuredClone(value)).length - ENVELOPE_BYTES;
}

function isUpperBound(value: unknown): void {
  expect(serializedBytes(value)).toBeGreaterThanOrEqual(realBytes(value));
}

function isClose(value: unknown): void {
  expect(serializedBytes(value)).toBeLessThanOrEqual(realBytes(value) * 1.5 + 64);
}

const strings = fc.oneof(
  fc.string(),
  fc.string({ unit: "binary" }),
  fc.string({ unit: fc.constantFrom("a", "é", "ž", "😀", "\ud800") }),
  fc.integer({ min: 0, max: 20_000 }).map((length) => "x".repeat(length)),
  fc.integer({ min: 0, max: 20_000 }).map((length) => "ž".repeat(length)),
);
const numbers = fc.oneof(fc.integer(), fc.maxSafeInteger(), fc.double(), fc.constantFrom(0, -0, 2 ** 30, 2 ** 30 - 1, -(2 ** 30)));
const json = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom(null, true, false),
    numbers,
    strings,
    fc.array(tie("value"), { maxLength: 20 }),
    fc.dictionary(fc.oneof(strings, fc.nat().map(String)), tie("value"), { maxKeys: 20, noNullPrototype: true }),
  ),
})).value;
const cloneable = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    json,
    fc.date(),
    fc.bigInt(),
    fc.bigInt({ min: -(2n ** 2000n), max: 2n ** 2000n }),
    fc.constant(undefined),
    fc.array(fc.tuple(tie("value"), tie("value")), { maxLength: 10 }).map((entries) => new Map(entries)),
    fc.array(tie("value"), { maxLength: 10 }).map((values) => new Set(values)),
    fc.array(tie("value"), { maxLength: 10 }),
    tie("value").map((value) => [value, value, { value }]),
  ),
})).value;

/** Messages as people write them: a handful of named fields, some of them text. */
const messages = fc.record({
  type: fc.constantFrom("order_created", "order_paid"),
  id: fc.uuid(),
  at: fc.nat(),
  data: fc.dictionary(fc.string({ minLength: 3, maxLength: 12 }), fc.oneof(fc.string({ minLength: 3 }), numbers), {
    noNullPrototype: true,
  }),
});

describe("serializedBytes", () => {
  it("is never less than what V8 writes for JSON-like data", () => {
    fc.assert(fc.property(json, isUpperBound), { seed: SEED, numRuns: size(300, 2000) });
  });

  it("is never less than what V8 writes for dates, maps, sets, bigints and shared references", () => {
    fc.assert(fc.property(cloneable, isUpperBound), { seed: SEED, numRuns: size(200, 1000) });
  });

  it("is close for messages as people write them", () => {
    fc.assert(fc.property(messages, isClose), { seed: SEED, numRuns: size(200, 1000) });
  });

  it("is close for long text", () => {
    for (const value of ["x".repeat(100_000), "ž".repeat(100_000)]) {
      isUpperBound(value);
      isClose(value);
    }
  });

  it("is an upper bound within three times for large structures of small parts", () => {
    for (const value of [
      Array.from({ length: 10_000 }, (_, i) => `item ${i}`),
      Array.from({ length: 10_000 }, (_, i) => i * 1.5),
      Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`key ${i}`, `value ${i}`])),
    ]) {
      isUpperBound(value);
      expect(serializedBytes(value)).toBeLessThanOrEqual(realBytes(value) * 3 + 64);
    }
  });

  it("costs no more than the value has parts, however long a sparse array says that it is", () => {
    let reads = 0;
    const sparse: number[] = [];
    sparse[1_000_000] = 1;
    const watched = new Proxy(sparse, {
      get(target, key, receiver) {
        if (++reads > 1000) throw new Error("It reads every hole.");
        return Reflect.get(target, key, receiver);
      },
    });
    expect(serializedBytes(watched)).toBeGreaterThanOrEqual(realBytes(sparse));
  });

  it("is never less than what workerd stores", async () => {
    const path = folder();
    const { miniflare, url } = await launch({
      name: "size",
      modules: true,
      script: await bundled("size.ts"),
      compatibilityDate: "2026-07-01",
      durableObjectsPersist: path,
      durableObjects: { SIZES: { className: "Sizes", useSQLite: true } },
    });
    const estimates = (await (await fetch(url)).json()) as Record<string, number>;
    await miniflare.dispose();
    const stored = storedBytes(path, "size-Sizes");
    expect(Object.keys(stored).sort()).toEqual(Object.keys(estimates).sort());
    const tooSmall = Object.entries(stored).filter(([name, bytes]) => (estimates[name] ?? 0) < bytes - ENVELOPE_BYTES);
    expect(tooSmall.map(([name, bytes]) => `${name}: ${bytes - ENVELOPE_BYTES} stored, ${estimates[name]} estimated`)).toEqual([]);
  });
});

describe("jsonOf", () => {
  /** What a caller can put in front of it beyond `cloneable`: named properties on arrays, holes, odd keys and prototypes. */
  const odd = fc.oneof(
    cloneable,
    fc.array(json, { maxLength: 4 }).map((values) => Object.assign(values, { named: 1 })),
    fc.array(json, { minLength: 1, maxLength: 4 }).map((values) => {
      delete values[0];
      return values;
    }),
    fc.array(json, { minLength: 1, maxLength: 4 }).map((values) => {
      delete values[0];
      return Object.assign(values, { named: 1 });
    }),
    json.map((value) => JSON.parse(`{"__proto__":${JSON.stringify(value)}}`) as unknown),
    json.map((value) => ({ toJSON: value })),
    json.map((value) => Object.assign(Object.create(null) as object, { value })),
    fc.record({ nothing: fc.constant(undefined), not: fc.constant(Number.NaN), never: fc.constant(Number.POSITIVE_INFINITY) }),
  );

  it("gives JSON only where that gives back what a structured clone does", () => {
    fc.assert(
      fc.property(odd, (value) => {
        const json = jsonOf(value);
        if (json === undefined) return;
        expect(json).toBe(JSON.stringify(value));
        expect(isDeepStrictEqual(JSON.parse(json), structuredClone(value))).toBe(true);
      }),
      { seed: SEED, numRuns: size(300, 2000) },
    );
  });

  it("gives JSON for what came out of JSON", () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
        const json = JSON.stringify(value);
        expect(jsonOf(JSON.parse(json))).toBe(json);
      }),
      { seed: SEED },
    );
  });
});
