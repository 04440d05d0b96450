/** The log: the messages that an object has put, in order. Its newest are in the header, the tail; full tails become segments. */

import type { MessageMeta } from "../api/meta.js";
import type { Retention } from "../api/retain.js";
import { encoded, joined, lineOf, linesOf, messagesIn, NO_LINES } from "../storage/lines.js";
import { type Memory, type Row, rowOf, type SealedRow } from "../storage/memory.js";
import { atOf, atRest, type Draft, positionOf, type StoredMessage, type Stream } from "../storage/message.js";
import type { Reading } from "../storage/read.js";
import { SEGMENTS, segmentKey, segmentNumber } from "../storage/rows.js";
import { bytesOf, type End, firstOf, sealedEnd } from "./ends.js";
import { epochAfter } from "./epoch.js";

/** Messages in one row: measured, see bench/. More makes a burst cheaper and each put slower. */
export const ROW_MESSAGES = 16;
/** Bytes of messages in one row: one write unit of the KV-backed storage (4 KB). A bigger message has a row of its own. */
export const ROW_MESSAGE_BYTES = 4096;
/** The most messages in a segment, and their bytes: two tails. The next page of SQLite is filled better, and there is one row less to delete. */
const SEGMENT_MESSAGES = 2 * ROW_MESSAGES;
const SEGMENT_BYTES = 2 * ROW_MESSAGE_BYTES;
/** A tail with more bytes than this does not stay in the header, which grows with the destinations that are in trouble. A put alone writes it there. */
const BIG_BYTES = 32_768;
/** What a stored message takes beside `msg`, in bytes, never more; twice that where `msg` is wide. */
const MESSAGE_BYTES = 40;
/** So many sealed segments are remembered: more than a hundred messages put in one turn. */
const RECENT_SEGMENTS = 8;
/** So many ends of segments are remembered. One that has been forgotten is read again before its segment is deleted. */
const MOST_ENDS = 4096;
/** So many segments are deleted in one commit where the log is retained: without that the readers' batches are the limit. */
const MOST_TRIMMED = 64;
/** So many messages may be in segments although storage has refused their puts: with one more, the object is reset. */
const MOST_HOLES = 32;
/** So many times the place of a position is guessed before the search halves what is left. */
const MOST_GUESSES = 4;
/** Rows read at once, so that memory stays bounded when each holds one big message. */
export const PAGE_ROWS = 8;

/**
 * A segment only grows, by the next tail, or is deleted whole once its reader has passed it: nothing rewrites one. So what was read of it
 * stays true, whatever happens meanwhile.
 */
export interface Log {
  /** Adds a message to the tail, and to `rows` the segment that the tail before it became. Returns the message's position. */
  append(rows: Record<string, unknown>, draft: Draft, at: number, meta?: MessageMeta): number;
  /** Makes a segment of the tail, if anything is in it. */
  seal(rows: Record<string, unknown>): void;
  /** Makes a segment of a tail that leaves the header no room to grow. Returns whether it was one: then the header must be written. */
  makeRoom(rows: Record<string, unknown>): boolean;
  /**
   * Takes back a message whose put was refused: `named` are the keys of the rows that were to be written with it. Returns the rows that must
   * be written in its place, or `null` where it is in a segment that others have written since: then it stays there.
   */
  retract(position: number, named: readonly string[]): Record<string, unknown> | null;
  /** The rows of the next segments, from a number on up to another. What this life has sealed is not read. */
  page(first: number, last: number, limit?: number): Promise<Row[]>;
  /** The last segment that begins at or before a position, read. */
  find(position: number): Promise<Row | undefined>;
  /**
   * The number of the first segment that may hold something behind a position, as far as `from`, what was found the last time, and what is
   * remembered of ends tell. Reads only where nothing does and others keep earlier segments.
   */
  seek(position: number, from: number): Promise<number>;
  /** Whether segments are deleted, or may be, that no run reads. */
  readonly sweeps: boolean;
  /** Whether the first segment may be deleted once its messages up to a position are delivered, as far as is known. */
  mayTrim(through: number): boolean;
  /** The number of the last segment that may hold a position: not beyond the last one, because that may grow. */
  around(position: number): Promise<number>;
  /** Learns where the first segments end, if that is not known: a reader that is ahead of others does not read them, and then nothing deletes them. */
  sweep(): Promise<void>;
  /** A segment as it is now: it may have grown since it was read. */
  current(row: Row): Row;
  /** Remembers where a segment ends, so that it can be deleted once that is passed. `after` is the segment that was read before it. */
  noteEnd(row: Row, after?: number): void;
  /** Remembers that no segment that can be read follows that one, up to a number. */
  noteNone(last: number, after?: number): void;
  /** Deletes the segments up to a position, and drops from the tail what comes before it. Returns whether the header must be written for that. */
  trim(through: number, rows: Record<string, unknown>): boolean;
  /** The position before the first message that is stored: what a start finds out by itself. */
  start(): number;
  /** Tells what a start has found out: the position before the first message of the first segment. */
  begin(through: number): void;
  /** The position of the first message that can be read. */
  earliest(): number;
  /** Everything that is stored has been deleted. */
  forget(): void;
}

