/** Memory: what one object's outbox knows without reading. */

import type { OutboxEvent } from "./events.js";
import { type Lines, messagesIn, NO_LINES } from "./lines.js";
import type { Stream } from "./message.js";
import { HEADER, type HeaderRow, type SegmentRow } from "./rows.js";
import { CALM, type OwnAlarm, type Trouble } from "./trouble.js";

/** A time that does not come, in place of one. */
export const NEVER: number = Number.POSITIVE_INFINITY;

/** What the outbox knows without reading: the header as it should stand, and what no row holds. All of it goes back when a transaction rolls back. */
export interface Memory extends Mutable<Omit<HeaderRow, "messages">> {
  trouble: Trouble;
  /** The key of the header. */
  key: string;
  /** All positions up to here have left the queue. */
  done: number;
  /** Messages in the queue. */
  main: number;
  /** The earliest time of a message in the queue, or an earlier time: 0 is at once. */
  next: number;
  /** The earliest time of a message that is set aside, or an earlier time. */
  due: number;
  /** Ordering keys of which messages wait. Replaced, never changed. */
  lanes: ReadonlyMap<string, LaneState>;
  /** The header's messages. */
  newest: Lines;
  /** Some of the header's messages have been handed over: once it is full, the segment to which they move is remembered. */
  taken: boolean;
  /** That segment. */
  moved: Row | null;
  /**
   * The segments that were closed last, as storage has them: a run after a burst need not read them, and a put that storage refuses in
   * the same turn takes its message out of them. Replaced, never changed.
   */
  recent: readonly ClosedRow[];
  /** The object's own alarm while its handler runs: kept until that has ended well. */
  running: OwnAlarm | null;
  /** Events of messages that an open transaction has stored, and may yet roll back. Replaced, never changed. */
  told: readonly OutboxEvent[];
  /** When the outbox wants to run; `NEVER` while nothing waits. */
  wake: number;
  /** An alarm up to this time is the outbox's: should it fire when nothing waits any more, it is not the object's own. */
  stale: number;
  /** What the native alarm slot is believed to hold, or `NEVER`. */
  armed: number;
}

/** An ordering key of which messages wait. */
export interface LaneState {
  /** When it goes on. */
  readonly due: number;
  /** A message was redriven into it, and earlier ones of its key may still have stood in the queue. */
  readonly mixed?: boolean;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** A segment that nobody changes in place. */
export interface ClosedRow {
  readonly key: string;
  readonly stream: Stream;
  readonly lines: Lines;
}

/** A row of messages as it stands under its key. */
export interface Row {
  readonly key: string;
  readonly data: Mutable<SegmentRow>;
}

/** A closed segment as if it had just been read. */
export function rowOf({ key, stream, lines }: ClosedRow): Row {
  return { key, data: { v: 1, ...stream, messages: messagesIn(lines) } };
}

/** What is known of a fresh object. */
export function memoryOf(object: string): Memory {
  // A plain literal: objects that are spread together are slower to read, and every put reads this one.
  return {
    v: 1,
    object,
    epoch: "",
    base: 0,
    position: 0,
    done: 0,
    main: 0,
    first: 1,
    last: 0,
    newest: NO_LINES,
    taken: false,
    recent: [],
    moved: null,
    own: null,
    running: null,
    chore: NEVER,
    told: [],
    trouble: CALM,
    firing: 0,
    paused: false,
    adopting: false,
    aside: 0,
    ready: 0,
    laned: 0,
    dead: 0,
    foreign: 0,
    late: 0,
    since: 0,
    next: NEVER,
    due: NEVER,
    lanes: new Map(),
    wake: NEVER,
    stale: 0,
    armed: NEVER,
    key: HEADER,
  };
}
