/** The native alarm, of which the platform gives an object one: for when it is set, and whether that is the outbox's time or the object's. */

import { told } from "../api/errors.js";
import { type NativeAlarmState, NEVER } from "../storage/memory.js";
import type { Store } from "../storage/store.js";
import type { Timers } from "../timers.js";
import type { Call } from "./call.js";
import type { OwnAlarmOwner } from "./own-alarm.js";
import { LATE_MS, type Watch } from "./watch.js";

/** How long after its handler has returned, in milliseconds, the platform may still repeat a call, because not all of it is durable. */
const SETTLING_MS = 1000;
/** The same, in milliseconds, of a call that it does not repeat: shorter, because the timer keeps the object in memory. */
const RETURNING_MS = 100;

/** No call is settling. */
const NOTHING: { readonly time: number } = { time: 0 };

/** What a facet says in production; a local run refuses the commit itself. */
const NO_ALARM: string = told("This object can't set an alarm (facets can't): put the outbox in the object that holds the facet.");

/** A call of the alarm, as it begins. */
export interface Fired {
  /** The time of the alarm, in milliseconds since the Unix epoch. */
  readonly firingAt: number;
  /** The platform calls, and repeats the call if the isolate dies. */
  readonly isPlatforms: boolean;
  /** The alarm is the outbox's, or both sides'. */
  readonly isShared: boolean;
  /** A test calls for what is due later, as if its time had come. */
  readonly isEarly: boolean;
}

/** The verbs of the native alarm. `wakeAt`, `nativeAlarmAt` and `outboxAlarmAt` are in memory, which goes back when a transaction rolls back. */
export interface NativeAlarmOwner {
  /** The call under way is the platform's, which repeats it if the isolate dies: until it ends, nothing needs to be set. */
  readonly platformWillRetry: boolean;
  /** The earliest time for which this life has set the alarm. */
  readonly firstSetAt: number;
  /** The object's own alarm is not set before this, in milliseconds since the Unix epoch. */
  earliestOwnAt(): number;
  /** The time of the outbox's alarm that is firing, is still set, or may be called again, or 0: while nothing waits, the header names it. */
  outboxAlarmLeft(): number;
  /** Whether a call at this time is the outbox's, or both sides'. */
  isShared(firingAt: number): boolean;
  /** After a start: what it is set to. */
  load(nativeAlarmAt: number, wakeAt: number): void;
  /** When the outbox is to be woken, or `NEVER`. `isForced`: set the alarm for it although the platform would repeat its call. */
  setWake(wakeAt: number, isForced?: boolean): void;
  /** Sets the alarm to what both sides need. Returns a promise where it had to be set, and nothing where it is right. */
  sync(): Promise<void> | undefined;
  /** It has been found set to this. */
  found(nativeAlarmAt: number): void;
  /** Nothing is waiting, so the alarm is the object's, whose code sets it with `write`, or deletes it: `NEVER`. */
  give<T>(time: number, write: () => Promise<T>): Promise<T>;
  /** The object's code has set or deleted its own alarm while the outbox uses the native one. */
  ownChanged(due: number, isRunning: boolean): void;
  /** The platform is not relied on to repeat the call: what follows is set anew. */
  dropRetry(): void;
  /** The object's own handler has failed. Where the platform retries it by itself, it calls at about this time. */
  expectRetry(due: number): void;
  /** A call begins. */
  began(fired: Fired): void;
  /** Everything within the call has ended. `isDone`: it was the outbox's, and the platform needs not call again. */
  ended(fired: Pick<Fired, "firingAt" | "isShared">, isDone: boolean): void;
  /** The object's `deleteAll()` has deleted it. */
  forget(): void;
  /** Returns what restores what is not in memory, when a transaction rolls back. */
  snapshot(): () => void;
}

/**
 * Keeps one invariant: the native alarm is set no later than the earlier of the outbox's wake-up and the object's own alarm. While nothing
 * waits in the outbox it belongs to the object, untouched. An alarm that is overdue is late, not lost: it is left as it is.
 *
 * @param keeps leave the outbox's alarm set when nothing waits any more, for the next message: it fires for nothing at most once
 * @param refuse resets the object: what is not yet committed is gone
 */
