/** What comes next: reads the messages that can be handed over, and those that must move before them. */

import { type Batch, type Entry, entriesOf, handedOver, isAside } from "./batch.js";
import { messagesIn } from "./lines.js";
import { NEVER } from "./memory.js";
import { positionOf, type StoredMessage } from "./message.js";
import { keyNumber, LAST_NUMBER, lanePrefix, numberedKey } from "./rows.js";
import { serializedBytes } from "./size.js";
import { PAGE_ROWS, type Store } from "./store.js";

/** A batch ends early once its rows hold this many bytes. */
const BATCH_BYTES = 2 ** 22;
/** So many messages are looked at for one batch, however few of them can be handed over. */
const LOOK = 128;
/** So many ordering keys may wait at a time. The queue stops before a message that would be one more. */
export const MAX_LANES = 10_000;

/** A lane that can't be read is looked at again after this long, in milliseconds. */
const UNREADABLE_MS = 3_600_000;

const lookFor = (limit: number): number => Math.max(limit, LOOK);

/**
 * Fills a batch with what can be handed over next, up to `limit` messages: those that were set aside and are due, then the queue.
 *
 * @param now the time, in milliseconds since the Unix epoch
 * @param distinct end before the second message of an ordering key
 * @param calm whether messages that break their batch may be tried
 */
export async function fill(store: Store, batch: Batch, limit: number, now: number, distinct: boolean, calm: boolean): Promise<void> {
  const { memory } = store;
  /** Lanes whose head was redriven: earlier messages of their key may still stand in the queue. */
  const unclear: Unclear[] = [];
  if (memory.due <= now) {
    // What is set aside meanwhile may lower it again.
    memory.due = NEVER;
    const timer = memory.aside ? await takeTimers(store, batch, limit, calm, now) : NEVER;
    const lane = await takeLanes(store, batch, limit, distinct, calm, now, unclear);
    memory.due = Math.min(memory.due, timer, lane);
  }
  const alone = batch.handed.some(({ more }) => more.alone);
  const force = unclear.length > 0;
  if (memory.main && (memory.next <= now || force) && !alone) {
    const through = await takeMain(store, batch, limit, distinct, now);
    // Those that were found have yet to move behind the lane's name.
    const found = (key: string) => batch.entries.some((entry) => entry.more.key === key && !isAside(entry));
    const clear = unclear.filter(({ key, position }) => position <= through && !found(key));
    for (const { seen } of clear) store.clear.set(seen, through);
    // Nothing stood before them: now it is known.
    if (clear.length > 0 && batch.entries.length === 0) return fill(store, batch, limit, now, distinct, calm);
  }
  if (!batch.entries.some(isAside)) return;
  const inOrder = (a: Entry, b: Entry) => a.position - b.position;
  batch.entries.sort(inOrder);
  batch.handed.sort(inOrder);
}

/** Messages that wait for a time, as far as it has come. Returns the time of the first that has not, or an earlier one. */
async function takeTimers(store: Store, batch: Batch, limit: number, calm: boolean, now: number): Promise<number> {
  let bytes = 0;
  let skipped = NEVER;
  for (let start = numberedKey("t", 0); ; ) {
    const rows = await store.page("t", start, LAST_NUMBER);
    if (rows.length === 0) return skipped;
    for (const row of rows) {
      start = `${row.key}\0`;
      const due = keyNumber(row.key);
      if (due > now) return Math.min(skipped, due);
      const [entry] = entriesOf(row, row.data, row.data.messages);
      if (!entry) continue;
      if (entry.more.alone && batch.handed.length > 0) return 0;
      if (entry.more.alone && !calm) {
        skipped = 0;
        continue;
      }
      if (batch.handed.length >= limit || batch.entries.length >= lookFor(limit) || bytes > BATCH_BYTES) return 0;
      bytes += roughBytes(row.data.messages);
      batch.rows.push(row);
      hand(store, batch, entry, now);
      if (entry.more.alone && !entry.fate) return 0;
    }
  }
}

interface Unclear {
  readonly key: string;
  readonly seen: object;
  readonly position: number;
}

