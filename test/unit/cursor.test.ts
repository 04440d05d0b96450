/** The cursor: what it says of a position is what a plain set of positions says. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ack, ackThrough, type Cursor, cursorAt, isAcked } from "../../src/subscription/cursor.ts";
import { holds } from "./property.ts";

const MOST = 40;
const position = fc.integer({ min: 1, max: MOST });
const step = fc.oneof(
  fc.record({ type: fc.constant("ack" as const), first: position, length: fc.integer({ min: 1, max: 6 }) }),
  fc.record({ type: fc.constant("through" as const), through: position, kept: fc.uniqueArray(position, { maxLength: 6 }) }),
);

/** Whether its parts are as its type promises: ascending, apart from one another and from the floor, and none of them empty. */
function isNormal({ ackFloor, acked }: Cursor): boolean {
  const ends = [ackFloor, ...acked.map(([, last]) => last)];
  return acked.every(([first, last], i) => first > (ends[i] ?? 0) + 1 && first <= last);
}

describe("a cursor", () => {
  it("is done with exactly the positions that it was told, whatever the order", () => {
    holds([fc.array(step, { maxLength: 30 })], (steps) => {
      let cursor = cursorAt(0);
      const done = new Set<number>();
      for (const step of steps) {
        if (step.type === "ack") {
          const last = Math.min(MOST, step.first + step.length - 1);
          cursor = ack(cursor, step.first, last);
          for (let at = step.first; at <= last; at++) done.add(at);
        } else {
          const kept = step.kept.sort((a, b) => a - b).filter((at) => !done.has(at));
          cursor = ackThrough(cursor, step.through, kept);
          for (let at = 1; at <= step.through; at++) if (!kept.includes(at)) done.add(at);
        }
        expect(isNormal(cursor)).toBe(true);
        for (let at = 1; at <= MOST; at++) expect(isAcked(cursor, at)).toBe(done.has(at));
      }
    });
  });

  it("moves its floor over what was acked beyond it", () => {
    const cursor = ack(ack(cursorAt(4), 6, 9), 11);
    expect(cursor).toEqual({
      ackFloor: 4,
      acked: [
        [6, 9],
        [11, 11],
      ],
    });
    expect(ack(cursor, 5)).toEqual({ ackFloor: 9, acked: [[11, 11]] });
    expect(ack(ack(cursor, 10), 5)).toEqual(cursorAt(11));
  });
});
