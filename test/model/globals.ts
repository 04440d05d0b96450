/** What the object's code finds in the global scope: a virtual clock, its timers, and chance from a seed. */

/** What stands behind the clock. */
export interface Clock {
  now(): number;
  after(ms: number, work: () => void): () => void;
}

/** Whole numbers from 0 to below 2^32, from a seed: mulberry32. */
export function chance(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
}

/** Puts them in place while the object's code runs, and takes them back. */
export class Globals {
  readonly #ours: Record<string, unknown>;
  readonly #uuid: () => string;
  readonly #random: () => number;
  readonly #now: () => number;

  constructor(seed: number, clock: Clock) {
    const next = chance(seed);
    const timers = new Map<number, () => void>();
    let last = 0;
    this.#now = clock.now;
    this.#random = () => next() / 2 ** 32;
    this.#uuid = () => {
      const hex = (digits: number) => (next() % 16 ** digits).toString(16).padStart(digits, "0");
      return `${hex(4)}${hex(4)}-${hex(4)}-4${hex(3)}-8${hex(3)}-${hex(6)}${hex(6)}`;
    };
    this.#ours = {
      setTimeout: (work: () => void, ms = 0) => {
        const id = ++last;
        timers.set(
          id,
          clock.after(ms, () => {
            timers.delete(id);
            work();
          }),
        );
        return id;
      },
      clearTimeout: (id: number) => {
        timers.get(id)?.();
        timers.delete(id);
      },
    };
  }

  install(): () => void {
    const before = { setTimeout, clearTimeout };
    const { now } = Date;
    const { random } = Math;
    const { warn, error } = console;
    Object.assign(globalThis, this.#ours);
    Date.now = this.#now;
    Math.random = this.#random;
    // The outbox logs failures and dead letters: thousands of them are wanted here.
    console.warn = console.error = () => {};
    Object.defineProperty(crypto, "randomUUID", { value: this.#uuid, configurable: true });
    return () => {
      Object.assign(globalThis, before);
      Date.now = now;
      Math.random = random;
      Object.assign(console, { warn, error });
      Reflect.deleteProperty(crypto, "randomUUID");
    };
  }
}
