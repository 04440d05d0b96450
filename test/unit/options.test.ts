/** The options of the wrapper and of one message: every default, every bound, and errors that name what is wrong. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { settings } from "../../src/api/options.ts";
import { moreOf, seconds } from "../../src/api/put-options.ts";
import { within } from "../../src/api/within.ts";
import { holds } from "./property.ts";

/** Least, greatest, and whether it must be whole. */
type Bounds = readonly [min: number, max: number, whole?: true];

const NUMBERS: Record<string, Bounds> = {
  batchSize: [1, 1000, true],
  timeoutSeconds: [0.001, 600],
  maxPending: [1, 1e9, true],
  maxPerSecond: [0.001, 100_000],
  expiresInSeconds: [0.001, 315_360_000],
  idempotencySeconds: [0, 604_800],
};
const RETRY: Record<string, Bounds> = {
  minDelaySeconds: [0.001, 604_800],
  maxDelaySeconds: [0.001, 604_800],
  factor: [1, 10],
  jitter: [0, 1],
  maxAttempts: [1, 1000, true],
};
const NO_NUMBERS: unknown[] = ["1", null, Number.NaN, 1n, [1], {}, true, new Date(1), Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];

const outside = ([min, max, whole]: Bounds): unknown[] => [
  ...NO_NUMBERS,
  min - (whole ? 1 : min / 2 || 0.1),
  max + (whole ? 1 : max / 2),
  ...(whole ? [1.5] : []),
];

describe("the options of the wrapper", () => {
  it("have the defaults that the documentation names", () => {
    const rest = settings();
    expect(rest).toEqual({
      binding: "OUTBOX_MANAGER",
      batchSize: 100,
      onDead: "continue",
      deadLetters: { expiresMs: Number.POSITIVE_INFINITY, max: Number.POSITIVE_INFINITY },
      timeoutSeconds: 30,
      maxPending: Number.POSITIVE_INFINITY,
      expiresInSeconds: 0,
      idempotencySeconds: 300,
      settleWithinSeconds: 0,
      maxPerSecond: Number.POSITIVE_INFINITY,
      retry: { minDelaySeconds: 2, maxDelaySeconds: 3600, factor: 2, jitter: 0.2, maxAttempts: 20 },
      ordering: "strict",
      retain: null,
      immediate: false,
      schemas: null,
      onEvent: undefined,
      listening: false,
    });
    expect(settings({})).toMatchObject(rest);
  });

  it("take settleWithinSeconds up to a minute, which has no effect but with immediate dispatch", () => {
    for (const seconds of [0, 0.5, 60])
      expect(settings({ dispatch: "immediate", settleWithinSeconds: seconds })).toHaveProperty("settleWithinSeconds", seconds);
    for (const seconds of [-1, 60.1, Number.NaN, "1"])
      expect(() => settings({ settleWithinSeconds: seconds as number })).toThrow(/options\.settleWithinSeconds/);
    expect(settings({ settleWithinSeconds: 1 })).toHaveProperty("settleWithinSeconds", 0);
  });

  it.each(Object.entries(NUMBERS))("take %s at both of its bounds, and undefined as not given", (name, [min, max]) => {
    for (const value of [min, max]) expect(settings({ [name]: value })).toHaveProperty(name, value);
    expect(settings({ [name]: undefined })).toHaveProperty(name, settings()[name as "batchSize"]);
  });

  it.each(Object.entries(NUMBERS))("refuse %s outside its bounds with a TypeError that names it", (name, bounds) => {
    for (const value of outside(bounds)) expect(() => settings({ [name]: value }), String(value)).toThrow(named(`options.${name}`));
  });

  it.each(Object.entries(RETRY))("take retry.%s at both of its bounds", (name, [min, max]) => {
    const beside = name === "minDelaySeconds" ? { maxDelaySeconds: 604_800 } : name === "maxDelaySeconds" ? { minDelaySeconds: 0.001 } : {};
    for (const value of [min, max]) expect(settings({ retry: { ...beside, [name]: value } }).retry).toHaveProperty(name, value);
  });

  it.each(Object.entries(RETRY))("refuse retry.%s outside its bounds with a TypeError that names it", (name, bounds) => {
    for (const value of outside(bounds))
      expect(() => settings({ retry: { [name]: value } }), String(value)).toThrow(named(`options.retry.${name}`));
  });

  it("refuse a longest delay that is shorter than the shortest", () => {
    expect(() => settings({ retry: { minDelaySeconds: 10, maxDelaySeconds: 9 } })).toThrow(named("options.retry.maxDelaySeconds"));
    expect(settings({ retry: { minDelaySeconds: 10, maxDelaySeconds: 10 } }).retry.maxDelaySeconds).toBe(10);
  });

  it.each([
    [{ nonsense: 1 }, "options"],
    [{ retry: { nonsense: 1 } }, "options.retry"],
    [{ retry: 1 }, "options.retry"],
    [{ retry: null }, "options.retry"],
    [{ binding: "" }, "options.binding"],
    [{ binding: 1 }, "options.binding"],
    [{ dispatch: "now" }, "options.dispatch"],
    [{ onEvent: 1 }, "options.onEvent"],
    [{ onEvent: null }, "options.onEvent"],
    [1, "options"],
    [null, "options"],
  ])("refuse %j with a TypeError that names %s", (options, name) => {
    expect(() => settings(options as never)).toThrow(named(name));
  });
});

