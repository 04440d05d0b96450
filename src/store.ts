/** The store: the one place that reads and writes the outbox's rows, and the numbers that it must never give out twice. */

import type { Emit } from "./events.js";
import type { Draft, StoredMessage, Stream } from "./message.js";
import type { Native } from "./native.js";
import { type OwnAlarm, type SegmentRow, segmentKey, segmentNumber, type Trouble } from "./rows.js";
import { serializedBytes } from "./size.js";

/** Messages in one segment: measured, see bench/. More makes a burst cheaper and each put slower. */
const SEGMENT_MESSAGES = 8;
/** Bytes of messages in one segment: one write unit of the KV-backed storage (4 KB). A bigger message has a segment of its own. */
const SEGMENT_BYTES = 4096;
/** What a stored message takes beside `msg`, in bytes, never more. */
const MESSAGE_BYTES = 40;
/** What a row holds beside its messages, in bytes, never more: identity (about 250) and header (about 600). */
const ROW_BYTES = 1024;
/** Rows read at once, so that memory stays bounded when each holds one big message. */
const PAGE_ROWS = 8;
/** A batch ends early once it holds this much. */
const BATCH_BYTES = 2 ** 22;
/** The most keys that one `storage.put` or `storage.delete` takes. */
export const MAX_KEYS = 128;

/** The last segment that there can be. */
const LAST = 1e15 - 2;
/** A time that does not come, in place of one. */
export const NEVER: number = Number.POSITIVE_INFINITY;

