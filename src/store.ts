/** The store: the one place that reads and writes the outbox's rows, and the numbers that it must never give out twice. */

import type { Emit, OutboxEvent } from "./events.js";
import { atRest, type Draft, type More, positionOf, readMessage, type StoredMessage } from "./message.js";
import type { Native } from "./native.js";
import {
  decode,
  encode,
  HEADER,
  type HeaderRow,
  keyNumber,
  LANES,
  LAST_NUMBER,
  type LaneRow,
  laneName,
  type Numbered,
  numberedKey,
  rowsOf,
  type SegmentRow,
} from "./rows.js";
import { serializedBytes } from "./size.js";
import { CALM, isOver, type OwnAlarm, type Trouble, tried } from "./trouble.js";

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
/** So many headers in a row may be unreadable before storage itself counts as unreadable. */
const MOST_LOST_HEADERS = 8;
/** The most keys that one `storage.put` or `storage.delete` takes. */
const MAX_KEYS = 128;
/** So many keys leave room for the outbox's own in one put: the header, a segment, and a caller's id. */
export const FEW_KEYS: number = MAX_KEYS - 3;
/** Rows read at once where each is a few bytes. */
const SMALL_ROWS = 1000;

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
  /** The header's messages, a line each, as every put adds one: a text that grows costs less than a list. */
  text: string;
  /** The header's messages where JSON does not hold them all. Replaced, never changed. */
  list: readonly StoredMessage[] | null;
  /** How many they are, and their bytes. */
  count: number;
  bytes: number;
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
interface ClosedRow {
  readonly key: string;
  readonly data: SegmentRow;
}

/** A row of messages as it stands under its key. */
export interface Row {
  readonly key: string;
  readonly data: Mutable<SegmentRow>;
}

/** One object's outbox at rest. Every method that writes does so before its first `await`. */
export interface Store {
  readonly memory: Memory;
  /** The native storage, or the open transaction through which everything goes, so that it rolls back with it on both backends. */
  native: Native;
  /** Lanes before whose head the queue holds no message of their key, as far as it has been looked through. */
  readonly clear: WeakSet<object>;
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
  /** Reads what the object left behind: one read where nothing waits. Resolves to whether there may be rows of the original package. */
  load(): Promise<boolean>;
  /** From the next message on a new epoch counts from 1: `beginEpoch` in memory only. */
  beginEpoch(): void;
  newEpoch(): Promise<void>;
  /** Adds a message, and to `entries` the rows that the caller writes with them in one put. Returns the message's position. */
  append(entries: Record<string, unknown>, draft: Draft, at: number, more?: More): number;
  /** Takes back a message whose put was refused. Returns whether it could: not once it has left the header. */
  retract(position: number, entries: Record<string, unknown>): boolean;
  /** The header's messages. */
  messages(): readonly StoredMessage[];
  /** Makes these the header's messages. */
  setMessages(messages: readonly StoredMessage[]): void;
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
  recent(is: (row: ClosedRow) => boolean): Row | undefined;
  /** Both at once: what is `undefined` is deleted. What was a recent segment is none any more. */
  write(rows: Record<string, unknown>): Promise<unknown>;
}