export function nativeAlarmOf(
  store: Store,
  call: Call,
  own: OwnAlarmOwner,
  watch: Watch,
  timers: Timers,
  keeps: boolean,
  refuse: (reason: string) => void,
): NativeAlarmOwner {
  const { memory } = store;
  const state: NativeAlarmState = memory;
  /** No alarm is set at or before this: the platform may lose one that is not after the alarm that fired last. */
  let lastFiredAt = 0;
  /** The outbox's alarm whose handler has returned, while the platform would repeat it if the isolate died: it is not over before all is durable. */
  let settling = NOTHING;
  /** How many calls of the outbox's alarm have returned a moment ago: to the platform the last one may still be under way. */
  let returning = 0;
  /** The object's own alarm was set behind one of the outbox's, which may have been lost before. */
  let isUnsure = false;

  /** Whether an alarm of the outbox is late. It is left as it is: the platform will still call, and setting it again would make it wait anew. */
  function isLate(): boolean {
    return !call.firingAt && state.nativeAlarmAt <= store.now() - LATE_MS;
  }

  /** Whether the alarm may stay as it is set, when it has to be set no later than `time`. `due` is that of the object's own. */
  function isRight(time: number, due: number, now: number, late: boolean): boolean {
    const { wakeAt, nativeAlarmAt } = state;
    const stays = nativeAlarmAt === state.outboxAlarmAt && !isUnsure && (keeps || late);
    if (time === NEVER) return stays || nativeAlarmAt === NEVER;
    // One that is late covers what is due now, which the object does by itself. For what is due later it is set anew, with patience.
    const covers = nativeAlarmAt <= time && (!late || time <= now + LATE_MS || !watch.maySetAgain(now));
    // An alarm that is set earlier stays: it costs a call at most, and moving one that is due at once would postpone it. When nothing waits
    // any more the object's own is set all the same, unless the other one is left for the next message.
    return wakeAt === NEVER ? nativeAlarmAt === due || nativeAlarmAt === time || (stays && covers) : covers;
  }

  /**
   * A call of the outbox's alarm returns, and the platform has not counted it as over yet.
   *
   * @param time of the alarm if the platform may repeat it: a header that is written meanwhile must still name it. Otherwise 0
   */
  function settle(time: number): void {
    const settled = { time };
    settling = settled;
    returning++;
    timers.after(time > 0 ? SETTLING_MS : RETURNING_MS, () => {
      settled.time = 0;
      returning--;
    });
  }

  /** No alarm is set before this. Outside a call the alarm that fired last no longer matters, which a clock that was ahead would put far off. */
  function earliestAt(isCalled: boolean): number {
    return isCalled || lastFiredAt < store.now() + LATE_MS ? lastFiredAt + 1 : 0;
  }

  const native: { -readonly [Name in keyof NativeAlarmOwner]: NativeAlarmOwner[Name] } = {
    platformWillRetry: false,
    firstSetAt: NEVER,

    // For messages the watch stands in, should the platform lose an alarm that is set as a call returns. For the object's own nobody does.
    earliestOwnAt: () => earliestAt(call.isOpen || returning > 0),

    outboxAlarmLeft() {
      if (native.platformWillRetry) return call.firingAt;
      const { nativeAlarmAt, outboxAlarmAt } = state;
      return nativeAlarmAt === outboxAlarmAt && (keeps || memory.ownAlarm || isLate()) ? outboxAlarmAt : settling.time;
    },

    isShared(firingAt) {
      const { wakeAt, nativeAlarmAt, outboxAlarmAt } = state;
      // One that the outbox has left set is the only one there is, whatever its time.
      return wakeAt < NEVER || firingAt <= outboxAlarmAt || (nativeAlarmAt < NEVER && nativeAlarmAt === outboxAlarmAt);
    },

    load(nativeAlarmAt, wakeAt) {
      state.nativeAlarmAt = nativeAlarmAt;
      state.wakeAt = wakeAt;
      // The crash may have come after the last message was cleared and before the alarm was handed back: then it is not the object's.
      if (wakeAt === NEVER) state.outboxAlarmAt = memory.outboxAlarmAtRest;
      // What is set is the outbox's, unless it is the object's own.
      else if (nativeAlarmAt < NEVER && nativeAlarmAt !== memory.ownAlarm?.due) state.outboxAlarmAt = nativeAlarmAt;
    },

    setWake(wakeAt, isForced) {
      // With nothing to be set, nothing takes the place of the repetition.
      if (isForced && wakeAt < NEVER) native.platformWillRetry = false;
      state.wakeAt = wakeAt;
    },

    sync() {
      // At the end of the call it is set once.
      if (native.platformWillRetry) return;
      const now = store.now();
      // Where the platform would not repeat the call, it is set for what follows should the object's own handler die.
      const due = own.dueAt();
      const time = Math.max(Math.min(state.wakeAt, due), now + 1, earliestAt(call.isOpen));
      const late = isLate();
      if (isRight(time, due, now, late)) return;
      state.nativeAlarmAt = time;
      // What is set or deleted takes the place of a repetition.
      settling = NOTHING;
      if (time === NEVER) {
        unwatched(store.native.deleteAlarm());
        return;
      }
      // Unless it is exactly the object's own.
      if (time !== due) state.outboxAlarmAt = time;
      // The alarm's time must tell the next life whose it is.
      if (memory.ownAlarm && state.wakeAt === NEVER && time > due) {
        own.postpone(time);
        unwatched(store.saveHeader());
      }
      watch.noteSet(time, now, late);
      if (!store.open) isUnsure = false;
      native.firstSetAt = Math.min(native.firstSetAt, time);
      const set = store.native.setAlarm(time);
      // Without an alarm nothing would wake the object: whatever this turn has written must not stay.
      set.catch((error) => refuse(`${NO_ALARM} ${error}`));
      return set;
    },

    found(nativeAlarmAt) {
      state.nativeAlarmAt = nativeAlarmAt > store.now() ? nativeAlarmAt : NEVER;
    },

    give(time, write) {
      // What the object sets replaces the call under way, which the platform no longer repeats.
      native.platformWillRetry = false;
      settling = NOTHING;
      const written = write();
      state.nativeAlarmAt = time;
      return written;
    },

    ownChanged(due, isRunning) {
      // The handler may end the call in a way after which the platform does not repeat it.
      if (isRunning) native.platformWillRetry = false;
      // An alarm of the outbox's that is believed to be set may have been lost before: it must not stand in for the object's own.
      if (state.nativeAlarmAt === due && !native.platformWillRetry) state.nativeAlarmAt = NEVER;
      if (due < NEVER) isUnsure = true;
    },

    dropRetry() {
      native.platformWillRetry = false;
      state.nativeAlarmAt = NEVER;
    },

    expectRetry(due) {
      // While nothing waits the platform itself calls again: setting the alarm would replace its retries.
      if (native.platformWillRetry && state.wakeAt === NEVER) state.nativeAlarmAt = due;
    },

    began({ firingAt, isPlatforms, isShared, isEarly }) {
      const { nativeAlarmAt } = state;
      const { ownAlarm } = memory;
      // An alarm that was set since the platform began its call takes the place of the call's repetition.
      const isRepeated = ownAlarm?.time === firingAt && ownAlarm.due === nativeAlarmAt;
      // One that was set to an earlier time in place of the object's own, and that was not durable when the platform called for this.
      const isReplaced = ownAlarm?.due === firingAt && nativeAlarmAt < firingAt;
      native.platformWillRetry = isPlatforms && !isReplaced && (nativeAlarmAt <= firingAt || nativeAlarmAt === NEVER || isRepeated);
      if (native.platformWillRetry) state.nativeAlarmAt = NEVER;
      // Of the platform's own it is this one, also where the clock was set back since the one before.
      if (!isEarly) lastFiredAt = isPlatforms ? firingAt : Math.max(lastFiredAt, firingAt);
      if (isPlatforms) watch.platformCalled();
      if (isShared && state.nativeAlarmAt !== state.outboxAlarmAt) state.outboxAlarmAt = firingAt;
    },

    ended({ firingAt, isShared }, isDone) {
      if (isShared) settle(native.platformWillRetry && isDone ? firingAt : 0);
      native.platformWillRetry = false;
      // An alarm whose time has passed during the call may have been taken by it.
      const isWanted = Math.min(state.wakeAt, memory.ownAlarm?.due ?? NEVER) < NEVER;
      if (state.nativeAlarmAt <= store.now() && isWanted) state.nativeAlarmAt = NEVER;
    },

    forget() {
      state.nativeAlarmAt = NEVER;
    },

    snapshot() {
      const { number } = call;
      const { platformWillRetry, firstSetAt } = native;
      const before = settling;
      return () => {
        native.firstSetAt = firstSetAt;
        // A call that began or ended meanwhile is no part of the transaction.
        if (call.number !== number) return;
        native.platformWillRetry = platformWillRetry;
        settling = before;
      };
    },
  };
  return native;
}

/** A write for which nobody waits. Where storage fails the object is broken, and its next life repairs what it finds. */
export function unwatched(write: Promise<unknown>): void {
  write.catch(() => {});
}
