/** The queue: reads batches, and does with each message what its fate says, every step in one commit. */

import type { Delivered, Prepared } from "../log/ids.js";
import { ROW_MESSAGE_BYTES, ROW_MESSAGES } from "../log/log.js";
import { NEVER, type Row } from "../storage/memory.js";
import { digits, isScheduled, positionOf, readMessage, restored, type StoredMessage, type Stream, startOf } from "../storage/message.js";
import { HEADER_LAST, keyNumber, kindOf, laneKey, lanePrefix, numberedKey, type SegmentRow, stored, timerKey } from "../storage/rows.js";
import { placeOf } from "../storage/scan.js";
import { serializedBytes } from "../storage/size.js";
import type { Store } from "../storage/store.js";
import { type Batch, type Entry, emptyBatch, isAside, type Lane, type Waiting } from "./batch.js";
import { ack, ackThrough, isAcked, openUpTo } from "./cursor.js";
import { addLetter, holdRows, type LaneState, type Reader, releaseBatch } from "./reader.js";
import { fill, type Step } from "./take.js";

export interface Queue {
  /**
   * Reads what can be handed over next: see `fill`. `beside` keeps what is known of the batch in flight, because that may still be settled.
   * Resolves to `null` where a transaction has begun or ended meanwhile, or a message was taken back: then all of it must be read again.
   */
  take(step: Step, beside: boolean): Promise<Batch | null>;
  /**
   * Does with each message of the batch what its fate says, in the turn in which the caller commits `rows`.
   *
   * @param save whether the header must be written even when nothing in it has changed
   * @param delivered of which ids are to be remembered, and `ids` what was read for that
   */
  settle(batch: Batch, save: boolean, rows: Record<string, unknown>, delivered: () => readonly Delivered[], ids: Prepared | null): void;
  /** Makes one message of the batch in hand a dead letter, apart from the others, in memory and in the rows that the caller writes, the header excepted. */
  bury(entry: Entry, rows: Record<string, unknown>): void;
  /** Whether a message that was read for a batch does not wait any more, because it was cancelled, or settled apart from the batch. */
  isGone(entry: Entry): boolean;
  /** Deletes the lanes where nothing waits in them any more: nobody would look at what is left of them. */
  endLanes(rows: Record<string, unknown>): void;
  /** Puts messages that have an ordering key, or none, where they wait. `rows` is what the caller writes. */
  join(key: string | undefined, messages: readonly Waiting[], rows: Record<string, unknown>): void;
  /** Puts messages of the batch that stay and have changed into what the caller writes. */
  rewriteChanged(entries: readonly Entry[], rows: Record<string, unknown>): void;
  /** A dead letter with this ordering key is redriven or deleted: unless another one holds it, its lane goes on. */
  release(key: string, rows: Record<string, unknown>): void;
  /** Lets a lane be looked at again, at once, unless it is held. `hasRedriven` as in its state. */
  wakeLane(key: string, rows: Record<string, unknown>, hasRedriven?: boolean): void;
  /** Runs what reads and then writes when no other such work is under way. */
  alone<R>(work: () => Promise<R>): Promise<R>;
  /** How many batches have been settled: what was read of their rows before has changed. */
  settled: number;
  /** The batch that is being read, or in the hands of `sendMessages`. */
  batch: Batch | null;
}

/** What settling leaves of the rows of a batch. */
type Rest = Map<string, { readonly stream: Stream; readonly messages: readonly StoredMessage[] }>;

