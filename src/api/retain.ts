/** Retention: how much of the log is kept after every destination has got it. */

import { expected } from "./errors.js";
import { known } from "./known.js";
import { within } from "./within.js";

/**
 * What is kept of the log after delivery: all of it, or what is within every given limit. Whole rows of up to 32 messages are deleted, so that a little
 * more is kept than a limit says; and a message that any destination has yet to get is kept whatever the limits say.
 */
export type OutboxRetain =
  | "all"
  | {
      /** The newest so many messages, counted by their positions. From 1 to 1,000,000,000. */
      count?: number;
      /** Those put within the last so many seconds. From 1 to 315,360,000 (ten years). */
      seconds?: number;
      /** The newest of so many bytes, as they are stored. From 1 to 10,737,418,240 (10 GB, what an object may store). */
      bytes?: number;
    };

/** The limits, each `Infinity` where it is not given. */
export interface Retention {
  readonly count: number;
  readonly ms: number;
  readonly bytes: number;
}

const LIMITS = {
  count: [Number.POSITIVE_INFINITY, 1, 1e9, 1],
  seconds: [Number.POSITIVE_INFINITY, 1, 315_360_000],
  bytes: [Number.POSITIVE_INFINITY, 1, 10 * 2 ** 30, 1],
} as const;

/** `null`: nothing is kept. @throws TypeError that names the option. */
export function retentionOf(retain: OutboxRetain | undefined): Retention | null {
  if (retain === undefined) return null;
  if (retain !== "all" && (typeof retain !== "object" || retain === null)) {
    throw expected("options.retain", '"all", or an object with limits', retain);
  }
  const { count, seconds, bytes } = retain === "all" ? {} : known("options.retain", retain, Object.keys(LIMITS));
  if (retain !== "all" && count === undefined && seconds === undefined && bytes === undefined) {
    throw expected("options.retain", '"all", or an object with count, seconds or bytes', retain);
  }
  return {
    count: within("options.retain.count", count, LIMITS.count),
    ms: within("options.retain.seconds", seconds, LIMITS.seconds) * 1000,
    bytes: within("options.retain.bytes", bytes, LIMITS.bytes),
  };
}
