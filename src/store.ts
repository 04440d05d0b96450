/** The store: the one place that reads and writes the outbox's rows, and the numbers that it must never give out twice. */

import { told } from "./errors.js";
import type { Emit } from "./events.js";
import { type Draft, messageId, newEpoch, type StoredMessage, type Stream } from "./message.js";
import { type OwnAlarm, SEGMENTS, type SegmentRow, segmentKey, segmentNumber, type Trouble } from "./rows.js";
import { ENVELOPE_BYTES, serializedBytes } from "./size.js";

/** Messages in one segment: measured, see bench/. More makes a burst cheaper and each put slower. */
const SEGMENT_MESSAGES = 16;
/** Bytes of messages in one segment: one write unit of the KV-backed storage (4 KB). A bigger message has a segment of its own. */
const SEGMENT_BYTES = 4096;
/** Rows read at once, so that memory stays bounded when each holds one big message. */
const PAGE_ROWS = 8;
/** A batch ends early once it holds this much. */
const BATCH_BYTES = 4 * 1024 * 1024;
/** The most keys that one `storage.put` or `storage.delete` takes. */
export const MAX_KEYS = 128;
/** What a row holds besides its messages, in bytes, never more: identity (about 250), header (about 600), array and envelope. */
const ROW_BYTES = 1024 + ENVELOPE_BYTES;

/** What the store needs of `ctx.storage`, or of an open transaction. */
export type Writer = Pick<DurableObjectTransaction, "get" | "list" | "put" | "delete">;

/** Limits of the two backends, in bytes (developers.cloudflare.com/durable-objects/platform/limits). */
const LIMITS = { sqlite: { key: 2 * 1024 * 1024, value: 2 * 1024 * 1024 }, kv: { key: 2048, value: 128 * 1024 } };

interface State extends Stream {
  /** Empty until the first message of a fresh object, a copy, or an object that deleted everything. */
  epoch: string;
  base: number;
  /** The last position given out. */
  position: number;
  /** All positions up to here have left the segments. */
  done: number;
  /** The lowest segment that may hold messages. */
  first: number;
  /** The segment that is the header; 0 when there is no row. */
  tail: number;
  /** The tail's messages. */
  messages: readonly StoredMessage[];
  bytes: number;
  /** The tail takes no more messages: it has been handed out, or belongs to another stream. */
  sealed: boolean;
  own: OwnAlarm | null;
  /** The object's own alarm that is being handled at this moment: kept until it has ended well. */
  running: OwnAlarm | null;
  trouble: Trouble | null;
  /** `trouble` has changed since the header was written. */
  unsaved: boolean;
}

/** Messages taken from the head of the outbox, and the rows in which they stand. */
export interface Batch {
  readonly messages: readonly { readonly stream: Stream; readonly stored: StoredMessage }[];
  readonly rows: readonly { readonly number: number; readonly row: SegmentRow }[];
}

/** Memory as it was, to be put back when a transaction rolls back. */
export type Snapshot = Readonly<State>;

/** One object's outbox at rest. Every method that writes does so before its first `await`. */
export class Store {
  /** The largest message this backend holds, in bytes. */
  readonly maxMessageBytes: number;
  readonly maxKeyBytes: number;
  readonly #object: string;
  readonly #emit: Emit;
  #writer: Writer;
  readonly #state: State;

  constructor(ctx: DurableObjectState, emit: Emit) {
    const limits = LIMITS[hasSql(ctx.storage) ? "sqlite" : "kv"];
    this.maxMessageBytes = limits.value - ROW_BYTES;
    this.maxKeyBytes = limits.key;
    this.#object = ctx.id.toString();
    this.#emit = emit;
    this.#writer = ctx.storage;
    this.#state = empty(this.#object);
  }

  /** Messages in segments. May count a few too many after rows that can't be read or puts that were refused; never too few. */
  get pending(): number {
    return this.#state.position - this.#state.done;
  }

  get own(): OwnAlarm | null {
    return this.#state.own;
  }

  set own(own: OwnAlarm | null) {
    this.#state.own = own;
  }

  get running(): OwnAlarm | null {
    return this.#state.running;
  }

  set running(running: OwnAlarm | null) {
    this.#state.running = running;
  }

  get trouble(): Trouble | null {
    return this.#state.trouble;
  }

