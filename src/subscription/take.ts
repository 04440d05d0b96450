/** What comes next: reads the messages that can be handed over, and those that must move before them. */

import { PAGE_ROWS } from "../log/log.js";
import { messagesIn } from "../storage/lines.js";
import { NEVER } from "../storage/memory.js";
import { type StoredMessage, type Stream, startOf } from "../storage/message.js";
import { keyNumber, LAST_NUMBER, lanePrefix, rowsOf, segmentNumber } from "../storage/rows.js";
import { serializedBytes } from "../storage/size.js";
import type { Store } from "../storage/store.js";
import { type Batch, type Entry, entriesOf, handedOver, isAside } from "./batch.js";
import { ack, isAcked } from "./cursor.js";
import { type LaneState, type Reader, takes } from "./reader.js";
import type { Versions } from "./versions.js";

/** A batch ends early once its rows hold this many bytes. */
const BATCH_BYTES = 2 ** 22;
/** So many messages are looked at for one batch, however few of them can be handed over. */
const LOOK = 128;
/** So many messages that the reader does not take are passed in one step. */
const MOST_PASSED = 2048;
/** So many ordering keys may wait at a time. The queue stops before a message that would be one more. */
export const MAX_LANES = 10_000;
/** So often the queue is looked at again while that many wait and some of them are held, in milliseconds. */
const FULL_LOOK_MS = 3_600_000;

const lookFor = (limit: number): number => Math.max(limit, LOOK);

/** What one step of delivery may take. */
export interface Step {
  /** The most messages that are handed over. */
  readonly limit: number;
  /** The time, in milliseconds since the Unix epoch: what is due by then is taken. */
  readonly now: number;
  /** End before the second message of an ordering key. */
  readonly onePerKey: boolean;
  /** Take messages that have broken their batch, each of them alone. */
  readonly allowIsolated: boolean;
  /** Tells which messages are ahead of this deployment, and have to wait. */
  readonly versions: Pick<Versions, "isAhead">;
}

/** Fills a batch with what can be handed over next: messages that were set aside and are due, then the queue. */
export async function fill(store: Store, reader: Reader, batch: Batch, step: Step): Promise<void> {
  const { now } = step;
  /** Lanes of which the head was redriven: earlier messages of their key may still be in the queue, which is looked through first. */
  const redriven: string[] = [];
  if (reader.delayedDueAt <= now) {
    // What is set aside meanwhile may lower it again.
    reader.delayedDueAt = NEVER;
    const timer = reader.delayedCount ? await takeTimers(store, reader, batch, step) : NEVER;
    const lane = await takeLanes(store, reader, batch, step, (key, { hasRedriven }) => {
      if (hasRedriven && reader.queuedCount > 0) redriven.push(key);
      return !hasRedriven || reader.queuedCount === 0 ? NEVER : 0;
    });
    reader.delayedDueAt = Math.min(reader.delayedDueAt, timer, lane);
  }
  const alone = batch.handed.some(({ more }) => more.alone);
  if (reader.queuedCount && (reader.queueDueAt <= now || redriven.length > 0) && !alone) {
    const through = await takeLog(store, reader, batch, step);
    // Those that were found have yet to move behind the lane's name.
    const found = (key: string) => batch.entries.some((entry) => entry.more.key === key && !isAside(entry));
    const ready = redriven.filter((key) => !found(key));
    if (ready.length > 0) await takeLanes(store, reader, batch, step, (key) => (ready.includes(key) ? through : 0));
  }
  if (!batch.entries.some(isAside)) return;
  const inOrder = (a: Entry, b: Entry) => a.position - b.position;
  batch.entries.sort(inOrder);
  batch.handed.sort(inOrder);
}

/** Messages that wait for a time, as far as it has come. Returns the time of the first that has not, or an earlier one. */
async function takeTimers(store: Store, reader: Reader, batch: Batch, step: Step): Promise<number> {
  const { limit, now, allowIsolated } = step;
  let bytes = 0;
  let skipped = NEVER;
  let seen = 0;
  let ready = 0;
  for (let start = rowsOf(reader.prefix, "t"); ; ) {
    const rows = await store.page(reader, "t", start, LAST_NUMBER);
    if (rows.length === 0) {
      // What else was counted can't be read.
      reader.delayedCount = Math.min(reader.delayedCount, seen);
      reader.redrivenCount = Math.min(reader.redrivenCount, ready);
      return skipped;
    }
    for (const row of rows) {
      seen++;
      start = `${row.key}\0`;
      const due = keyNumber(reader.prefix, row.key);
      if (due === 0) ready++;
      if (due > now) return Math.min(skipped, due);
      const [entry] = entriesOf(row, row.data, row.data.messages);
      if (!entry) continue;
      if (entry.more.alone && batch.handed.length > 0) return 0;
      if (entry.more.alone && !allowIsolated) {
        skipped = 0;
        continue;
      }
      if (batch.handed.length >= limit || batch.entries.length >= lookFor(limit) || bytes > BATCH_BYTES) return 0;
      bytes += roughBytes(row.data.messages);
      batch.rows.push(row);
      hand(reader, batch, entry, step);
      if (entry.more.alone && !entry.fate) return 0;
    }
  }
}

