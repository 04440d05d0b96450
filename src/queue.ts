/** The queue: reads batches, and does with each message what its fate says, every step in one commit. */

import { type Batch, type Entry, isAside, type Lane, type Waiting } from "./batch.js";
import { linesOf, messagesIn } from "./lines.js";
import { type LaneState, NEVER, type Row } from "./memory.js";
import { digits, positionOf, readMessage, restored, type StoredMessage } from "./message.js";
import { idKey, keyNumber, kindOf, laneKey, lanePrefix, numberedKey, type SegmentRow, timerKey } from "./rows.js";
import { serializedBytes } from "./size.js";
import { ROW_MESSAGE_BYTES, ROW_MESSAGES, type Store, stored } from "./store.js";
import { fill } from "./take.js";

export interface Queue {
  /** Reads what can be handed over next: see `fill`. */
  take(limit: number, now: number, distinct: boolean, calm: boolean): Promise<Batch>;
  /**
   * Does with each message of the batch what its fate says: one turn, so one commit.
   *
   * @param save whether the header must be written even when nothing in it has changed
   */
  settle(batch: Batch, save: boolean): Promise<unknown>;
  /** Puts messages that have an ordering key, or none, where they wait. `rows` is what the caller writes. */
  join(key: string | undefined, messages: readonly Waiting[], rows: Record<string, unknown>): void;
  /** The rows of the batch's messages that have changed and stay. */
  changed(batch: Batch): Record<string, unknown>;
  /** Lets a lane be looked at again, at once. `mixed` as in its state. */
  wakeLane(key: string, rows: Record<string, unknown>, mixed?: boolean): void;
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
  let copied: Map<string, LaneState> | null = null;

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
        await fill(store, batch, limit, now, distinct, calm);
        return batch;
      }),

    settle(batch, save) {
      queue.batch = null;
      queue.settled++;
      copied = null;
      const now = Date.now();
      const rows: Record<string, unknown> = {};
      const before = counts();
      let saved = save;
      const leaving = new Map<Row | null, number>();
      for (const { row, fate } of batch.entries) if (fate) leaving.set(row, (leaving.get(row) ?? 0) + 1);
      let touched: Map<number, Entry> | undefined;
      /** What is left of a row's messages: the same list where nothing changes. */
      const left = (messages: readonly StoredMessage[], row: Row | null): readonly StoredMessage[] => {
        const lane = row !== null && kindOf(row.key) === "k";
        // Nearly always all of them go. Those of the header may have moved to a segment.
        if (!lane && leaving.get(row) === messages.length && (row ?? !memory.moved)) return [];
        touched ??= new Map(batch.entries.filter(({ fate, changed }) => fate || changed).map((entry) => [entry.position, entry]));
        const known = touched;
        if (!messages.some((message) => known.has(positionOf(message)))) return messages;
        return messages.flatMap((message) => {
          const entry = known.get(positionOf(message));
          if (!entry) return [message];
          return !entry.fate || (lane && entry.fate === "aside") ? [restored(entry, entry.more)] : [];
        });
      };
      for (const row of memory.moved ? [...batch.rows, memory.moved] : batch.rows) {
        const rest = left(row.data.messages, row);
        if (rest === row.data.messages) continue;
        row.data.messages = rest;
        rows[row.key] = rest.length > 0 ? stored(row.data) : undefined;
      }
      const newest = messagesIn(memory.newest);
      const rest = newest.length > 0 ? left(newest, null) : newest;
      if (rest !== newest) {
        saved = true;
        memory.newest = linesOf(rest);
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
      // Once nothing is wanted any more, the header says whose alarm stands or fires.
      if (saved || before !== counts() || (!store.waits() && store.leftover())) rows[memory.key] = store.header();
      copied = null;
      return store.write(rows);
    },

    wakeLane(key, rows, mixed) {
      setLane(key, 0, rows, mixed);
      copied = null;
    },

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
        // Others may stand between them.
        const alone = memory.lanes.get(key)?.mixed === true;
        const full = !row || alone || row.data.messages.length >= ROW_MESSAGES || row.bytes + bytes > ROW_MESSAGE_BYTES;
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

  /** The lanes as this turn may change them: copied once, so that whoever holds the map of an earlier turn can put it back. */
  function ownLanes(): Map<string, LaneState> {
    if (memory.lanes !== copied) memory.lanes = copied = new Map(memory.lanes);
    return copied as Map<string, LaneState>;
  }

  function setLane(key: string, due: number, rows: Record<string, unknown>, mixed: boolean = memory.lanes.get(key)?.mixed === true): void {
    ownLanes().set(key, { due, mixed });
    memory.due = Math.min(memory.due, due);
    rows[laneKey(key)] = mixed ? [due] : due;
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
      ownLanes().delete(key);
      rows[laneKey(key)] = undefined;
      // The queue may have waited for room.
      memory.next = 0;
    }
  }

  /** Moves the head of the queue to the first message that is still there. */
  function advance(batch: Batch): void {
    const segments = batch.rows.filter(({ key }) => kindOf(key) === "s");
    if (memory.moved) segments.push(memory.moved);
    const head = segments.find(({ data }) => data.messages.length > 0);
    const newest = segments.at(-1);
    if (newest) memory.first = head ? keyNumber(head.key) : keyNumber(newest.key) + 1;
    const [first] = head?.data.messages ?? (memory.first > memory.last ? messagesIn(memory.newest) : []);
    if (first !== undefined) memory.done = positionOf(first) - 1;
    else if (memory.first > memory.last) memory.done = memory.position;
    else for (const entry of batch.entries) if (!isAside(entry) && entry.fate) memory.done = Math.max(memory.done, entry.position);
    if (memory.main === 0) memory.next = NEVER;
  }

  return queue;
}
