/** Stats: the state of the outbox at a moment, mostly from what memory counts. */

import { type OutboxContext, untilWritable } from "../context.js";
import { PAGE_ROWS } from "../log/log.js";
import { messagesIn } from "../storage/lines.js";
import { NEVER } from "../storage/memory.js";
import { readAll, startOf } from "../storage/message.js";
import { LAST_NUMBER, lanesOf, rowsOf } from "../storage/rows.js";
import { isAcked } from "../subscription/cursor.js";
import type { Delivery } from "../subscription/delivery.js";
import { takes } from "../subscription/reader.js";

/** The state of one destination at a moment. */
export interface OutboxDestinationStats {
  /** Messages in the queue that wait for nothing but their turn. */
  pending: number;
  /** Messages that wait for a time: delayed, or failed by themselves. */
  delayed: number;
  /** Those that are delayed or blocked and have a time of their own (`delaySeconds`, `deliverAt`) before which nobody has tried them. */
  scheduled: number;
  /** Messages that wait behind a delayed one with the same ordering key. */
  blocked: number;
  /** Ordering keys that wait for a dead letter (`onDead: "hold"`): their messages are `blocked` until it is redriven or discarded. */
  held: number;
  /** Dead letters. */
  dead: number;
  /** How many dead letters the limits in `deadLetters` have deleted. */
  deadDeleted: number;
  /**
   * How long the oldest undelivered message has waited, in seconds, from when it could first be delivered: since it was put, or since its
   * own time. 0 when none does; one whose time has not come waits for nothing else. Exact while at most 1,000 rows are set aside; beyond
   * that it may be too high, never too low.
   */
  oldestAgeSeconds: number;
  /** When the outbox tries next, in milliseconds since the Unix epoch: `null` when nothing waits, or the destination is paused or missing. */
  nextAttemptAt: number | null;
  /** `"open"` from a failure of the handler to its next success: meanwhile the whole destination backs off. */
  breaker: "closed" | "open";
  /** Failed calls of the handler in a row. */
  failures: number;
  /** Why the last of them failed, while the breaker is open: the first 200 characters. After a restart all destinations share so many. */
  error?: string;
  /** Whether `pause()`, or an error of its handler with `pause: true`, holds its deliveries back. */
  paused: boolean;
  /** Present where the class does not have the destination any more: what it has yet to get is kept. */
  missing?: true;
  /** Messages that consumers have received and not yet settled, which are pending or delayed as well: of a destination with `pull: true`. */
  leased?: number;
}

/**
 * The state of the outbox at this moment. Reading it costs, for each destination, a page of the queue, and up to a thousand rows of what is set
 * aside. Where there are several destinations the counts are sums, so a message counts once for each that has yet to get it; ages, failures
 * and times are those of the one that is worst off, and `paused` is whether all of them are.
 */
export interface OutboxStats extends Omit<OutboxDestinationStats, "error" | "missing" | "leased"> {
  /** How much of `maxPending` waits, from 0 to 1: at 1 puts are refused. 0 without `maxPending`. The event `filling` reports 0.8. */
  pressure: number;
  /** The same of each destination, by name: `default` is `sendMessages`. */
  destinations: Record<string, OutboxDestinationStats>;
  /** The log, where it is retained: the positions of its first and last message (`first` is greater when it is empty), and about how many bytes it takes. */
  log?: { first: number; last: number; bytes: number };
}

/** So many rows of what is set aside are looked through for the oldest. */
const MOST_ROWS = 1000;

/** `stats` of one object. */
export function statsOf(parts: OutboxContext): () => Promise<OutboxStats> {
  const { store, settings } = parts;
  const { memory, log } = store;
  const { retain } = settings;
  return async () => {
    await untilWritable(parts);
    const destinations: Record<string, OutboxDestinationStats> = {};
    for (const each of parts.delivery.all) destinations[each.reader.name] = await destinationStats(parts, each);
    const all = Object.values(destinations);
    const sum = (name: "pending" | "delayed" | "scheduled" | "blocked" | "held" | "dead" | "deadDeleted"): number =>
      all.reduce((total, each) => total + each[name], 0);
    const attempts = all.flatMap(({ nextAttemptAt }) => nextAttemptAt ?? []);
    return {
      ...{ pending: sum("pending"), delayed: sum("delayed"), scheduled: sum("scheduled"), blocked: sum("blocked") },
      ...{ held: sum("held"), dead: sum("dead"), deadDeleted: sum("deadDeleted") },
      oldestAgeSeconds: Math.max(0, ...all.map((each) => each.oldestAgeSeconds)),
      nextAttemptAt: attempts.length > 0 ? Math.min(...attempts) : null,
      breaker: all.some(({ breaker }) => breaker === "open") ? "open" : "closed",
      failures: Math.max(0, ...all.map(({ failures }) => failures)),
      paused: all.length > 0 && all.every(({ paused }) => paused),
      pressure: Math.min(1, store.undelivered() / settings.maxPending),
      destinations,
      ...(retain && { log: { first: log.earliest(), last: memory.position, bytes: memory.logBytes + memory.tail.bytes } }),
    };
  };
}