/** @param retention what is kept after every reader has it; `null`: nothing */
export function logOf(memory: Memory, list: Reading["list"], retention: Retention | null, now: () => number): Log {
  /**
   * The ends of segments that have been read, or have grown, by their numbers. Never before the real end: what was read of a segment may have
   * been read before it grew, and then it must not be deleted. Not part of memory, because a rollback moves an end back at most.
   */
  const ends = new Map<number, End>();
  /** The stream of the last segment that was sealed, and how its row begins. */
  let current: Stream = { object: "", epoch: "", base: 0 };
  let head = "";
  /** The position before the first stored message, as far as it does not follow from the tail. */
  let start: { first: number; through: number } | null = null;

  const sealed = (number: number): SealedRow | undefined => {
    const key = segmentKey(number);
    return memory.recent.find((row) => row.key === key);
  };

  function endOf(number: number): End | undefined {
    const row = sealed(number);
    return row ? sealedEnd(row, number + 1) : ends.get(number);
  }

  /** Whether a segment that every reader has passed is kept no longer. */
  function isOver({ last, at, bytes }: End): boolean {
    if (!retention || last <= memory.trimmedTo) return true;
    return memory.position - last >= retention.count || now() - at > retention.ms || memory.logBytes - bytes >= retention.bytes;
  }

  const isLimited = retention !== null && Math.min(retention.count, retention.ms, retention.bytes) < Number.POSITIVE_INFINITY;

  function remember(number: number, end: End): void {
    ends.set(number, end);
    const [oldest = number] = ends.keys();
    if (ends.size > MOST_ENDS) ends.delete(oldest);
  }

  const log: Log = {
    append(rows, { json, msg, bytes }, at, meta) {
      const size = bytes + MESSAGE_BYTES;
      const { count, bytes: tailBytes } = memory.tail;
      if (count > 0 && (count >= ROW_MESSAGES || tailBytes + size > ROW_MESSAGE_BYTES)) log.seal(rows);
      memory.epoch ||= epochAfter("", now());
      const position = ++memory.position;
      memory.tail = joined(memory.tail, lineOf(atRest(position, at, json, msg, meta), size));
      return position;
    },

    seal(rows) {
      const { object, epoch, base, tail, recent, position } = memory;
      if (tail.count === 0) return;
      if (current.epoch !== epoch || current.base !== base || current.object !== object) {
        current = { object, epoch, base };
        head = JSON.stringify({ v: 1, ...current });
      }
      const last = recent.at(-1);
      const grows =
        last !== undefined &&
        last.stream === current &&
        segmentNumber(last.key) === memory.last &&
        last.lines.count + tail.count <= SEGMENT_MESSAGES &&
        last.lines.bytes + tail.bytes <= SEGMENT_BYTES;
      const row: SealedRow = grows
        ? { ...last, lines: joined(last.lines, tail), last: position }
        : { key: segmentKey(++memory.last), stream: current, lines: tail, last: position };
      memory.recent = [...(grows ? recent.slice(0, -1) : recent.slice(1 - RECENT_SEGMENTS)), row];
      if (retention) memory.logBytes += bytesOf(messagesIn(tail));
      if (grows) remember(memory.last, sealedEnd(row, memory.last + 1));
      else ends.delete(memory.last);
      rows[row.key] = encoded(head, row.lines);
      memory.tail = NO_LINES;
    },

    makeRoom(rows) {
      const isBig = memory.tail.bytes > BIG_BYTES;
      if (isBig) log.seal(rows);
      return isBig;
    },

    retract(position, named) {
      const is = (stored: StoredMessage) => positionOf(stored) === position;
      const lines = messagesIn(memory.tail);
      const inTail = lines.some(is);
      const rows: Record<string, unknown> = {};
      // The segments that were to be written with it still must be.
      for (const key of named) {
        const row = memory.recent.find((row) => row.key === key);
        if (!row) return null;
        rows[key] = encoded(JSON.stringify({ v: 1, ...row.stream }), row.lines);
      }
      if (inTail) {
        memory.tail = linesOf(lines.filter((stored) => !is(stored)));
        if (memory.position === position) memory.position--;
      } else if (memory.holes.length >= MOST_HOLES) return null;
      else memory.holes = [...memory.holes, position];
      return rows;
    },

    async page(first, last, limit = PAGE_ROWS) {
      if (first > last) return [];
      const number = Math.min(last - first + 1, limit);
      const rows: Row[] = [];
      for (let i = 0; i < number; i++) {
        const row = sealed(first + i);
        if (!row) break;
        rows.push(rowOf(row));
      }
      if (rows.length === number) return rows;
      return list({ start: segmentKey(first), end: segmentKey(last + 1), limit });
    },

    async find(position) {
      let found: Row | undefined;
      let below = log.start();
      let above = firstOf(memory.tail) ?? memory.position + 1;
      for (let low = memory.first, high = memory.last, tries = 0; position > 0 && low <= high; tries++) {
        // Most segments hold as many messages as their neighbours.
        const share = tries < MOST_GUESSES ? (position - below - 1) / Math.max(1, above - below - 1) : 0.5;
        const guess = Math.min(high, Math.max(low, low + Math.floor(share * (high - low + 1))));
        const [row] = await log.page(guess, high, 1);
        const first = row?.data.messages[0];
        if (row && first !== undefined && positionOf(first) <= position) {
          found = row;
          below = positionOf(row.data.messages.at(-1) ?? first);
          if (position <= below) return found;
          low = segmentNumber(row.key) + 1;
        } else {
          if (first !== undefined) above = positionOf(first);
          high = guess - 1;
        }
      }
      return found;
    },

    async around(position) {
      const { last } = memory;
      if (position >= (firstOf(memory.tail) ?? memory.position + 1)) return Math.max(memory.first, last);
      const row = await log.find(position);
      return row ? Math.max(memory.first, segmentNumber(row.key)) : memory.first;
    },

    get sweeps() {
      return memory.readers.length > 1 || isLimited || (retention !== null && memory.trimmedTo > log.start());
    },

    mayTrim(through) {
      const end = endOf(memory.first);
      return !end || (end.last <= through && isOver(end));
    },

    async seek(position, from) {
      let number = Math.max(memory.first, from);
      const isAhead = memory.readers.length > 1 || retention !== null;
      if (from === 0 && isAhead && position > log.start() && memory.first <= memory.last) number = await log.around(position + 1);
      // The last one may grow yet: what is put into it must not be passed over.
      const mayGrow = memory.recent.at(-1)?.key;
      for (let end = endOf(number); number <= memory.last && end && end.last <= position; end = endOf(number)) {
        if (segmentKey(number) === mayGrow) break;
        number = end.next;
      }
      return number;
    },

    async sweep() {
      const { first, last } = memory;
      if (first > last || endOf(first)) return;
      const rows = await log.page(first, last);
      let before: number | undefined;
      for (const row of rows) {
        log.noteEnd(log.current(row), before);
        before = segmentNumber(row.key);
      }
      if (rows.length === 0) log.noteNone(last);
    },

    current(row) {
      const known = sealed(segmentNumber(row.key));
      return known && known.lines.count > row.data.messages.length ? rowOf(known) : row;
    },

    noteEnd(row, after) {
      const number = segmentNumber(row.key);
      const before = after === undefined ? undefined : ends.get(after);
      if (before) before.next = number;
      // What is before the first that can be read stays where it is.
      else if (after === undefined) memory.first = Math.max(memory.first, number);
      const last = row.data.messages.at(-1);
      const { last: known = 0, next = number + 1, bytes = 0 } = ends.get(number) ?? {};
      if (last === undefined) return;
      remember(number, {
        last: Math.max(known, positionOf(last)),
        at: atOf(last),
        bytes: retention ? Math.max(bytes, bytesOf(row.data.messages)) : 0,
        isDamaged: row.data.damaged !== undefined,
        next,
      });
    },

    noteNone(last, after) {
      const before = after === undefined ? undefined : ends.get(after);
      if (before) before.next = last + 1;
      else if (after === undefined) memory.first = Math.max(memory.first, last + 1);
    },

    trim(through, rows) {
      let changed = false;
      let trimmed = 0;
      for (let end = endOf(memory.first); memory.first <= memory.last && end && end.last <= through; end = endOf(memory.first)) {
        if (retention && (!isOver(end) || ++trimmed > MOST_TRIMMED)) return changed || trimmed > 0;
        const key = segmentKey(memory.first);
        // A damaged one stays, and a start must not begin with it again.
        if (end.isDamaged) changed = true;
        else rows[key] = undefined;
        memory.recent = memory.recent.filter((row) => row.key !== key);
        start = { first: end.next, through: end.last };
        memory.first = end.next;
        memory.logBytes = Math.max(0, memory.logBytes - end.bytes);
        const { last } = end;
        if (memory.holes.length > 0) memory.holes = memory.holes.filter((position) => position > last);
      }
      if (retention) return changed || trimmed > 0;
      if (memory.first > memory.last && memory.trimmedTo > 0) memory.trimmedTo = 0;
      if (memory.first <= memory.last || memory.tail.count === 0) return changed;
      const lines = messagesIn(memory.tail);
      const kept = lines.filter((stored) => positionOf(stored) > through);
      if (kept.length === lines.length) return changed;
      memory.tail = kept.length > 0 ? linesOf(kept) : NO_LINES;
      return true;
    },

    start() {
      if (memory.first > memory.last) return (firstOf(memory.tail) ?? memory.position + 1) - 1;
      return start?.first === memory.first ? start.through : 0;
    },

    begin(through) {
      start = { first: memory.first, through };
    },

    earliest: () => Math.max(log.start(), memory.trimmedTo) + 1,

    forget() {
      ends.clear();
      Object.assign(memory, { tail: NO_LINES, recent: [], first: memory.last + 1, logBytes: 0, trimmedTo: 0, holes: [] });
    },
  };
  return log;
}

/** The segments among keys. */
export function segmentsIn(keys: readonly string[]): string[] {
  return keys.filter((key) => key.startsWith(SEGMENTS));
}
