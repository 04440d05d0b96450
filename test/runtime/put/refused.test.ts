/** G1, what is refused: a message or a value that can't be stored leaves nothing behind. */
import { describe, expect, it } from "vitest";
import type { OutboxManager } from "../../../src/index.ts";
import { drained, expectFirst, expectUntouched, fresh, handedOver, inside, numbered, onBothBackends, sent } from "../support/harness.ts";

const UNCLONEABLE: [string, () => unknown][] = [
  ["a function", () => () => {}],
  ["a symbol", () => Symbol("no")],
  ["undefined", () => undefined],
  ["a promise", () => Promise.resolve()],
  [
    "a cyclic structure with a function in it",
    () => {
      const cycle: Record<string, unknown> = { deep: [{ call() {} }] };
      cycle.self = cycle;
      return cycle;
    },
  ],
];

/** Every form of a write, on an object that has the key `held` and no other. */
const WRITES: [string, (outbox: OutboxManager, msg: unknown) => Promise<unknown>][] = [
  ["put of a key", (outbox, msg) => outbox.put("fresh", 1, msg)],
  ["put of entries", (outbox, msg) => outbox.put({ held: 1, fresh: 1 }, msg)],
  ["put of 129 entries", (outbox, msg) => outbox.put(numbered(129), msg)],
  ["delete of a key", (outbox, msg) => outbox.delete("held", msg)],
  ["delete of 129 keys", (outbox, msg) => outbox.delete(["held", ...Object.keys(numbered(128))], msg)],
  ["send", (outbox, msg) => outbox.send(msg)],
];

onBothBackends("a message that can't be stored", (backend) => {
  describe.each(WRITES)("%s", (_, write) => {
    it.each(UNCLONEABLE)("refuses %s before anything is written", async (_, message) => {
      const stub = fresh(backend);
      await inside(stub, async (_, outbox, state) => {
        await state.storage.put("held", 0);
        await expect(write(outbox, message())).rejects.toThrow(TypeError);
        await expectUntouched(state, { held: 0 });
      });
      await expectFirst(stub);
    });
  });

  const limit = backend.name === "sqlite" ? 2 * 1024 * 1024 : 128 * 1024;
  const SIZED: [string, (bytes: number) => unknown][] = [
    ["text", (bytes) => "x".repeat(bytes)],
    ["text outside Latin-1", (bytes) => "\u2713".repeat(bytes / 2)],
    ["binary data", (bytes) => new Uint8Array(bytes)],
    ["a list of numbers", (bytes) => Array.from({ length: Math.ceil(bytes / 9) }, () => Math.PI)],
    ["an object with many keys", (bytes) => numbered(Math.ceil(bytes / 10))],
  ];

  it.each(SIZED)("refuses %s over the limit before anything is written", async (_, sized) => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox, state) => {
      await expect(outbox.put("a", 1, sized(limit))).rejects.toMatchObject({ name: "OutboxError", code: "too_large" });
      await expectUntouched(state);
    });
    await expectFirst(stub);
  });

  it.each(SIZED.slice(0, 3))("delivers %s just under the limit", async (_, sized) => {
    const stub = fresh(backend);
    const msg = sized(limit - 8192);
    const receipt = await inside(stub, (_, outbox) => outbox.put("a", 1, msg));
    await handedOver(stub, 1);
    await drained(stub);
    expect(sent(stub)).toHaveLength(1);
    expect(sent(stub)[0]?.id).toBe(receipt.id);
    expect(same(sent(stub)[0]?.msg, msg)).toBe(true);
  });

  it.each(SIZED)("stores %s near the limit or refuses it by name, and never leaves that to storage", async (_, sized) => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox) => {
      const stored: boolean[] = [];
      for (const part of [4, 8, 12, 14, 15, 16]) {
        const result = await outbox.send(sized(Math.floor((limit * part) / 32) * 2)).catch((error) => error.code ?? error);
        expect(result === "too_large" || result.sequence, String(result)).toBeTruthy();
        stored.push(result !== "too_large");
      }
      expect(stored[0]).toBe(true);
      expect(stored.at(-1)).toBe(false);
    });
  });

  /** Equality of big values, which the matchers take seconds for. */
  function same(one: unknown, other: unknown): boolean {
    if (!(one instanceof Uint8Array && other instanceof Uint8Array)) return one === other;
    return one.length === other.length && one.every((byte, n) => byte === other[n]);
  }
});

onBothBackends("a state value that can't be stored", (backend) => {
  const BAD: [string, () => unknown][] = [["a function", () => () => {}]];
  // Locally only SQLite-backed objects enforce a limit.
  if (backend.name === "sqlite") {
    BAD.push(["a string of 3 MB", () => "x".repeat(3 * 1024 * 1024)]);
    BAD.push(["a list of fractions that is short as JSON", () => Array(400_000).fill(0.5)]);
  }

  describe.each(BAD)("%s", (_, bad) => {
    it("leaves no state, no message and no alarm", async () => {
      const stub = fresh(backend);
      await inside(stub, async (_, outbox, state) => {
        await expect(outbox.put("bad", bad(), "lost")).rejects.toThrow();
        await expect(outbox.put({ good: 1, bad: bad() }, "lost")).rejects.toThrow();
        await expectUntouched(state);
      });
      await expectFirst(stub);
    });

    it("leaves nothing when it is the last of 129 or of 1,000 entries", async () => {
      const stub = fresh(backend);
      await inside(stub, async (_, outbox, state) => {
        for (const count of [128, 999]) {
          await expect(outbox.put({ ...numbered(count), last: bad() }, "lost")).rejects.toThrow();
          await expectUntouched(state);
        }
      });
      await expectFirst(stub);
    });

    it("leaves the good put of the same turn alone, whichever comes first", async () => {
      const stub = fresh(backend);
      await inside(stub, async (_, outbox, state) => {
        const results = await Promise.allSettled([
          outbox.put("good:1", 1, "good 1"),
          outbox.put("bad", bad(), "lost"),
          outbox.put("good:2", 2, "good 2"),
        ]);
        expect(results.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
        expect([...(await state.storage.list({ end: "\u{10FFFF}" }))]).toEqual([
          ["good:1", 1],
          ["good:2", 2],
        ]);
      });
      await handedOver(stub, 2);
      await drained(stub);
      expect(sent(stub).map(({ msg }) => msg)).toEqual(["good 1", "good 2"]);
    });

    it("leaves every good put of a burst alone, wherever it falls", async () => {
      const stub = fresh(backend);
      const good = await inside(stub, async (_, outbox) => {
        const puts = Array.from({ length: 30 }, (_, n) => (n % 3 === 2 ? outbox.put("bad", bad(), n) : outbox.send(n)));
        const results = await Promise.allSettled(puts);
        return results.flatMap(({ status }, n) => (status === "fulfilled" ? [n] : []));
      });
      expect(good).toEqual(Array.from({ length: 30 }, (_, n) => n).filter((n) => n % 3 !== 2));
      await handedOver(stub, good.length);
      await drained(stub);
      expect(sent(stub).map(({ msg }) => msg)).toEqual(good);
    });
  });
});
