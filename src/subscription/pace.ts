/** Pace: how many messages a destination takes in a second, and when the next run may begin. In memory: another life of the object begins afresh. */

import { NEVER } from "../storage/memory.js";

export interface Pace {
  /** How many messages may be handed over now: 0 where the run ends. */
  room(): number;
  /** So many have been handed over. */
  spend(count: number): void;
  /** When a run may begin again, in milliseconds since the Unix epoch; 0 where it may now. */
  opensAt(): number;
  /** The invocation has no subrequests left: the next one goes on, and this one must not begin another run. */
  rest(): void;
}

/** How long an invocation that has no subrequests left begins no run, in milliseconds: by then its alarm is over, and the next one is another invocation. */
const REST_MS = 100;
/** Sums of fractions may be smaller than the whole. */
const ROUNDING = 1e-6;

/**
 * A bucket of tokens, one for each message: it fills by `perSecond`, and holds those of one second, or one. A run takes what is there. When that is
 * nothing it waits until the bucket is full, so that it costs at most one alarm a second.
 *
 * @param perSecond Infinity where there is no limit
 */
export function paceOf(now: () => number, perSecond: () => number): Pace {
  let tokens = NEVER;
  let filledAt = 0;
  let restsUntil = 0;

  const most = (): number => Math.max(1, perSecond());

  function fill(): number {
    const at = now();
    // A clock that was set back fills nothing, and what it showed before is forgotten.
    tokens = Math.min(most(), tokens + (Math.max(0, at - filledAt) * perSecond()) / 1000);
    filledAt = at;
    return tokens;
  }

  const pace: Pace = {
    room: () => (pace.opensAt() > 0 ? 0 : perSecond() === NEVER ? NEVER : Math.floor(fill() + ROUNDING)),

    spend(count) {
      if (perSecond() < NEVER) tokens = fill() - count;
    },

    opensAt() {
      const at = now();
      // Beyond that it was set by a clock that was set back since.
      if (restsUntil > at && restsUntil <= at + REST_MS) return restsUntil;
      if (perSecond() === NEVER || fill() + ROUNDING >= 1) return 0;
      return at + Math.ceil(((most() - tokens) * 1000) / perSecond());
    },

    rest() {
      restsUntil = now() + REST_MS;
    },
  };
  return pace;
}
