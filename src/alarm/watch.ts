/** The watch: while messages wait and the object is awake, it checks that the alarm is still set, and delivers in place of one that is late. */

import { NEVER } from "../storage/memory.js";
import type { Store } from "../storage/store.js";
import type { Timers } from "../timers.js";

/** An alarm that is overdue by this much, in milliseconds, is late: the object delivers without it. */
export const LATE_MS = 1000;
/** How long after a write, in milliseconds, the alarm is checked, so that all writes of that time share one check. */
const CHECK_MS = 1000;
/** The same after a start without an alarm. By then the call that has started the object is under way. */
const START_MS = 100;
/** The same after a start with an overdue alarm: a call that died is repeated after 2 s, and its retryCount says so. */
const REPEAT_MS = 2500;
/** An object that nobody calls stays in memory for about this long, in milliseconds: no check is planned further ahead. */
const AWAKE_MS = 10_000;
/** An alarm that is later than this, in milliseconds, counts as lost. The platform may be a minute late (Alarms API documentation). */
const LOST_MS = 900_000;
/** How long a late alarm is left alone before it is set again, in milliseconds, and how often that time may double: up to 17 minutes. */
const PATIENCE_MS = 8000;
const MOST_DOUBLINGS = 7;

/** What the watch needs to know and do. */
export interface Watched {
  /** Whether a call of the alarm is under way: it delivers, and sets the alarm at its end. */
  isCalled(): boolean;
  /** Whether the outbox has something to do now. */
  isDue(): boolean;
  /** Does what is due. */
  deliver(): Promise<void>;
  /** The native alarm is not set as it should be: sets it again. */
  repair(nativeAlarmAt: number): void;
}

export interface Watch {
  /** Checks the alarm once, after so many milliseconds, unless a check is planned already. */
  checkAfter(ms?: number): void;
  /** Checks the alarm after a start that found it overdue, or gone. */
  started(overdue: boolean): void;
  /** The alarm has been set for this time. `late`: in place of one that was late. */
  noteSet(time: number, now: number, late: boolean): void;
  /** Whether a late alarm may be set again, which makes the platform wait anew each time. */
  maySetAgain(now: number): boolean;
  /** The platform has called. */
  platformCalled(): void;
}

export function watchOf(store: Store, timers: Timers, object: Watched): Watch {
  const { memory, native } = store;
  let isPlanned = false;
  let delivering = false;
  /** When the alarm was last set in this life, and how often a late one has been set again since the platform called. */
  let lastSetAt = 0;
  let again = 0;

  async function check(): Promise<void> {
    const { nativeAlarmAt } = memory;
    const alarm = memory.wakeAt === NEVER ? nativeAlarmAt : ((await native.getAlarm().catch(() => nativeAlarmAt)) ?? NEVER);
    isPlanned = false;
    if (memory.wakeAt === NEVER || object.isCalled() || delivering) return;
    const now = store.now();
    const late = nativeAlarmAt <= now - LATE_MS;
    // The object's own is the platform's to repeat, which alone may know how often it has failed.
    const lost = alarm === NEVER || (alarm <= now - LOST_MS && alarm !== memory.ownAlarm?.time);
    // It has been set meanwhile.
    if (memory.nativeAlarmAt !== nativeAlarmAt) watch.checkAfter();
    // One that was moved to a later time is as good as one that is late: it is still there.
    else if (!lost && late && (alarm === nativeAlarmAt || object.isDue())) await deliver();
    else if (lost || alarm !== nativeAlarmAt) object.repair(alarm);
    else if (alarm <= now) watch.checkAfter(alarm + LATE_MS - now);
  }

  async function deliver(): Promise<void> {
    if (object.isDue()) {
      delivering = true;
      await object.deliver().finally(() => {
        delivering = false;
      });
    }
    const now = store.now();
    const wait = memory.wakeAt - now;
    if (wait < AWAKE_MS && memory.nativeAlarmAt <= now) watch.checkAfter(Math.max(CHECK_MS, wait));
  }

  const watch: Watch = {
    checkAfter(ms = CHECK_MS) {
      if (isPlanned) return;
      isPlanned = true;
      timers.after(ms, () => check().catch(() => {}));
    },

    started: (overdue) => watch.checkAfter(overdue ? REPEAT_MS : START_MS),

    noteSet(time, now, late) {
      lastSetAt = now;
      if (late) again++;
      if (time <= now + LATE_MS) watch.checkAfter(time + LATE_MS - now);
    },

    maySetAgain: (now) => now - lastSetAt >= PATIENCE_MS * 2 ** Math.min(again, MOST_DOUBLINGS),

    platformCalled() {
      again = 0;
    },
  };
  return watch;
}
