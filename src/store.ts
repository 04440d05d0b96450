/** The store: the one place that reads and writes the outbox's rows, and the numbers that it must never give out twice. */

import type { Emit } from "./events.js";
import { headerOf } from "./header.js";
import { encoded, joined, lineOf, linesOf, messagesIn, NO_LINES } from "./lines.js";
import { type ClosedRow, type Memory, memoryOf, NEVER, type Row, rowOf } from "./memory.js";
import { atRest, type Draft, type More, positionOf, readMessage, type StoredMessage, type Stream } from "./message.js";
import type { Native } from "./native.js";
import { decode, keyNumber, type Numbered, numberedKey, rowsOf, type SegmentRow } from "./rows.js";
import { CALM, isOver, tried } from "./trouble.js";

/** Messages in one row: measured, see bench/. More makes a burst cheaper and each put slower. */
export const ROW_MESSAGES = 16;
/** Bytes of messages in one row: one write unit of the KV-backed storage (4 KB). A bigger message has a row of its own. */
export const ROW_MESSAGE_BYTES = 4096;
/** The most messages in a segment, and their bytes: two headers full. The next page of SQLite is filled better, and there is one row less to delete. */
const SEGMENT_MESSAGES = 2 * ROW_MESSAGES;
const SEGMENT_BYTES = 2 * ROW_MESSAGE_BYTES;
/** What a stored message takes beside `msg`, in bytes, never more. */
const MESSAGE_BYTES = 40;
/** What a row holds beside its messages, in bytes, never more: identity (about 250), header (about 800), a dead letter's error (3,000). */
const ROW_BYTES = 4096;
/** Rows read at once, so that memory stays bounded when each holds one big message. */
export const PAGE_ROWS = 8;
/** So many closed segments are remembered: more than a hundred messages put in one turn. */
const RECENT_SEGMENTS = 8;
/** The most keys that one `storage.put` or `storage.delete` takes. */
const MAX_KEYS = 128;
/** So many keys leave room for the outbox's own in one put: the header, a segment, and a caller's id. */
export const FEW_KEYS: number = MAX_KEYS - 3;

/** One object's outbox at rest. Every method that writes does so before its first `await`. */
export interface Store {
  readonly memory: Memory;
  /** The native storage, or the open transaction through which everything goes, so that it rolls back with it on both backends. */
  native: Native;
  /** Up to which position the queue holds no message of a lane's key: so far it has been looked through. */
  readonly clear: WeakMap<object, number>;
  /** While a transaction is open: settles when it has ended. */
  open: Promise<void> | null;
  /** The closure of the open transaction has ended, and its commit has not. */
  closing: boolean;
  /** How many messages have been taken back. */
  retracted: number;
  /** Messages that are not delivered. May count too many after rows that can't be read and puts that were refused; never too few. */
  undelivered(): number;
  /** Whether any of them may be delivered: not while the outbox is paused. */
  waits(): boolean;
  /** The earliest time at which there may be something to do, as far as the messages go; `NEVER` when nothing waits. */
  due(): number;
  /** From the next message on a new epoch counts from 1: `beginEpoch` in memory only. */
  beginEpoch(): void;
  newEpoch(): Promise<void>;
  /** Adds a message, and to `entries` the rows that the caller writes with them in one put. Returns the message's position. */
  append(entries: Record<string, unknown>, draft: Draft, at: number, more?: More): number;
  /** Takes back a message whose put was refused. Returns whether it could: not once its row has been written by somebody else. */
  retract(position: number, entries: Record<string, unknown>): boolean;
  /** The outbox's alarm that fires or still stands, or 0. While nothing is wanted the header remembers it: it is not the object's own. */
  leftover: () => number;
  /** The header as it should stand now. */
  header(): unknown;
  /** Writes the header: after a change to what only it holds. */
  saveHeader(): Promise<void>;
  /** Reads the next rows of a kind from a key on, up to and with a number. One that can't be read is reported, kept as it is and passed over. */
  page(kind: Numbered, start: string, last: number, limit?: number): Promise<Row[]>;
  /** Reads the next rows under a prefix. */
  list(range: DurableObjectListOptions): Promise<Row[]>;
  /** Reports what can't be read. */
  unreadable(row: string, error: unknown): null;
  /** Writes any number of entries as one commit: they go down in one turn. */
  put(entries: Record<string, unknown>, options?: DurableObjectPutOptions): Promise<unknown>;
  /** Deletes any number of keys as one commit. Resolves to how many existed. */
  delete(keys: readonly string[], options?: DurableObjectPutOptions): Promise<number>;
  /** Of the segments that were closed last and the one with messages that are handed over, the first of which this holds: a copy. */
  recent(is: (row: Row) => boolean): Row | undefined;
  /** Both at once: what is `undefined` is deleted. What was a recent segment is none any more. */
  write(rows: Record<string, unknown>): Promise<unknown>;
}

