/** The numbers that an inbox remembers of a sender: exact for ever, in every order, and in rows that stay small. Without an object. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Gap, type Heard, MOST_GAPS } from "../../../src/inbox/heard.ts";
import { runSync } from "../../../src/inbox/rows.ts";
import { judge, type Rules } from "../../../src/inbox/verdict.ts";
import { SEED } from "../../support/random.ts";
import { numbered } from "../support/inbox.ts";

const RULES: Rules = { ordered: false, maxWaiting: 100, retentionSeconds: 60 };

/** A key-value storage in memory that lists as the platform does, for keys that are plain ASCII behind their beginning. */
function memory() {
  const rows = new Map<string, unknown>();
  const kv = {
    get: (key: string) => rows.get(key),
    list({ start = "", end = "\u{10FFFF}\u{10FFFF}", reverse = false, limit = Number.POSITIVE_INFINITY }: SyncKvListOptions) {
      const keys = [...rows.keys()].filter((key) => key >= start && key < end).sort();
      if (reverse) keys.reverse();
      return keys.slice(0, limit).map((key) => [key, rows.get(key)]);
    },
  } as unknown as SyncKvStorage;
  /** Takes a number, and gives whether it was new. */
  const take = (sequence: number, source = "sender"): boolean => {
    const verdict = runSync(kv, judge(numbered(sequence, source), RULES, 0));
    if (verdict.status !== "new") return false;
    for (const [key, value] of Object.entries(verdict.rows)) {
      if (value === undefined) rows.delete(key);
      else rows.set(key, structuredClone(value));
    }
    return true;
  };
  const gapsOf = (value: unknown): readonly Gap[] => (Array.isArray(value) ? value : (value as Heard).gaps);
  /** The most gaps in a row. */
  const largest = () => Math.max(0, ...[...rows.values()].map((value) => gapsOf(value).length));
  const missing = () => [...rows.values()].flatMap(gapsOf).reduce((sum, [first, last]) => sum + last - first + 1, 0);
  return { rows, take, largest, missing };
}

const range = (count: number, number: (n: number) => number): number[] => Array.from({ length: count }, (_, n) => number(n));

/** A permutation that visits all of a range in strides. */
const strided = (count: number, stride: number): number[] => range(count, (n) => ((n * stride) % count) + 1);

const ORDERS: [string, number[]][] = [
  ["in order", range(3000, (n) => n + 1)],
  ["the newest first", range(3000, (n) => 3000 - n)],
  ["every second, the newest first, and then the others", [...range(1500, (n) => 3000 - 2 * n), ...range(1500, (n) => 2 * n + 1)]],
  ["one far ahead, and then every second", [9001, ...range(3000, (n) => 3 * n + 2)]],
  ["sparse, growing", range(3000, (n) => 1000 * n + 7)],
  ["sparse, from the newest", range(3000, (n) => 3_000_007 - 1000 * n)],
  ["sparse, and then between those", [...range(600, (n) => 10 * n + 10), ...range(600, (n) => 10 * n + 5)]],
  ["the same around a power of ten", [...range(600, (n) => 1e15 - 3000 + 10 * n), ...range(600, (n) => 1e15 - 3000 + 10 * n - 5)]],
  ["in strides", strided(3001, 1009)],
  ["in halves", strided(3001, 1500)],
];

describe("the numbers of a sender", () => {
  it.each(ORDERS)("are each new once when they come %s", (_, numbers) => {
    const { take, largest, missing } = memory();
    for (const n of numbers) expect([n, take(n)]).toEqual([n, true]);
    for (const n of [...numbers].reverse()) expect([n, take(n)]).toEqual([n, false]);
    expect(missing()).toBe(Math.max(...numbers) - numbers.length);
    expect(largest()).toBeLessThanOrEqual(MOST_GAPS);
  });

  it.each(ORDERS)("never fill a row, and share one for every sixty-four gaps, when they come %s", (_, numbers) => {
    const { take, largest, rows } = memory();
    let most = 0;
    for (const n of numbers) {
      take(n);
      most = Math.max(most, largest());
    }
    expect(most).toBeLessThanOrEqual(MOST_GAPS);
    expect(rows.size).toBeLessThanOrEqual(Math.ceil(numbers.length / (MOST_GAPS / 2)) + 1);
  });

  it("are one row again when all that was missing has come", () => {
    const { take, rows } = memory();
    for (const n of range(1000, (n) => 2 * n + 2)) take(n);
    expect(rows.size).toBeGreaterThan(10);
    for (const n of range(1000, (n) => 2 * n + 1)) expect(take(n)).toBe(true);
    expect([...rows.values()]).toEqual([expect.objectContaining({ high: 2000, gaps: [] })]);
  });

  it("are exact in any order, for several senders", () => {
    const sender = fc.constantFrom("a", "b", 'a"', "a0");
    const number = fc.oneof(
      fc.integer({ min: 1, max: 40 }),
      fc.integer({ min: 1, max: 3000 }),
      fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
      fc.integer({ min: 0, max: 20 }).map((n) => Number.MAX_SAFE_INTEGER - n),
    );
    const property = fc.property(fc.array(fc.tuple(sender, number), { maxLength: 900, size: "max" }), (messages) => {
      const { take, largest } = memory();
      const seen = new Set<string>();
      for (const [source, n] of messages) {
        const name = `${source} ${n}`;
        expect([name, take(n, source)]).toEqual([name, !seen.has(name)]);
        seen.add(name);
      }
      expect(largest()).toBeLessThanOrEqual(MOST_GAPS);
    });
    fc.assert(property, { seed: SEED, numRuns: 40, endOnFailure: true });
  });
});
