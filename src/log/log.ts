/** The log: the messages that an object has put, in order. Its newest are in the header, the tail; full tails become segments. */

import type { MessageMeta } from "../api/meta.js";
import { encoded, joined, lineOf, linesOf, messagesIn, NO_LINES } from "../storage/lines.js";
import { type Memory, type Row, rowOf, type SealedRow } from "../storage/memory.js";
import { atRest, type Draft, positionOf, type StoredMessage, type Stream } from "../storage/message.js";
import type { Reading } from "../storage/read.js";
import { SEGMENTS, segmentKey, segmentNumber } from "../storage/rows.js";

/** Messages in one row: measured, see bench/. More makes a burst cheaper and each put slower. */
export const ROW_MESSAGES = 16;
/** Bytes of messages in one row: one write unit of the KV-backed storage (4 KB). A bigger message has a row of its own. */
export const ROW_MESSAGE_BYTES = 4096;
/** The most messages in a segment, and their bytes: two tails. The next page of SQLite is filled better, and there is one row less to delete. */
const SEGMENT_MESSAGES = 2 * ROW_MESSAGES;
const SEGMENT_BYTES = 2 * ROW_MESSAGE_BYTES;
/** What a stored message takes beside `msg`, in bytes, never more; twice that where `msg` is wide. */
const MESSAGE_BYTES = 40;
/** So many sealed segments are remembered: more than a hundred messages put in one turn. */
const RECENT_SEGMENTS = 8;
/** So many ends of segments are remembered. One that has been forgotten is read again before its segment is deleted. */
const MOST_ENDS = 4096;
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
}

/** Where a segment ends. One with lines that can't be read is never deleted. */
interface End {
  readonly last: number;
  readonly isDamaged: boolean;
  /** The number of the segment that follows. */
  next: number;
}

export function logOf(memory: Memory, list: Reading["list"]): Log {
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
    return row ? { last: row.last, isDamaged: false, next: number + 1 } : ends.get(number);
  }

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
      memory.epoch ||= crypto.randomUUID();
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
      if (grows) remember(memory.last, { last: position, isDamaged: false, next: memory.last + 1 });
      else ends.delete(memory.last);
      rows[row.key] = encoded(head, row.lines);
      memory.tail = NO_LINES;
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
      }
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
      for (let low = memory.first, high = memory.last; position > 0 && low <= high; ) {
        const middle = Math.floor((low + high) / 2);
        const [row] = await log.page(middle, high, 1);
        const [first] = row?.data.messages ?? [];
        if (row && first !== undefined && positionOf(first) <= position) {
          found = row;
          low = segmentNumber(row.key) + 1;
        } else high = middle - 1;
      }
      return found;
    },

    async seek(position, from) {
      let number = Math.max(memory.first, from);
      if (from === 0 && memory.readers.length > 1 && position > log.start() && memory.first <= memory.last) {
        const row = await log.find(position);
        if (row) number = Math.max(memory.first, segmentNumber(row.key));
      }
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
      const { last: known = 0, next = number + 1 } = ends.get(number) ?? {};
      if (last !== undefined)
        remember(number, { last: Math.max(known, positionOf(last)), isDamaged: row.data.damaged !== undefined, next });
    },

    noteNone(last, after) {
      const before = after === undefined ? undefined : ends.get(after);
      if (before) before.next = last + 1;
      else if (after === undefined) memory.first = Math.max(memory.first, last + 1);
    },

    trim(through, rows) {
      let changed = false;
      for (let end = endOf(memory.first); memory.first <= memory.last && end && end.last <= through; end = endOf(memory.first)) {
        const key = segmentKey(memory.first);
        // A damaged one stays, and a start must not begin with it again.
        if (end.isDamaged) changed = true;
        else rows[key] = undefined;
        memory.recent = memory.recent.filter((row) => row.key !== key);
        start = { first: end.next, through: end.last };
        memory.first = end.next;
      }
      if (memory.first <= memory.last || memory.tail.count === 0) return changed;
      const lines = messagesIn(memory.tail);
      const kept = lines.filter((stored) => positionOf(stored) > through);
      if (kept.length === lines.length) return changed;
      memory.tail = kept.length > 0 ? linesOf(kept) : NO_LINES;
      return true;
    },

    start() {
      if (memory.first > memory.last) {
        const [first] = messagesIn(memory.tail);
        return first === undefined ? memory.position : positionOf(first) - 1;
      }
      return start?.first === memory.first ? start.through : 0;
    },
  };
  return log;
}

/** The segments among keys. */
export function segmentsIn(keys: readonly string[]): string[] {
  return keys.filter((key) => key.startsWith(SEGMENTS));
}
