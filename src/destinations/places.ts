/** Places: how many requests are in flight at a time, and which lingering ones give way to others. */

import { told } from "../api/errors.js";
import type { OutboxDelivery } from "../api/message.js";
import type { Clock } from "./clock.js";
import { noteSuccess, type Target } from "./target.js";

/** A request without an answer after this long, in milliseconds, no longer holds up its call. A target that is known to be slow gets more. */
const PATIENCE_MS = 1000;
/** A target that is known to be slow gets this many times as long as it took before. */
const PATIENCE_FACTOR = 4;

/** A request in flight. */
interface Flight {
  lingers: boolean;
  readonly abort: (what: string) => void;
}

export interface Places {
  /** How many requests may linger while others wait for a place, and how many failing targets are probed at a time. */
  readonly spare: number;
  enter(): Promise<void>;
  leave(): void;
  /** One request, in a place that the caller has entered, and that is left when it ends. `late` is called when it lingers. */
  perform(target: Target, send: (delivery: OutboxDelivery) => Promise<void>, delivery: OutboxDelivery, late: () => void): Promise<void>;
}

export function placesOf(concurrency: number, timeoutSeconds: number, { now, after }: Clock): Places {
  /** In the order in which they began. */
  const flights = new Set<Flight>();
  const waiting: (() => void)[] = [];
  const spare = Math.floor(concurrency / 3);
  let free = concurrency;

  /** Ends requests that linger while others wait for a place. */
  function giveWay(): void {
    if (waiting.length === 0) return;
    const lingering = [...flights].filter(({ lingers }) => lingers);
    for (const { abort } of lingering.slice(0, Math.max(0, lingering.length - spare))) {
      abort("did not answer while others waited");
    }
  }

  const places: Places = {
    spare,

    async enter() {
      if (free > 0) {
        free--;
        return;
      }
      const entered = new Promise<void>((resolve) => waiting.push(resolve));
      giveWay();
      await entered;
    },

    /** Hands the place to the next that waits, so that none can step in between. */
    leave() {
      const next = waiting.shift();
      if (next) next();
      else free++;
    },

    async perform(target, send, delivery, late) {
      const controller = new AbortController();
      const startedAt = now();
      let abort!: Flight["abort"];
      const aborted = new Promise<never>((_, reject) => {
        abort = (what) => {
          const reason = new Error(told(`${target.name} ${what}.`));
          reject(reason);
          controller.abort(reason);
        };
      });
      const flight: Flight = { lingers: false, abort };
      flights.add(flight);
      const linger = (): void => {
        flight.lingers = true;
        late();
        giveWay();
      };
      const cancels = [
        after(Math.max(PATIENCE_MS, target.tookMs * PATIENCE_FACTOR), linger),
        after(timeoutSeconds * 1000, () => abort(`did not answer within ${timeoutSeconds} s`)),
      ];
      try {
        await Promise.race([send({ ...delivery, signal: controller.signal }), aborted]);
        noteSuccess(target, startedAt, now());
      } finally {
        for (const cancel of cancels) cancel();
        flights.delete(flight);
        places.leave();
      }
    },
  };
  return places;
}
