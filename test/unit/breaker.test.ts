/** The breaker and the search for the message that breaks its batch. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  afterFailure,
  afterPoison,
  afterSuccess,
  type Breaker,
  CLOSED,
  inVain,
  isOver,
  probeSize,
  tried,
} from "../../src/subscription/breaker.ts";
import { holds } from "./property.ts";

const batchSize = fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 1000 }));
const step = fc.record({ fails: fc.boolean(), settled: fc.boolean() });

/** One call of a destination that takes everything but a batch with the poison in it. */
function called(
  breaker: Breaker,
  queue: readonly number[],
  batchSize: number,
  poison: number,
): { breaker: Breaker; sent: number; fails: boolean } {
  const batch = queue.slice(0, probeSize(breaker, batchSize));
  if (batch.includes(poison)) return { breaker: afterFailure(breaker, batch.length, false, 1), sent: 0, fails: true };
  return { breaker: afterSuccess(breaker, batch.length), sent: batch.length, fails: false };
}

describe("the breaker", () => {
  it("opens with the first failure, counts each one, and closes with the first success, whatever came before", () => {
    holds([fc.array(step, { maxLength: 30 }), batchSize], (steps, batchSize) => {
      let breaker = CLOSED;
      let inARow = 0;
      for (const { fails, settled } of steps) {
        const size = probeSize(breaker, batchSize);
        inARow = fails ? inARow + 1 : 0;
        breaker = fails ? afterFailure(breaker, size, settled, 1000 + inARow) : afterSuccess(breaker, size);
        expect(breaker).toMatchObject({ failures: inARow, retryAt: fails ? 1000 + inARow : 0, lease: false, alone: 0 });
      }
    });
  });

  it("is over after the message has been found that broke its batch, and keeps the attempts that were counted", () => {
    const failed = { ...afterFailure(CLOSED, 4, false, 1), vain: [[4, 2]] as const };
    expect(isOver(failed)).toBe(false);
    expect(afterPoison(failed)).toEqual({ ...CLOSED, vain: [[4, 2]], controls: 1 });
    expect(isOver(afterPoison(failed))).toBe(true);
  });
});

describe("a call gets", () => {
  it("from one message to a full batch, whatever came before", () => {
    holds([fc.array(step, { maxLength: 30 }), batchSize, fc.boolean()], (steps, batchSize, lease) => {
      let breaker: Breaker = { ...CLOSED, lease };
      for (const { fails, settled } of steps) {
        const size = probeSize(breaker, batchSize);
        expect(size).toBeGreaterThanOrEqual(1);
        expect(size).toBeLessThanOrEqual(batchSize);
        breaker = fails ? afterFailure(breaker, size, settled, 1) : afterSuccess(breaker, size);
      }
    });
  });

  it("the same batch again after one failure, and then halves", () => {
    const sizes: number[] = [];
    let breaker = CLOSED;
    for (let n = 0; n < 9; n++) {
      const size = probeSize(breaker, 100);
      sizes.push(size);
      breaker = afterFailure(breaker, size, false, 1);
    }
    expect(sizes).toEqual([100, 100, 50, 25, 13, 7, 4, 2, 1]);
  });

  it("half as many at once when the failure was the death of an isolate", () => {
    expect(probeSize({ ...afterFailure(CLOSED, 100, false, 1), lease: true }, 100)).toBe(50);
  });
});

it("a message that breaks its batch is alone after two failures and one for each halving, and everything before it is delivered in order", () => {
  const queue = fc.tuple(fc.integer({ min: 1, max: 1200 }), fc.nat()).map(([length, at]) => ({ length, poison: at % length }));
  holds([queue, batchSize], ({ length, poison }, batchSize) => {
    let rest = Array.from({ length }, (_, n) => n);
    let breaker = CLOSED;
    let failures = 0;
    for (let calls = 1; !(breaker.suspects === 1 && rest[0] === poison); calls++) {
      if (calls > 2 * length + 40) expect.fail(`not found after ${calls} calls: ${JSON.stringify(breaker)}`);
      const { sent, fails, breaker: next } = called(breaker, rest, batchSize, poison);
      breaker = next;
      rest = rest.slice(sent);
      if (fails) failures++;
      if (!rest.includes(poison)) expect.fail(`${poison} was delivered`);
    }
    expect(failures).toBeLessThanOrEqual(2 + Math.ceil(Math.log2(batchSize)));
  });
});

describe("attempts of the queue's messages", () => {
  const attempt = fc.record({ through: fc.integer({ min: 1, max: 60 }), gone: fc.constantFrom(0, 0, 0, 1, 5) });

  it("are never counted too low, and never higher than the calls that there were", () => {
    holds([fc.array(attempt, { maxLength: 60, size: "max" })], (attempts) => {
      let breaker = CLOSED;
      let done = 0;
      const naive: number[] = [];
      for (const [calls, { through, gone }] of attempts.entries()) {
        done += gone;
        const last = done + through;
        breaker = { ...breaker, ...inVain(breaker, last, done) };
        for (let position = done + 1; position <= last; position++) naive[position] = (naive[position] ?? 0) + 1;
        for (let position = done + 1; position <= last + 1; position++) {
          const counted = tried(breaker, position);
          if (counted < (naive[position] ?? 0) || counted > calls + 1)
            expect.fail(`${counted} for ${position}, and there were ${naive[position]}`);
        }
        expect(breaker.vain.length).toBeLessThanOrEqual(16);
      }
    });
  });

  it("are exact while the same batch is tried again and again, and are forgotten once it is gone", () => {
    let breaker: Breaker = CLOSED;
    for (let n = 0; n < 40; n++) breaker = { ...breaker, ...inVain(breaker, 9, 4) };
    expect([5, 9, 10].map((position) => tried(breaker, position))).toEqual([40, 40, 0]);
    breaker = { ...breaker, ...inVain(breaker, 9, 9) };
    expect(breaker.vain).toEqual([]);
  });
});