/** The heads of ordering keys that waited for a time which has come, each up to the position that `through` gives for it. */
async function takeLanes(
  store: Store,
  reader: Reader,
  batch: Batch,
  step: Step,
  through: (key: string, lane: LaneState) => number,
): Promise<number> {
  const { limit, now, onePerKey, allowIsolated } = step;
  let next = NEVER;
  let bytes = 0;
  for (const [key, seen] of reader.lanes) {
    const full = batch.handed.length >= limit || batch.entries.length >= lookFor(limit) || bytes > BATCH_BYTES;
    if (seen.due > now) next = Math.min(next, seen.due);
    else if (full || batch.handed.some(({ more }) => more.alone)) return 0;
    else {
      const last = through(key, seen);
      if (last === 0) {
        next = 0;
        continue;
      }
      const prefix = lanePrefix(reader.prefix, key);
      const most = onePerKey ? 2 : PAGE_ROWS;
      const rows = await store.list({ prefix, limit: most });
      // The last row of a page is only looked at: what follows must be known before a lane is emptied.
      const whole = rows.length < most;
      batch.lanes.push({ key, seen, rows, whole });
      batch.rows.push(...rows);
      for (const { data } of rows) bytes += roughBytes(data.messages);
      let handed = 0;
      for (const entry of (whole ? rows : rows.slice(0, -1)).flatMap((row) => entriesOf(row, row.data, row.data.messages))) {
        const { due = 0, alone } = entry.more;
        if (
          due > now ||
          entry.position > last ||
          batch.handed.length >= limit ||
          (onePerKey && handed > 0) ||
          (alone && (!allowIsolated || batch.handed.length > 0))
        )
          break;
        hand(reader, batch, entry, step);
        if (!entry.fate) handed++;
        // What is ahead of this deployment blocks its key, and so may a dead letter.
        if (alone || entry.fate === "aside" || (entry.fate === "dead" && reader.holdsKeys)) break;
      }
    }
  }
  return next;
}

/** The messages of the queue, from its head. Returns the position through which it was looked at: `NEVER` is its end. */
async function takeLog(store: Store, reader: Reader, batch: Batch, step: Step): Promise<number> {
  const { memory, log } = store;
  const walk = walkOf(reader, batch, step);
  let bytes = 0;
  if (log.sweeps) await log.sweep();
  reader.segment = await log.seek(reader.cursor.ackFloor, reader.segment);
  // What is before the first segment of the log can't be read any more, and what is before this reader's is left to others.
  let before = reader.segment > memory.first ? reader.segment - 1 : undefined;
  for (let next = reader.segment; ; ) {
    const { last } = memory;
    const lastSegmentKey = memory.recent.at(-1)?.key;
    const found = await log.page(next, last);
    for (const read of found) {
      if (bytes > BATCH_BYTES) return walk.through;
      // It may have grown meanwhile: nothing that was put before what follows may be left out.
      const row = log.current(read);
      const isWhole = read.key !== lastSegmentKey || memory.recent.some(({ key }) => key === lastSegmentKey);
      if (!isWhole) break;
      log.noteEnd(row, before);
      before = segmentNumber(row.key);
      next = before + 1;
      bytes += roughBytes(row.data.messages);
      if (!walk.add(row.data, row.data.messages)) return walk.through;
    }
    // None of these can be read. A put may have sealed another segment meanwhile.
    if (found.length === 0) {
      log.noteNone(last, before);
      next = last + 1;
    }
    if (next > memory.last) break;
  }
  // No await since the last segment was seen to be the last: nothing can have moved there.
  const { object, epoch, base } = memory;
  if (!walk.add({ object, epoch, base }, messagesIn(memory.tail))) return walk.through;
  endOfQueue(store, reader, batch, step.now);
  return NEVER;
}

/** A walk along the queue: what becomes of each message that it comes to. */
interface Walk {
  /** The position through which it has come. */
  readonly through: number;
  /** Takes messages as far as the step goes. Returns whether it goes on. */
  add(stream: Stream, messages: readonly StoredMessage[]): boolean;
}