/** What the outbox knows without reading: the tail's row as it should stand, and what no row holds. All of it goes back when a transaction rolls back. */
export interface Memory extends Mutable<SegmentRow> {
  trouble: Trouble;
  /** All positions up to here have left the segments. */
  done: number;
  /** The lowest segment that may hold messages. */
  first: number;
  /** The segment that is the header; 0 when there is no row. */
  tail: number;
  /** Bytes of the tail's messages. */
  bytes: number;
  /** The tail takes no more messages: it has been handed out. */
  sealed: boolean;
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

/** Messages taken from the head of the outbox, and the rows in which they stand. */
export interface Batch {
  readonly messages: readonly Waiting[];
  readonly rows: readonly Segment[];
}

/** One object's outbox at rest. Every method that writes does so before its first `await`. */
export interface Store {
  readonly memory: Memory;
  /** The native storage, or the open transaction through which everything goes, so that it rolls back with it on both backends. */
  native: Native;
  /** Messages in segments. May count too many after rows that can't be read and puts that were refused; never too few. */
  pending(): number;
  /** Reads what the object left behind: one read where nothing waits. */
  load(): Promise<void>;
  /** From the next message on a new epoch counts from 1. The caller sees to it that the tail holds no message of the old one. */
  beginEpoch(): void;
  /** Adds a message to the tail and returns its position. The caller writes the header in the same `storage.put` as the state, or calls `retract`. */
  append(draft: Draft, at: number): number;
  /** Takes back a message whose write was refused. Returns whether it could: not once the tail has moved on. */
  retract(position: number): boolean;
  /** The key of the header. */
  key(): string;
  /** The row that is the header, as it should stand now. `firing` is for the marker only. */
  header(firing?: number): SegmentRow;
  /** Writes the header: after a change to `own` or `trouble` while messages wait. */
  saveHeader(): Promise<void>;
  /**
   * Reads up to `limit` messages from the head. The segments that are read take no more messages from this turn on, so
   * that nothing that is put during the send can be cleared with them.
   */
  take(limit: number): Promise<Batch>;
  /** Reads the oldest messages, for an operator. */
  list(limit: number): Promise<readonly Waiting[]>;
  /**
   * Clears a batch that was delivered: whole rows are deleted, a row that was taken in part is written with the rest,
   * and the last row of all is overwritten as the marker. One turn, so one commit.
   *
   * @param firing the alarm under way, which a marker remembers
   * @param save whether the header must be written even when its row is not among the batch's
   */
  clear(batch: Batch, firing: number, save: boolean): Promise<unknown>;
  /** Writes any number of entries as one commit: they go down in one turn. */
  put(entries: Record<string, unknown>, options?: DurableObjectPutOptions): Promise<unknown>;
  /** Deletes any number of keys as one commit. Resolves to how many existed. */
  delete(keys: readonly string[], options?: DurableObjectPutOptions): Promise<number>;
}

export function storeOf(object: string, storage: Native, emit: Emit): Store {
  const numbers = { base: 0, position: 0, done: 0, first: 0, tail: 0, bytes: 0, firing: 0, wake: NEVER, armed: NEVER };
  const trouble = { failures: 0, retryAt: 0, lease: false, through: 0, attempts: 0 };
  const memory: Memory = { v: 1, ...numbers, object, epoch: "", messages: [], sealed: false, own: null, running: null, trouble };

  function openTail(): void {
    Object.assign(memory, { tail: memory.tail + 1, messages: [], bytes: 0, sealed: false });
  }

  /** Lists segments: fails when a row among those it covers can't be deserialised. */
  function segments(from: number, last: number, limit: number, reverse = false): Promise<Segment[]> {
    const range = { start: segmentKey(from), end: segmentKey(last + 1), limit, reverse };
    return store.native.list<SegmentRow>(range).then((rows) => Array.from(rows, ([key, row]) => ({ number: segmentNumber(key), row })));
  }

  /** Reads segments in order. A row that can't be read is reported, kept as it is and passed over. */
  async function page(from: number, last: number): Promise<Segment[]> {
    if (from > last) return [];
    try {
      return await segments(from, last, PAGE_ROWS);
    } catch (error) {
      const readable = (number: number) =>
        segments(from, number - 1, PAGE_ROWS).then(
          () => true,
          () => number <= from,
        );
      const lost = await bisect(readable);
      emit({ type: "unreadable", row: segmentKey(lost), error });
      return [...(await page(from, lost - 1)), ...(await page(lost + 1, last))];
    }
  }

  async function read(last: number, limit: number): Promise<Batch> {
    const rows: Segment[] = [];
    const messages: Waiting[] = [];
    let from = memory.first;
    for (let bytes = 0; messages.length < limit && bytes < BATCH_BYTES; ) {
      const found = await page(from, last);
      if (found.length === 0) break;
      for (const { row: stream, number } of found) {
        messages.push(...stream.messages.map((stored) => ({ stream, stored })));
        from = number + 1;
      }
      rows.push(...found);
      bytes += serializedBytes(found);
    }
    return { messages: messages.slice(0, limit), rows };
  }

  const store: Store = {
    memory,
    native: storage,

    pending: () => memory.position - memory.done,

    async load() {
      const two = await segments(0, LAST, 2).catch(() => null);
      if (two?.length === 0) return;
      const alone = two?.length === 1 && two;
      const [tail] = alone || (await segments(0, LAST, 1, true).catch(() => []));
      if (!tail) {
        // The header is lost, and the numbers with it: go on in a new epoch, beyond any position that can have been used.
        memory.tail = (await bisect(async (number) => (await segments(number, LAST, 1).catch(() => [1])).length > 0)) + 1;
        memory.base = memory.position = Date.now() * 1024;
        memory.done = memory.position - 1;
        return;
      }
      const { row, number } = tail;
      const sealed = row.messages.length > 0;
      Object.assign(memory, row, { trouble: row.trouble ?? trouble, tail: number, sealed, bytes: serializedBytes(row.messages) });
      const [head = tail] = alone || (await page(0, number));
      memory.first = head.number;
      memory.done = head.row.messages[0] ? head.row.messages[0].n - 1 : head.row.position;
      if (row.object === object) return;
      // A copy. The platform does not restore an alarm with it, so the original's own alarm is not the copy's either.
      memory.own = null;
      if (sealed) openTail();
      store.beginEpoch();
    },

    beginEpoch: () => void Object.assign(memory, { object, epoch: "", base: memory.position }),

    append({ copy, bytes }, at) {
      const full = memory.messages.length >= SEGMENT_MESSAGES || memory.bytes + bytes > SEGMENT_BYTES;
      if (!memory.tail || memory.sealed || (full && memory.messages.length > 0)) openTail();
      if (!store.pending()) memory.first = memory.tail;
      memory.epoch ||= crypto.randomUUID();
      // A literal: storage serialises an object of a known shape faster than one that was spread together.
      const stored = { n: ++memory.position, at, json: copy.json, msg: copy.msg };
      memory.messages = [...memory.messages, stored];
      memory.bytes += bytes + MESSAGE_BYTES;
      return stored.n;
    },

    retract(position) {
      const { length } = memory.messages;
      memory.messages = memory.messages.filter(({ n }) => n !== position);
      if (memory.position === position) memory.position--;
      // A later put has written it.
      else void store.saveHeader();
      return memory.messages.length < length;
    },

    key: () => segmentKey(memory.tail),

    header(firing = 0) {
      const { object, epoch, base, position, messages } = memory;
      // With nothing waiting the native slot holds the object's own alarm, and the row need not.
      const own = position > memory.done || firing ? (memory.own ?? memory.running) : null;
      const trouble = memory.trouble.attempts ? memory.trouble : null;
      return { v: 1, object, epoch, base, position, messages, trouble, own, firing };
    },

    saveHeader: () => store.native.put(store.key(), store.header()),

    async take(limit) {
      memory.sealed ||= store.pending() - memory.messages.length < limit;
      const last = memory.sealed ? memory.tail : memory.tail - 1;
      const batch = await read(last, limit);
      if (batch.messages.length > 0) return batch;
      if (last < memory.tail) {
        memory.sealed = true;
        return store.take(limit);
      }
      // Everything that is left can't be read: nothing waits.
      memory.done = memory.position;
      memory.first = memory.tail;
      return batch;
    },

    list: async (limit) => (await read(memory.tail, limit)).messages,

    clear({ messages, rows }, firing, save) {
      const through = messages.at(-1)?.stored.n ?? memory.done;
      const deleted: string[] = [];
      const kept: Record<string, unknown> = {};
      memory.done = through;
      for (const { number, row } of rows) {
        const rest = row.messages.filter(({ n }) => n > through);
        const sealed = rest.length > 0;
        // Read, but beyond the batch.
        if (sealed && rest.length === row.messages.length) break;
        memory.first = sealed ? number : number + 1;
        if (number === memory.tail) {
          Object.assign(memory, { messages: rest, sealed }, !sealed && { bytes: 0, done: memory.position });
          save = true;
        } else if (sealed) kept[segmentKey(number)] = { ...row, messages: rest };
        else deleted.push(segmentKey(number));
      }
      if (save) kept[store.key()] = store.header(store.pending() ? 0 : firing);
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

/** The greatest segment number for which `holds` answers yes, where it does for all smaller ones. */
async function bisect(holds: (number: number) => Promise<boolean>): Promise<number> {
  let low = 0;
  for (let high = LAST; low < high; ) {
    const middle = low + Math.ceil((high - low) / 2);
    if (await holds(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
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
