/** Cancelling: takes back a message that waits, whether or not it has been tried. And its opposite: lets one that waits for a time wait no longer. */

import { OutboxError } from "../api/errors.js";
import type { MessageMeta } from "../api/meta.js";
import { type OutboxContext, untilWritable } from "../context.js";
import { ownersOf } from "../log/ids.js";
import { NEVER, type Row } from "../storage/memory.js";
import { isScheduled, positionOf, type Read, restored } from "../storage/message.js";
import { keyNumber, kindOf, segmentNumber } from "../storage/rows.js";
import { idOf, placeOf, type Scan } from "../storage/scan.js";
import type { Batch } from "../subscription/batch.js";
import { tried } from "../subscription/breaker.js";
import { ack, isAcked, openUpTo } from "../subscription/cursor.js";
import type { Delivery } from "../subscription/delivery.js";

/** So many gaps may be in the queue that is left when messages are cancelled: each takes some 20 bytes of a row. */
const MOST_RANGES = 3000;

export interface Canceller {
  /** Resolves to whether the message could be taken back. */
  cancel(id: string): Promise<boolean>;
  /** Lets a message that waits for a time be due at once. Resolves to whether it waited for one, and was not being handed over. */
  hasten(id: string): Promise<boolean>;
  /** Takes back those of these messages that have been tried. Resolves to how many. */
  discardTried(ids: ReadonlySet<string>): Promise<number>;
  /** Finds a message that waits. To be called, and what it returns used, while nothing else reads the queue and then writes. */
  find(id: string): Promise<Removal | null>;
}

/** How a message that waits can be taken back. */
export interface Removal {
  /** Whether it has been handed over: now, or before. */
  isTried(): boolean;
  /** Whether it still waits, and is not being handed over: `null` where a commit that has begun decides that. */
  check(): boolean | null;
  /** Takes it back, in memory and in the rows that the caller writes, the header excepted. */
  change(rows: Record<string, unknown>): void;
}

/** The same, with what else can be done to it. */
interface Change extends Removal {
  forget(rows: Record<string, unknown>): void;
  /** Whether it waits for a time of its own or for a backoff. */
  isLate(): boolean;
  /** Lets it wait for that no longer, where `change` would take it back. */
  hasten(rows: Record<string, unknown>): void;
}

