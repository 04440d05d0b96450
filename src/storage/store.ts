/** The store: the one place that reads and writes the outbox's rows, and the numbers that it must never give out twice. */

import type { Emit } from "../api/events.js";
import type { MessageMeta } from "../api/meta.js";
import type { ClassSettings } from "../api/options.js";
import { epochAfter } from "../log/epoch.js";
import { type Ids, idsOf } from "../log/ids.js";
import { type Log, logOf, PAGE_ROWS, segmentsIn } from "../log/log.js";
import { CLOSED, isCounted, isOver } from "../subscription/breaker.js";
import { ack, type Cursor, cursorAt, MAX_RANGES } from "../subscription/cursor.js";
import { absolve, holdRows, lettersDueAt, type Reader, snapshotOf, suspect, takes, undelivered, waits } from "../subscription/reader.js";
import type { Chore } from "./chore.js";
import { headerOf } from "./header.js";
import { type Memory, memoryOf, NEVER, type Row } from "./memory.js";
import type { Draft, StoredMessage } from "./message.js";
import { Moves } from "./moves.js";
import { inParts, MAX_KEYS, type Native } from "./native.js";
import { type Reading, readingOf } from "./read.js";
import { acksKey, HEADER_LAST, type NumberedKind, numberedKey, stored } from "./rows.js";

/** So many keys leave room for the outbox's own in one put: the header, a segment, and a caller's id. */
export const FEW_KEYS: number = MAX_KEYS - 3;