describe("a number within bounds", () => {
  it("is taken as it is, and one outside is refused", () => {
    holds([fc.double(), fc.double({ noNaN: true }), fc.double({ noNaN: true })], (value, one, other) => {
      const [min, max] = [Math.min(one, other), Math.max(one, other)];
      const take = () => within("it", value, [0, min, max]);
      if (value >= min && value <= max) expect(take()).toBe(value);
      else expect(take).toThrow(named("it"));
    });
  });
});

describe("the options of one message", () => {
  const NOW = 1_800_000_000_000;
  const more = (options: unknown, expiresInSeconds = 0) => moreOf(options as never, NOW, expiresInSeconds);

  it("leave nothing to be stored where there is nothing", () => {
    for (const options of [undefined, null, {}, { noCache: true }, { delaySeconds: 0 }, { deliverAt: NOW - 1 }])
      expect(more(options)).toBeUndefined();
  });

  it("become times in whole milliseconds", () => {
    expect(more({ delaySeconds: 1.0001 })).toEqual({ due: NOW + 1001 });
    expect(more({ deliverAt: NOW + 0.5 })).toEqual({ due: NOW + 1 });
    expect(more({ deliverAt: new Date(NOW + 7) })).toEqual({ due: NOW + 7 });
    expect(more({ expiresInSeconds: 2 })).toEqual({ expires: NOW + 2000 });
  });

  it("count an expiry from the first time at which the message may be delivered", () => {
    expect(more({ expiresInSeconds: 2, delaySeconds: 60 })).toEqual({ due: NOW + 60_000, expires: NOW + 62_000 });
    expect(more({ deliverAt: NOW + 5 }, 1)).toEqual({ due: NOW + 5, expires: NOW + 1005 });
  });

  it("have the wrapper's expiry where they have none of their own", () => {
    expect(more(undefined, 60)).toEqual({ expires: NOW + 60_000 });
    expect(more({ expiresInSeconds: 2 }, 60)).toEqual({ expires: NOW + 2000 });
  });

  it("keep ids and ordering keys of 1 to 256 characters, and a copy of the headers", () => {
    const headers = { a: "b" };
    const made = more({ id: "i".repeat(256), key: "k", headers });
    headers.a = "later";
    expect(made).toEqual({ id: "i".repeat(256), key: "k", headers: { a: "b" } });
  });

  it.each([
    [1, "options"],
    [{ id: "" }, "options.id"],
    [{ id: 1 }, "options.id"],
    [{ id: "i".repeat(257) }, "options.id"],
    [{ id: `${"0".repeat(36)}-${"1".repeat(15)}` }, "options.id"],
    [{ key: "" }, "options.key"],
    [{ key: null }, "options.key"],
    [{ key: "k".repeat(257) }, "options.key"],
    [{ delaySeconds: -1 }, "options.delaySeconds"],
    [{ delaySeconds: 315_360_001 }, "options.delaySeconds"],
    [{ delaySeconds: "1" }, "options.delaySeconds"],
    [{ deliverAt: "tomorrow" }, "options.deliverAt"],
    [{ deliverAt: Number.NaN }, "options.deliverAt"],
    [{ deliverAt: new Date(Number.NaN) }, "options.deliverAt"],
    [{ deliverAt: NOW + 315_360_000_001 }, "options.deliverAt"],
    [{ deliverAt: NOW, delaySeconds: 1 }, "options.deliverAt"],
    [{ expiresInSeconds: 0 }, "options.expiresInSeconds"],
    [{ expiresInSeconds: 315_360_001 }, "options.expiresInSeconds"],
    [{ headers: 1 }, "options.headers"],
    [{ headers: ["a"] }, "options.headers"],
    [{ headers: { a: 1 } }, "options.headers"],
    [{ headers: new Headers() }, "options.headers"],
    [{ headers: new Map() }, "options.headers"],
  ])("%j is refused with a TypeError that names %s", (options, name) => expect(() => more(options)).toThrow(named(name)));

  it("count seconds in whole milliseconds, never too few", () => {
    holds([fc.double({ min: 0, max: 315_360_000, noNaN: true })], (value) => {
      const ms = seconds("it", value, 0);
      expect(Number.isInteger(ms)).toBe(true);
      expect(ms / 1000).toBeGreaterThanOrEqual(value * (1 - 1e-15));
      expect(ms / 1000 - value).toBeLessThan(0.0011);
    });
  });
});

/** A TypeError whose message names this argument. */
function named(name: string): unknown {
  return expect.objectContaining({ name: "TypeError", message: expect.stringContaining(`\`${name}\``) });
}