export function queueOf(store: Store, reader: Reader): Queue {
  const { memory } = store;
  const { prefix } = reader;
  let last: Promise<unknown> = Promise.resolve();
  /** The lanes as a commit changes them, by the rows that it writes. */
  const copies = new WeakMap<Record<string, unknown>, Map<string, LaneState>>();

  const queue: Queue = {
    settled: 0,
    batch: null,

    alone(work) {
      const done = last.then(work);
      last = done.catch(() => {});
      return done;
    },

    take: (step, beside) =>
      queue.alone(async () => {
        const batch = emptyBatch();
        const { transactions, retractions } = store;
        queue.batch = batch;
        if (!beside) releaseBatch(reader);
        await fill(store, reader, batch, step);
        batch.isRead = true;
        if (store.open || store.transactions !== transactions || store.retractions !== retractions) return null;
        holdRows(reader, batch.rows);
        return batch;
      }),

    settle,

    wakeLane(key, rows, hasRedriven) {
      setLane(key, 0, rows, hasRedriven);
    },

    rewriteChanged(entries, rows) {
      for (const [key, row] of reader.held) {
        const changed = entries.filter((entry) => entry.changed && entry.row?.key === key && !reader.cancelled.has(entry.position));
        if (changed.length === 0) continue;
        const messageAt = new Map(changed.map((entry) => [entry.position, restored(entry, entry.more)]));
        const messages = row.data.messages.map((message) => messageAt.get(positionOf(message)) ?? message);
        store.rewrite(reader, row, messages, rows);
      }
    },

    isGone: ({ position, row }) => (row ? reader.cancelled.has(position) : isAcked(reader.cursor, position)),

    bury(entry, rows) {
      const { row, position } = entry;
      const { cursor } = reader;
      leave(entry);
      writeLetter(entry, rows);
      if (row) {
        const now = reader.held.get(row.key) ?? row;
        const rest = now.data.messages.filter((message) => positionOf(message) !== position);
        store.rewrite(reader, now, rest, rows);
        reader.cancelled = new Set(reader.cancelled).add(position);
        if (kindOf(prefix, row.key) === "k") queue.wakeLane(entry.more.key ?? "", rows);
        queue.endLanes(rows);
      } else {
        reader.cursor = ack(cursor, position);
        if (reader.queuedCount === 0) reader.queueDueAt = NEVER;
        store.passed(reader, rows, cursor);
      }
    },

    endLanes(rows) {
      if (reader.blockedCount > 0 || reader.lanes.size === reader.heldKeys) return;
      for (const [key, { held }] of reader.lanes) if (!held) rows[laneKey(prefix, key)] = undefined;
      reader.lanes = new Map([...reader.lanes].filter(([, { held }]) => held));
    },

    release(key, rows) {
      const { held = 0 } = reader.lanes.get(key) ?? {};
      if (held === 0) return;
      setLane(key, 0, rows, undefined, held - 1);
      // The queue may have waited for room.
      if (reader.queuedCount > 0) reader.queueDueAt = 0;
      queue.endLanes(rows);
    },

    join(key, messages, rows) {
      for (const message of messages) {
        reader.oldestDelayedAt = Math.min(reader.oldestDelayedAt || NEVER, startOf(message));
        if (isScheduled(message.more)) reader.scheduledCount++;
      }
      if (key === undefined) {
        for (const { stream, position, more, ...rest } of messages) {
          const { due = 0 } = more;
          rows[timerKey(prefix, due, position)] = stored({ v: 1, ...stream, messages: [restored({ position, ...rest }, more)] });
          reader.delayedCount++;
          if (due === 0) reader.redrivenCount++;
          reader.delayedDueAt = Math.min(reader.delayedDueAt, due);
        }
        return;
      }
      let row: { name: string; bytes: number; data: SegmentRow & { messages: StoredMessage[] } } | null = null;
      for (const message of messages) {
        const text = restored(message, message.more);
        const bytes = serializedBytes(text);
        // Others may stand between them.
        const hasRedriven = reader.lanes.get(key)?.hasRedriven === true;
        const full = !row || hasRedriven || row.data.messages.length >= ROW_MESSAGES || row.bytes + bytes > ROW_MESSAGE_BYTES;
        if (!row || full || row.data.epoch !== message.stream.epoch) {
          row = { name: lanePrefix(prefix, key) + digits(message.position), bytes: 0, data: { v: 1, ...message.stream, messages: [] } };
        }
        row.data.messages.push(text);
        row.bytes += bytes;
        rows[row.name] = stored(row.data);
      }
      reader.blockedCount += messages.length;
      if (!reader.lanes.has(key)) setLane(key, messages[0]?.more.due ?? 0, rows);
    },
  };

  function settle(
    batch: Batch,
    save: boolean,
    rows: Record<string, unknown>,
    delivered: () => readonly Delivered[],
    ids: Prepared | null,
  ): void {
    queue.batch = null;
    queue.settled++;
    const now = store.now();
    const before = counts();
    const { held } = reader;
    const entries = batch.entries.filter((entry) => !queue.isGone(entry));
    // No event reports what has been cancelled meanwhile.
    batch.entries = entries;
    const after = leaveRows(entries, held, rows);
    const joining = new Map<string | undefined, Entry[]>();
    for (const entry of entries) {
      const { fate, more } = entry;
      if (!fate) {
        if (isAside(entry)) reader.delayedDueAt = 0;
        continue;
      }
      const lane = leave(entry);
      if (fate === "dead") writeLetter(entry, rows);
      if (fate === "aside") {
        if (!lane) store.moves.note(entry.position, placeOf(prefix, entry.row && kindOf(prefix, entry.row.key) === "t" ? "t" : "s", entry));
        if (lane) {
          reader.blockedCount++;
          if (isScheduled(more)) reader.scheduledCount++;
        } else joining.set(more.key, [...(joining.get(more.key) ?? []), entry]);
      }
    }
    const changed = store.ids.deliver(delivered(), ids, rows);
    releaseBatch(reader);
    for (const [key, entries] of joining) queue.join(key, entries, rows);
    for (const lane of batch.lanes) endLane(lane, after, joining.has(lane.key), rows, now);
    const hasMoved = advance(batch, rows);
    // Of a lane that has changed meanwhile nothing may be left.
    queue.endLanes(rows);
    if (reader.delayedCount + reader.blockedCount === 0) reader.oldestDelayedAt = reader.scheduledCount = 0;
    // Once nothing is wanted any more, the header says whose alarm stands or fires.
    if (save || changed || hasMoved || before !== counts() || (!store.wakes() && store.outboxAlarmLeft())) rows[memory.key] = HEADER_LAST;
  }

  /** What is left of the rows outside the log once messages have left them. */
  function leaveRows(entries: readonly Entry[], held: ReadonlyMap<string, Row>, rows: Record<string, unknown>): Rest {
    const touched = new Map(entries.filter(({ row, fate, changed }) => row && (fate || changed)).map((entry) => [entry.position, entry]));
    const after: Rest = new Map();
    for (const [key, row] of held) {
      const { messages } = row.data;
      let rest = messages;
      if (messages.some((message) => touched.has(positionOf(message)))) {
        const lane = kindOf(prefix, key) === "k";
        rest = messages.flatMap((message) => {
          const entry = touched.get(positionOf(message));
          if (!entry) return [message];
          return !entry.fate || (lane && entry.fate === "aside") ? [restored(entry, entry.more)] : [];
        });
        store.rewrite(reader, row, rest, rows);
      }
      after.set(key, { stream: row.data, messages: rest });
    }
    return after;
  }

  function writeLetter(entry: Entry, rows: Record<string, unknown>): void {
    const { key, last = store.now() } = entry.more;
    addLetter(reader, last);
    if (reader.holdsKeys && key !== undefined) {
      entry.more = { ...entry.more, holds: true };
      setLane(key, NEVER, rows, undefined, (reader.lanes.get(key)?.held ?? 0) + 1);
    }
    rows[numberedKey(prefix, "d", entry.position)] = stored({ v: 1, ...entry.stream, messages: [restored(entry, entry.more)] });
  }

  const counts = () =>
    [
      reader.delayedCount,
      reader.redrivenCount,
      reader.blockedCount,
      reader.scheduledCount,
      reader.deadCount,
      reader.timedCount,
      (reader.countAtRest || reader.queuedCount !== memory.position - reader.cursor.ackFloor) && reader.queuedCount,
    ].join();

  /** Takes a message out of the count of where it stood. Returns whether that was a lane. */
  function leave({ row, late, scheduled }: Entry): boolean {
    const kind = row ? kindOf(prefix, row.key) : "s";
    if (scheduled && (kind === "t" || kind === "k")) reader.scheduledCount--;
    if (row && kind === "t") {
      reader.delayedCount--;
      if (keyNumber(prefix, row.key) === 0) reader.redrivenCount--;
    } else if (kind === "k") reader.blockedCount--;
    else {
      reader.queuedCount = Math.max(0, reader.queuedCount - 1);
      if (late) reader.timedCount = Math.max(0, reader.timedCount - 1);
    }
    return kind === "k";
  }

  /** The lanes as the commit that writes these rows may change them: copied once for each, so that nothing that holds the map of an earlier one sees a change. */
  function ownLanes(rows: Record<string, unknown>): Map<string, LaneState> {
    const known = copies.get(rows);
    if (known && known === reader.lanes) return known;
    const own = new Map(reader.lanes);
    copies.set(rows, own);
    reader.lanes = own;
    return own;
  }

  function setLane(
    key: string,
    due: number,
    rows: Record<string, unknown>,
    hasRedriven: boolean = reader.lanes.get(key)?.hasRedriven === true,
    held: number = reader.lanes.get(key)?.held ?? 0,
  ): void {
    if (reader.lanes.get(key)?.held) reader.heldKeys--;
    if (held > 0) reader.heldKeys++;
    const dueAt = held > 0 ? NEVER : due;
    ownLanes(rows).set(key, { due: dueAt, hasRedriven, ...(held > 0 && { held }) });
    reader.delayedDueAt = Math.min(reader.delayedDueAt, dueAt);
    rows[laneKey(prefix, key)] = held > 0 ? [dueAt, hasRedriven, held] : hasRedriven ? [due] : due;
  }

  /** What is next in a lane of which messages were taken: the time of its new head, or the end of the lane. */
  function endLane({ key, seen, rows: read, whole }: Lane, after: Rest, joined: boolean, rows: Record<string, unknown>, now: number): void {
    // Somebody else has put a message there meanwhile: it is looked at again.
    if (reader.lanes.get(key) !== seen) return;
    const row = read.map(({ key }) => after.get(key)).find((rest) => rest && rest.messages.length > 0);
    const head = row?.messages[0];
    const due = row && head ? (readMessage(row.stream, head).more.due ?? 0) : 0;
    if (due > now) setLane(key, due, rows);
    else if (head || joined || !whole) reader.delayedDueAt = 0;
    else {
      ownLanes(rows).delete(key);
      // What else was counted can't be read.
      if (reader.lanes.size === 0) reader.blockedCount = 0;
      rows[laneKey(prefix, key)] = undefined;
      // The queue may have waited for room.
      reader.queueDueAt = 0;
    }
  }

  /** Moves the cursor past what has left the queue, and deletes what it has passed. Returns whether the header must say so. */
  function advance({ entries, looked, passed }: Batch, rows: Record<string, unknown>): boolean {
    const { cursor } = reader;
    const last = Math.max(passed, looked.at(-1) ?? 0);
    if (last > 0) {
      const left = new Set(entries.filter((entry) => entry.fate && !isAside(entry)).map(({ position }) => position));
      const kept = left.size > 0 ? looked.filter((position) => !left.has(position)) : looked;
      reader.cursor = ackThrough(cursor, last, kept);
    }
    // Messages that it does not take were counted as well, while it was not known which it takes.
    reader.queuedCount = Math.min(reader.queuedCount, openUpTo(reader.cursor, memory.position));
    reader.timedCount = Math.min(reader.timedCount, reader.queuedCount);
    if (reader.queuedCount === 0) reader.queueDueAt = NEVER;
    return store.passed(reader, rows, cursor);
  }

  return queue;
}