  set trouble(trouble: Trouble | null) {
    if (this.#state.trouble !== trouble) this.#state.unsaved = true;
    this.#state.trouble = trouble;
  }

  /** Reads what the object left behind: one read where nothing waits. Returns the marker's `wake`. */
  async load(): Promise<number | undefined> {
    const range = { start: segmentKey(0), end: segmentKey(Number.MAX_SAFE_INTEGER) };
    let rows: Map<string, SegmentRow> | null;
    try {
      rows = await this.#writer.list<SegmentRow>({ ...range, limit: 2 });
    } catch {
      rows = null; // A row that can't be read. The way around it costs more reads.
    }
    if (rows?.size === 0) return undefined;
    let [tail] = rows?.size === 1 ? rows : [];
    if (tail === undefined) {
      try {
        [tail] = await this.#writer.list<SegmentRow>({ ...range, reverse: true, limit: 1 });
      } catch {
        await this.#loseTail();
      }
    }
    if (tail !== undefined) this.#adopt(segmentNumber(tail[0]), tail[1]);
    const state = this.#state;
    if (rows?.size !== 1) {
      const [head] = await this.#page(0, state.tail, 1);
      const oldest = head?.row.messages[0];
      state.first = head?.number ?? state.tail;
      state.done = oldest === undefined ? (head?.row.position ?? state.position) : oldest.n - 1;
    }
    return tail?.[1].wake;
  }

  /** Takes the tail as the header. A tail that names another object makes this one a copy, which begins a new epoch. */
  #adopt(number: number, row: SegmentRow): void {
    const { object, epoch, base, position, messages, own = null, trouble = null } = row;
    const done = (messages[0]?.n ?? position + 1) - 1;
    const bytes = messages.length === 0 ? 0 : serializedBytes(messages);
    const sealed = messages.length > 0;
    Object.assign(this.#state, { object, epoch, base, position, done, first: number, tail: number, messages, bytes, sealed, own, trouble });
    if (object === this.#object) return;
    this.beginEpoch();
    // The platform does not restore alarms with a copy, so the original's own alarm is not the copy's either.
    this.#state.own = null;
  }

  /** From here on messages belong to a new epoch, whose sequence begins at 1. Nothing is written yet. */
  beginEpoch(): void {
    const state = this.#state;
    if (state.messages.length > 0) this.#openTail();
    Object.assign(state, { object: this.#object, epoch: "", base: state.position });
  }

  /** The last row can't be read, and with it the numbers: go on in a new epoch, beyond any position that was ever used. */
  async #loseTail(): Promise<void> {
    const state = this.#state;
    const lost = await this.#bisect((number) => this.#holds(number, Number.MAX_SAFE_INTEGER));
    state.tail = lost + 1;
    state.position = Date.now() * 1024;
    try {
      const before = await this.#writer.list<SegmentRow>({ start: segmentKey(0), end: segmentKey(lost), reverse: true, limit: 1 });
      for (const row of before.values()) state.position = row.position + SEGMENT_MESSAGES * 4;
    } catch {
      // That one can't be read either: the clock is far beyond any count of messages.
    }
    state.base = state.position;
  }

  #openTail(): void {
    Object.assign(this.#state, { tail: this.#state.tail + 1, messages: [], bytes: 0, sealed: false });
  }

  /**
   * Adds a message to the tail and returns the row to write: in the same `storage.put` as the state that it tells of.
   * The caller writes it at once, or calls `retract`.
   */
  append(draft: Draft, now: number): { rows: Record<string, SegmentRow>; stored: StoredMessage; stream: Stream } {
    const state = this.#state;
    state.epoch ||= newEpoch(now);
    const fits = state.messages.length < SEGMENT_MESSAGES && state.bytes + draft.bytes <= SEGMENT_BYTES;
    if (state.sealed || (!fits && state.messages.length > 0)) this.#openTail();
    if (state.tail === 0) state.tail = 1;
    if (this.pending === 0) state.first = state.tail;
    const stored: StoredMessage = { n: ++state.position, at: now, msg: draft.msg };
    state.messages = [...state.messages, stored];
    state.bytes += draft.bytes + 24;
    return { rows: this.#header(), stored, stream: { object: state.object, epoch: state.epoch, base: state.base } };
  }

  /** Takes back a message whose write was refused. Returns the rows to write when a later put has already written it. */
  retract(position: number): Record<string, SegmentRow> | null {
    const state = this.#state;
    const messages = state.messages.filter(({ n }) => n !== position);
    if (messages.length === state.messages.length) {
      throw new Error(told("A refused message has already left the open segment."));
    }
    state.messages = messages;
    if (state.position > position) return this.#header();
    state.position = position - 1;
    return null;
  }

  /** The row that is the header, as it should stand now. */
  #header(): Record<string, SegmentRow> {
    return { [segmentKey(this.#state.tail)]: this.#row() };
  }

  #row(wake?: number): SegmentRow {
    const { object, epoch, base, position, messages, trouble } = this.#state;
    this.#state.unsaved = false;
    const own = this.pending > 0 || wake !== undefined ? (this.#state.own ?? this.#state.running) : null;
    return {
      v: 1,
      object,
      epoch,
      base,
      position,
      messages,
      ...(own !== null && { own }),
      ...(wake !== undefined && { wake }),
      ...(trouble !== null && { trouble }),
    };
  }

  /** Writes the header: after a change to `own` or `trouble` while messages wait. */
  async saveHeader(): Promise<void> {
    // A big message is not written again for the sake of a few bytes, nor under an epoch that is not its own.
    if (this.#state.bytes > SEGMENT_BYTES) this.#openTail();
    await this.#writer.put(this.#header());
  }

  /**
   * Reads up to `limit` messages from the head. The segments that are read take no more messages from this turn on, so
   * that nothing that is put during the send can be cleared with them.
   */
  async take(limit: number): Promise<Batch> {
    const state = this.#state;
    if (this.pending - state.messages.length < limit) state.sealed = true;
    const last = state.sealed ? state.tail : state.tail - 1;
    const messages: { stream: Stream; stored: StoredMessage }[] = [];
    const rows: { number: number; row: SegmentRow }[] = [];
    let bytes = 0;
    for (let from = state.first; from <= last && messages.length < limit && bytes < BATCH_BYTES; ) {
      const page = await this.#page(from, last, PAGE_ROWS);
      if (page.length === 0) break;
      for (const segment of page) {
        if (messages.length >= limit || bytes >= BATCH_BYTES) break;
        const { object, epoch, base } = segment.row;
        for (const stored of segment.row.messages.slice(0, limit - messages.length))
          messages.push({ stream: { object, epoch, base }, stored });
        rows.push(segment);
        bytes += segment.row.messages.length === 1 ? serializedBytes(segment.row.messages) : SEGMENT_BYTES;
      }
      from = (page.at(-1)?.number ?? last) + 1;
    }
    if (rows.length > 0 && messages.length === 0) return this.#skip(rows, limit);
    if (rows.length === 0 && last < state.tail) {
      state.sealed = true;
      return this.take(limit);
    }
    // Everything that is left can't be read: nothing waits.
    if (rows.length === 0) Object.assign(state, { done: state.position, first: state.tail });
    return { messages, rows };
  }

  async #skip(rows: Batch["rows"], limit: number): Promise<Batch> {
    await this.clear({ messages: [], rows });
    return this.pending > 0 ? this.take(limit) : { messages: [], rows: [] };
  }

  /**
   * Clears a batch that was delivered: whole rows are deleted, a row that was taken in part is written with the rest,
   * and the last row of all is overwritten as the marker. One turn, so one commit.
   */
  async clear(batch: Batch, wake?: number): Promise<void> {
    const state = this.#state;
    const through = batch.messages.at(-1)?.stored.n ?? Number.NEGATIVE_INFINITY;
    const deleted: string[] = [];
    const kept: Record<string, SegmentRow> = {};
    for (const { number, row } of batch.rows) {
      const rest = row.messages.filter(({ n }) => n > through);
      state.first = rest.length > 0 ? number : number + 1;
      state.done = (rest[0]?.n ?? (row.messages.at(-1)?.n ?? state.done) + 1) - 1;
      if (number === state.tail) state.messages = rest;
      if (number === state.tail) state.sealed = rest.length > 0;
      else if (rest.length > 0) kept[segmentKey(number)] = { ...row, messages: rest };
      else deleted.push(segmentKey(number));
    }
    if (state.tail === batch.rows.at(-1)?.number) {
      if (state.messages.length === 0) Object.assign(state, { done: state.position, first: state.tail, bytes: 0 });
      kept[segmentKey(state.tail)] = this.#row(this.pending === 0 ? wake : undefined);
    } else if (state.unsaved) {
      Object.assign(kept, this.#header());
    }
    const writes: Promise<unknown>[] = [];
    for (let i = 0; i < deleted.length; i += MAX_KEYS) writes.push(this.#writer.delete(deleted.slice(i, i + MAX_KEYS)));
    if (Object.keys(kept).length > 0) writes.push(this.#writer.put(kept));
    await Promise.all(writes);
  }

  /** Reads segments in order. A row that can't be read is reported, kept as it is and passed over. */
  async #page(from: number, last: number, limit: number): Promise<{ number: number; row: SegmentRow }[]> {
    let start = from;
    for (let rows = limit; start <= last; ) {
      try {
        const page = await this.#writer.list<SegmentRow>({ start: segmentKey(start), end: segmentKey(last + 1), limit: rows });
        return [...page].map(([key, row]) => ({ number: segmentNumber(key), row }));
      } catch (error) {
        if (rows > 1) {
          rows = 1;
          continue;
        }
        const bad = await this.#bisect((number) => number <= start || this.#holds(start, number - 1).then((held) => !held));
        this.#emit({ type: "unreadable", row: segmentKey(bad), error });
        start = bad + 1;
      }
    }
    return [];
  }

  /** Whether any row, readable or not, stands in this range of segments. */
  async #holds(from: number, last: number): Promise<boolean> {
    try {
      const rows = await this.#writer.list({ start: segmentKey(from), end: segmentKey(last) + RANGE_END, limit: 1 });
      return rows.size > 0;
    } catch {
      return true;
    }
  }

  /** The greatest segment number for which `holds` answers yes; it does for all smaller ones. */
  async #bisect(holds: (number: number) => boolean | Promise<boolean>): Promise<number> {
    let low = 0;
    for (let high = Number.MAX_SAFE_INTEGER; low < high; ) {
      const middle = low + Math.ceil((high - low) / 2);
      if (await holds(middle)) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** Reads messages for an operator, without sealing anything. */
  async list(limit: number, after: string): Promise<Batch["messages"]> {
    const found: { stream: Stream; stored: StoredMessage }[] = [];
    const { tail } = this.#state;
    for (let from = this.#state.first; from <= tail && found.length < limit; ) {
      const page = await this.#page(from, tail, PAGE_ROWS);
      if (page.length === 0) break;
      for (const { row } of page) {
        const { object, epoch, base, messages } = row;
        for (const stored of messages) {
          if (found.length < limit && messageId(epoch, stored.n - base) > after) found.push({ stream: { object, epoch, base }, stored });
        }
      }
      from = (page.at(-1)?.number ?? tail) + 1;
    }
    return found;
  }

  /** Writes go through an open transaction until `leave`, so that they roll back with it on both backends. */
  enter(writer: Writer): Writer {
    const outer = this.#writer;
    this.#writer = writer;
    return outer;
  }

  put(entries: Record<string, unknown>, options?: DurableObjectPutOptions): Promise<void> {
    return this.#writer.put(entries, options);
  }

  delete(keys: string[], options?: DurableObjectPutOptions): Promise<number> {
    return this.#writer.delete(keys, options);
  }

  /** Writes the rows of `rows()` again, in one turn. */
  async putAll(rows: Record<string, unknown>): Promise<void> {
    const entries = Object.entries(rows);
    const writes: Promise<void>[] = [];
    for (let i = 0; i < entries.length; i += MAX_KEYS) writes.push(this.#writer.put(Object.fromEntries(entries.slice(i, i + MAX_KEYS))));
    await Promise.all(writes);
  }

  snapshot(): Snapshot {
    return { ...this.#state };
  }

  restore(snapshot: Snapshot): void {
    Object.assign(this.#state, snapshot);
  }

  /** All rows of the outbox, to be written again after `deleteAll()`. */
  async rows(): Promise<Record<string, unknown>> {
    return Object.fromEntries(await this.#writer.list({ prefix: SEGMENTS }));
  }

  /** Forgets everything: the rows are gone, and numbers would run again, so a new epoch begins with the next message. */
  reset(): void {
    const { own, running } = this.#state;
    Object.assign(this.#state, empty(this.#object), { own, running });
  }
}

/** Sorts after every segment key with the same number. */
const RANGE_END = "\0";

function empty(object: string): State {
  const numbers = { base: 0, position: 0, done: 0, first: 0, tail: 0, bytes: 0 };
  return { ...numbers, object, epoch: "", messages: [], sealed: false, own: null, running: null, trouble: null, unsaved: false };
}

/** Whether the object is SQLite-backed: on the others the runtime refuses `sql`, locally as well (tried on workerd 1.20260730). */
function hasSql(storage: DurableObjectStorage): boolean {
  try {
    return storage.sql.databaseSize >= 0;
  } catch {
    return false;
  }
}