/** The heads of ordering keys that waited for a time which has come. */
async function takeLanes(
  store: Store,
  batch: Batch,
  limit: number,
  distinct: boolean,
  calm: boolean,
  now: number,
  unclear: Unclear[],
): Promise<number> {
  let next = NEVER;
  for (const [key, seen] of store.memory.lanes) {
    if (seen.due > now) next = Math.min(next, seen.due);
    else if (batch.handed.length >= limit || batch.entries.length >= lookFor(limit) || batch.handed.some(({ more }) => more.alone))
      return 0;
    else {
      const prefix = lanePrefix(key);
      const most = distinct ? 2 : PAGE_ROWS;
      const rows = await store.list({ prefix, limit: most }).catch((error) => store.unreadable(prefix, error));
      if (!rows) {
        // Its key waits, and nobody else.
        store.memory.lanes = new Map(store.memory.lanes).set(key, { ...seen, due: now + UNREADABLE_MS });
        next = Math.min(next, now + UNREADABLE_MS);
        continue;
      }
      const [first] = rows[0]?.data.messages ?? [];
      const position = first === undefined ? 0 : positionOf(first);
      const through = seen.mixed && store.memory.main ? (store.clear.get(seen) ?? 0) : NEVER;
      if (position > through) {
        unclear.push({ key, seen, position });
        next = 0;
        continue;
      }
      // The last row of a page is only looked at: what follows must be known before a lane is emptied.
      const whole = rows.length < most;
      batch.lanes.push({ key, seen, rows, whole });
      batch.rows.push(...rows);
      let taken = 0;
      for (const entry of (whole ? rows : rows.slice(0, -1)).flatMap((row) => entriesOf(row, row.data, row.data.messages))) {
        const { due = 0, alone } = entry.more;
        if (
          due > now ||
          entry.position > through ||
          batch.handed.length >= limit ||
          (distinct && taken) ||
          (alone && (!calm || batch.handed.length > 0))
        )
          break;
        hand(store, batch, entry, now);
        if (!entry.fate) taken++;
        if (alone) break;
      }
    }
  }
  return next;
}

/** The messages of the queue, from its head. Returns the position through which it was looked at: `NEVER` is its end. */
async function takeMain(store: Store, batch: Batch, limit: number, distinct: boolean, now: number): Promise<number> {
  const { memory } = store;
  const keys = new Set(distinct ? batch.handed.map(({ more }) => more.key) : []);
  const waiting = new Set<string>();
  const look = lookFor(limit);
  let looked = 0;
  let through = 0;
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
      const attempts = handedOver(memory, entry);
      if (attempts) entry.more = { ...entry.more, attempts };
      batch.entries.push(entry);
      if (key) waiting.add(key);
    } else {
      if (batch.handed.length >= limit || (distinct && key !== undefined && keys.has(key))) return false;
      hand(store, batch, entry, now);
      if (key !== undefined && !entry.fate) keys.add(key);
    }
    looked++;
    through = entry.position;
    return true;
  };
  let bytes = 0;
  for (let start = numberedKey("s", memory.first); ; ) {
    const { last } = memory;
    const found = await store.page("s", start, last);
    for (const row of found) {
      if (bytes > BATCH_BYTES) return through;
      bytes += roughBytes(row.data.messages);
      start = numberedKey("s", keyNumber(row.key) + 1);
      batch.rows.push(row);
      for (const entry of entriesOf(row, row.data, row.data.messages)) if (!add(entry)) return through;
    }
    // None of these can be read. A put may have closed another segment meanwhile.
    if (found.length === 0) start = numberedKey("s", last + 1);
    if (keyNumber(start) > memory.last) break;
  }
  // No await since the last segment was seen to be the last: nothing can have moved there.
  const read = batch.entries.length;
  const { object, epoch, base } = memory;
  for (const entry of entriesOf(null, { object, epoch, base }, messagesIn(memory.newest))) {
    if (!add(entry)) {
      memory.taken = batch.entries.length > read;
      return through;
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
  if (batch.entries.some((entry) => !isAside(entry))) return NEVER;
  memory.next = next;
  if (next < NEVER) return NEVER;
  // Everything that is left can't be read: nothing waits.
  memory.main = 0;
  memory.done = memory.position;
  return NEVER;
}

/** Counts a message to what can be handed over, or to the dead letters when it has expired. */
function hand({ memory }: Store, batch: Batch, entry: Entry, now: number): void {
  const { expires = NEVER } = entry.more;
  batch.entries.push(entry);
  if (expires <= now) {
    entry.fate = "dead";
    const { first = now } = entry.more;
    const error = "It expired before it was delivered.";
    entry.more = { ...entry.more, attempts: handedOver(memory, entry), reason: "expired", error, first, last: now };
  } else batch.handed.push(entry);
}

/** What messages take in memory, in bytes, about: only so that a batch has an end. */
function roughBytes(messages: readonly StoredMessage[]): number {
  let bytes = 0;
  for (const stored of messages) bytes += typeof stored === "string" ? stored.length : serializedBytes(stored);
  return bytes;
}