/** Cancelling for one destination. */
export function cancellerOf(parts: OutboxContext, { reader, queue, pull }: Delivery, scan: Scan, wake: () => unknown): Canceller {
  const { store, delivery } = parts;
  const { memory } = store;
  const { prefix } = reader;

  /** Reads a row as it is when this resolves. What is in hand will be written as it is held there, so that is the row. */
  async function latest(range: DurableObjectListOptions): Promise<Row | undefined> {
    for (;;) {
      const { settled } = queue;
      const { transactions } = store;
      const [row] = await store.list({ ...range, limit: 1 });
      // Meanwhile a batch may have changed it, or a transaction that began or was rolled back.
      if (queue.settled === settled && store.transactions === transactions) {
        return reader.held.get(row?.key ?? "") ?? row;
      }
    }
  }

  return { cancel: (id) => until(() => remove(id)), hasten: (id) => until(() => retry(id)), discardTried, find };

  /** Tries again where a commit that has begun decides. */
  async function until(work: () => Promise<boolean | null>): Promise<boolean> {
    for (;;) {
      await untilWritable(parts);
      const done = await queue.alone(work);
      if (done !== null) return done;
    }
  }

  /** Takes back those of these messages that have been tried. Resolves to how many. What has never been tried is for `cancel` alone. */
  async function discardTried(ids: ReadonlySet<string>): Promise<number> {
    await untilWritable(parts);
    let count = 0;
    for (const kind of ["t", "k", "s"] as const) {
      for await (const found of scan.messages(kind)) {
        const attempts = found.row && kind !== "s" ? found.more.attempts : tried(reader.breaker, found.position);
        if (attempts && ids.has(idOf(found)) && (await until(() => remove(idOf(found))))) count++;
        // Behind the last that was tried nothing was.
        if (kind === "s" && found.position >= (reader.breaker.vain.at(-1)?.[0] ?? 0)) break;
      }
    }
    return count;
  }

  async function find(id: string): Promise<Change | null> {
    const { rollbacks } = store;
    const position = await scan.locate(id);
    for (const kind of ["s", "t", "k"] as const) {
      const behind = kind === "s" && position !== undefined ? ({ kind, key: "", position: position - 1 } as const) : undefined;
      for await (const { row, ...read } of scan.messages(kind, behind)) {
        if (kind === "s" && position !== undefined && read.position > position) break;
        if (idOf(read) === id) return await removalOf(kind, row, read, rollbacks);
      }
    }
    return null;
  }

  /** Takes the message with this id back, if it is found. Resolves to `null` where that has to wait for a commit that has begun. */
  async function remove(id: string): Promise<boolean | null> {
    const removal = await find(id);
    const done = removal ? removal.check() : false;
    if (!removal || !done) return done;
    // It may have been under suspicion: the search for what breaks its call begins again.
    if (removal.isTried() && reader.breaker.suspects > 0) reader.breaker = { ...reader.breaker, suspects: 0, proven: false };
    const written = store.commit((rows) => {
      removal.forget(rows);
      removal.change(rows);
      rows[memory.key] = store.header();
    });
    void wake();
    await written;
    return true;
  }

  /** Lets the message with this id wait for its time no longer, if it is found. Resolves to `null` where that has to wait for a commit that has begun. */
  async function retry(id: string): Promise<boolean | null> {
    const found = await find(id);
    if (!found?.isLate()) return false;
    const done = found.check();
    if (!done) return done;
    const written = store.commit((rows) => {
      found.hasten(rows);
      rows[memory.key] = store.header();
    });
    void wake();
    await written;
    return true;
  }

  async function removalOf(kind: "s" | "t" | "k", found: Row | null, read: Read, rollbacks: number): Promise<Change> {
    const { position, stored, more } = read;
    const forget = await store.ids.forgetting(ownersOf([{ position, more }]));
    const row = kind === "s" ? undefined : found && (await latest({ start: found.key, end: `${found.key}\0` }));
    // One that is tried in place of another is not among those of its batch that are to be handed over, but has been given away.
    const isHeld = ({ handed, entries }: Batch): boolean =>
      [...handed, ...entries.filter(({ given }) => given)].some((entry) => entry.position === position);
    const isInHand = (): boolean => pull.has(position) || (queue.batch !== null && isHeld(queue.batch));
    return {
      isTried: () => isInHand() || ((row ? more.attempts : tried(reader.breaker, position)) ?? 0) > 0,

      check() {
        // What was found may have been rolled back, and its position is given to another message.
        if (store.rollbacks !== rollbacks) return null;
        const isThere = row
          ? row.data.messages.some((message) => positionOf(message) === position)
          : kind === "s" && !isAcked(reader.cursor, position);
        if (isInHand() || !isThere) return false;
        if (!row && reader.cursor.acked.length >= MOST_RANGES) {
          throw new OutboxError(
            "outbox_full",
            `Too many messages have been cancelled out of order: the queue keeps track of ${MOST_RANGES} such places.`,
          );
        }
        return untilWritable(parts) ? null : true;
      },

      // Another destination may have yet to get it.
      forget: (rows) => void (delivery.isWanted({ position, stored }, reader) || forget(rows)),

      change(rows) {
        if (row) removeFrom(row, position, more, rows);
        else removeFromLog(found, position, more, rows);
      },

      // In the queue, what waits behind its key has yet to be moved there: with that its time is looked at. And what a destination takes that is missing is
      // not known until it is there again.
      isLate: () => (more.due ?? 0) > store.now() && !reader.isMissing && !(!row && more.key !== undefined && reader.lanes.has(more.key)),

      hasten(rows) {
        const { due: _, ...rest } = more;
        // One that waited for a time of its own could first be handed over now.
        const next = { ...read, more: { ...rest, ...(isScheduled(more) && { from: store.now() }) } };
        if (row && isScheduled(more)) reader.scheduledCount--;
        if (row && kind === "k") {
          const messages = row.data.messages.map((message) => (positionOf(message) === position ? restored(read, next.more) : message));
          store.rewrite(reader, row, messages, rows);
          queue.wakeLane(more.key ?? "", rows);
          return;
        }
        store.moves.note(position, placeOf(prefix, kind, { ...read, row: row ?? null }));
        if (row) {
          store.rewrite(reader, row, [], rows);
          reader.delayedCount--;
        } else removeFromLog(found, position, more, rows);
        queue.join(more.key, [next], rows);
        // Earlier messages of its key may still be in the queue, and belong before it.
        if (more.key !== undefined) queue.wakeLane(more.key, rows, true);
      },
    };
  }

  /** The log stays as it is: its reader is done with the message. */
  function removeFromLog(segment: Row | null, position: number, { due }: MessageMeta, rows: Record<string, unknown>): void {
    const { cursor } = reader;
    const { first } = memory;
    if (segment && segmentNumber(segment.key) === first) store.log.noteEnd(store.log.current(segment), first - 1);
    reader.cursor = ack(cursor, position);
    // Where the destination is missing nobody knows whether the message was counted. Counting too many costs a look, too few a message.
    const open = openUpTo(reader.cursor, memory.position);
    reader.queuedCount = Math.min(reader.queuedCount - (reader.isMissing ? 0 : 1), open);
    reader.timedCount = Math.min(reader.timedCount - (reader.isMissing || due === undefined ? 0 : 1), reader.queuedCount);
    if (reader.queuedCount === 0) reader.queueDueAt = NEVER;
    store.passed(reader, rows, cursor);
  }

  function removeFrom(row: Row, position: number, more: MessageMeta, rows: Record<string, unknown>): void {
    reader.cancelled = new Set(reader.cancelled).add(position);
    const rest = row.data.messages.filter((message) => positionOf(message) !== position);
    store.rewrite(reader, row, rest, rows);
    if (isScheduled(more)) reader.scheduledCount--;
    if (kindOf(prefix, row.key) === "t") {
      reader.delayedCount--;
      if (keyNumber(prefix, row.key) === 0) reader.redrivenCount--;
      return;
    }
    reader.blockedCount--;
    queue.wakeLane(more.key ?? "", rows);
    queue.endLanes(rows);
  }
}
