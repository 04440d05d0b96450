/** The queue: which messages are handed over next, and where each goes afterwards, every step in one commit. */

import { digits, type More, positionOf, type Read, readMessage, restored, type StoredMessage } from "./message.js";
import { idKey, keyNumber, kindOf, LAST_NUMBER, laneKey, lanePrefix, numberedKey, type SegmentRow, timerKey } from "./rows.js";
import { serializedBytes } from "./size.js";
import { NEVER, PAGE_ROWS, ROW_MESSAGE_BYTES, ROW_MESSAGES, type Row, type Store, stored } from "./store.js";
import { tried } from "./trouble.js";

/** A batch ends early once its rows hold this many bytes. */
const BATCH_BYTES = 2 ** 22;
/** So many messages of the queue are looked at for one batch, however few of them can be handed over. */
const LOOK = 128;
/** So many ordering keys may wait at a time. The queue stops before a message that would be one more. */
export const MAX_LANES = 10_000;

/** Where a message goes: out of the store, to wait for a time or behind its key, or among the dead letters. */
export type Fate = "gone" | "aside" | "dead";

/** A message that was read to be handed over, and what becomes of it. */
export interface Entry extends Read {
  /** The row in which it stands; `null` is the header. */
  readonly row: Row | null;
  more: More;
  /** It was put with a time. */
  readonly late: boolean;
  /** How often it has been handed over, this call included. */
  attempts?: number;
  /** Without one it stays where it is. */
  fate?: Fate;
  /** It stays, and `more` has changed. */
  changed?: boolean;
}

/** A message and what goes with it from now on. */
export type Waiting = Pick<Entry, keyof Read>;

/** One step of delivery: what is handed over, and what has to move first. */
export interface Batch {
  /** Everything that was read, in put order. */
  entries: Entry[];
  /** Those of them that can be handed over. */
  handed: Entry[];
  /** The rows from which they come. */
  readonly rows: Row[];
  /** The ordering keys of which the next message was due. */
  readonly lanes: Lane[];
}

/** What was read of a lane: `seen` is what memory said of it, `whole` whether these are all of its rows. */
interface Lane {
  readonly key: string;
  readonly seen: object;
  readonly rows: Row[];
  readonly whole: boolean;
}

export interface Queue {
  /**
   * Reads what can be handed over next, up to `limit` messages: those that were set aside and are due, then the queue.
   *
   * @param now the time, in milliseconds since the Unix epoch
   * @param distinct end before the second message of an ordering key
   * @param calm whether messages that break their batch may be tried
   */
  take(limit: number, now: number, distinct: boolean, calm: boolean): Promise<Batch>;
  /**
   * Does with each message of the batch what its fate says: one turn, so one commit.
   *
   * @param firing the alarm under way, which a marker remembers
   * @param save whether the header must be written even when nothing in it has changed
   */
  settle(batch: Batch, firing: number, save: boolean): Promise<unknown>;
  /** Puts messages that have an ordering key, or none, where they wait. `rows` is what the caller writes. */
  join(key: string | undefined, messages: readonly Waiting[], rows: Record<string, unknown>): void;
  /** The rows of the batch's messages that have changed and stay. */
  changed(batch: Batch): Record<string, unknown>;
  /** Lets a lane be looked at again, at once. */
  wakeLane(key: string, rows: Record<string, unknown>): void;
  /** How often a message that was read has been handed over: never too few. */
  tried(entry: Entry): number;
  /** Runs what reads and then writes when no other such work is under way. */
  alone<R>(work: () => Promise<R>): Promise<R>;
  /** How many batches have been settled: what was read of their rows before has changed. */
  settled: number;
  /** The batch that is being read, or in the hands of `sendMessages`. */
  batch: Batch | null;
}

