/** The layout at rest: which keys the outbox keeps in storage, what is stored under them, and in which form. */

import type { OwnAlarm } from "../alarm/retries.js";
import type { Breaker } from "../subscription/breaker.js";
import type { Range } from "../subscription/cursor.js";
import { encoded, linesOf } from "./lines.js";
import { digits, readable, type StoredMessage, type Stream } from "./message.js";

/**
 * Every key of the outbox begins with this. U+10FFFF is the last code point, so these rows sort after every key that
 * a user would choose, and `list({ end: RESERVED })` leaves them out.
 */
export const RESERVED = "\u{10FFFF}";

/** What keys of the outbox begin with. */
export const OUTBOX: string = `${RESERVED}outbox/`;

/** In place of the header among rows that are committed: it is made when all else has changed. */
export const HEADER_LAST: unique symbol = Symbol("header");

/** The key of the header. One that can't be read stays where it is, and the next has this key and a hyphen more. */
export const HEADER: string = `${OUTBOX}h`;

/** Where the rows of readers in slots begin, and where they end. */
export const READERS: string = `${OUTBOX}q`;
export const endOfReaders: string = `${OUTBOX}r`;

/** What keys of a reader's own rows begin with: those of the class's `sendMessages`, in slot 0, as all keys of the outbox. */
export function readerPrefix(slot: number): string {
  return slot === 0 ? OUTBOX : `${READERS}${slot}/`;
}

/** The slot of a reader's row. */
export function slotIn(key: string): number {
  return Number.parseInt(key.slice(READERS.length), 10);
}

/** The kinds of rows that hold messages: the segments of the log, and the rows of each reader. */
export type Kind = "s" | ReaderKind;
/** Those of a reader: a message that waits for a time, the messages that wait behind an ordering key, and a dead letter. */
export type ReaderKind = NumberedKind | "k";
/** Those of a reader whose keys end in a number: milliseconds since the Unix epoch, and the position of a dead letter. */
export type NumberedKind = "t" | "d";

/** The key of a segment. */
export function segmentKey(number: number): string {
  return `${OUTBOX}s${digits(number)}`;
}

/** Where segments begin. */
export const SEGMENTS: string = `${OUTBOX}s`;

/** The number of a segment. */
export function segmentNumber(key: string): number {
  return Number(key.slice(SEGMENTS.length, SEGMENTS.length + 15));
}

/** The key of a reader's row: `prefix` is what all of them begin with. */
export function numberedKey(prefix: string, kind: NumberedKind, number: number): string {
  return prefix + kind + digits(number);
}

/** Where the rows of a kind begin. */
export function rowsOf(prefix: string, kind: ReaderKind): string {
  return prefix + kind;
}

/** The number in such a key. */
export function keyNumber(prefix: string, key: string): number {
  return Number(key.slice(prefix.length + 1, prefix.length + 16));
}

/** The kind of a reader's row. */
export function kindOf(prefix: string, key: string): ReaderKind {
  return key[prefix.length] as ReaderKind;
}

/** The last number that fits. */
export const LAST_NUMBER: number = 1e15 - 2;

/** The key of a message that waits for a time: those of the same millisecond are in put order. */
export function timerKey(prefix: string, due: number, position: number): string {
  return numberedKey(prefix, "t", due) + digits(position);
}

/** What keys of the messages that wait behind one ordering key begin with. Quoted, so that no key is the beginning of another. */
export function lanePrefix(prefix: string, key: string): string {
  return `${prefix}k${JSON.stringify(key)}`;
}

/** What keys of rows that say when a lane goes on begin with: right behind those of lanes. */
export function lanesOf(prefix: string): string {
  return `${prefix}l`;
}

/** The key of the row that says when an ordering key's lane goes on: a time, in a list if a dead letter was redriven into the lane. */
export function laneKey(prefix: string, key: string): string {
  return lanesOf(prefix) + JSON.stringify(key);
}

/** The ordering key of such a row. */
export function laneName(prefix: string, row: string): string {
  return JSON.parse(row.slice(lanesOf(prefix).length)) as string;
}

/** The key of the row with the ranges of a cursor for which the header has no room. */
export function acksKey(prefix: string): string {
  return `${prefix}a`;
}

/** The key of the row that knows a caller's own id. */
export function idKey(id: string): string {
  return `${OUTBOX}i${JSON.stringify(id)}`;
}

/**
 * What a row says of a caller's own id: the position of the message to which it refers, and the sequence that its receipt named. `until` is
 * there where nothing else says until when that is remembered.
 */
export type KnownId = readonly [position: number, sequence: number, until?: number, reissued?: Reissued];

/** The id was put while an earlier message of it was in the hands of `sendMessages`. */
export interface Reissued {
  /** The position of that message, whose id it still is. Absent once it is gone for good. */
  readonly first?: number;
  /** The id of the message to which it refers now. */
  readonly id: string;
}