async function destinationStats({ store }: OutboxContext, { reader, queue, nextAttempt, pull }: Delivery): Promise<OutboxDestinationStats> {
  const { memory, log } = store;
  const { prefix } = reader;

  /** When the first of the queue's messages could first be delivered. What has no time of its own is in order; what has one may be before that. */
  async function oldestInQueue(): Promise<number> {
    if (reader.queuedCount === 0) return NEVER;
    const rows = await log.page(await log.seek(reader.cursor.ackFloor, reader.segment), memory.last);
    const found = rows.flatMap(({ data }) => readAll(data, data.messages));
    const whole = rows.length < PAGE_ROWS;
    const all = [...found, ...(whole ? readAll(memory, messagesIn(memory.tail)) : [])].filter(
      ({ position, msg }) => !isAcked(reader.cursor, position) && takes(reader, msg),
    );
    let oldest = NEVER;
    for (const message of all) {
      oldest = Math.min(oldest, startOf(message));
      if (message.more.due === undefined) return oldest;
    }
    // What follows was put later.
    return whole ? oldest : Math.min(oldest, found.at(-1)?.at ?? NEVER);
  }

  /** The same of what is set aside, or an earlier time where that is more than can be looked through. */
  async function oldestAside(): Promise<number> {
    if (reader.delayedCount + reader.blockedCount === 0) return NEVER;
    const { settled } = queue;
    const { transactions } = store;
    let oldest = NEVER;
    let looked = 0;
    for (const kind of ["t", "k"] as const) {
      for (let start = rowsOf(prefix, kind); ; ) {
        const rows =
          kind === "k"
            ? await store.list({ start, end: lanesOf(prefix), limit: PAGE_ROWS })
            : await store.page(reader, kind, start, LAST_NUMBER);
        looked += rows.length;
        if (looked > MOST_ROWS) return reader.oldestDelayedAt || NEVER;
        for (const row of rows) {
          start = `${row.key}\0`;
          for (const message of readAll(row.data, row.data.messages)) oldest = Math.min(oldest, startOf(message));
        }
        if (rows.length < PAGE_ROWS) break;
      }
    }
    // Remembered, for when there is more than can be looked through.
    if (queue.settled === settled && store.transactions === transactions && !store.open && oldest < NEVER) reader.oldestDelayedAt = oldest;
    return oldest;
  }

  const oldest = Math.min(await oldestInQueue(), await oldestAside());
  const { queuedCount, timedCount, delayedCount, redrivenCount, blockedCount, scheduledCount, lanes, heldKeys } = reader;
  const wake = nextAttempt();
  // A lane of which the last message was cancelled ends when it is looked at next.
  const heads = Math.min(lanes.size - heldKeys, blockedCount);
  return {
    pending: queuedCount - timedCount + redrivenCount,
    delayed: timedCount + delayedCount - redrivenCount + heads,
    scheduled: timedCount + Math.min(scheduledCount, delayedCount + blockedCount),
    blocked: blockedCount - heads,
    held: heldKeys,
    dead: reader.deadCount,
    deadDeleted: reader.deletedCount,
    oldestAgeSeconds: oldest < NEVER ? Math.max(0, store.now() - oldest) / 1000 : 0,
    nextAttemptAt: wake < NEVER ? wake : null,
    breaker: reader.breaker.failures > 0 ? "open" : "closed",
    failures: reader.breaker.failures,
    ...(reader.breaker.failures > 0 && reader.lastError && { error: reader.lastError }),
    paused: reader.paused,
    ...(reader.isMissing && { missing: true as const }),
    ...(reader.isPulled && { leased: pull.count() }),
  };
}
