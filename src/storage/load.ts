/** Loading: what an object's outbox reads when the object starts. */

import { DEFAULT_DESTINATION } from "../api/events.js";
import { PAGE_ROWS } from "../log/log.js";
import { ack, cursorAt, isAcked, type Range } from "../subscription/cursor.js";
import { type LaneState, newReader, type Reader } from "../subscription/reader.js";
import { loadHeader, loadReader, readersIn } from "./header.js";
import { linesOf, messagesIn } from "./lines.js";
import { NEVER, NO_EXTENSIONS, type OwnAlarmState, type Row } from "./memory.js";
import { isScheduled, positionOf, type Read, readAll, readMessage, startOf } from "./message.js";
import { damage } from "./read.js";
import {
  acksKey,
  decode,
  endOfReaders,
  HEADER,
  type HeaderRow,
  keyNumber,
  LAST_NUMBER,
  laneName,
  lanesOf,
  NO_IDS,
  READERS,
  type ReaderKind,
  type ReaderRow,
  readerPrefix,
  rowsOf,
  segmentNumber,
  slotIn,
} from "./rows.js";
import type { Store } from "./store.js";

/** So many headers in a row may be unreadable before storage itself counts as unreadable. */
const MOST_LOST_HEADERS = 8;
/** Rows read at once where each is a few bytes. */
const SMALL_ROWS = 1000;

/** Reads what the object left behind: one read where nothing waits. Resolves to whether there may be rows of the original package. */
export async function load(store: Store, object: string): Promise<boolean> {
  const { memory, log } = store;
  const row = await header(store);
  if (!row && memory.key === HEADER) return true;
  if (row) loadHeader(memory, { ...row });
  memory.tail = linesOf(row?.messages ?? []);
  const [head] = await log.page(memory.first, memory.last, 1);
  memory.first = head ? segmentNumber(head.key) : memory.last + 1;
  const [oldest] = head?.data.messages ?? [];
  if (oldest !== undefined) log.begin(positionOf(oldest) - 1);
  memory.readers = (row ? readersIn(row) : await lostReaders(store)).map(({ name, slot }) => newReader(name, slot));
  memory.slots = Math.max(memory.slots, ...memory.readers.map(({ slot }) => slot));
  for (const reader of memory.readers) {
    const state = row && (reader.slot === 0 ? row : row.readers?.find(({ slot }) => slot === reader.slot));
    await loadState(store, reader, state, head);
  }
  if (!row || row.object === object) return memory.adopting;
  // A copy. Its messages keep the identity they had. The platform does not restore an alarm with a copy, so the
  // original's own alarm is not the copy's either.
  const alarm: OwnAlarmState = memory;
  alarm.ownAlarm = null;
  // Nor is what extensions know of the original.
  memory.extensions = NO_EXTENSIONS;
  await store.newEpoch();
  return memory.adopting;
}

/** What is known of one reader. `row` is what the header says of it, if it could be read, and `head` the first segment. */
async function loadState(store: Store, reader: Reader, row: ReaderRow | undefined, head: Row | undefined): Promise<void> {
  const { memory } = store;
  if (row) loadReader(reader, row);
  const messages = messagesIn(memory.tail);
  const { cursor = [0], acks } = row ?? {};
  const [oldest] = head?.data.messages ?? messages;
  const [floor, ...ranges] = cursor;
  reader.cursor = cursorAt(Math.max(floor, (oldest ? positionOf(oldest) : memory.position + 1) - 1));
  reader.acksAtRest = acks === true;
  const key = acksKey(reader.prefix);
  const more = acks ? await store.native.get<Range[]>(key).catch((error) => store.unreadable(key, error)) : [];
  for (const [first, last] of [...ranges, ...(more ?? [])]) reader.cursor = ack(reader.cursor, first, last);
  // The header names the number where positions alone don't tell. It never exceeds what positions allow.
  reader.countAtRest = row?.main !== undefined;
  reader.queuedCount = Math.min(row?.main ?? NEVER, memory.position - reader.cursor.ackFloor);
  const waiting = messages.filter((stored) => !isAcked(reader.cursor, positionOf(stored)));
  if (!row) await recount(store, reader);
  else if (!head) {
    // All that is in the queue is in the header, or what else there was can't be read.
    reader.queuedCount = Math.min(reader.queuedCount, waiting.length);
    const timed = readAll(memory, waiting).filter(({ more }) => more.due !== undefined);
    reader.timedCount = Math.min(reader.timedCount, timed.length);
  }
  reader.timedCount = Math.min(reader.timedCount, reader.queuedCount);
  // What the header alone holds is a few messages; with segments, a run finds out.
  reader.queueDueAt = head ? 0 : Math.min(NEVER, ...waiting.map((stored) => readMessage(memory, stored).more.due ?? 0));
  if (reader.delayedCount) {
    const [timer] = await store.page(reader, "t", rowsOf(reader.prefix, "t"), LAST_NUMBER, 1);
    reader.delayedDueAt = timer ? keyNumber(reader.prefix, timer.key) : NEVER;
  }
  if (reader.blockedCount || reader.heldKeys || !row) await lanes(store, reader);
}

