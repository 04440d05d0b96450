/** The timers of one object whose clock stands still until a test moves it: they run when it does. */

import type { Timers } from "../timers.js";

export interface TestTimers {
  /** When the next one is due, by the object's clock: infinity if there is none. */
  next(): number;
  /** Runs those whose time has come. */
  run(): void;
}

/** Replaces `after`, which the outbox looks up at each call. */
export function timersIn(timers: Timers, now: () => number): TestTimers {
  const { after } = timers;
  const waiting = new Set<{ readonly due: number; readonly work: () => unknown }>();

  timers.after = (ms, work) => {
    // Work for the next turn has nothing to do with time.
    if (ms <= 0) return after(ms, work);
    const timer = { due: now() + ms, work };
    waiting.add(timer);
    return () => void waiting.delete(timer);
  };

  return {
    next: () => Math.min(Number.POSITIVE_INFINITY, ...Array.from(waiting, ({ due }) => due)),
    run() {
      if (timers.areHeld) return;
      for (const timer of [...waiting].sort((a, b) => a.due - b.due)) {
        // An earlier one may have cancelled it.
        if (timer.due <= now() && waiting.delete(timer)) timer.work();
      }
    },
  };
}
