/** What a value takes in storage: both bounds against the serialiser itself, and what JSON holds. */
import { describe, expect, it } from "vitest";
import { contentBytes, isWide, jsonOf, serializedBytes } from "../../src/storage/size.ts";
import { holds } from "./property.ts";
import { storedBytes } from "./stored-bytes.ts";
import { any, cloneable, json, text } from "./values.ts";

describe("serializedBytes", () => {
  it("is never less than what the serialiser writes", () => {
    holds([cloneable], (value) => expect(serializedBytes(value)).toBeGreaterThanOrEqual(storedBytes(value)));
  });

  it("is close for strings: their bytes and a few more", () => {
    holds([text], (value) => expect(serializedBytes(value)).toBeLessThanOrEqual(storedBytes(value) + 6));
  });
});

it("contentBytes is never more than what the serialiser writes", () => {
  holds([cloneable], (value) => expect(contentBytes(value)).toBeLessThanOrEqual(storedBytes(value)));
});

it("isWide tells whether a string has a character outside Latin-1", () => {
  expect(["", "a", "\0", "ÿ", "Ā", "a✓", "\ud800", "\n✓"].map(isWide)).toEqual([false, false, false, false, true, true, true, true]);
});

describe("jsonOf", () => {
  it("returns JSON only where the value comes back from it as a structured clone has it", () => {
    holds([any], (value) => {
      const found = jsonOf(value);
      if (found !== undefined) expect(JSON.parse(found)).toStrictEqual(structuredClone(value));
    });
  });

  it("returns the JSON of everything that JSON holds", () => {
    holds([json], (value) => expect(jsonOf(value)).toBe(JSON.stringify(value)));
  });

  it("reads each part once", () => {
    let reads = 0;
    const counting = {
      get a() {
        return ++reads;
      },
    };
    expect([jsonOf({ deep: [counting] }), reads]).toEqual(['{"deep":[{"a":1}]}', 1]);
  });

  it.each([
    ["undefined", undefined],
    ["a hole", Object.assign([1], { 2: 3 })],
    ["undefined in a list", [undefined]],
    ["undefined under a name", { a: undefined }],
    ["-0", -0],
    ["NaN", [Number.NaN]],
    ["infinity", { a: Number.POSITIVE_INFINITY }],
    ["a bigint", 1n],
    ["a date", new Date(0)],
    ["a map", new Map()],
    ["a list with a name", Object.assign([1], { name: 1 })],
    ["toJSON", { toJSON: 1 }],
    ["no prototype", Object.create(null)],
    ["an instance of a class", new (class A {})()],
  ])("returns nothing for %s", (_, value) => expect(jsonOf(value)).toBeUndefined());
});