/** The id of a message that was delivered, its position, and until when it is remembered. With its sequence, where it came out of its turn. */
export type RememberedId = readonly [id: string, position: number, until: number, sequence?: number];

/** What the header knows of the ids that are remembered. */
export interface IdMemory {
  /** Those of the messages that were delivered last, in the order of delivery. */
  readonly list: readonly RememberedId[];
  /** The highest position of those that came in their turn, here and in spills. */
  readonly through: number;
  /** The same in spills. */
  readonly spilled: number;
  /** How many spills there are. */
  readonly spills: number;
  /** When the time of the first of them is over, or an earlier time. */
  readonly oldest: number;
  /** Tells spills apart. */
  readonly serial: number;
}

export const NO_IDS: IdMemory = { list: [], through: 0, spilled: 0, spills: 0, oldest: 0, serial: 0 };

/** What the key of a spill begins with: a row of ids that are remembered. */
export const SPILLS: string = `${OUTBOX}r`;

/** Where the keys of spills end. */
export const endOfSpills: string = `${OUTBOX}s`;

/** The key of a spill: by the highest position in it, so that it is found by any position in it that came in its turn. */
export function spillKey(through: number, serial: number): string {
  return SPILLS + digits(through) + digits(serial);
}

/** Messages of one stream, in order: up to sixteen in a segment or in a lane, one that waits for a time, or a dead letter. */
export interface SegmentRow extends Stream {
  readonly v: 1;
  readonly messages: readonly StoredMessage[];
  /** What is between them and can't be read: it stays in the row, behind them, as it is. */
  readonly damaged?: readonly unknown[];
}

/** What the header says of one reader. What is at its default it leaves out. */
export interface ReaderRow {
  /** Messages in the queue, where positions alone don't tell, because some were taken out of its middle. */
  readonly main?: number;
  /** The cursor, where the first stored message does not say how far the reader has come: the floor, and ranges beyond it that are done with. */
  readonly cursor?: readonly [ackFloor: number, ...acked: Range[]];
  /** More of the cursor's ranges are in a row of their own. */
  readonly acks?: true;
  /** What `header.ts` copies as it is, by the names that it has there: see `Reader`. */
  readonly trouble?: Breaker;
  readonly dying?: readonly [position: number, calls: number];
  readonly types?: number;
  readonly dropped?: boolean;
  readonly paused?: boolean;
  readonly aside?: number;
  readonly ready?: number;
  readonly laned?: number;
  readonly dead?: number;
  readonly held?: number;
  readonly deadSince?: number;
  readonly deleted?: number;
  readonly late?: number;
  readonly scheduled?: number;
  readonly since?: number;
}

/** What the header says of a reader with a name. */
export interface NamedReaderRow extends ReaderRow {
  readonly name: string;
  /** Which rows are its own. 0: those of `sendMessages`, whose state is in the header itself. */
  readonly slot: number;
}

/**
 * The header: the newest messages, and all that is small and must survive. That costs nothing, because every put writes
 * this row anyway; and a row that is written again and again costs storage less than ever new ones. Once it is full its
 * messages move to a segment. When all is delivered it stays, without messages, as the marker.
 */
export interface HeaderRow extends SegmentRow, ReaderRow {
  /** The last position given out. */
  readonly position: number;
  /** The last segment that was written, and the first that may still be stored. */
  readonly last: number;
  readonly first: number;
  /** The readers, where `sendMessages` is not the only one. */
  readonly readers?: readonly NamedReaderRow[];
  /** The same: see `Memory`. */
  readonly ids?: IdMemory;
  readonly own?: OwnAlarm;
  readonly firing?: number;
  readonly chore?: number;
  readonly ext?: Readonly<Record<string, unknown>>;
  readonly adopting?: boolean;
  readonly foreign?: number;
  readonly slots?: number;
}

/** The row behind what `encoded` gave. @throws when it is none: no message of it can be told from another without its head. */
export function decode<R extends SegmentRow>(value: unknown): R {
  const { messages, ...head } = typeof value === "string" ? inLines(value) : (value as SegmentRow);
  const { object, epoch, base } = head;
  if (typeof object !== "string" || typeof epoch !== "string" || !Number.isSafeInteger(base) || !Array.isArray(messages)) {
    throw new TypeError("This row is none of the outbox's.");
  }
  return { ...head, ...readable(messages) } as unknown as R;
}

function inLines(text: string): SegmentRow {
  const [head = "", ...messages] = text.split("\n");
  return { ...JSON.parse(head), messages };
}

/** A row of messages as it goes to storage: `undefined`, which deletes it, where nothing is left in it. */
export function stored({ messages, damaged, ...head }: SegmentRow): unknown {
  const all = damaged ? [...messages, ...(damaged as StoredMessage[])] : messages;
  return all.length > 0 ? encoded(JSON.stringify(head), linesOf(all)) : undefined;
}
