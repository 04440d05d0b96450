/** Values that JSON cannot represent, and values that it represents in a form of its own. */

/** What it is, how it is made, and how the reason of a rejection names it. */
export const NOT_JSON: [string, () => unknown, string][] = [
  ["a Map", () => new Map([[1, 2]]), "a Map"],
  ["a Set", () => new Set([1]), "a Set"],
  ["an ArrayBuffer", () => new ArrayBuffer(2), "an ArrayBuffer"],
  ["a Uint8Array", () => new Uint8Array([1, 2]), "a Uint8Array"],
  ["a Float64Array", () => new Float64Array(1), "a Float64Array"],
  ["a BigInt64Array", () => new BigInt64Array(1), "a BigInt64Array"],
  ["a DataView", () => new DataView(new ArrayBuffer(2)), "a DataView"],
  ["an Error", () => new Error("boom"), "an Error"],
  ["a RangeError", () => new RangeError("boom"), "an Error"],
  ["a RegExp", () => /x/, "a RegExp"],
  ["NaN", () => Number.NaN, "NaN"],
  ["Infinity", () => Number.POSITIVE_INFINITY, "Infinity"],
  ["-Infinity", () => Number.NEGATIVE_INFINITY, "-Infinity"],
  ["a boxed NaN", () => Object(Number.NaN), "NaN"],
  ["a bigint", () => 1n, "a BigInt"],
  ["a boxed bigint", () => Object(1n), "a BigInt"],
  ["an invalid Date", () => new Date(Number.NaN), "an invalid Date"],
  ["a list with a hole", () => Object.assign(new Array(3), { 0: 1, 2: 3 }), "a list with holes or names"],
  ["a list that ends in holes", () => new Array(2), "a list with holes or names"],
  ["a list with a name", () => Object.assign([1], { name: "x" }), "a list with holes or names"],
  ["headers", () => new Headers({ a: "1" }), "a Headers"],
];

/** What it is, the value, and what is sent. */
export const AS_JSON: [string, unknown, unknown][] = [
  ["plain data", { a: [1, "two", null, true, { b: {} }] }, { a: [1, "two", null, true, { b: {} }] }],
  ["a date as a string", { at: new Date(0) }, { at: "1970-01-01T00:00:00.000Z" }],
  ["a URL as a string", [new URL("https://example.com/a")], ["https://example.com/a"]],
  ["boxed primitives as primitives", [Object(1), Object("a"), Object(true)], [1, "a", true]],
  [
    "an object of a class by its own properties",
    new (class Order {
      number = 1;
    })(),
    { number: 1 },
  ],
  ["an object without prototype", Object.assign(Object.create(null), { a: 1 }), { a: 1 }],
  ["a property that is undefined left out", { a: 1, b: undefined }, { a: 1 }],
  ["minus zero as zero", [-0], [0]],
  ["what toJSON returns", { toJSON: () => ({ a: [1] }) }, { a: [1] }],
];
