/** The retry policy, for every policy and every number of failures. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { settings } from "../../src/api/options.ts";
import { retryDelayMs } from "../../src/subscription/retry.ts";
import { SEED } from "../support/random.ts";

const policies = fc
  .record({
    minDelaySeconds: fc.double({ min: 0.001, max: 3600, noNaN: true }),
    maxDelaySeconds: fc.double({ min: 0.001, max: 604_800, noNaN: true }),
    factor: fc.double({ min: 1, max: 10, noNaN: true }),
    jitter: fc.double({ min: 0, max: 1, noNaN: true }),
    maxAttempts: fc.integer({ min: 1, max: 1000 }),
  })
  .filter(({ minDelaySeconds, maxDelaySeconds }) => minDelaySeconds <= maxDelaySeconds);
const randoms = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const failures = fc.integer({ min: 1, max: 10_000 });

describe("retryDelayMs", () => {
  it("never gives less than the exponential delay and never more than the cap", () => {
    fc.assert(
      fc.property(policies, failures, randoms, (policy, count, random) => {
        const delay = retryDelayMs(policy, count, random);
        const exponential = Math.min(policy.maxDelaySeconds, policy.minDelaySeconds * policy.factor ** (count - 1)) * 1000;
        expect(delay).toBeGreaterThanOrEqual(Math.floor(exponential));
        expect(delay).toBeLessThanOrEqual(Math.ceil(policy.maxDelaySeconds * 1000));
        expect(Number.isInteger(delay)).toBe(true);
      }),
      { seed: SEED },
    );
  });

  it("never gets shorter from one failure to the next, at the same luck", () => {
    fc.assert(
      fc.property(policies, failures, randoms, (policy, count, random) => {
        expect(retryDelayMs(policy, count + 1, random)).toBeGreaterThanOrEqual(retryDelayMs(policy, count, random));
      }),
      { seed: SEED },
    );
  });

  it("gives a failing message about nine hours by default", () => {
    const { retry } = settings();
    let ms = 0;
    for (let attempt = 1; attempt < retry.maxAttempts; attempt++) ms += retryDelayMs(retry, attempt, 0.5);
    expect(ms / 3_600_000).toBeGreaterThan(8.5);
    expect(ms / 3_600_000).toBeLessThan(9.5);
  });
});
