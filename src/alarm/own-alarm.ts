/** The object's own alarm: when it is due, whether its handler runs, and what a start has found of it. */

import { NEVER, type OwnAlarmState } from "../storage/memory.js";
import type { Store } from "../storage/store.js";
import type { Call } from "./call.js";
import { type OwnAlarm, ownAlarmAt, retryDelayMs, retryOf } from "./retries.js";

/** What a start with nothing waiting found: the stored header and the native alarm may disagree on what the object's own alarm is. */
interface AtStart {
  /** The object's own alarm as the header has it. */
  readonly stored: OwnAlarm | null;
  /** The outbox's alarm as the header has it, or 0. */
  readonly outboxAlarmAt: number;
  /** The native alarm was not set: its call was under way, or there was none. */
  readonly isEmpty: boolean;
}

/** The verbs of the object's own alarm. Its state is in memory, which goes back when a transaction rolls back. */
export interface OwnAlarmOwner {
  /** An earlier life ended while the handler ran: as far as anybody knows, it died of that. Until the first call of this life. */
  readonly hasDied: boolean;
  /** The time to which the native alarm must be set for it: of the alarm itself, or of its retry if the running handler dies. `NEVER` for none. */
  dueAt(): number;
  /** After a start: learns whether the handler was running. */
  load(): void;
  /** After a start with nothing waiting, when the native alarm is the object's. */
  loadFrom(nativeAlarmAt: number, outboxAlarmAt: number): void;
  /** The object's code sets or deletes it, which replaces its retries. */
  set(alarm: OwnAlarm | null): void;
  /** The native alarm is set for it, later than it is due. */
  postpone(due: number): void;
  /** The platform's alarm is the object's: if memory knows of none, it is this one. */
  assume(alarm: OwnAlarm): void;
  /** Whether a call at this time is for the object's own alarm of an earlier life. `firstSetAt` is the earliest time set in this one. */
  isFromEarlierLife(firingAt: number, firstSetAt: number): boolean;
  /** A call begins. Where it is that of an alarm which the header knew at the start, what the header says of the object's own holds. */
  called(firingAt: number): void;
  /** Its handler starts. */
  begin(time: number, failures: number): void;
  /** Its handler has thrown: it is retried, unless the handler has set or deleted it. Returns when; 0 for no retry. */
  retry(): number;
  /** Its handler has ended. */
  end(): void;
  /** The object's `deleteAll()` has deleted it. */
  forget(): void;
  /** Returns what restores what is not in memory, when a transaction rolls back. */
  snapshot(): () => void;
}

export function ownAlarmOf(store: Store, call: Call): OwnAlarmOwner {
  const state: OwnAlarmState = store.memory;
  let ownAlarmAtStart: AtStart | null = null;

  const own: { -readonly [Name in keyof OwnAlarmOwner]: OwnAlarmOwner[Name] } = {
    hasDied: false,

    dueAt: () => (state.ownAlarm ?? (state.runningAlarm && retryOf(state.runningAlarm)))?.due ?? NEVER,

    load() {
      const { ownAlarm } = state;
      own.hasDied = ownAlarm?.running === true;
      if (ownAlarm) state.ownAlarm = { time: ownAlarm.time, due: ownAlarm.due, retryCount: ownAlarm.retryCount };
    },

    loadFrom(nativeAlarmAt, outboxAlarmAt) {
      const stored = state.ownAlarm;
      ownAlarmAtStart = { stored, outboxAlarmAt, isEmpty: nativeAlarmAt === NEVER };
      // Where the native alarm is a retry, only the header knows of what.
      if (stored?.due !== nativeAlarmAt) state.ownAlarm = nativeAlarmAt < NEVER ? ownAlarmAt(nativeAlarmAt) : null;
    },

    set(alarm) {
      state.ownAlarm = alarm;
      state.runningAlarm = ownAlarmAtStart = null;
    },

    postpone(due) {
      if (state.ownAlarm) state.ownAlarm = { ...state.ownAlarm, due };
    },

    assume(alarm) {
      state.ownAlarm ??= alarm;
    },

    isFromEarlierLife: (firingAt, firstSetAt) =>
      ownAlarmAtStart?.isEmpty === true && firingAt > ownAlarmAtStart.outboxAlarmAt && firingAt < firstSetAt,

    called(firingAt) {
      const { stored = null, outboxAlarmAt = 0 } = ownAlarmAtStart ?? {};
      if (stored && (firingAt <= outboxAlarmAt || firingAt === stored.due)) state.ownAlarm ??= stored;
      ownAlarmAtStart = null;
      own.hasDied = false;
    },

    begin(time, failures) {
      state.ownAlarm = null;
      state.runningAlarm = { time, due: store.now() + retryDelayMs(failures), retryCount: failures + 1 };
    },

    retry() {
      const retry = state.runningAlarm && retryOf(state.runningAlarm);
      if (!retry) return 0;
      const due = store.now() + retryDelayMs(retry.retryCount - 1);
      state.ownAlarm = { ...retry, due };
      return due;
    },

    end() {
      state.runningAlarm = null;
    },

    forget() {
      state.ownAlarm = state.runningAlarm = null;
    },

    snapshot() {
      const before = { number: call.number, ownAlarmAtStart };
      return () => {
        // A call that began or ended meanwhile is no part of the transaction.
        if (call.number === before.number) ({ ownAlarmAtStart } = before);
      };
    },
  };
  return own;
}