/** One object's outbox at rest. Every method that writes does so before its first `await`. */
export interface Store {
  readonly memory: Memory;
  /** The object's clock, in milliseconds since the Unix epoch: the outbox asks no other. */
  readonly now: () => number;
  readonly log: Log;
  /** The callers' own ids. */
  readonly ids: Ids;
  /** The native storage, or the open transaction through which everything goes, so that it rolls back with it on both backends. */
  native: Native;
  /** While a transaction is open: settles when it has ended. */
  open: Promise<void> | null;
  /** The closure of the open transaction has ended, and its commit has not. */
  closing: boolean;
  /** How many transactions have begun or ended: what was read before has to be read again. */
  transactions: number;
  /** How many have been rolled back. */
  rollbacks: number;
  /** How many messages have been taken back, because storage refused their put. */
  retractions: number;
  /** Where messages have been that somebody may look for. */
  readonly moves: Moves;
  /** A message was put with `allowUnconfirmed` since the last sync: nothing keeps it from being sent before it is durable. */
  unconfirmed: boolean;
  /** Messages that the reader which is farthest behind has yet to deliver. May count too many after rows that can't be read; never too few. */
  undelivered(): number;
  /** Whether any message may be delivered to any destination. */
  waits(): boolean;
  /** Whether the outbox wants to be woken: for such a message, or for dead letters that will be deleted. */
  wakes(): boolean;
  /** Work of extensions that the alarm wakes as well: see `addChore`. */
  readonly chores: Chore[];
  /** When there is other work for the alarm than delivery: that of chores, and dead letters to delete. `NEVER` where there is none. */
  otherWorkAt(): number;
  /** The readers that take a message. */
  takers(draft: Draft): readonly Reader[];
  /** An earlier life died of something else than what its runs had in hand. */
  absolve(): void;
  /** An earlier life may have died of what its runs had in hand. */
  suspect(): void;
  /** What puts memory back as it is now, with every reader: for a transaction that rolls back. */
  snapshot(): () => void;
  /** From the next message on a new epoch counts from 1: `beginEpoch` in memory only. */
  beginEpoch(): void;
  newEpoch(): Promise<void>;
  /** Adds a message, and to `entries` the rows that the caller writes with them and with the header, which comes last. Returns the message's position. */
  append(entries: Record<string, unknown>, draft: Draft, at: number, more: MessageMeta | undefined, takers: readonly Reader[]): number;
  /** Resolves when the next message has been added. */
  appended(): Promise<void>;
  /** Deletes what all readers have passed. Returns whether the header must be written, because nothing else says how far this one has come. */
  passed(reader: Reader, rows: Record<string, unknown>, before: Cursor): boolean;
  /** Deletes segments that every reader has passed without reading them, once nothing is in any queue. */
  tidy(): Promise<void>;
  /** Takes back a message whose put was refused. Returns whether it could: not once its row has been written by another call. */
  retract(position: number, entries: Record<string, unknown>, meta: MessageMeta | undefined, takers: readonly Reader[]): boolean;
  /** The time of the outbox's alarm that is firing or still set, or 0. While nothing waits the header names it: it is not the object's own. */
  readonly outboxAlarmLeft: () => number;
  /** The header as it should stand now. */
  header(): unknown;
  /** How many have been made: one that is written later than a newer one has to be made again. */
  headers: number;
  /** Writes the header: after a change to what only it holds. */
  saveHeader(): Promise<void>;
  /** Reads the next of a reader's rows from a key on, up to and with a number: none where there are no more that can be read. */
  page(reader: Reader, kind: NumberedKind, start: string, last: number, limit?: number): Promise<Row[]>;
  /** Reads rows of messages. */
  readonly list: Reading["list"];
  /** Reads what else is stored. */
  readonly reading: Reading;
  /** Reports what can't be read. */
  readonly unreadable: Reading["unreadable"];
  /** Writes any number of entries as one commit: they go down in one turn. */
  put(entries: Record<string, unknown>, options?: DurableObjectPutOptions): Promise<unknown>;
  /** Deletes any number of keys as one commit. Resolves to how many existed. */
  delete(keys: readonly string[], options?: DurableObjectPutOptions): Promise<number>;
  /** Gives a row of a reader other messages, in memory and in the rows that the caller writes. Without messages it is deleted. */
  rewrite(reader: Reader, row: Row, messages: readonly StoredMessage[], rows: Record<string, unknown>): void;
  /** Both at once: what is `undefined` is deleted. */
  write(rows: Record<string, unknown>): Promise<unknown>;
  /**
   * Changes memory and writes the rows that go with that, in one turn. Should anything fail in between, the object is reset: it must
   * never go on with a memory that is ahead of storage.
   *
   * @param waitMs where nothing but the header changes, the next header that is written may say so, within so many milliseconds: see `Memory.settleAt`
   */
  commit(change: (rows: Record<string, unknown>) => void, waitMs?: number): Promise<unknown>;
}

/**
 * @param abort resets the object, which begins again from what is stored: for a write that storage refuses, and that memory is ahead of
 * @param settings how long the id of a message that was delivered is remembered, and what is kept of the log
 * @param outboxAlarmLeft as in `Store`
 * @param recorded the header that is made says what was delivered: nothing has to wake the object for that any more, and what has to is set in this turn
 */
