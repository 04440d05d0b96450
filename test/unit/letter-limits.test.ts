/** When dead letters are to be deleted: by their number at once, and by their age in steps. */
import { expect, it } from "vitest";
import { letterLimitsOf, NO_LIMITS } from "../../src/api/letter-limits.ts";
import { addLetter, lettersDueAt, newReader, removeLetters } from "../../src/subscription/reader.ts";

const reader = (limits: object) => Object.assign(newReader("default", 0), { letterLimits: letterLimitsOf("limits", limits) });

it("nothing is deleted without limits, and nothing where there is nothing", () => {
  const free = newReader("default", 0);
  for (let n = 0; n < 10; n++) addLetter(free, n);
  expect(lettersDueAt(free)).toBe(Number.POSITIVE_INFINITY);
  expect(lettersDueAt(reader({ max: 1, expiresInSeconds: 1 }))).toBe(Number.POSITIVE_INFINITY);
  expect(letterLimitsOf("limits", undefined)).toBe(NO_LIMITS);
});

it("too many are too many at once", () => {
  const few = reader({ max: 2 });
  for (let n = 1; n <= 2; n++) addLetter(few, n);
  expect(lettersDueAt(few)).toBe(Number.POSITIVE_INFINITY);
  addLetter(few, 3);
  expect(lettersDueAt(few)).toBe(0);
});

it("the first to expire counts, whatever the order in which they came, and it is at most a sixteenth of the time late", () => {
  const day = 86_400_000;
  for (const seconds of [0.001, 1, 60, 86_400]) {
    const each = reader({ expiresInSeconds: seconds });
    addLetter(each, 5 * day);
    addLetter(each, 4 * day);
    addLetter(each, 6 * day);
    const over = 4 * day + seconds * 1000;
    expect(lettersDueAt(each)).toBeGreaterThanOrEqual(over);
    expect(lettersDueAt(each)).toBeLessThanOrEqual(over + Math.max(1000, (seconds * 1000) / 16) + 1);
    removeLetters(each, 3);
    addLetter(each, 9 * day);
    expect(lettersDueAt(each)).toBeGreaterThanOrEqual(9 * day);
  }
});

it("a destination's own limit stands in for the wrapper's, one by one", () => {
  const wrapper = letterLimitsOf("options.deadLetters", { max: 5, expiresInSeconds: 2 });
  expect(letterLimitsOf("own", { max: 7 }, wrapper)).toEqual({ max: 7, expiresMs: 2000 });
  expect(letterLimitsOf("own", { expiresInSeconds: 9 }, wrapper)).toEqual({ max: 5, expiresMs: 9000 });
  expect(letterLimitsOf("own", undefined, wrapper)).toBe(wrapper);
});