/** @param abort resets the object, which begins again from what is stored: for a write that storage refuses, and that memory is ahead of */
export function storeOf(object: string, storage: Native, emit: Emit, abort: (reason: string) => void): Store {
  const quoted = JSON.stringify(object);
  // A plain literal: objects that are spread together are slower to read, and every put reads this one.
  const memory: Memory = {
    v: 1,
    object,
    epoch: "",
    base: 0,
    position: 0,
    done: 0,
    main: 0,
    first: 1,
    last: 0,
    text: "",
    list: null,
    count: 0,
    bytes: 0,
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

  /**
   * The key of the segment that the next one may join: none once segments have been read, because whoever has read one writes it as it
   * was. Not part of memory: a rollback must not let one grow that has been read since.
   */
  let growing = "";
  /** How the header begins. */
  let opening = { epoch: "", base: -1, text: "" };

  function watched<T>(write: Promise<T>): Promise<T> {
    write.catch((error) => abort(String(error)));
    return write;
  }

  /** Moves the header's messages to a segment, a new one or the last, which the caller writes together with the header. */
  function closeSegment(entries: Record<string, unknown>): void {
    const { epoch, base } = memory;
    const messages = store.messages();
    const newest = memory.recent.at(-1);
    const grows =
      newest?.key === growing &&
      newest.data.epoch === epoch &&
      newest.data.messages.length + messages.length <= SEGMENT_MESSAGES &&
      serializedBytes(newest.data.messages) + memory.bytes <= SEGMENT_BYTES;
    const row: ClosedRow = grows
      ? { key: newest.key, data: { ...newest.data, messages: [...newest.data.messages, ...messages] } }
      : { key: numberedKey("s", ++memory.last), data: { v: 1, object: memory.object, epoch, base, messages } };
    memory.recent = [...(grows ? memory.recent.slice(0, -1) : memory.recent.slice(1 - RECENT_SEGMENTS)), row];
    entries[row.key] = stored(row.data);
    // What is being handed over is settled as it was read: nothing may join it.
    growing = memory.taken ? "" : row.key;
    if (memory.taken) memory.moved = copied(row);
    memory.taken = false;
    store.setMessages([]);
  }

  /** The next segments, where all of them are recent ones. Keys ascend, so the right number with the right end has no gap. */
  function recentFrom(start: string, last: number, limit: number): Row[] | null {
    const first = keyNumber(start);
    const number = Math.min(last - first + 1, limit);
    const at = memory.recent.findIndex(({ key }) => key === start);
    return at >= 0 && memory.recent[at + number - 1]?.key === numberedKey("s", first + number - 1)
      ? memory.recent.slice(at, at + number).map(copied)
      : null;
  }

  /** What only the header knew, counted again. */
  async function count(kind: "t" | "d" | "k"): Promise<number> {
    let messages = 0;
    for (let start = rowsOf(kind, 0); ; ) {
      const rows = kind === "k" ? await store.list({ start, end: LANES, limit: PAGE_ROWS }) : await store.page(kind, start, LAST_NUMBER);
      const last = rows.at(-1);
      if (!last) return messages;
      for (const { data } of rows) messages += data.messages.length;
      start = `${last.key}\0`;
    }
  }

  const store: Store = {
    memory,
    native: storage,
    clear: new WeakSet(),
    open: null,
    closing: false,
    retracted: 0,

    undelivered: () => memory.main + memory.aside + memory.laned,

    waits: () => !memory.paused && store.undelivered() > 0,

    due: () => (store.waits() ? Math.min(memory.main ? memory.next : NEVER, memory.due) : NEVER),

    async load() {
      let row: HeaderRow | undefined;
      for (;;) {
        try {
          const value = await store.native.get(memory.key);
          row = value === undefined ? value : decode(value);
          break;
        } catch (error) {
          // Storage as a whole is out of reach: the object has been reset, say.
          if (memory.key.length > HEADER.length + MOST_LOST_HEADERS) throw error;
          // The header is lost, and the numbers with it. It is kept as it is; the next one goes on in a new epoch, beyond
          // any number that can have been used. What else it counted is found again.
          emit({ type: "unreadable", row: memory.key, error });
          memory.key += "-";
          memory.last = Date.now();
          memory.base = memory.position = memory.last * 1024;
          memory.aside = await count("t");
          memory.dead = await count("d");
          memory.laned = await count("k");
        }
      }
      if (!row && memory.key === HEADER) return true;
      const { messages = [], ...rest } = row ?? {};
      Object.assign(memory, rest);
      memory.trouble ??= CALM;
      store.setMessages(messages);
      const [head] = await store.page("s", numberedKey("s", memory.first), memory.last, 1);
      memory.first = head ? keyNumber(head.key) : memory.last + 1;
      const [oldest] = head?.data.messages ?? messages;
      memory.done = (oldest ? positionOf(oldest) : memory.position + 1) - 1;
      memory.main = row?.main ?? memory.position - memory.done;
      // What the header alone holds is a few messages; with segments, a run finds out.
      memory.next = head ? 0 : Math.min(NEVER, ...messages.map((stored) => readMessage(memory, stored).more.due ?? 0));
      if (memory.aside) {
        const [timer] = await store.page("t", numberedKey("t", 0), LAST_NUMBER, 1);
        memory.due = timer ? keyNumber(timer.key) : NEVER;
      }
      if (memory.laned) {
        const lanes = new Map<string, LaneState>();
        for (let start = LANES; ; ) {
          const found = await store.native.list<LaneRow>({ start, end: `${LANES}\u{10FFFF}`, limit: SMALL_ROWS });
          for (const [key, row] of found) {
            const due = typeof row === "number" ? row : row[0];
            lanes.set(laneName(key), { due, mixed: typeof row !== "number" });
            memory.due = Math.min(memory.due, due);
            start = `${key}\0`;
          }
          if (found.size < SMALL_ROWS) break;
        }
        memory.lanes = lanes;
      }
      if (!row || row.object === object) return memory.adopting;
      // A copy. Its messages keep the identity they had. The platform does not restore an alarm with a copy, so the
      // original's own alarm is not the copy's either.
      memory.own = null;
      await store.newEpoch();
      return memory.adopting;
    },

    beginEpoch: () => void Object.assign(memory, { object, epoch: "", base: memory.position }),

    newEpoch() {
      const entries: Record<string, unknown> = {};
      if (memory.count > 0) closeSegment(entries);
      store.beginEpoch();
      entries[memory.key] = store.header();
      return store.native.put(entries);
    },

    append(entries, { json, msg, bytes }, at, more) {
      const size = bytes + MESSAGE_BYTES;
      const { count } = memory;
      if (count > 0 && (count >= ROW_MESSAGES || memory.bytes + size > ROW_MESSAGE_BYTES)) closeSegment(entries);
      memory.epoch ||= crypto.randomUUID();
      const position = ++memory.position;
      const added = atRest(position, at, json, msg, more);
      if (memory.list || typeof added !== "string") store.setMessages([...store.messages(), added]);
      else {
        memory.text = memory.count > 0 ? `${memory.text}\n${added}` : added;
        memory.count++;
        memory.bytes += size;
      }
      memory.main++;
      if (more?.due) memory.late++;
      memory.next = Math.min(memory.next, more?.due ?? 0);
      entries[memory.key] = store.header();
      return position;
    },

    retract(position, entries) {
      store.retracted++;
      const is = (stored: StoredMessage) => positionOf(stored) === position;
      // A segment with messages that were handed over may have been settled meanwhile, and is not a recent one any more.
      const { recent, moved } = memory;
      const known: readonly ClosedRow[] = moved && !recent.some(({ key }) => key === moved.key) ? [...recent, moved] : recent;
      const closed = known.find(({ data }) => data.messages.some(is));
      const messages = closed?.data.messages ?? store.messages();
      const found = messages.find(is);
      const named = Object.keys(entries).filter((key) => key.startsWith(rowsOf("s", 0)));
      const touched = known.filter((row) => row === closed || named.includes(row.key));
      if (!found || !named.every((name) => touched.some(({ key }) => key === name))) return false;
      const rest = messages.filter((stored) => !is(stored));
      const without = <R extends ClosedRow>(row: R): R =>
        row.key === closed?.key ? { ...row, data: { ...row.data, messages: rest } } : row;
      if (!closed) store.setMessages(rest);
      memory.main--;
      if (readMessage(memory, found).more.due) memory.late--;
      if (memory.position === position) memory.position--;
      // A segment that was to be written with it still must be, as it is now, and a later put may have written the message.
      const rows: Record<string, unknown> = {};
      for (const { key, data } of touched.map(without)) rows[key] = data.messages.length > 0 ? stored(data) : undefined;
      if (memory.position > position || touched.length > 0) store.write({ ...rows, [memory.key]: store.header() }).catch(() => {}); // Whoever put has had the error.
      memory.recent = recent.map(without);
      memory.moved &&= without(memory.moved);
      return true;
    },

    messages: () => memory.list ?? (memory.count > 0 ? memory.text.split("\n") : []),

    setMessages(messages) {
      const lines = messages.every((stored) => typeof stored === "string");
      memory.text = lines ? messages.join("\n") : "";
      memory.list = lines ? null : messages;
      memory.count = messages.length;
      memory.bytes = serializedBytes(messages);
    },

    leftover: () => 0,

    header() {
      const firing = store.waits() ? 0 : store.leftover();
      memory.firing = firing;
      if (memory.trouble !== CALM && isOver(memory.trouble) && tried(memory.trouble, memory.done + 1) === 0) memory.trouble = CALM;
      const {
        epoch,
        base,
        position,
        first,
        last,
        text,
        own,
        running,
        trouble,
        paused,
        adopting,
        aside,
        ready,
        laned,
        dead,
        foreign,
        chore,
        late,
        since,
        done,
        main,
      } = memory;
      const gaps = main !== position - done;
      let rest = "";
      if (
        own ||
        running ||
        trouble !== CALM ||
        firing ||
        paused ||
        adopting ||
        aside ||
        laned ||
        dead ||
        foreign ||
        chore < NEVER ||
        late ||
        gaps
      ) {
        // While the outbox does not want to be woken the native slot holds the object's own alarm, and the row need not.
        const kept = own ?? (running && { ...running, retryCount: running.retryCount + 1 });
        const rare = {
          own: store.waits() || firing || chore < NEVER || kept?.retryCount ? kept : null,
          trouble: trouble === CALM ? undefined : trouble,
          main: gaps ? main : undefined,
          chore: chore < NEVER ? chore : undefined,
          ...{ firing, paused, adopting: adopting || undefined, aside, ready, laned, dead, foreign, late, since },
        };
        rest = `,${JSON.stringify(rare).slice(1, -1)}`;
      }
      // Put together once an epoch: every put writes it.
      if (opening.epoch !== epoch || opening.base !== base) {
        opening = { epoch, base, text: `{"v":1,"object":${quoted},"epoch":"${epoch}","base":${base},"position":` };
      }
      const head = `${opening.text}${position},"first":${first},"last":${last}${rest}}`;
      return memory.list ? { ...JSON.parse(head), messages: memory.list } : text ? `${head}\n${text}` : head;
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
      const row = memory.moved && is(memory.moved) ? memory.moved : memory.recent.find(is);
      return row && copied(row);
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

function copied({ key, data }: ClosedRow): Row {
  return { key, data: { ...data } };
}

/** A row of messages as it goes to storage. */
export function stored({ messages, ...head }: SegmentRow): unknown {
  return encode(head, messages);
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