/** The readers of an object whose header is lost: `sendMessages`, and those of which rows are left. Their names are lost with it. */
async function lostReaders(store: Store): Promise<{ name: string; slot: number }[]> {
  const readers = [{ name: DEFAULT_DESTINATION, slot: 0 }];
  for (let start = READERS; ; ) {
    const [found] = await store.reading.values({ start, end: endOfReaders, limit: 1 });
    if (!found) return readers;
    const slot = slotIn(found[0]);
    readers.push({ name: `slot ${slot}`, slot });
    start = `${readerPrefix(slot)}\u{10FFFF}`;
  }
}

/**
 * The header. One that can't be read is kept as it is, and the next has another key. Where only some of its messages can't be read, that one
 * goes on with all the rest; otherwise in a new epoch, with what was counted counted again.
 */
async function header(store: Store): Promise<HeaderRow | undefined> {
  const { memory } = store;
  let rest: HeaderRow | undefined;
  for (;;) {
    let error: unknown;
    try {
      const value = await store.native.get(memory.key);
      if (value === undefined) break;
      rest = headerIn(value);
      if (!rest.damaged) return rest;
      error = damage(rest.damaged, rest.messages);
    } catch (cause) {
      rest = undefined;
      error = cause;
    }
    // Storage as a whole is out of reach: the object has been reset, say.
    if (memory.key.length > HEADER.length + MOST_LOST_HEADERS) throw error;
    store.unreadable(memory.key, error);
    memory.key += "-";
  }
  if (rest || memory.key === HEADER) return rest;
  // The numbers are lost with it. The next ones are beyond any that can have been used.
  memory.last = store.now();
  memory.base = memory.position = memory.last * 1024;
  return undefined;
}

/** @throws when this is no header. */
function headerIn(value: unknown): HeaderRow {
  const row = decode<HeaderRow>(value);
  const { position, first, last } = row;
  if (![position, first, last].every(Number.isSafeInteger)) throw new TypeError("This row is no header of the outbox's.");
  return row;
}

/** What only the lost header knew, counted again. */
async function recount(store: Store, reader: Reader): Promise<void> {
  const { memory, log } = store;
  reader.countAtRest = true;
  reader.queuedCount = 0;
  for (let next = memory.first; ; ) {
    const rows = await log.page(next, memory.last);
    const last = rows.at(-1);
    if (!last) break;
    next = segmentNumber(last.key) + 1;
    for (const { data } of rows) {
      reader.queuedCount += data.messages.length;
      reader.timedCount += readAll(data, data.messages).filter(({ more }) => more.due !== undefined).length;
    }
  }
  const scheduled = (message: Read): void => {
    reader.oldestDelayedAt = Math.min(reader.oldestDelayedAt || NEVER, startOf(message));
    if (isScheduled(message.more)) reader.scheduledCount++;
  };
  reader.delayedCount = await count(store, reader, "t", (message, { key }) => {
    if (keyNumber(reader.prefix, key) === 0) reader.redrivenCount++;
    scheduled(message);
  });
  reader.deadCount = await count(store, reader, "d");
  reader.blockedCount = await count(store, reader, "k", scheduled);
  // What is remembered in rows is found by looking.
  memory.ids = { ...NO_IDS, spills: 1 };
}

/** Messages in a reader's rows of a kind. */
async function count(store: Store, reader: Reader, kind: ReaderKind, see: (message: Read, row: Row) => void = () => {}): Promise<number> {
  let messages = 0;
  const { prefix } = reader;
  for (let start = rowsOf(prefix, kind); ; ) {
    const rows =
      kind === "k"
        ? await store.list({ start, end: lanesOf(prefix), limit: PAGE_ROWS })
        : await store.page(reader, kind, start, LAST_NUMBER);
    const last = rows.at(-1);
    if (!last) return messages;
    for (const row of rows) {
      messages += row.data.messages.length;
      for (const message of row.data.messages) see(readMessage(row.data, message), row);
    }
    start = `${last.key}\0`;
  }
}

/** The ordering keys of which messages wait. One whose row can't be read goes on at once. */
async function lanes(store: Store, reader: Reader): Promise<void> {
  const { reading } = store;
  const { prefix } = reader;
  const begin = lanesOf(prefix);
  const lanes = new Map<string, LaneState>();
  const add = (key: string, row: unknown): void => {
    try {
      const lane = laneIn(row);
      if (!lane) store.unreadable(key, new TypeError("This row does not say when its ordering key goes on."));
      lanes.set(laneName(prefix, key), lane ?? { due: 0, hasRedriven: true });
      reader.delayedDueAt = Math.min(reader.delayedDueAt, lane?.due ?? 0);
    } catch (error) {
      store.unreadable(key, error);
    }
  };
  const end = `${begin}\u{10FFFF}`;
  for (let start = begin; ; ) {
    const found = await reading.values({ start, end, limit: SMALL_ROWS });
    for (const [key, row] of found) {
      add(key, row);
      start = `${key}\0`;
    }
    if (found.length < SMALL_ROWS) break;
  }
  for (const key of reading.lost()) if (key.startsWith(begin)) add(key, undefined);
  reader.lanes = lanes;
  reader.heldKeys = [...lanes.values()].filter(({ held }) => held).length;
}

function laneIn(row: unknown): LaneState | undefined {
  const [due, hasRedriven = true, held = 0]: unknown[] = Array.isArray(row) ? row : [row, false];
  if (!(typeof due === "number" && due >= 0)) return undefined;
  return { due, hasRedriven: hasRedriven === true, ...(Number(held) > 0 && { held: Number(held) }) };
}
