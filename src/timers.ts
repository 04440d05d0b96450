/**
 * Timers that are suspended while the object blocks its own concurrency. In `blockConcurrencyWhile` and in a transaction workerd runs no
 * timer that is queued behind an earlier one from outside (tried on workerd 1.20260730). One of the outbox's, of which the object's code
 * does not know, would hold up a timer for which that code waits in there.
 */

/** Cancels one timer. */
export type Cancel = () => void;

export interface Timers {
  /** Calls `work` after so many milliseconds, but not while the timers are held. */
  after(ms: number, work: () => unknown): Cancel;
  /** Lets other events have their turn. Resolves at once while the timers are held, and as soon as they are: the code that holds them may wait for it. */
  turn(): Promise<void>;
  /** Whether they are held: the object blocks its own concurrency, and the running code is inside. */
  readonly areHeld: boolean;
  /** Holds all timers until the promise of `section` has settled. */
  held<T>(section: () => Promise<T>): Promise<T>;
}

export function timersOf(): Timers {
  const waiting = new Set<{ ms: number; due: number; work: () => unknown; native: number }>();
  const turns = new Set<() => void>();
  let sections = 0;

  const timers: Timers = {
    after(ms, work) {
      const timer = { ms, due: Date.now() + ms, work, native: 0 };
      waiting.add(timer);
      if (sections === 0) start(timer);
      return () => {
        clearTimeout(timer.native);
        waiting.delete(timer);
      };
    },

    get areHeld() {
      return sections > 0;
    },

    turn() {
      if (sections > 0) return Promise.resolve();
      return new Promise<void>((resolve) => {
        const end = (): void => {
          turns.delete(end);
          resolve();
        };
        turns.add(end);
        setTimeout(end, 0);
      });
    },

    async held(section) {
      if (sections++ === 0) {
        for (const { native } of waiting) clearTimeout(native);
        for (const resolve of turns) resolve();
      }
      try {
        return await section();
      } finally {
        if (--sections === 0) waiting.forEach(start);
      }
    },
  };

  function start(timer: { ms: number; due: number; work: () => unknown; native: number }): void {
    timer.native = setTimeout(
      () => {
        waiting.delete(timer);
        timer.work();
      },
      // A clock that was set back meanwhile does not make it longer.
      Math.min(timer.ms, Math.max(0, timer.due - Date.now())),
      // A number in workers; other runtimes cancel whatever it is.
    ) as unknown as number;
  }

  return timers;
}
