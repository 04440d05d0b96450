/** The store: the one place that reads and writes the outbox's rows, and the numbers that it must never give out twice. */

import type { Emit } from "./events.js";
import { type Draft, positionOf, type StoredMessage, type Stream } from "./message.js";
import type { Native } from "./native.js";
import { HEADER, type HeaderRow, type OwnAlarm, RESERVED, type SegmentRow, segmentKey, segmentNumber, type Trouble } from "./rows.js";
import { serializedBytes } from "./size.js";

/** Messages in one segment: measured, see bench/. More makes a burst cheaper and each put slower. */
const SEGMENT_MESSAGES = 16;
/** Bytes of messages in one segment: one write unit of the KV-backed storage (4 KB). A bigger message has a segment of its own. */
const SEGMENT_BYTES = 4096;
/** What a stored message takes beside `msg`, in bytes, never more. */
const MESSAGE_BYTES = 40;
/** What a row holds beside its messages, in bytes, never more: identity (about 250) and header (about 600). */
const ROW_BYTES = 1024;
/** Rows read at once, so that memory stays bounded when each holds one big message. */
const PAGE_ROWS = 8;
/** So many closed segments are remembered: more than a hundred messages put in one turn. */
const RECENT_SEGMENTS = 8;
/** So many headers in a row may be unreadable before storage itself counts as unreadable. */
const MOST_LOST_HEADERS = 8;
/** A batch ends early once it holds this much. */
const BATCH_BYTES = 2 ** 22;
/** The most keys that one `storage.put` or `storage.delete` takes. */
export const MAX_KEYS = 128;

/** A time that does not come, in place of one. */
export const NEVER: number = Number.POSITIVE_INFINITY;