export function queueOf(store: Store): Queue {
  const { memory } = store;
  let last: Promise<unknown> = Promise.resolve();

  /** Messages that wait for a time, as far as it has come. Returns the time of the first that has not, or an earlier one. */
  async function takeTimers(batch: Batch, limit: number, calm: boolean, now: number): Promise<number> {
    let bytes = 0;
    let skipped = NEVER;
    for (let start = numberedKey("t", 0); ; ) {
      const rows = await store.page("t", start, LAST_NUMBER);
      if (rows.length === 0) return skipped;
      for (const row of rows) {
        start = `${row.key}\0`;
        const due = keyNumber(row.key);
        if (due > now) return Math.min(skipped, due);
        const entry = entriesOf(row)[0];
        if (!entry) continue;
        if (entry.more.alone && batch.handed.length > 0) return 0;
        if (entry.more.alone && !calm) {
          skipped = 0;
          continue;
        }
        if (batch.handed.length >= limit || bytes > BATCH_BYTES) return 0;
        bytes += serializedBytes(row.data.messages);
        batch.rows.push(row);
        hand(batch, entry, now);
        if (entry.more.alone && !entry.fate) return 0;
      }
    }
  }

  /** The heads of ordering keys that waited for a time which has come. */
  async function takeLanes(batch: Batch, limit: number, distinct: boolean, calm: boolean, now: number): Promise<number> {
    let next = NEVER;
    for (const [key, seen] of memory.lanes) {
      if (seen.due > now) next = Math.min(next, seen.due);
      else if (batch.handed.length >= limit || batch.handed.some(({ more }) => more.alone)) return 0;
      else {
        const prefix = lanePrefix(key);
        const most = distinct ? 2 : PAGE_ROWS;
        const rows = await store.list({ prefix, limit: most });
        // The last row of a page is only looked at: what follows must be known before a lane is emptied.
        const whole = rows.length < most;
        batch.lanes.push({ key, seen, rows, whole });
        batch.rows.push(...rows);
        let taken = 0;
        for (const entry of (whole ? rows : rows.slice(0, -1)).flatMap(entriesOf)) {
          const { due = 0, alone } = entry.more;
          if (due > now || batch.handed.length >= limit || (distinct && taken) || (alone && (!calm || batch.handed.length > 0))) break;
          hand(batch, entry, now);
          if (!entry.fate) taken++;
          if (alone) break;
        }
      }
    }
    return next;
  }

  /** The messages of the queue, from its head. */
  async function takeMain(batch: Batch, limit: number, distinct: boolean, now: number): Promise<void> {
    const keys = new Set(distinct ? batch.handed.map(({ more }) => more.key) : []);
    const waiting = new Set<string>();
    const look = Math.max(limit, LOOK);
    let looked = 0;
    /** Returns whether to go on. */
    const add = (entry: Entry): boolean => {
      const { key, due = 0 } = entry.more;
      const blocked = key !== undefined && (memory.lanes.has(key) || waiting.has(key));
      const late = due > now;
      if (looked >= look) return false;
      if (late && key !== undefined && !blocked && memory.lanes.size + waiting.size >= MAX_LANES) {
        memory.next = memory.due;
        return false;
      }
      if (blocked || late) {
        entry.fate = "aside";
        const attempts = queue.tried(entry);
        if (attempts) entry.more = { ...entry.more, attempts };
        batch.entries.push(entry);
        if (key) waiting.add(key);
      } else {
        if (batch.handed.length >= limit || (distinct && key !== undefined && keys.has(key))) return false;
        hand(batch, entry, now);
        if (key !== undefined && !entry.fate) keys.add(key);
      }
      looked++;
      return true;
    };
    let bytes = 0;
    for (let start = numberedKey("s", memory.first); ; ) {
      const { last } = memory;
      const found = await store.page("s", start, last);
      for (const row of found) {
        if (bytes > BATCH_BYTES) return;
        bytes += serializedBytes(row.data.messages);
        start = numberedKey("s", keyNumber(row.key) + 1);
        batch.rows.push(row);
        for (const entry of entriesOf(row)) if (!add(entry)) return;
      }
      // None of these can be read. A put may have closed another segment meanwhile.
      if (found.length === 0) start = numberedKey("s", last + 1);
      if (keyNumber(start) > memory.last) break;
    }
    // No await since the last segment was seen to be the last: nothing can have moved there.
    const read = batch.entries.length;
    for (const message of memory.messages) {
      if (!add(entryOf(memory, message, null))) {
        memory.taken = batch.entries.length > read;
        return;
      }
    }
    memory.taken = batch.entries.length > read;
    // The end of the queue. Messages there that wait for a time may as well wait here.
    let next = NEVER;
    for (let at = batch.entries.length - 1; at >= 0; at--) {
      const entry = batch.entries[at];
      if (entry?.fate !== "aside" || isAside(entry) || !((entry.more.due ?? 0) > now)) break;
      if (entry.more.key && memory.lanes.has(entry.more.key)) break;
      next = Math.min(next, entry.more.due ?? 0);
      batch.entries.pop();
    }
    if (batch.entries.some((entry) => !isAside(entry))) return;
    memory.next = next;
    if (next < NEVER) return;
    // Everything that is left can't be read: nothing waits.
    memory.main = 0;
    memory.done = memory.position;
  }

  /** Counts a message to what can be handed over, or to the dead letters when it has expired. */
  function hand(batch: Batch, entry: Entry, now: number): void {
    const { expires = NEVER } = entry.more;
    batch.entries.push(entry);
    if (expires <= now) {
      entry.fate = "dead";
      const { first = now } = entry.more;
      const error = "It expired before it was delivered.";
      entry.more = { ...entry.more, attempts: queue.tried(entry), reason: "expired", error, first, last: now };
    } else batch.handed.push(entry);
  }

  const queue: Queue = {
    settled: 0,
    batch: null,

    alone(work) {
      const done = last.then(work);
      last = done.catch(() => {});
      return done;
    },

    take: (limit, now, distinct, calm) =>
      queue.alone(async () => {
        const batch: Batch = { entries: [], handed: [], rows: [], lanes: [] };
        queue.batch = batch;
        memory.moved = null;
        if (memory.due <= now) {
          // What is set aside meanwhile may lower it again.
          memory.due = NEVER;
          const timer = memory.aside ? await takeTimers(batch, limit, calm, now) : NEVER;
          const lane = await takeLanes(batch, limit, distinct, calm, now);
          memory.due = Math.min(memory.due, timer, lane);
        }
        if (memory.main && memory.next <= now && !batch.handed.some(({ more }) => more.alone)) await takeMain(batch, limit, distinct, now);
        const inOrder = (a: Entry, b: Entry) => a.position - b.position;
        batch.entries.sort(inOrder);
        batch.handed.sort(inOrder);
        return batch;
      }),

    tried: (entry) => (isAside(entry) ? (entry.more.attempts ?? 0) : tried(memory.trouble, entry.position)),

    settle(batch, firing, save) {
      queue.batch = null;
      queue.settled++;
      const now = Date.now();
      const rows: Record<string, unknown> = {};
      const before = counts();
      let saved = save;
      const touched = new Map(batch.entries.filter(({ fate, changed }) => fate || changed).map((entry) => [entry.position, entry]));
      /** What is left of a row's messages: the same list where nothing changes. */
      const left = (messages: readonly StoredMessage[], lane = false): readonly StoredMessage[] => {
        if (!messages.some((message) => touched.has(positionOf(message)))) return messages;
        return messages.flatMap((message) => {
          const entry = touched.get(positionOf(message));
          if (!entry) return [message];
          return !entry.fate || (lane && entry.fate === "aside") ? [restored(entry, entry.more)] : [];
        });
      };
      for (const row of memory.moved ? [...batch.rows, memory.moved] : batch.rows) {
        const rest = left(row.data.messages, kindOf(row.key) === "k");
        if (rest === row.data.messages) continue;
        row.data.messages = rest;
        rows[row.key] = rest.length > 0 ? stored(row.data) : undefined;
      }
      // Whoever still has a put refused must not bring back what has left its row.
      memory.recent = memory.recent.filter(({ key }) => !(key in rows));
      const rest = left(memory.messages);
      if (rest !== memory.messages) {
        saved = true;
        store.setMessages(rest);
      }
      memory.taken = false;
      const joining = new Map<string | undefined, Entry[]>();
      for (const entry of batch.entries) {
        const { fate, more } = entry;
        if (!fate) {
          if (isAside(entry)) memory.due = 0;
          continue;
        }
        const lane = leave(entry);
        if (fate === "gone" && more.id !== undefined) rows[idKey(more.id)] = undefined;
        if (fate === "dead") {
          memory.dead++;
          rows[numberedKey("d", entry.position)] = stored({ v: 1, ...entry.stream, messages: [restored(entry, more)] });
        }
        if (fate === "aside") {
          if (lane) memory.laned++;
          else joining.set(more.key, [...(joining.get(more.key) ?? []), entry]);
        }
      }
      for (const [key, entries] of joining) queue.join(key, entries, rows);
      for (const lane of batch.lanes) endLane(lane, joining.has(lane.key), rows, now);
      advance(batch);
      if (memory.aside + memory.laned === 0) memory.since = 0;
      if (saved || before !== counts()) rows[memory.key] = store.header(store.waits() ? 0 : firing);
      return store.write(rows);
    },

    wakeLane: (key, rows) => setLane(key, 0, rows),

    changed({ entries, rows }) {
      const written: Record<string, unknown> = {};
      for (const { data, key } of rows) {
        const changed = entries.filter(({ row, changed }) => row?.key === key && changed);
        if (changed.length === 0) continue;
        const messageAt = new Map(changed.map((entry) => [entry.position, restored(entry, entry.more)]));
        data.messages = data.messages.map((message) => messageAt.get(positionOf(message)) ?? message);
        written[key] = stored(data);
      }
      return written;
    },

    join(key, messages, rows) {
      for (const { at } of messages) memory.since = Math.min(memory.since || at, at);
      if (key === undefined) {
        for (const { stream, position, more, ...rest } of messages) {
          const { due = 0 } = more;
          rows[timerKey(due, position)] = stored({ v: 1, ...stream, messages: [restored({ stream, position, more, ...rest }, more)] });
          memory.aside++;
          if (due === 0) memory.ready++;
          memory.due = Math.min(memory.due, due);
        }
        return;
      }
      let row: { name: string; bytes: number; data: SegmentRow & { messages: StoredMessage[] } } | null = null;
      for (const message of messages) {
        const text = restored(message, message.more);
        const bytes = serializedBytes(text);
        const full = !row || row.data.messages.length >= ROW_MESSAGES || row.bytes + bytes > ROW_MESSAGE_BYTES;
        if (!row || full || row.data.epoch !== message.stream.epoch) {
          row = { name: lanePrefix(key) + digits(message.position), bytes: 0, data: { v: 1, ...message.stream, messages: [] } };
        }
        row.data.messages.push(text);
        row.bytes += bytes;
        rows[row.name] = stored(row.data);
      }
      memory.laned += messages.length;
      if (!memory.lanes.has(key)) setLane(key, messages[0]?.more.due ?? 0, rows);
    },
  };

  const counts = () =>
    [
      memory.aside,
      memory.ready,
      memory.laned,
      memory.dead,
      memory.late,
      memory.main !== memory.position - memory.done && memory.main,
    ].join();

  /** Takes a message out of the count of where it stood. Returns whether that was a lane. */
  function leave({ row, late }: Entry): boolean {
    const kind = row ? kindOf(row.key) : "h";
    if (row && kind === "t") {
      memory.aside--;
      if (keyNumber(row.key) === 0) memory.ready--;
    } else if (kind === "k") memory.laned--;
    else {
      memory.main = Math.max(0, memory.main - 1);
      if (late) memory.late--;
    }
    return kind === "k";
  }

  function setLane(key: string, due: number, rows: Record<string, unknown>): void {
    memory.lanes = new Map(memory.lanes).set(key, { due });
    memory.due = Math.min(memory.due, due);
    rows[laneKey(key)] = due;
  }

  /** What is next in a lane of which messages were taken: the time of its new head, or the end of the lane. */
  function endLane({ key, seen, rows: read, whole }: Lane, joined: boolean, rows: Record<string, unknown>, now: number): void {
    // Somebody else has put a message there meanwhile: it is looked at again.
    if (memory.lanes.get(key) !== seen) return;
    const row = read.find(({ data }) => data.messages.length > 0);
    const head = row?.data.messages[0];
    const due = row && head ? (readMessage(row.data, head).more.due ?? 0) : 0;
    if (due > now) setLane(key, due, rows);
    else if (head || joined || !whole) memory.due = 0;
    else {
      const lanes = new Map(memory.lanes);
      lanes.delete(key);
      memory.lanes = lanes;
      rows[laneKey(key)] = undefined;
    }
  }

  /** Moves the head of the queue to the first message that is still there. */
  function advance(batch: Batch): void {
    const segments = batch.rows.filter(({ key }) => kindOf(key) === "s");
    if (memory.moved) segments.push(memory.moved);
    const head = segments.find(({ data }) => data.messages.length > 0);
    const newest = segments.at(-1);
    if (newest) memory.first = head ? keyNumber(head.key) : keyNumber(newest.key) + 1;
    const [first] = head?.data.messages ?? (memory.first > memory.last ? memory.messages : []);
    if (first !== undefined) memory.done = positionOf(first) - 1;
    else if (memory.first > memory.last) memory.done = memory.position;
    else for (const entry of batch.entries) if (!isAside(entry) && entry.fate) memory.done = Math.max(memory.done, entry.position);
    if (memory.main === 0) memory.next = NEVER;
  }

  return queue;
}

/** Whether a message stands outside the queue. */
export function isAside({ row }: Entry): boolean {
  return row !== null && kindOf(row.key) !== "s";
}

function entriesOf(row: Row): Entry[] {
  return row.data.messages.map((message) => entryOf(row.data, message, row));
}

function entryOf(stream: SegmentRow, message: StoredMessage, row: Row | null): Entry {
  const read = readMessage(stream, message);
  return { ...read, row, late: read.more.due !== undefined };
}
