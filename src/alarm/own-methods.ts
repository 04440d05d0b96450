/** The methods that the object's own code sees: `getAlarm`, `setAlarm` and `deleteAlarm`, as if there were no outbox. */

import { expected } from "../api/errors.js";
import { NEVER } from "../storage/memory.js";
import type { Store } from "../storage/store.js";
import type { Timers } from "../timers.js";
import type { Call } from "./call.js";
import type { NativeAlarmOwner } from "./native-alarm.js";
import type { OwnAlarmOwner } from "./own-alarm.js";
import type { OwnHandler } from "./own-handler.js";
import { type OwnAlarm, ownAlarmAt } from "./retries.js";
import { isTestPool } from "./test-pool.js";

/** The runtime takes no date from here on: 2190-01-01, in milliseconds since the Unix epoch (seen in its error). */
const LAST_DATE = 6_942_672_000_000;

/** What the methods have seen that tells what a call without a description of itself is for. */
export interface Hints {
  /** The own alarm that was deleted in this turn: `runDurableObjectAlarm` does that before it calls `alarm()`. */
  readonly deleted: OwnAlarm | null;
  /** `runDurableObjectAlarm` has seen the outbox's alarm, and calls it next, before its time. */
  readonly isPoolNext: boolean;
}

export interface OwnMethods {
  readonly methods: Pick<DurableObjectStorage, "getAlarm" | "setAlarm" | "deleteAlarm">;
  readonly hints: Hints;
  /** A call has begun, for which the hints were. */
  called(): void;
  /** Returns what is to be done when a transaction rolls back. */
  snapshot(): () => void;
}

const NONE: Hints = { deleted: null, isPoolNext: false };

/**
 * @param hasHandler whether the class has an `alarm` handler
 * @param sync brings the native alarm in line
 */
export function ownMethodsOf(
  store: Store,
  call: Call,
  own: OwnAlarmOwner,
  native: NativeAlarmOwner,
  handler: OwnHandler,
  timers: Timers,
  hasHandler: () => boolean,
  sync: () => Promise<void> | undefined,
): OwnMethods {
  const { memory } = store;

  function forgetDeleted(): void {
    owner.hints = { ...owner.hints, deleted: null };
  }

  async function setOwn(alarm: OwnAlarm | null, write: (time: number) => Promise<void>): Promise<void> {
    // What is not after the alarm that fired last the platform may lose.
    const due = alarm ? Math.max(alarm.time, native.earliestOwnAt()) : NEVER;
    own.set(alarm && { ...alarm, due });
    if (memory.wakeAt === NEVER) {
      const { nativeAlarmAt, outboxAlarmAt, outboxAlarmAtRest } = memory;
      const written = native.give(due, () => write(due));
      // The marker must not take the object's alarm for the one that it has replaced.
      const isMistaken = nativeAlarmAt === outboxAlarmAt || (alarm !== null && (alarm.time <= outboxAlarmAtRest || due > alarm.time));
      if (isMistaken) await store.saveHeader();
      return written;
    }
    native.ownChanged(due, handler.isRunning);
    const saved = store.saveHeader();
    sync();
    return saved;
  }

  const owner: { -readonly [Name in keyof OwnMethods]: OwnMethods[Name] } = {
    hints: NONE,

    called() {
      owner.hints = NONE;
    },

    snapshot: () => forgetDeleted,

    methods: {
      getAlarm: async (options) => {
        const { ownAlarm, wakeAt, nativeAlarmAt, outboxAlarmAt } = memory;
        const isRetried = ownAlarm !== null && ownAlarm.due > ownAlarm.time;
        if (wakeAt === NEVER && !call.firingAt && !isRetried && nativeAlarmAt !== outboxAlarmAt) return store.native.getAlarm(options);
        const isPoolNext = !ownAlarm && wakeAt < NEVER && isTestPool();
        owner.hints = { ...owner.hints, isPoolNext };
        return isPoolNext ? store.native.getAlarm() : (ownAlarm?.time ?? null);
      },

      // While the outbox uses the native alarm the platform does not see the argument, so it is checked here.
      async setAlarm(scheduledTime, options) {
        if (!hasHandler()) throw expected("alarm", "a handler of the class", null);
        const time = Math.trunc(Number(scheduledTime));
        if (!(time > 0 && time < LAST_DATE) || typeof scheduledTime === "boolean") throw expected("scheduledTime", "a time", scheduledTime);
        const alarm = ownAlarmAt(Math.max(time, store.now()));
        return setOwn(alarm, (due) => store.native.setAlarm(due > native.earliestOwnAt() ? scheduledTime : due, options));
      },

      async deleteAlarm(options) {
        if (memory.wakeAt < NEVER) {
          owner.hints = { ...owner.hints, deleted: memory.ownAlarm };
          timers.after(0, forgetDeleted);
        }
        return setOwn(null, () => store.native.deleteAlarm(options));
      },
    },
  };
  return owner;
}
