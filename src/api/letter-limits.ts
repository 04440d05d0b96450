/** The limits of dead letters: how long they are kept, and how many. */

import { known } from "./known.js";
import { within } from "./within.js";

/** When dead letters of a destination are deleted although nobody has discarded them. Without a limit they are kept. */
export interface DeadLetterOptions {
  /**
   * A dead letter is deleted this long after it became one, in seconds, or up to a sixteenth of that time (at least a second) later, so that several
   * go together. Default: never. From 0.001 to 315,360,000 (ten years).
   */
  expiresInSeconds?: number;
  /** Of more dead letters than this, those that were put first are deleted. Default: no limit. A whole number from 1 to 1,000,000,000. */
  max?: number;
}

/** The same with every default filled in. */
export interface LetterLimits {
  /** In milliseconds; Infinity: never. */
  readonly expiresMs: number;
  readonly max: number;
}

const NEVER = Number.POSITIVE_INFINITY;
export const NO_LIMITS: LetterLimits = { expiresMs: NEVER, max: NEVER };

/** @throws TypeError that names the option. */
export function letterLimitsOf(name: string, given: DeadLetterOptions | undefined, fallback: LetterLimits = NO_LIMITS): LetterLimits {
  if (given === undefined) return fallback;
  const { expiresInSeconds, max } = known(name, given, ["expiresInSeconds", "max"]);
  const seconds = within(`${name}.expiresInSeconds`, expiresInSeconds, [0, 0.001, 315_360_000]);
  return {
    expiresMs: seconds > 0 ? Math.ceil(seconds * 1000) : fallback.expiresMs,
    max: within(`${name}.max`, max, [fallback.max, 1, 1e9, 1]),
  };
}
