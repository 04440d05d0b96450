/** What ready-made destinations share: chunks, the limiter, and what a failure of one way costs the others. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { chunks, limiter, retryLater, settleGroups } from "../../src/destinations/destination.ts";
import type { OutboxDelivery, OutboxMessage } from "../../src/index.ts";
import { holds, holdsAsync } from "./property.ts";

const items = fc.array(
  fc.nat(300).map((bytes) => ({ bytes })),
  { maxLength: 60 },
);

describe("chunks", () => {
  it("hold every item in order, never more items or bytes than may be, and a larger item stands alone", () => {
    holds([items, fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 1000 })], (items, maxItems, maxBytes) => {
      const parts = chunks(items, maxItems, maxBytes);
      expect(parts.flat()).toEqual(items);
      for (const part of parts) {
        expect(part.length).toBeGreaterThanOrEqual(1);
        expect(part.length).toBeLessThanOrEqual(maxItems);
        if (part.length > 1) expect(bytesOf(part)).toBeLessThanOrEqual(maxBytes);
      }
    });
  });

  it("are as few as can be: the first of a chunk did not fit in the one before", () => {
    holds([items, fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 1000 })], (items, maxItems, maxBytes) => {
      const parts = chunks(items, maxItems, maxBytes);
      for (const [i, part] of parts.entries()) {
        const next = parts[i + 1]?.[0];
        if (next && part.length < maxItems) expect(bytesOf(part) + next.bytes).toBeGreaterThan(maxBytes);
      }
    });
  });
});

describe("the limiter", () => {
  /** What each task does: takes so many turns, and then fails or not. */
  const tasks = fc.array(fc.record({ turns: fc.integer({ min: 1, max: 5 }), fails: fc.boolean() }), { maxLength: 20 });

  it("runs every task, in the order in which they come, and no more at a time than it may, also when some of them fail", async () => {
    await holdsAsync([tasks, fc.integer({ min: 1, max: 6 })], async (tasks, limit) => {
      const limited = limiter(limit);
      const begun: number[] = [];
      let running = 0;
      let most = 0;
      const ends = tasks.map(({ turns, fails }, i) =>
        limited(async () => {
          begun.push(i);
          most = Math.max(most, ++running);
          for (let turn = 0; turn < turns; turn++) await null;
          running--;
          if (fails) throw new Error(`task ${i}`);
        }).then(
          () => false,
          ({ message }) => message === `task ${i}`,
        ),
      );
      expect(await Promise.all(ends)).toEqual(tasks.map(({ fails }) => fails));
      expect(begun).toEqual(tasks.map((_, i) => i));
      expect(most).toBe(Math.min(limit, tasks.length));
      // Every place is free again.
      let entered = 0;
      for (let i = 0; i < limit; i++) void limited(async () => void entered++);
      await null;
      expect(entered).toBe(limit);
    });
  });
});

/** A delivery that writes down what it is asked for. */
function recorder(): { delivery: OutboxDelivery; retried: [string, number | undefined][]; controller: AbortController } {
  const retried: [string, number | undefined][] = [];
  const controller = new AbortController();
  const { signal } = controller;
  const retry: OutboxDelivery["retry"] = (id, options) => void retried.push([id, options?.delaySeconds]);
  return { delivery: { signal, ack: () => {}, reject: () => {}, retry }, retried, controller };
}

const message = (id: string, attempts = 1): OutboxMessage => ({ id, attempts, msg: id, source: "s", sequence: 1, timestamp: 0 });

describe("a message that is retried", () => {
  /** The delay that was asked for. */
  function delayOf(asked: number | undefined, attempts: number): number | undefined {
    const { delivery, retried } = recorder();
    retryLater(message("a", attempts), delivery, "down", asked);
    expect(retried).toHaveLength(1);
    return retried[0]?.[1];
  }

  it("has the outbox's own backoff where the destination asked for nothing that makes sense", () => {
    for (const asked of [undefined, 0, -1, Number.NaN, "soon" as never]) expect(delayOf(asked, 1)).toBeUndefined();
  });

  it("waits at least as long as was asked, longer with each attempt, and never longer than a day", () => {
    holds([fc.double({ min: 0.001, max: 1e12, noNaN: true }), fc.integer({ min: 1, max: 1000 })], (asked, attempts) => {
      const delay = delayOf(asked, attempts) ?? 0;
      expect(delay).toBeGreaterThanOrEqual(Math.min(asked, 86_400));
      expect(delay).toBeLessThanOrEqual(86_400);
      expect(delay).toBeGreaterThanOrEqual(Math.min(2 ** attempts, 3600));
    });
    expect(delayOf(1e9, 1)).toBe(86_400);
    expect(delayOf(1, 20)).toBe(3600);
  });
});

describe("groups that go different ways", () => {
  const group = (names: string[], error?: unknown) => ({
    messages: names.map((name) => message(name)),
    send: async () => {
      if (error) throw error;
    },
  });

  it("that all fail make the call fail, and no message is retried by itself", async () => {
    const { delivery, retried } = recorder();
    await expect(settleGroups([group(["a"], new Error("first")), group(["b"], new Error("second"))], delivery)).rejects.toThrow("first");
    expect(retried).toEqual([]);
  });

  it("of which one comes through retry the messages of the others, as late as these were asked to", async () => {
    const { delivery, retried } = recorder();
    await settleGroups([group(["a"]), group(["b", "c"], Object.assign(new Error(), { retryAfterSeconds: 9 })), group(["d"], 1)], delivery);
    expect(retried).toEqual([
      ["b", 9],
      ["c", 9],
      ["d", undefined],
    ]);
  });

  it("of which one is asked too often let its messages wait for it, and count no attempt", async () => {
    const { delivery } = recorder();
    const retried: unknown[] = [];
    const counting = { ...delivery, retry: (id: string, options: object = {}) => void retried.push({ id, ...options }) };
    const busy = Object.assign(new Error("429"), { throttled: true, retryAfterSeconds: 1e9 });
    const overloaded = Object.assign(new Error("Durable Object is overloaded."), { overloaded: true });
    await settleGroups([group(["a"]), group(["b"], busy), group(["c"], overloaded)], counting);
    expect(retried).toEqual([
      { id: "b", delaySeconds: 86_400, countAttempt: false, reason: busy },
      { id: "c", delaySeconds: 2, countAttempt: false, reason: overloaded },
    ]);
  });

  it("of which one fails after the timeout make the call fail", async () => {
    const { delivery, retried, controller } = recorder();
    controller.abort();
    await expect(settleGroups([group(["a"]), group(["b"], new Error("late"))], delivery)).rejects.toThrow("late");
    expect(retried).toEqual([]);
  });
});

function bytesOf(part: readonly { bytes: number }[]): number {
  return part.reduce((sum, { bytes }) => sum + bytes, 0);
}
