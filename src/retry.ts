/** The retry policy: pure functions from a count of attempts to a delay. */

/** How long the outbox waits after failures. Durations are seconds and may be fractions. */
export interface RetryOptions {
  /** Delay after the first failure, in seconds. Default 2, at least 0.001. */
  minDelaySeconds?: number;
  /** No delay is longer than this, in seconds, jitter included. Default 3,600 (one hour), at most 604,800 (one week). */
  maxDelaySeconds?: number;
  /** Each further failure multiplies the delay by this. Default 2, at least 1, at most 10. */
  factor?: number;
  /** The share of the delay that is added at random, so that objects do not retry in step. It never shortens. Default 0.2, from 0 to 1. */
  jitter?: number;
  /**
   * How often one message is attempted before it becomes a dead letter. Default 20: with the other defaults a failing
   * message has about nine hours. An integer, at least 1, at most 1,000.
   */
  maxAttempts?: number;
}

/** The policy with every default filled in. */
export type RetryPolicy = Readonly<Required<RetryOptions>>;

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
