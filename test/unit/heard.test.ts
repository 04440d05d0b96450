/** What an inbox remembers of a sender, against a set that remembers every number. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { after, filled, type Gap, isMissing, MOST_GAPS, NOTHING_HEARD } from "../../src/inbox/heard.ts";
import { holds } from "./property.ts";

/** A memory of one sender with its pages, as the inbox keeps them. */
class Memory {
  heard = NOTHING_HEARD;
  readonly pages: Gap[][] = [];

  isNew(sequence: number): boolean {
    if (sequence > this.heard.high) return true;
    return sequence > this.heard.paged ? isMissing(this.heard.gaps, sequence) : this.pages.some((gaps) => isMissing(gaps, sequence));
  }

  hear(sequence: number): void {
    if (sequence > this.heard.paged) {
      const { heard, page } = after(this.heard, sequence);
      this.heard = heard;
      if (page.length > 0) this.pages.push(page);
    } else {
      const at = this.pages.findIndex((gaps) => isMissing(gaps, sequence));
      if (at >= 0) this.pages[at] = filled(this.pages[at] ?? [], sequence);
    }
  }

  get gaps(): Gap[] {
    return [...this.pages.flat(), ...this.heard.gaps];
  }
}

const arrivals = fc.oneof(
  fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 80 }),
  fc.array(fc.integer({ min: 1, max: 2000 }), { maxLength: 600 }),
  // Every other number leaves the most gaps.
  fc.nat(700).map((count) => Array.from({ length: count }, (_, n) => 2 * n + 2)),
  fc
    .tuple(fc.nat(500), fc.array(fc.integer({ min: 1, max: 1000 }), { maxLength: 300 }))
    .map(([count, late]) => [...Array.from({ length: count }, (_, n) => 2 * n + 2), ...late]),
);

describe("what was heard of a sender", () => {
  it("knows each number exactly once, in whatever order they come", () => {
    holds([arrivals], (arrivals) => {
      const memory = new Memory();
      const all = new Set<number>();
      for (const sequence of arrivals) {
        if (memory.isNew(sequence) === all.has(sequence)) expect.fail(`${sequence} is taken for ${all.has(sequence) ? "new" : "known"}`);
        if (!all.has(sequence)) memory.hear(sequence);
        all.add(sequence);
      }
      const high = Math.max(0, ...all);
      const missing = Array.from({ length: high }, (_, n) => n + 1).filter((n) => !all.has(n));
      expect(memory.gaps.flatMap(([first, last]) => Array.from({ length: last - first + 1 }, (_, n) => first + n))).toEqual(missing);
      expect(memory.heard.high).toBe(high);
    });
  });

  it("stays small: so many gaps beside the number and in a page, in order, apart, and none of them empty", () => {
    holds([arrivals], (arrivals) => {
      const memory = new Memory();
      for (const sequence of arrivals) {
        if (memory.isNew(sequence)) memory.hear(sequence);
        if (memory.heard.gaps.length > MOST_GAPS) expect.fail(`${memory.heard.gaps.length} gaps beside the number`);
      }
      for (const page of memory.pages) expect(page.length).toBeLessThanOrEqual(MOST_GAPS);
      let end = 0;
      for (const [first, last] of memory.gaps) {
        if (first <= end || last < first) expect.fail(`a gap from ${first} to ${last} behind ${end}`);
        end = last + 1;
      }
    });
  });

  it("is one number while everything comes in order", () => {
    let heard = NOTHING_HEARD;
    for (let n = 1; n <= 1000; n++) heard = after(heard, n).heard;
    expect(heard).toEqual({ ...NOTHING_HEARD, high: 1000 });
  });
});

it("a number in the middle of a gap makes two of it, and one at its end shortens it", () => {
  const gaps: Gap[] = [
    [1, 1],
    [5, 9],
  ];
  expect(filled(gaps, 7)).toEqual([
    [1, 1],
    [5, 6],
    [8, 9],
  ]);
  expect(filled(gaps, 5)).toEqual([
    [1, 1],
    [6, 9],
  ]);
  expect(filled(gaps, 9)).toEqual([
    [1, 1],
    [5, 8],
  ]);
  expect(filled(gaps, 1)).toEqual([[5, 9]]);
  expect(filled(gaps, 4)).toEqual(gaps);
});
