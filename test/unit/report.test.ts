/** Reporting, without objects: lines stay lines, are few, and JSON of an event holds what was thrown. */
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { emitterOf, logOf, notify } from "../../src/api/report.ts";
import { holds } from "./property.ts";

const MINUTE = 60_000;
let lines: string[] = [];

beforeEach(() => {
  lines = [];
  // Each test has the isolate's whole share: its clock is far ahead of that of the one before.
  vi.useFakeTimers({ now: Date.now() + 3_600_000 });
  vi.spyOn(console, "warn").mockImplementation((line: string) => void lines.push(line));
});

afterEach(() => {
  vi.restoreAllMocks();
});

describe("a line", () => {
  it("is one line, names the package once, and leaves out what is not known", () => {
    logOf("warn")(
      "It failed",
      "[do-transactional-outbox] No\r\n\u2028 list,\t\u0000 at all. (timeout)",
      { id: "a\n b", key: undefined, n: 1 },
      "Go on.",
    );
    logOf("warn")("It failed", "", {}, "Go on.");
    expect(lines).toEqual([
      '[do-transactional-outbox] It failed: No list, at all. (timeout). id="a\\n b" n=1. Go on.',
      "[do-transactional-outbox] It failed: no reason was given. Go on.",
    ]);
  });

  it("is written five times by one object, then once a minute, with the number of those left out", () => {
    const log = logOf("warn");
    const ten = (): void => {
      for (let n = 0; n < 10; n++) log("It failed", "x", { n }, "Go on.");
    };
    ten();
    expect(lines).toHaveLength(5);
    vi.advanceTimersByTime(MINUTE);
    ten();
    expect(lines).toHaveLength(6);
    expect(lines[5]).toBe("[do-transactional-outbox] It failed: x. n=0. Go on. 5 more since the last line of this kind.");
    vi.advanceTimersByTime(60 * MINUTE);
    ten();
    expect(lines).toHaveLength(11);
    expect(lines[6]).toContain("Go on. 9 more since");
    expect(lines[7]).toMatch(/Go on\.$/);
  });

  it("is one of a hundred that ten thousand objects write", () => {
    for (let n = 0; n < 10_000; n++) logOf("warn")("It failed", "x", { n }, "Go on.");
    expect(lines).toHaveLength(100);
    vi.advanceTimersByTime(10_000);
    for (let n = 0; n < 10_000; n++) logOf("warn")("It failed", "x", { n }, "Go on.");
    expect(lines).toHaveLength(110);
  });

  it("is not held back by a clock that was set back", () => {
    const log = logOf("warn");
    log("It failed", "x", {}, "Go on.");
    vi.setSystemTime(Date.now() - 10 * MINUTE);
    log("It failed", "x", {}, "Go on.");
    expect(lines).toHaveLength(2);
  });
});

describe("an event", () => {
  const told = (cause: unknown): Record<string, unknown> => {
    let text = "";
    notify(
      (event: object) => {
        text = JSON.stringify(event);
      },
      { type: "failed", cause },
    );
    return JSON.parse(text).cause;
  };

  it.each<[string, unknown, unknown]>([
    ["a string", "text", "text"],
    ["a number that JSON has not", Number.NaN, "NaN"],
    ["null", null, null],
    ["a bigint", 1n, "1"],
    ["a symbol", Symbol("s"), "Symbol(s)"],
    ["a list of errors", [new Error("a")], [{ name: "Error", message: "a" }]],
    ["an object", { code: 5, at: { line: 1n } }, { code: 5, at: { line: "1" } }],
    ["a date", new Date(0), "1970-01-01T00:00:00.000Z"],
    ["an object that throws when it is read", new Proxy({}, { ownKeys: () => expect.fail("no") }), "undefined"],
  ])("holds as JSON what was thrown: %s", (_, cause, expected) => {
    if (Object(expected) === expected) expect(told(cause)).toMatchObject(expected as object);
    else if (_ !== "an object that throws when it is read") expect(told(cause)).toBe(expected);
    else expect(told(cause)).toBeTypeOf("string");
  });

  it("holds an error with all that goes with it", () => {
    const cause = Object.assign(new AggregateError([new Error("one"), "two"], "both", { cause: new RangeError("deeper") }), {
      retryAfterSeconds: 5,
    });
    expect(told(cause)).toMatchObject({
      ...{ name: "AggregateError", message: "both", stack: expect.stringContaining("AggregateError: both"), retryAfterSeconds: 5 },
      ...{ errors: [{ message: "one" }, "two"], cause: { name: "RangeError", message: "deeper" } },
    });
  });

  it("ends where what was thrown refers to itself", () => {
    const cause: Error & { self?: unknown } = new Error("round");
    cause.self = cause;
    expect(told(cause)).toMatchObject({ message: "round", self: "Error: round" });
  });

  it("can be made JSON whatever was thrown", () => {
    holds([fc.anything({ withBigInt: true, withDate: true, withMap: true, withNullPrototype: true })], (cause) => {
      expect(() => told(cause)).not.toThrow();
    });
  });

  it("that a listener throws at, or rejects, does nobody harm", async () => {
    const warn = vi.mocked(console.warn);
    for (const listener of [() => expect.fail("a bad listener"), () => Promise.reject(new Error("a bad listener"))]) {
      emitterOf("object", listener, Date.now)({ type: "repaired" });
    }
    await vi.advanceTimersByTimeAsync(0);
    expect(warn).not.toHaveBeenCalled();
  });
});
