/** Values that a caller may put: everything that a structured clone takes, nested, with strings of every width. */
import fc from "fast-check";

/** Strings of one and of two bytes a character, with halves of surrogate pairs, line breaks and what JSON escapes. */
export const text: fc.Arbitrary<string> = fc.oneof(
  fc.string({ maxLength: 40 }),
  fc.string({ unit: "binary", maxLength: 40 }),
  fc.string({ unit: fc.constantFrom("a", "\n", '"', "\\", "é", "ÿ", "Ā", "✓", "\ud800", "\udc00", "\u2028", "\0"), maxLength: 12 }),
);

const number = fc.oneof(
  fc.integer(),
  fc.double(),
  fc.constantFrom(0, -0, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31, -(2 ** 30), 2 ** 53),
);

// Without -0, which JSON does not hold.
const double = fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value || 0);

/** What JSON holds. */
export const json: fc.Arbitrary<unknown> = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.oneof(text, fc.integer(), double, fc.boolean(), fc.constant(null)),
    fc.array(tie("value"), { maxLength: 6 }),
    fc.dictionary(text, tie("value"), { maxKeys: 6, noNullPrototype: true }),
  ),
})).value;

/** What a structured clone takes. */
export const cloneable: fc.Arbitrary<unknown> = fc.letrec<{ value: unknown; scalar: unknown }>((tie) => ({
  scalar: fc.oneof(
    text,
    number,
    fc.bigInt({ min: -(2n ** 200n), max: 2n ** 200n }),
    fc.constantFrom(true, false, null, undefined),
    fc.date(),
    fc.constantFrom(/a/, /[✓-￿]+$/giu),
    fc.oneof(text, fc.boolean(), fc.double(), fc.bigInt()).map((value) => Object(value)),
    text.map((message) => new RangeError(message)),
  ),
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    tie("scalar"),
    fc.array(tie("value"), { maxLength: 6 }),
    fc.dictionary(text, tie("value"), { maxKeys: 6, noNullPrototype: true }),
    fc.array(fc.tuple(tie("value"), tie("value")), { maxLength: 4 }).map((pairs) => new Map(pairs)),
    fc.array(tie("value"), { maxLength: 4 }).map((items) => new Set(items)),
    fc.uint8Array({ maxLength: 64 }),
    fc.uint8Array({ maxLength: 64 }).map(({ buffer }) => buffer),
    fc.float64Array({ maxLength: 8 }).map((array) => array.subarray(1)),
    fc.tuple(fc.nat(200), tie("value")).map(([index, value]) => sparse(index, value)),
    tie("value").map((value) => [value, value]),
    tie("value").map((value) => cyclic(value)),
  ),
})).value;

function sparse(index: number, value: unknown): unknown[] {
  const list: unknown[] = [];
  list[index] = value;
  return list;
}

function cyclic(value: unknown): unknown {
  const object: Record<string, unknown> = { value };
  object.self = object;
  return object;
}

/** A value of which JSON holds all, or one of which it does not. */
export const any: fc.Arbitrary<unknown> = fc.oneof(json, cloneable);
