/** The layout at rest: which keys the outbox keeps in storage, what stands under them, and in which form. */

import { digits, type StoredMessage, type Stream } from "./message.js";
import type { OwnAlarm, Trouble } from "./trouble.js";

/**
 * Every key of the outbox begins with this. U+10FFFF is the last code point, so these rows sort after every key that
 * a user would choose, and `list({ end: RESERVED })` leaves them out.
 */
export const RESERVED = "\u{10FFFF}";

const OUTBOX: string = `${RESERVED}outbox/`;

/** The key of the header. One that can't be read stays where it is, and the next has this key and a hyphen more. */
export const HEADER: string = `${OUTBOX}h`;

/** The kinds of rows that hold messages. */
export type Kind = Numbered | "k";

/** Those whose keys end in a number, in the order of that number. */
export type Numbered = "s" | "t" | "d";

/** The key of a segment `s`, of a message that waits for a time `t` (milliseconds since the Unix epoch), or of a dead letter `d` (its position). */
export function numberedKey(kind: Kind, number: number): string {
  return OUTBOX + kind + digits(number);
}

/** Where the rows of a kind begin, or those from a number on. */
export function rowsOf(kind: Kind, number: number): string {
  return number > 0 ? numberedKey(kind, number) : OUTBOX + kind;
}

/** The number in such a key. */
export function keyNumber(key: string): number {
  return Number(key.slice(OUTBOX.length + 1, OUTBOX.length + 16));
}

/** The kind of row that stands under a key. */
export function kindOf(key: string): Kind | "h" {
  return key[OUTBOX.length] as Kind | "h";
}

/** The last number that fits. */
export const LAST_NUMBER: number = 1e15 - 2;

/** The key of a message that waits for a time: those of the same millisecond stand in put order. */
export function timerKey(due: number, position: number): string {
  return numberedKey("t", due) + digits(position);
}

/** What keys of the messages that wait behind one ordering key begin with. Quoted, so that no key is the beginning of another. */
export function lanePrefix(key: string): string {
  return `${OUTBOX}k${JSON.stringify(key)}`;
}

/** What keys of rows that say when a lane goes on begin with. */
export const LANES: string = `${OUTBOX}l`;

/** The key of the row that says when an ordering key's lane goes on. */
export function laneKey(key: string): string {
  return LANES + JSON.stringify(key);
}

/** What stands there: when the lane goes on, in a list if it is mixed. */
export type LaneRow = number | readonly [due: number];

/** The ordering key of such a row. */
export function laneName(row: string): string {
  return JSON.parse(row.slice(LANES.length)) as string;
}

/** The key of the row that knows a caller's own id. */
export function idKey(id: string): string {
  return `${OUTBOX}i${JSON.stringify(id)}`;
}

/** What a row says of a caller's own id: the position of its message, and the sequence that its receipt named. */
export type KnownId = readonly [position: number, sequence: number];

/** Messages of one stream, in order: up to sixteen in a segment or in a lane, one that waits for a time, or a dead letter. */
export interface SegmentRow extends Stream {
  readonly v: 1;
  readonly messages: readonly StoredMessage[];
}

/** What the outbox counts, so that nobody has to read it: each is left out of the header while it is 0. */
export interface Counts {
  /** Messages that wait for a time, each in a row of its own. */
  readonly aside: number;
  /** Those of them whose time is 0, because they were redriven. */
  readonly ready: number;
  /** Messages in lanes. */
  readonly laned: number;
  /** Dead letters. */
  readonly dead: number;
  /** Ids without a number that the inbox remembers. */
  readonly foreign: number;
  /** Messages in the queue that have a time. */
  readonly late: number;
  /** When the oldest message that is set aside was put, or an earlier time. */
  readonly since: number;
}

/**
 * The header: the newest messages, and all that is small and must survive. That costs nothing, because every put writes
 * this row anyway; and a row that is written again and again costs storage less than ever new ones. Once it is full its
 * messages move to a segment. When all is delivered it stays, without messages, as the marker.
 */
export interface HeaderRow extends SegmentRow, Counts {
  /** The last position given out. */
  readonly position: number;
  /** The last segment that was written, and the first that may still stand. */
  readonly last: number;
  readonly first: number;
  /** Messages in the queue, where positions alone don't tell, because some were taken out of its middle. */
  readonly main?: number;
  /** The object's own alarm, while the outbox has the slot. */
  readonly own: OwnAlarm | null;
  /** How the destination fares, when it has refused anything. */
  readonly trouble: Trouble | null;
  /** In a marker: the alarm that was firing for the outbox when the last message was cleared, or 0. It is not the object's own. */
  readonly firing: number;
  readonly paused: boolean;
  /** When there is other work for the alarm than delivery. Absent, and `NEVER` in memory, while there is none. */
  readonly chore: number;
  /** Messages of the original package may still stand in their own rows. */
  readonly adopting: boolean;
}

/** The row behind what `encoded` gave. */
export function decode<R extends SegmentRow>(value: unknown): R {
  if (typeof value !== "string") return value as R;
  const [head = "", ...messages] = value.split("\n");
  return { ...JSON.parse(head), messages } as R;
}