/** @param abort resets the object, which begins again from what is stored: for a write that storage refuses, and that memory is ahead of */
export function storeOf(object: string, storage: Native, emit: Emit, abort: (reason: string) => void): Store {
  const memory = memoryOf(object);
  const header = headerOf(object);

  /**
   * The key of the segment that the next one may join: none once segments have been read, because whoever has read one writes it as it
   * was. Not part of memory: a rollback must not let one grow that has been read since.
   */
  let growing = "";
  /** The stream of the last segment that was closed, and how its row begins. */
  let current: Stream = { object: "", epoch: "", base: 0 };
  let head = "";

  function watched<T>(write: Promise<T>): Promise<T> {
    write.catch((error) => abort(String(error)));
    return write;
  }

  /** Moves the header's messages to a segment, a new one or the last, which the caller writes together with the header. */
  function closeSegment(entries: Record<string, unknown>): void {
    const { object, epoch, base, newest, recent } = memory;
    if (current.epoch !== epoch || current.base !== base || current.object !== object) {
      current = { object, epoch, base };
      head = JSON.stringify({ v: 1, ...current });
    }
    const last = recent.at(-1);
    const grows =
      last?.key === growing &&
      last.stream === current &&
      last.lines.count + newest.count <= SEGMENT_MESSAGES &&
      last.lines.bytes + newest.bytes <= SEGMENT_BYTES;
    const row: ClosedRow = grows
      ? { ...last, lines: joined(last.lines, newest) }
      : { key: numberedKey("s", ++memory.last), stream: current, lines: newest };
    memory.recent = [...(grows ? recent.slice(0, -1) : recent.slice(1 - RECENT_SEGMENTS)), row];
    entries[row.key] = encoded(head, row.lines);
    // What is being handed over is settled as it was read: nothing may join it.
    growing = memory.taken ? "" : row.key;
    if (memory.taken) memory.moved = rowOf(row);
    memory.taken = false;
    memory.newest = NO_LINES;
  }

  /** The next segments, where all of them are recent ones. Keys ascend, so the right number with the right end has no gap. */
  function recentFrom(start: string, last: number, limit: number): Row[] | null {
    const first = keyNumber(start);
    const number = Math.min(last - first + 1, limit);
    const at = memory.recent.findIndex(({ key }) => key === start);
    return at >= 0 && memory.recent[at + number - 1]?.key === numberedKey("s", first + number - 1)
      ? memory.recent.slice(at, at + number).map(rowOf)
      : null;
  }

  const store: Store = {
    memory,
    native: storage,
    clear: new WeakMap(),
    open: null,
    closing: false,
    retracted: 0,

    undelivered: () => memory.main + memory.aside + memory.laned,

    waits: () => !memory.paused && store.undelivered() > 0,

    due: () => (store.waits() ? Math.min(memory.main ? memory.next : NEVER, memory.due) : NEVER),

    beginEpoch: () => void Object.assign(memory, { object, epoch: "", base: memory.position }),

    newEpoch() {
      const entries: Record<string, unknown> = {};
      if (memory.newest.count > 0) closeSegment(entries);
      store.beginEpoch();
      entries[memory.key] = store.header();
      return store.native.put(entries);
    },

    append(entries, { json, msg, bytes }, at, more) {
      const size = bytes + MESSAGE_BYTES;
      const { count, bytes: taken } = memory.newest;
      if (count > 0 && (count >= ROW_MESSAGES || taken + size > ROW_MESSAGE_BYTES)) closeSegment(entries);
      memory.epoch ||= crypto.randomUUID();
      const position = ++memory.position;
      memory.newest = joined(memory.newest, lineOf(atRest(position, at, json, msg, more), size));
      memory.main++;
      if (more?.due) memory.late++;
      memory.next = Math.min(memory.next, more?.due ?? 0);
      entries[memory.key] = store.header();
      return position;
    },

    retract(position, entries) {
      store.retracted++;
      const is = (stored: StoredMessage) => positionOf(stored) === position;
      const { recent, moved } = memory;
      const rows = recent.map(rowOf);
      // A segment with messages that were handed over may have been settled meanwhile, and is not a recent one any more.
      if (moved && !recent.some(({ key }) => key === moved.key)) rows.push(copied(moved));
      const closed = rows.find(({ data }) => data.messages.some(is));
      const messages = closed?.data.messages ?? messagesIn(memory.newest);
      const found = messages.find(is);
      const named = Object.keys(entries).filter((key) => key.startsWith(rowsOf("s", 0)));
      const touched = rows.filter((row) => row === closed || named.includes(row.key));
      if (!found || !named.every((name) => touched.some(({ key }) => key === name))) return false;
      const rest = messages.filter((stored) => !is(stored));
      if (closed) closed.data.messages = rest;
      else memory.newest = linesOf(rest);
      memory.main--;
      if (readMessage(memory, found).more.due) memory.late--;
      if (memory.position === position) memory.position--;
      // A segment that was to be written with it still must be, as it is now, and a later put may have written the message.
      const written: Record<string, unknown> = {};
      for (const { key, data } of touched) written[key] = data.messages.length > 0 ? stored(data) : undefined;
      if (memory.position > position || touched.length > 0) store.write({ ...written, [memory.key]: store.header() }).catch(() => {}); // Whoever put has had the error.
      memory.recent = recent.map((row) => (row.key === closed?.key ? { ...row, lines: linesOf(rest) } : row));
      if (moved && moved.key === closed?.key) memory.moved = { ...moved, data: { ...moved.data, messages: rest } };
      return true;
    },

    leftover: () => 0,

    header() {
      const firing = store.waits() ? 0 : store.leftover();
      memory.firing = firing;
      if (memory.trouble !== CALM && isOver(memory.trouble) && tried(memory.trouble, memory.done + 1) === 0) memory.trouble = CALM;
      return header(memory, store.waits());
    },

    saveHeader: () => watched(store.native.put(memory.key, store.header())),

    unreadable(row, error) {
      emit({ type: "unreadable", row, error });
      return null;
    },

    async list(range) {
      const rows: Row[] = [];
      for (const [key, value] of await store.native.list(range)) {
        try {
          rows.push({ key, data: decode(value) });
        } catch (error) {
          emit({ type: "unreadable", row: key, error });
        }
      }
      return rows;
    },

    async page(kind, start, last, limit = PAGE_ROWS) {
      if (kind === "s") growing = "";
      const end = numberedKey(kind, last + 1);
      if (start >= end) return [];
      const known = kind === "s" && recentFrom(start, last, limit);
      if (known) return known;
      try {
        return await store.list({ start, end, limit });
      } catch (error) {
        // A list fails from the row on that can't be read: halve the range until only that row is left.
        const list = (from: number, last: number) =>
          store.list({ start: numberedKey(kind, from), end: numberedKey(kind, last + 1), limit }).catch(() => null);
        let lost = keyNumber(start);
        for (let high = last; lost < high; ) {
          const middle = Math.floor((lost + high) / 2);
          if (await list(lost, middle)) lost = middle + 1;
          else high = middle;
        }
        // If that row can be read now, it was not the row that failed.
        if (await list(lost, lost)) throw error;
        emit({ type: "unreadable", row: numberedKey(kind, lost), error });
        return [...(await store.page(kind, start, lost - 1, limit)), ...(await store.page(kind, numberedKey(kind, lost + 1), last, limit))];
      }
    },

    put(entries, options) {
      const all = Object.entries(entries);
      if (all.length <= MAX_KEYS) return store.native.put(entries, options);
      return inParts(all, (part) => store.native.put(Object.fromEntries(part), options));
    },

    delete: async (keys, options) =>
      (await inParts(keys, (part) => store.native.delete(part, options))).reduce((sum, count) => sum + count, 0),

    recent(is) {
      return memory.moved && is(memory.moved) ? copied(memory.moved) : memory.recent.map(rowOf).find(is);
    },

    write(rows) {
      const keys = Object.keys(rows);
      if (memory.recent.length > 0) memory.recent = memory.recent.filter(({ key }) => !(key in rows));
      const deleted = keys.filter((key) => rows[key] === undefined);
      const kept = Object.fromEntries(keys.filter((key) => rows[key] !== undefined).map((key) => [key, rows[key]]));
      return watched(Promise.all([store.delete(deleted), store.put(kept)]));
    },
  };
  return store;
}

function copied({ key, data }: Row): Row {
  return { key, data: { ...data } };
}

/** A row of messages as it goes to storage. */
export function stored({ messages, ...head }: SegmentRow): unknown {
  return encoded(JSON.stringify(head), linesOf(messages));
}

/** Calls `write` with as many items at a time as storage takes, all in this turn. */
function inParts<T, R>(items: readonly T[], write: (part: T[]) => Promise<R>): Promise<R[]> {
  const writes: Promise<R>[] = [];
  for (let i = 0; i < items.length; i += MAX_KEYS) writes.push(write(items.slice(i, i + MAX_KEYS)));
  return Promise.all(writes);
}

/** Whether the object is SQLite-backed. On KV-backed objects the runtime refuses `sql`, locally as well (tried on workerd 1.20260730). */
export function isSqlite(storage: DurableObjectStorage): boolean {
  try {
    return storage.sql.databaseSize >= 0;
  } catch {
    return false;
  }
}

/** The largest message, in bytes, by backend (Durable Objects limits page). A local run enforces no limit on KV-backed objects. */
export function maxMessageBytes(sqlite: boolean): number {
  return 2 ** (sqlite ? 21 : 17) - ROW_BYTES;
}
