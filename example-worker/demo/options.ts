/** The options of the demo, and the random numbers that follow from its seed. */

import { parseArgs } from "node:util";

export interface Options {
  readonly bookings: number;
  readonly kills: number;
  readonly seed: number;
}

/** Prints what is wrong with them, and ends the process. */
export function parseOptions(): Options {
  const option = { type: "string" } as const;
  try {
    const { values } = parseArgs({ options: { bookings: option, kills: option, seed: option } });
    const integer = (name: keyof Options, fallback: number, min: number, max: number): number => {
      const text = values[name] ?? String(fallback);
      const value = /^\d{1,10}$/.test(text) ? Number(text) : -1;
      if (value < min || value > max) throw new RangeError(`--${name} must be an integer from ${min} to ${max}.`);
      return value;
    };
    return {
      bookings: integer("bookings", 400, 1, 8000),
      kills: integer("kills", 6, 0, 100),
      seed: integer("seed", Math.floor(Math.random() * 1e6), 0, 2 ** 32 - 1),
    };
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exit(2);
  }
}

/** The seed determines when the kills are requested. Their exact timing still differs from run to run. */
export function mulberry32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
