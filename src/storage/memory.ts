/** Memory: what one object's outbox knows without reading, but for its readers, which own what is theirs. */

import type { OwnAlarm } from "../alarm/retries.js";
import type { Occurrence } from "../api/events.js";
import type { Reader } from "../subscription/reader.js";
import { type Lines, messagesIn, NO_LINES } from "./lines.js";
import type { Stream } from "./message.js";
import { HEADER, type IdMemory, NO_IDS, type SegmentRow } from "./rows.js";

/** A time that does not come, in place of one. */
export const NEVER: number = Number.POSITIVE_INFINITY;

/** What is known of the object's own alarm. `src/alarm/own-alarm.ts` changes it, and loading, before that has begun. */
export interface OwnAlarmState {
  /** The object's own alarm, while the outbox uses the native one. */
  ownAlarm: OwnAlarm | null;
  /** The object's own alarm while its handler runs, as it will be retried if that fails. Kept until the handler has ended. */
  runningAlarm: OwnAlarm | null;
}

/** What is known of the native alarm. `src/alarm/native-alarm.ts` changes it, and nothing else. */
export interface NativeAlarmState {
  /** When the outbox is to be woken, in milliseconds since the Unix epoch; `NEVER` while nothing waits. */
  wakeAt: number;
  /** The time for which the native alarm is believed to be set; `NEVER` when none is. */
  nativeAlarmAt: number;
  /** The last alarm that the outbox set. One that fires at this time or earlier, with nothing waiting, is not the object's own. */
  outboxAlarmAt: number;
}

/** What the outbox knows without reading: the header as it should be, and what no row holds. All of it goes back when a transaction rolls back. */
export interface Memory extends Readonly<OwnAlarmState>, Readonly<NativeAlarmState> {
  /** The format of rows. */
  readonly v: 1;
  /** The key of the header. */
  key: string;
  /** Fields of the stored header that this deployment does not know, as they are in its text: they stay. */
  unknown: string;

  /** The stream of what is put now: see `Stream`. */
  object: string;
  epoch: string;
  base: number;
  /** The last position given out. */
  position: number;
  /** The first segment that may still be stored, and the last that was written. */
  first: number;
  last: number;
  /** The header's messages, the newest of the log. */
  tail: Lines;
  /** The segments that were sealed last, as storage has them: a run after a burst need not read them. Replaced, never changed. */
  recent: readonly SealedRow[];
  /** What the segments take, in bytes: only where the log is retained. */
  logBytes: number;
  /** The position up to which the log has been trimmed: nothing up to it is read, even where its row is still there. */
  trimmedTo: number;
  /** Positions in the log of messages whose put storage refused after others had written their row. Replaced, never changed. */
  holes: readonly number[];
  /** The ids that are remembered. */
  ids: IdMemory;

  /** The readers of the log. Replaced, never changed; each of them owns its own state. */
  readers: readonly Reader[];
  /** How many slots have been given to readers: none is given twice. */
  slots: number;

  /** The stored header says that the handler of the object's own alarm is running, so it must be written when that ends. */
  isRunningAtRest: boolean;
  /**
   * The time of the outbox's alarm that was firing, or still set, when the stored header was written with nothing waiting; otherwise 0. A
   * start that finds it in the native slot must not take it for the object's own.
   */
  outboxAlarmAtRest: number;
  /** When the inbox has work for the alarm; `NEVER` while it has none. */
  chore: number;
  /** What other extensions keep in the header, by kind: plain data that JSON holds. Replaced, never changed. */
  extensions: Readonly<Record<string, unknown>>;
  /** Deliveries are known here that the stored header does not know yet: when it must at the latest. `NEVER` where it knows all. */
  settleAt: number;

  /** The innermost transaction that is open, synchronous ones included: what is written now belongs to it. */
  scope: Scope | null;

  /** Messages of the original package may still be in their own rows. */
  adopting: boolean;
  /** Ids without a number that the inbox remembers. */
  foreign: number;
  /** Events of messages that an open transaction has stored, and may yet roll back. Replaced, never changed. */
  pendingEvents: readonly Occurrence[];
}

/** A transaction that is open, as far as what is written in it is concerned. */
export interface Scope {
  /** The one around it. */
  readonly outer: Scope | null;
  /** It has been rolled back: what was written in it is gone, in memory as well. */
  isGone: boolean;
}

/** Whether what was written in a transaction is gone: with that one, or with one around it. */
export function isGone(scope: Scope | null): boolean {
  return scope !== null && (scope.isGone || isGone(scope.outer));
}

/** A segment as this life has sealed it. */
export interface SealedRow {
  readonly key: string;
  readonly stream: Stream;
  readonly lines: Lines;
  /** The position of its last message. */
  readonly last: number;
}

/** A row of messages and its key. Never changed in place. */
export interface Row {
  readonly key: string;
  readonly data: SegmentRow;
}

/** A sealed segment as if it had just been read. */
export function rowOf({ key, stream, lines }: SealedRow): Row {
  return { key, data: { v: 1, ...stream, messages: messagesIn(lines) } };
}

const NO_HOLES: readonly number[] = [];
/** The state of objects whose extensions keep nothing. */
export const NO_EXTENSIONS: Readonly<Record<string, unknown>> = {};

/** What is known of a fresh object. */
export function memoryOf(object: string): Memory {
  // A plain literal: objects that are spread together are slower to read, and every put reads this one.
  return {
    v: 1,
    key: HEADER,
    unknown: "",
    object,
    epoch: "",
    base: 0,
    position: 0,
    first: 1,
    last: 0,
    tail: NO_LINES,
    recent: [],
    logBytes: 0,
    trimmedTo: 0,
    holes: NO_HOLES,
    ids: NO_IDS,
    readers: [],
    slots: 0,
    ownAlarm: null,
    runningAlarm: null,
    isRunningAtRest: false,
    outboxAlarmAtRest: 0,
    wakeAt: NEVER,
    outboxAlarmAt: 0,
    nativeAlarmAt: NEVER,
    chore: NEVER,
    extensions: NO_EXTENSIONS,
    settleAt: NEVER,
    scope: null,
    adopting: false,
    foreign: 0,
    pendingEvents: [],
  };
}
