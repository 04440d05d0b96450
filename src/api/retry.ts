/** The options of the retry policy. */

/** How long the outbox waits after failures. Durations are seconds and may be fractions. */
export interface RetryOptions {
  /** Delay after the first failure, in seconds. Default 2, at least 0.001. */
  minDelaySeconds?: number;
  /** No delay is longer than this, in seconds, jitter included. Default 3,600 (one hour), at most 604,800 (one week). */
  maxDelaySeconds?: number;
  /** Each further failure multiplies the delay by this. Default 2, at least 1, at most 10. */
  factor?: number;
  /** The share of the delay that is added at random, so that objects do not retry in step. It never shortens the delay. Default 0.2, from 0 to 1. */
  jitter?: number;
  /**
   * How often one message may fail on its own before it becomes a dead letter. Default 20: about nine hours with the other defaults. A whole number
   * from 1 to 1,000.
   */
  maxAttempts?: number;
}

/** The policy with every default filled in. */
export type RetryPolicy = Readonly<Required<RetryOptions>>;
