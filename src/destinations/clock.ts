/** The clock of destinations that remember how their targets are doing, so that tests need not wait. */

import { seam } from "../api/seam.js";

export interface Clock {
  /** In milliseconds since the Unix epoch. */
  readonly now: () => number;
  /** From 0 to 1. */
  readonly random: () => number;
  /** Calls `work` after this many milliseconds. Returns a function that cancels it. */
  readonly after: (ms: number, work: () => void) => () => void;
}

export const CLOCK: Clock = {
  now: () => Date.now() + (seam()?.elapsedMs ?? 0),
  random: () => Math.random(),
  after(ms, work) {
    const timer = setTimeout(work, ms);
    return () => clearTimeout(timer);
  },
};