export function storeOf(
  object: string,
  storage: Native,
  emit: Emit,
  abort: (reason: string) => void,
  { idempotencySeconds, settleWithinSeconds, retain }: Pick<ClassSettings, "idempotencySeconds" | "settleWithinSeconds" | "retain">,
  now: () => number,
  outboxAlarmLeft: () => number,
  recorded: () => void,
): Store {
  const memory = memoryOf(object);
  const header = headerOf(object);
  const settles = settleWithinSeconds > 0;

  function watched<T>(write: Promise<T>): Promise<T> {
    write.catch((error) => abort(String(error)));
    return write;
  }

  let nextAppended: Promise<void> | null = null;
  let tellAppended: (() => void) | null = null;
  const choresDueAt = (): number => store.chores.reduce((first, chore) => Math.min(first, chore.dueAt()), NEVER);
  const reading = readingOf(() => store.native, emit);
  const log = logOf(memory, reading.list, retain, now);

  const store: Omit<Store, "ids"> = {
    memory,
    now,
    log,
    native: storage,
    open: null,
    closing: false,
    transactions: 0,
    rollbacks: 0,
    headers: 0,
    retractions: 0,
    moves: new Moves(),
    unconfirmed: false,

    undelivered: () => memory.readers.reduce((most, reader) => Math.max(most, undelivered(reader)), 0),
    waits: () => memory.readers.some(waits),
    wakes: () => memory.readers.some((reader) => waits(reader) || lettersDueAt(reader) < NEVER),

    chores: [],

    otherWorkAt: () => memory.readers.reduce((first, reader) => Math.min(first, lettersDueAt(reader)), choresDueAt()),

    takers({ json, msg }) {
      if (memory.readers.every(({ types }) => types === null)) return memory.readers;
      // As it is stored: whatever the caller's own object says when it is asked again.
      const stored: unknown = json === undefined ? msg : JSON.parse(json);
      return memory.readers.filter((reader) => takes(reader, stored));
    },

    absolve() {
      for (const reader of memory.readers) absolve(reader);
    },

    suspect() {
      for (const reader of memory.readers) if (undelivered(reader) > 0) suspect(reader);
    },

    snapshot() {
      const before = { ...memory };
      const restore = memory.readers.map(snapshotOf);
      return () => {
        Object.assign(memory, before);
        for (const each of restore) each();
      };
    },

    beginEpoch: () => void Object.assign(memory, { object, epoch: epochAfter(memory.epoch, now()), base: memory.position }),

    newEpoch() {
      const entries: Record<string, unknown> = {};
      log.seal(entries);
      store.beginEpoch();
      entries[memory.key] = store.header();
      return watched(store.native.put(entries));
    },

    append(entries, draft, at, meta, takers) {
      const position = log.append(entries, draft, at, meta);
      for (const reader of memory.readers) {
        if (takers.includes(reader)) {
          reader.queuedCount++;
          if (meta?.due) reader.timedCount++;
          reader.queueDueAt = Math.min(reader.queueDueAt, meta?.due ?? 0);
        } else if (reader.queuedCount === 0) reader.cursor = cursorAt(position);
      }
      if (tellAppended) tellAppended();
      return position;
    },

    appended() {
      nextAppended ??= new Promise((resolve) => {
        tellAppended = () => {
          nextAppended = tellAppended = null;
          resolve();
        };
      });
      return nextAppended;
    },

    passed(reader, rows, before) {
      // Nothing waits: what is beyond the last message that was read holds none.
      for (const each of memory.readers) if (each.queuedCount === 0) each.cursor = cursorAt(memory.position);
      const changed = log.trim(Math.min(...memory.readers.map(({ cursor }) => cursor.ackFloor)), rows);
      const start = log.start();
      for (const each of memory.readers) each.cursor = ack(each.cursor, each.cursor.ackFloor + 1, start);
      const { prefix, cursor, acksAtRest } = reader;
      const more = cursor.acked.slice(MAX_RANGES);
      if (more.length > 0 || acksAtRest) rows[acksKey(prefix)] = more.length > 0 ? more : undefined;
      reader.acksAtRest = more.length > 0;
      const hasRanges = cursor.acked.length > 0 || before.acked.length > 0;
      return changed || (cursor !== before && (hasRanges || cursor.ackFloor > start));
    },

    async tidy() {
      const isLeft = (): boolean =>
        !store.open &&
        memory.first <= memory.last &&
        memory.readers.every(({ queuedCount }) => queuedCount === 0) &&
        log.mayTrim(memory.position);
      for (let first = 0; isLeft() && memory.first > first; ) {
        ({ first } = memory);
        await log.sweep();
        if (!isLeft()) return;
        await store.commit((rows) => {
          for (const reader of memory.readers) store.passed(reader, rows, reader.cursor);
          if (memory.readers.length === 0) log.trim(memory.position, rows);
          rows[memory.key] = store.header();
        });
      }
    },

    retract(position, entries, meta, takers) {
      store.retractions++;
      const { position: last } = memory;
      const rows = log.retract(position, segmentsIn(Object.keys(entries)));
      if (!rows) return false;
      const isLast = memory.position < last;
      for (const reader of memory.readers) {
        if (takers.includes(reader)) {
          reader.queuedCount--;
          if (meta?.due !== undefined) reader.timedCount--;
        } else if (reader.cursor.ackFloor > memory.position) reader.cursor = cursorAt(memory.position);
        // Where it is in a segment, no reader gets it.
        if (!isLast) reader.cursor = ack(reader.cursor, position);
      }
      // A later put may have written the message. What is delivered went with the header that was refused.
      if (!isLast || settles || Object.keys(rows).length > 0) {
        for (const reader of memory.readers) store.passed(reader, rows, reader.cursor);
        store.write({ ...rows, [memory.key]: store.header() }).catch(() => {}); // The caller of put() has had the error.
      }
      return true;
    },

    outboxAlarmLeft,
    header() {
      store.headers++;
      for (const chore of store.chores) chore.look?.();
      if (memory.settleAt < NEVER) {
        memory.settleAt = NEVER;
        recorded();
      }
      const firing = store.wakes() ? 0 : store.outboxAlarmLeft();
      memory.outboxAlarmAtRest = firing;
      for (const reader of memory.readers) {
        const { breaker, cursor } = reader;
        const matters = (breaker.controls > 0 && store.undelivered() > 0) || isCounted(breaker, cursor.ackFloor);
        if (breaker !== CLOSED && isOver(breaker) && !matters) reader.breaker = CLOSED;
      }
      return header(memory, store.wakes(), log.start(), choresDueAt() < NEVER);
    },

    saveHeader() {
      const rows: Record<string, unknown> = {};
      log.makeRoom(rows);
      return watched(store.native.put({ ...rows, [memory.key]: store.header() }));
    },

    reading,
    unreadable: reading.unreadable,
    list: reading.list,
    async page({ prefix }, kind, start, last, limit = PAGE_ROWS) {
      const end = numberedKey(prefix, kind, last + 1);
      return start < end ? reading.list({ start, end, limit }) : [];
    },

    put(entries, options) {
      const all = Object.entries(entries);
      if (all.length <= MAX_KEYS) return store.native.put(entries, options);
      return inParts(all, (part) => store.native.put(Object.fromEntries(part), options));
    },

    delete: async (keys, options) =>
      (await inParts(keys, (part) => store.native.delete(part, options))).reduce((sum, count) => sum + count, 0),

    rewrite(reader, { key, data }, messages, rows) {
      const changed = { ...data, messages };
      if (reader.held.has(key)) holdRows(reader, [{ key, data: changed }]);
      rows[key] = stored(changed);
    },

    write(rows) {
      const kept = Object.fromEntries(Object.entries(rows).filter(([, value]) => value !== undefined));
      // What is moved is put before it is deleted: should the isolate end between the two calls, it comes twice rather than never.
      return watched(Promise.all([store.put(kept), store.delete(Object.keys(rows).filter((key) => rows[key] === undefined))]));
    },

    commit(change, waitMs = 0) {
      const rows: Record<string, unknown> = {};
      try {
        if (log.makeRoom(rows)) rows[memory.key] = HEADER_LAST;
        change(rows);
        const isAlone = rows[memory.key] === HEADER_LAST && Object.keys(rows).length === 1;
        if (isAlone && waitMs > 0) {
          memory.settleAt = Math.min(memory.settleAt, now() + waitMs);
          return Promise.resolve();
        }
        // What is written may rest on what the stored header does not know yet.
        const isBehind = memory.settleAt < NEVER && Object.keys(rows).length > 0;
        if (rows[memory.key] === HEADER_LAST || isBehind) rows[memory.key] = store.header();
        return store.write(rows);
      } catch (error) {
        abort(String(error));
        throw error;
      }
    },
  };
  return Object.assign(store, { ids: idsOf(store, idempotencySeconds * 1000) });
}
