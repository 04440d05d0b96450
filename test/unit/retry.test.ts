/** The backoff: bounds, growth and jitter. */
import fc from "fast-check";
import { expect, it } from "vitest";
import type { RetryPolicy } from "../../src/api/retry.ts";
import { retryDelayMs } from "../../src/subscription/retry.ts";
import { holds } from "./property.ts";

const policy: fc.Arbitrary<RetryPolicy> = fc.record({
  minDelaySeconds: fc.double({ min: 0.001, max: 604_800, noNaN: true }),
  maxDelaySeconds: fc.double({ min: 0.001, max: 604_800, noNaN: true }),
  factor: fc.double({ min: 1, max: 10, noNaN: true }),
  jitter: fc.double({ min: 0, max: 1, noNaN: true }),
  maxAttempts: fc.integer({ min: 1, max: 1000 }),
});
const failures = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 1e9 }));
const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

it("waits 2 s, 4 s, 8 s with the usual factor and no jitter", () => {
  const plain: RetryPolicy = { minDelaySeconds: 2, maxDelaySeconds: 3600, factor: 2, jitter: 0, maxAttempts: 20 };
  expect([1, 2, 3, 11, 12, 13].map((n) => retryDelayMs(plain, n, 0.5))).toEqual([2000, 4000, 8000, 2_048_000, 3_600_000, 3_600_000]);
});

it("adds at most the given share, and that never shortens a delay", () => {
  const plain: RetryPolicy = { minDelaySeconds: 2, maxDelaySeconds: 3600, factor: 2, jitter: 0.2, maxAttempts: 20 };
  expect([0, 0.5, 0.999].map((chance) => retryDelayMs(plain, 1, chance))).toEqual([2000, 2200, 2400]);
});

it("is a whole number of milliseconds, at least 1 and never more than maxDelaySeconds, jitter included, after however many failures", () => {
  holds([policy, failures, random], (policy, failures, random) => {
    const delay = retryDelayMs(policy, failures, random);
    expect(Number.isSafeInteger(delay)).toBe(true);
    expect(delay).toBeGreaterThanOrEqual(1);
    expect(delay).toBeLessThanOrEqual(Math.ceil(policy.maxDelaySeconds * 1000));
  });
});

it("never shrinks from one failure to the next", () => {
  holds([policy, failures, random], (policy, failures, random) => {
    expect(retryDelayMs(policy, failures + 1, random)).toBeGreaterThanOrEqual(retryDelayMs(policy, failures, random));
  });
});
