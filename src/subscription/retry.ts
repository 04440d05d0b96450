/** The retry policy: pure functions from a count of attempts to a delay. */

import type { RetryPolicy } from "../api/retry.js";

/**
 * The delay after the `failures`-th failure in a row, in whole milliseconds.
 *
 * @param failures counted from 1
 * @param random from 0 (inclusive) to 1 (exclusive), as `Math.random()` gives it
 */
export function retryDelayMs(policy: RetryPolicy, failures: number, random: number): number {
  const exponential = policy.minDelaySeconds * policy.factor ** (failures - 1);
  return Math.ceil(Math.min(policy.maxDelaySeconds, exponential * (1 + policy.jitter * random)) * 1000);
}
