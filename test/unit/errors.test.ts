/** Errors: what they name, and what is left of a string that is too long. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { cut, expected, OutboxError, textOf } from "../../src/api/errors.ts";
import { holds } from "./property.ts";
import { text } from "./values.ts";

const wellFormed = (value: string): boolean => !/\p{Surrogate}/u.test(value);

describe("a string that is cut", () => {
  it("is the longest beginning that fits and does not end in the middle of a character", () => {
    holds([fc.string({ unit: "binary", maxLength: 40 }), fc.integer({ min: 1, max: 40 })], (value, length) => {
      const short = cut(value, length);
      expect(value.startsWith(short)).toBe(true);
      expect(short.length).toBeLessThanOrEqual(length);
      expect(short.length).toBeGreaterThanOrEqual(Math.min(value.length, length) - 1);
      if (wellFormed(value)) expect(wellFormed(short)).toBe(true);
    });
  });

  it("is whole where it fits", () => {
    expect(["", "ab", "😀"].map((value) => cut(value, 2))).toEqual(["", "ab", "😀"]);
    expect(cut("a😀", 2)).toBe("a");
  });
});

describe("what an error says", () => {
  it("is its message, or what was thrown in its place, at most 500 characters of it", () => {
    expect([new Error("why"), "why", { message: "why" }, 7, null, undefined].map(textOf)).toEqual(["why", "why", "why", "7", "", ""]);
    holds([text], (value) => expect(textOf(new Error(value.repeat(100))).length).toBeLessThanOrEqual(500));
  });

  it("is found whatever was thrown", () => {
    const hostile = {
      get message(): string {
        throw new Error("no");
      },
    };
    for (const thrown of [hostile, Object.create(null), Symbol("a"), { message: { toString: () => 1n } }])
      expect(typeof textOf(thrown)).toBe("string");
  });
});

it("a programmer's mistake is a TypeError that names the argument, what was expected and what was got", () => {
  const revoked = Proxy.revocable({}, {});
  revoked.revoke();
  const objects = [{}, [], new Map(), new ArrayBuffer(1), new Error("a"), Promise.resolve(), () => 1, class {}, revoked.proxy];
  const kinds = ["an object", "an array", "a Map", "an ArrayBuffer", "an Error", "a promise (is an `await` missing?)"];
  const got = [1, "x".repeat(100), null, undefined, Number.NaN, Symbol("a"), ...objects];
  expect(got.map((value) => expected("options.key", "a name", value).message)).toEqual(
    ["1", `"${"x".repeat(60)}"`, "null", "undefined", "NaN", "Symbol(a)", ...kinds, "a function", "a function", "a Proxy"].map(
      (shown) => `[do-transactional-outbox] Expected \`options.key\` to be a name, got ${shown}.`,
    ),
  );
  expect(expected("a", "b", 1)).toBeInstanceOf(TypeError);
});

it("an OutboxError has its code as a property and in its message, which may be all that comes through a stub", () => {
  const error = new OutboxError("outbox_full", "Too many.");
  expect(error).toMatchObject({ name: "OutboxError", code: "outbox_full", message: "[do-transactional-outbox] Too many. (outbox_full)" });
});
