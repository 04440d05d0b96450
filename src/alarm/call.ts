/** The call under way: one call of `alarm()`, by the platform or by a test, and what starts within it. */

import type { Store } from "../storage/store.js";
import type { Cancel, Timers } from "../timers.js";

/**
 * Delivers what is due within the call.
 *
 * @param died an earlier run ended with its isolate
 */
export type Deliver = (died: boolean) => Promise<void>;

export interface Call {
  /** The time of the alarm that is being handled, in milliseconds since the Unix epoch; 0 when none is. */
  readonly firingAt: number;
  /** The call has not returned to the platform yet. That is a little longer than an alarm is being handled. */
  readonly isOpen: boolean;
  /** Changes when a call begins, and when it ends. */
  readonly number: number;
  /** A call or a late run has ended in this life: what the platform says of an earlier life's run is out of date. */
  readonly hasRun: boolean;
  /** The delivery that started within the call, beside the object's own handler. */
  readonly delivering: Promise<void> | null;
  /** What the object's own handler threw last within the call. */
  readonly thrown: { readonly error: unknown } | null;
  /** The time, in milliseconds since the Unix epoch: never before the alarm that is being handled, whatever the clock says. */
  now(): number;
  /** Whether a time has come. */
  isDue(time: number): boolean;
  begin(firingAt: number, deliver: Deliver): void;
  /** Starts delivery beside the object's own handler. */
  startDelivery(): void;
  /** The object's own handler has thrown. */
  threw(error: unknown): void;
  /** Plans what starts within the call, after so many milliseconds. */
  plan(ms: number, start: () => unknown): void;
  /** Cancels everything that is planned. */
  cancelPlans(): void;
  /** The alarm has been handled. */
  end(): void;
  /** The call returns. */
  close(): void;
  /** A run that stood in for a late alarm has ended. */
  ranLate(): void;
}

export function callOf(store: Store, timers: Timers): Call {
  let deliver: Deliver | null = null;
  let plans: Cancel[] = [];

  const call: { -readonly [Name in keyof Call]: Call[Name] } = {
    firingAt: 0,
    isOpen: false,
    number: 0,
    hasRun: false,
    delivering: null,
    thrown: null,

    now: () => Math.max(call.firingAt, store.now()),

    isDue: (time) => time <= call.now(),

    begin(firingAt, run) {
      call.firingAt = firingAt;
      call.isOpen = true;
      call.number++;
      call.thrown = null;
      deliver = run;
    },

    startDelivery() {
      if (deliver) call.delivering = deliver(false);
    },

    threw(error) {
      call.thrown = { error };
    },

    plan(ms, start) {
      plans.push(timers.after(ms, start));
    },

    cancelPlans() {
      for (const cancel of plans) cancel();
      plans = [];
    },

    end() {
      call.firingAt = 0;
      call.number++;
      call.hasRun = true;
      deliver = call.delivering = null;
    },

    close() {
      call.isOpen = false;
    },

    ranLate() {
      call.hasRun = true;
    },
  };
  return call;
}