function walkOf(reader: Reader, batch: Batch, step: Step): Walk {
  const { limit, now, onePerKey, versions } = step;
  /** The ordering keys of what is handed over, and of what has to wait. */
  const keys = new Set(onePerKey ? batch.handed.map(({ more }) => more.key) : []);
  const waiting = new Set<string>();
  const look = lookFor(limit);
  let looked = 0;
  let passed = 0;

  /** Takes one message, which is handed over or set aside. Returns `false` where it can be neither in this step. */
  function take(entry: Entry): boolean {
    const { key, due = 0 } = entry.more;
    const blocked = key !== undefined && (reader.lanes.has(key) || waiting.has(key));
    if (looked >= look) return false;
    const dies = !blocked && isExpired(reader, entry, now);
    const late = due > now || (!blocked && !dies && versions.isAhead(batch, entry, now));
    const waits = late || (dies && reader.holdsKeys);
    if (waits && key !== undefined && !blocked && reader.lanes.size + waiting.size >= MAX_LANES) {
      // Only an operator ends the wait for a dead letter, and what is counted may be wrong.
      reader.queueDueAt = Math.min(reader.delayedDueAt, reader.heldKeys > 0 ? now + FULL_LOOK_MS : NEVER);
      return false;
    }
    if (blocked || late) {
      entry.fate = "aside";
      const attempts = handedOver(reader, entry);
      if (attempts) entry.more = { ...entry.more, attempts };
      batch.entries.push(entry);
      if (key) waiting.add(key);
    } else {
      if (batch.handed.length >= limit || (onePerKey && key !== undefined && keys.has(key))) return false;
      hand(reader, batch, entry, step);
      if (key !== undefined && !entry.fate) keys.add(key);
      // Later ones wait for it.
      if (key !== undefined && dies && reader.holdsKeys) waiting.add(key);
    }
    looked++;
    walk.through = entry.position;
    return true;
  }

  const walk = {
    through: 0,

    /** What the reader is done with is passed over. */
    add: (stream: Stream, messages: readonly StoredMessage[]): boolean =>
      entriesOf(null, stream, messages).every((entry) => {
        if (isAcked(reader.cursor, entry.position)) return true;
        if (!takes(reader, entry.msg)) {
          walk.through = batch.passed = entry.position;
          batch.isCut = ++passed >= MOST_PASSED;
          return !batch.isCut;
        }
        batch.looked.push(entry.position);
        return take(entry);
      }),
  };
  return walk;
}

/** The walk has come to the end of the queue. Messages there that wait for a time may as well wait where they are. */
function endOfQueue({ memory }: Store, reader: Reader, batch: Batch, now: number): void {
  let next = NEVER;
  for (let at = batch.entries.length - 1; at >= 0; at--) {
    const entry = batch.entries[at];
    if (entry?.fate !== "aside" || isAside(entry) || !((entry.more.due ?? 0) > now)) break;
    if (entry.more.key && reader.lanes.has(entry.more.key)) break;
    next = Math.min(next, entry.more.due ?? 0);
    batch.entries.pop();
  }
  if (batch.entries.some((entry) => !isAside(entry))) return;
  reader.queueDueAt = next;
  if (next < NEVER) return;
  // Everything that is left can't be read: nothing waits.
  reader.queuedCount = reader.timedCount = 0;
  reader.cursor = ack(reader.cursor, reader.cursor.ackFloor + 1, memory.position);
}

/** Counts a message to what can be handed over, to the dead letters when it has expired, or to what waits when it is ahead of this deployment. */
function hand(reader: Reader, batch: Batch, entry: Entry, { now, versions }: Step): void {
  batch.entries.push(entry);
  // One for which an earlier run had no time to call `deadMessage`.
  if (entry.more.reason) entry.fate = "dead";
  else if (isExpired(reader, entry, now)) {
    entry.fate = "dead";
    const { first = now } = entry.more;
    const error = "It expired before it was delivered.";
    entry.more = { ...entry.more, attempts: handedOver(reader, entry), reason: "expired", error, first, last: now };
  } else if (versions.isAhead(batch, entry, now)) entry.fate = "aside";
  else batch.handed.push(entry);
}

function isExpired(reader: Reader, entry: Entry, now: number): boolean {
  const { expires = NEVER } = entry.more;
  return Math.min(expires, reader.expiresMs < NEVER ? startOf(entry) + reader.expiresMs : NEVER) <= now;
}

/** What messages take in memory, in bytes, about: only so that a batch has an end. */
function roughBytes(messages: readonly StoredMessage[]): number {
  let bytes = 0;
  for (const stored of messages) bytes += typeof stored === "string" ? stored.length : serializedBytes(stored);
  return bytes;
}
