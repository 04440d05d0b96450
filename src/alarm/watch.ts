/** The watch: while messages wait and the object is awake, it looks whether the alarm is still set, and delivers in place of one that is late. */

import { NEVER } from "../storage/memory.js";
import type { Store } from "../storage/store.js";
import type { Timers } from "./timers.js";

/** An alarm that is overdue by this much, in milliseconds, is late: the object delivers without it. */
export const LATE_MS = 1000;
/** How long after a write, in milliseconds, the alarm is looked at, so that all writes of that time pay for one look. */
const CHECK_MS = 1000;
/** The same after a start without an alarm: by then the call that starts the object is under way. */
const START_MS = 100;
/** The same after a start with an alarm that is overdue: a call that died is repeated after 2 s, and so says that it has died. */
const REPEAT_MS = 2500;
/** An object that nobody calls stays in memory about this long, in milliseconds: no look is planned further ahead. */
const AWAKE_MS = 10_000;
/** Alarms can be a minute late, as the platform says. One that is later than this, in milliseconds, has been lost. */
const LOST_MS = 900_000;
/** How long an alarm that is late is left alone at first, in milliseconds, and how often that time may double: up to 17 minutes. */
const PATIENCE_MS = 8000;
const MOST_DOUBLINGS = 7;

/** What the watch needs of the alarm slot. */
export interface Watched {
  /** A call of the alarm is under way: it delivers, and sets the slot at its end. */
  called(): boolean;
  /** The outbox has something to do now. */
  due(): boolean;
  /** Does it. */
  deliver(): Promise<void>;
  /** The slot does not hold what it should: sets it again. */
  repair(alarm: number): void;
}

export interface Watch {
  /** Looks at the alarm once, after so many milliseconds. A look that is planned already covers it. */
  look(ms?: number): void;
  /** Looks after a start: its alarm is overdue, or gone. */
  started(overdue: boolean): void;
  /** The alarm has been set for this time. `late` tells that it took the place of one that was late. */
  noteSet(time: number, now: number, late: boolean): void;
  /** Whether an alarm that is late may be set again: each time that makes the platform wait anew. */
  mayArm(now: number): boolean;
  /** The platform has called. */
  heard(): void;
}

export function watchOf(store: Store, timers: Timers, slot: Watched): Watch {
  const { memory, native } = store;
  let looking = false;
  let delivering = false;
  /** When the alarm was set last in this life, and how often one that was late has been set again since the platform called. */
  let last = 0;
  let again = 0;

  async function check(): Promise<void> {
    const { nativeAlarmAt } = memory;
    const alarm = memory.wakeAt === NEVER ? nativeAlarmAt : ((await native.getAlarm().catch(() => nativeAlarmAt)) ?? NEVER);
    looking = false;
    if (memory.wakeAt === NEVER || slot.called() || delivering) return;
    const now = store.now();
    const late = nativeAlarmAt <= now - LATE_MS;
    // The object's own is the platform's to repeat, which alone may know how often it has failed.
    const lost = alarm === NEVER || (alarm <= now - LOST_MS && alarm !== memory.ownAlarm?.time);
    // It has been set meanwhile.
    if (memory.nativeAlarmAt !== nativeAlarmAt) watch.look();
    // One that was moved to a later time is as good as one that is late: it is still there.
    else if (!lost && late && (alarm === nativeAlarmAt || slot.due())) await deliver();
    else if (lost || alarm !== nativeAlarmAt) slot.repair(alarm);
    else if (alarm <= now) watch.look(alarm + LATE_MS - now);
  }

  async function deliver(): Promise<void> {
    if (slot.due()) {
      delivering = true;
      await slot.deliver().finally(() => {
        delivering = false;
      });
    }
    const now = store.now();
    const wait = memory.wakeAt - now;
    if (wait < AWAKE_MS && memory.nativeAlarmAt <= now) watch.look(Math.max(CHECK_MS, wait));
  }

  const watch: Watch = {
    look(ms = CHECK_MS) {
      if (looking) return;
      looking = true;
      timers.after(ms, () => check().catch(() => {}));
    },

    started: (overdue) => watch.look(overdue ? REPEAT_MS : START_MS),

    noteSet(time, now, late) {
      last = now;
      if (late) again++;
      if (time <= now + LATE_MS) watch.look(time + LATE_MS - now);
    },

    mayArm: (now) => now - last >= PATIENCE_MS * 2 ** Math.min(again, MOST_DOUBLINGS),

    heard() {
      again = 0;
    },
  };
  return watch;
}
