/**
 * A clock that stands still until it is moved on: with it hours of a steady rate pass in seconds, and each timer rings at its time. It takes the place of the
 * isolate's own, so this must be imported before anything that looks at the time.
 */
const RealDate = Date;

interface Timer {
  readonly due: number;
  readonly work: () => void;
}

const timers = new Map<number, Timer>();
let now = RealDate.UTC(2026, 0, 1);
let ids = 0;

class ClockDate extends RealDate {
  constructor(...given: []) {
    super(...((given.length === 0 ? [now] : given) as []));
  }

  static override now(): number {
    return now;
  }
}

Object.assign(globalThis, {
  Date: ClockDate,
  setTimeout(work: (...args: unknown[]) => void, ms = 0, ...args: unknown[]): number {
    timers.set(++ids, { due: now + Math.max(0, ms), work: () => work(...args) });
    return ids;
  },
  clearTimeout: (id: number) => void timers.delete(id),
});

export const clock = {
  now: (): number => now,

  /** When the next timer rings. */
  next: (): number => Math.min(Number.POSITIVE_INFINITY, ...[...timers.values()].map(({ due }) => due)),

  /** Moves the clock on. Never back. */
  move(to: number): void {
    now = Math.max(now, to);
  },

  /** Rings the first of the timers that are due. */
  ring(): void {
    const [id, timer] = [...timers].filter(([, { due }]) => due <= now).sort(([, a], [, b]) => a.due - b.due)[0] ?? [];
    if (id === undefined) return;
    timers.delete(id);
    timer?.work();
  },
};