/** What the outbox knows without reading: the header as it should stand, and what no row holds. All of it goes back when a transaction rolls back. */
export interface Memory extends Mutable<HeaderRow> {
  trouble: Trouble;
  /** The key of the header. */
  key: string;
  /** No segment lies before this. */
  first: number;
  /** All positions up to here have been delivered. */
  done: number;
  /** Bytes of the header's messages. */
  bytes: number;
  /** The header's messages have been handed over: what is put before they are cleared must not share a row with them. */
  taken: boolean;
  /** The segments that were closed last: a put that storage refuses in the same turn takes its message out of them. */
  recent: readonly { readonly number: number; readonly row: Mutable<SegmentRow> }[];
  /** The segment to which they have moved since. */
  moved: Segment | null;
  /** The object's own alarm while its handler runs: kept until that has ended well. */
  running: OwnAlarm | null;
  /** When the outbox wants to run; `NEVER` while nothing waits. */
  wake: number;
  /** What the native alarm slot is believed to hold, or `NEVER`. */
  armed: number;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** A stored message with the stream to which it belongs. */
export interface Waiting {
  readonly stream: Stream;
  readonly stored: StoredMessage;
}

interface Segment {
  readonly number: number;
  readonly row: SegmentRow;
}

/** Messages taken from the head of the outbox, and the segments in which they stand. */
export interface Batch {
  readonly messages: Waiting[];
  readonly rows: Segment[];
}

/** One object's outbox at rest. Every method that writes does so before its first `await`. */
export interface Store {
  readonly memory: Memory;
  /** The native storage, or the open transaction through which everything goes, so that it rolls back with it on both backends. */
  native: Native;
  /** Messages that wait. May count too many after rows that can't be read and puts that were refused; never too few. */
  pending(): number;
  /** Reads what the object left behind: one read where nothing waits. */
  load(): Promise<void>;
  /** From the next message on a new epoch counts from 1. */
  beginEpoch(): void;
  /** Adds a message, and to `entries` the rows that the caller writes with them in one put. Returns the message's position. */
  append(entries: Record<string, unknown>, draft: Draft, at: number): number;
  /** Takes back a message whose put was refused. Returns whether it could: not once it has left the header. */
  retract(position: number, entries: Record<string, unknown>): boolean;
  /** The header as it should stand now. `firing` is for the marker only. */
  header(firing?: number): HeaderRow;
  /** Writes the header: after a change to `own` or `trouble` while messages wait. */
  saveHeader(): Promise<void>;
  /** Reads up to `limit` messages from the head: to `hand` them over, or only to look. */
  read(limit: number, hand: boolean): Promise<Batch>;
  /**
   * Clears a batch that was delivered: whole segments are deleted, one that was taken in part is written with the rest,
   * and the header with what was put meanwhile, or as the marker. One turn, so one commit.
   *
   * @param firing the alarm under way, which a marker remembers
   * @param save whether the header must be written even when none of its messages were in the batch
   */
  clear(batch: Batch, firing: number, save: boolean): Promise<unknown>;
  /** Writes any number of entries as one commit: they go down in one turn. */
  put(entries: Record<string, unknown>, options?: DurableObjectPutOptions): Promise<unknown>;
  /** Deletes any number of keys as one commit. Resolves to how many existed. */
  delete(keys: readonly string[], options?: DurableObjectPutOptions): Promise<number>;
}

export function storeOf(object: string, storage: Native, emit: Emit): Store {
  const trouble = { failures: 0, retryAt: 0, lease: false, through: 0, attempts: 0 };
  // A plain literal: objects that are spread together are slower to read, and every put reads this one.
  const memory: Memory = {
    v: 1,
    object,
    epoch: "",
    base: 0,
    position: 0,
    done: 0,
    first: 1,
    last: 0,
    messages: [],
    bytes: 0,
    taken: false,
    recent: [],
    moved: null,
    own: null,
    running: null,
    trouble,
    firing: 0,
    wake: NEVER,
    armed: NEVER,
    key: HEADER,
  };

  /** Moves the header's messages to a segment of their own, which the caller writes together with the header. */
  function closeSegment(entries: Record<string, unknown>): void {
    const { epoch, base, messages } = memory;
    const row: Mutable<SegmentRow> = { v: 1, object: memory.object, epoch, base, messages };
    const number = ++memory.last;
    memory.recent = [...memory.recent.slice(1 - RECENT_SEGMENTS), { number, row }];
    entries[segmentKey(number)] = row;
    if (memory.taken) memory.moved = { number, row };
    memory.taken = false;
    memory.messages = [];
    memory.bytes = 0;
  }

  async function list(from: number, last: number): Promise<Segment[]> {
    const range = { start: segmentKey(from), end: segmentKey(last + 1), limit: PAGE_ROWS };
    return Array.from(await store.native.list<SegmentRow>(range), ([key, row]) => ({ number: segmentNumber(key), row }));
  }

  /** Reads segments in order. One that can't be read is reported, kept as it is and passed over. */
  async function page(from: number, last: number): Promise<Segment[]> {
    if (from > last) return [];
    try {
      return await list(from, last);
    } catch (error) {
      // A list fails from the row on that can't be read: halve the range until only that row is left.
      let lost = from;
      for (let high = last; lost < high; ) {
        const middle = Math.floor((lost + high) / 2);
        const readable = await list(from, middle).catch(() => null);
        if (readable) lost = middle + 1;
        else high = middle;
      }
      // If that row can be read now, it was not the row that failed.
      if (await list(lost, lost).catch(() => null)) throw error;
      emit({ type: "unreadable", row: segmentKey(lost), error });
      return [...(await page(from, lost - 1)), ...(await page(lost + 1, last))];
    }
  }

  const store: Store = {
    memory,
    native: storage,

    pending: () => memory.position - memory.done,

    async load() {
      let row: HeaderRow | undefined;
      for (;;) {
        try {
          row = await store.native.get<HeaderRow>(memory.key);
          break;
        } catch (error) {
          // Storage as a whole is out of reach: the object has been reset, say.
          if (memory.key.length > HEADER.length + MOST_LOST_HEADERS) throw error;
          // The header is lost, and the numbers with it. It is kept as it is; the next one goes on in a new epoch, beyond
          // any number that can have been used.
          emit({ type: "unreadable", row: memory.key, error });
          memory.key += "-";
          memory.last = Date.now();
          memory.base = memory.position = memory.last * 1024;
          memory.done = memory.position - 1;
        }
      }
      if (!row) return;
      Object.assign(memory, row, { trouble: row.trouble ?? trouble, bytes: serializedBytes(row.messages) });
      const [head] = await page(1, memory.last);
      memory.first = head?.number ?? memory.last + 1;
      const [oldest] = (head?.row ?? row).messages;
      memory.done = (oldest ? positionOf(oldest) : memory.position + 1) - 1;
      if (row.object === object) return;
      // A copy. Its messages keep the identity they had. The platform does not restore an alarm with a copy, so the
      // original's own alarm is not the copy's either.
      const entries: Record<string, unknown> = {};
      if (row.messages.length > 0) closeSegment(entries);
      memory.own = null;
      store.beginEpoch();
      entries[memory.key] = store.header();
      await store.native.put(entries);
    },

    beginEpoch: () => void Object.assign(memory, { object, epoch: "", base: memory.position }),

    append(entries, { json, msg, bytes }, at) {
      const { length } = memory.messages;
      if (length > 0 && (length >= SEGMENT_MESSAGES || memory.bytes + bytes > SEGMENT_BYTES || memory.taken)) closeSegment(entries);
      memory.epoch ||= crypto.randomUUID();
      const position = ++memory.position;
      memory.messages = [...memory.messages, json ? `${position},${at},${json}` : [position, at, msg]];
      memory.bytes += bytes + MESSAGE_BYTES;
      entries[memory.key] = store.header();
      return memory.position;
    },

    retract(position, entries) {
      const is = (stored: StoredMessage) => positionOf(stored) === position;
      const closed = memory.recent.find(({ row }) => row.messages.some(is));
      const holder = memory.messages.some(is) ? memory : closed?.row;
      if (!holder) return false;
      holder.messages = holder.messages.filter((stored) => !is(stored));
      if (memory.position === position) memory.position--;
      // A segment that was to be written with it still must be, and a later put may have written the message.
      const rows = Object.entries(entries).filter(([key]) => key.startsWith(RESERVED));
      if (closed) rows.push([segmentKey(closed.number), closed.row]);
      if (memory.position > position || rows.length > 1) void store.put({ ...Object.fromEntries(rows), [memory.key]: store.header() });
      return true;
    },

    header(firing = 0) {
      const { object, epoch, base, position, last, messages } = memory;
      // With nothing waiting the native slot holds the object's own alarm, and the row need not.
      const { running } = memory;
      const kept = memory.own ?? (running && { ...running, retryCount: running.retryCount + 1 });
      const own = position > memory.done || firing ? kept : null;
      const trouble = memory.trouble.attempts ? memory.trouble : null;
      return { v: 1, object, epoch, base, position, last, messages, trouble, own, firing };
    },

    saveHeader: () => store.native.put(memory.key, store.header()),

    async read(limit, hand) {
      if (hand) memory.moved = null;
      const batch: Batch = { messages: [], rows: [] };
      const add = (stream: SegmentRow): void => {
        const wanted = stream.messages.slice(0, limit - batch.messages.length);
        batch.messages.push(...wanted.map((stored) => ({ stream, stored })));
      };
      let bytes = 0;
      for (let from = memory.first; from <= memory.last; ) {
        const { last } = memory;
        const found = await page(from, last);
        // None of these can be read. A put may have closed another segment meanwhile.
        if (found.length === 0) from = last + 1;
        for (const segment of found) {
          if (batch.messages.length >= limit || bytes > BATCH_BYTES) return batch;
          add(segment.row);
          batch.rows.push(segment);
          bytes += serializedBytes(segment.row);
          from = segment.number + 1;
        }
      }
      // No await since the last segment was seen to be the last: nothing can have moved there.
      const before = batch.messages.length;
      add({ ...memory });
      if (hand) memory.taken = batch.messages.length > before;
      // Everything that is left can't be read: nothing waits.
      if (hand && batch.messages.length === 0) memory.done = memory.position;
      return batch;
    },

    clear({ messages, rows }, firing, save) {
      const newest = messages.at(-1)?.stored;
      const through = newest ? positionOf(newest) : memory.done;
      const deleted: string[] = [];
      const kept: Record<string, unknown> = {};
      memory.done = through;
      const waits = (stored: StoredMessage) => positionOf(stored) > through;
      for (const { number, row } of memory.moved ? [...rows, memory.moved] : rows) {
        const rest = row.messages.filter(waits);
        // Up to the first that still holds messages.
        if (memory.first <= number && Object.keys(kept).length === 0) memory.first = rest.length > 0 ? number : number + 1;
        if (rest.length > 0) kept[segmentKey(number)] = { ...row, messages: rest };
        else deleted.push(segmentKey(number));
      }
      memory.taken = false;
      const rest = memory.messages.filter(waits);
      if (save || rest.length < memory.messages.length) {
        memory.messages = rest;
        memory.bytes = serializedBytes(rest);
        kept[memory.key] = store.header(store.pending() ? 0 : firing);
      }
      return Promise.all([store.delete(deleted), store.put(kept)]);
    },

    put(entries, options) {
      const all = Object.entries(entries);
      if (all.length <= MAX_KEYS) return store.native.put(entries, options);
      return inParts(all, (part) => store.native.put(Object.fromEntries(part), options));
    },

    delete: async (keys, options) =>
      (await inParts(keys, (part) => store.native.delete(part, options))).reduce((sum, count) => sum + count, 0),
  };
  return store;
}

/** Calls `write` with as many items at a time as storage takes, all in this turn. */
function inParts<T, R>(items: readonly T[], write: (part: T[]) => Promise<R>): Promise<R[]> {
  const writes: Promise<R>[] = [];
  for (let i = 0; i < items.length; i += MAX_KEYS) writes.push(write(items.slice(i, i + MAX_KEYS)));
  return Promise.all(writes);
}

/** The largest message, in bytes, by backend (Durable Objects limits page). A local run enforces no limit on KV-backed objects. */
export function maxMessageBytes(storage: DurableObjectStorage): number {
  let bytes = 2 ** 17;
  try {
    // On KV-backed objects the runtime refuses this, locally as well (tried on workerd 1.20260730).
    void storage.sql.databaseSize;
    bytes *= 16;
  } catch {}
  return bytes - ROW_BYTES;
}
