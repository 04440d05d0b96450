/** Settling: what follows for the destination as a whole, and the commit in which each message goes where its fate says. */

import { textOf, cut as truncated } from "../api/errors.js";
import type { Settings } from "../api/options.js";
import { askedSeconds, isPause } from "../api/verdict.js";
import type { Delivered } from "../log/ids.js";
import type { Store } from "../storage/store.js";
import { type Batch, deliveredIn, type Entry, handedOver, isAside } from "./batch.js";
import { afterFailure, afterSuccess, type Breaker, CLOSED, inVain, probeSize } from "./breaker.js";
import type { Delivery } from "./delivery.js";
import type { Host } from "./host.js";
import { type Reader, undelivered } from "./reader.js";
import { about, eventsOf, failure, idOf } from "./reporting.js";
import { retryDelayMs } from "./retry.js";

/** So much of the last error is in the header, in UTF-16 units. */
const STORED_ERROR = 200;
const DIED = "A run died with its isolate.";

export interface Settling {
  /**
   * Does what the fates say, and arms the next wake-up in the same turn: an alarm must not outlive what it was armed for.
   *
   * @param save the header must be written
   * @param mayWait where it says nothing but what was delivered, a later one may say so: see `settleWithinSeconds`
   */
  settle(batch: Batch, save?: boolean, then?: () => void, mayWait?: boolean): Promise<void>;
  /** The destination is in trouble: what was not settled is kept, and delivery begins again at the same head, later. */
  backOff(batch: Batch, kept: Entry[], error: unknown): Promise<void>;
  /**
   * The invocation has no subrequests left: what was settled is, and the next one goes on with the rest. Nothing has failed.
   *
   * @param before the breaker, before the call
   * @param hasSettled the run has settled something before. Otherwise a batch of which nothing was settled is too large, and half of it is tried next
   */
  stop(batch: Batch, kept: Entry[], before: Breaker, hasSettled: boolean): Promise<void>;
  /** An earlier run died. From now on an alarm is set before user code runs, and the batch is half of that one. */
  lease(batch: Batch): Promise<unknown>;
}

/**
 * @param delivery what it is of, when that is made
 * @param cut hands over only the first messages of a batch
 * @param committing a step's result is about to be committed
 * @param isCareful whether an earlier run has died, or nothing would tell that this one does
 */
export function settlingOf(
  store: Store,
  reader: Reader,
  { emit, listening }: Settings,
  host: Host,
  delivery: () => Delivery,
  cut: (batch: Batch, size: number) => void,
  committing: () => void,
  isCareful: () => boolean,
): Settling {
  const { memory } = store;

  /** An earlier run died. From now on an alarm is set before user code runs, and the batch is half of that one. */
  function lease(batch: Batch): Promise<unknown> {
    const { breaker } = reader;
    for (const entry of batch.handed) {
      if (!isAside(entry)) continue;
      entry.more = { ...entry.more, attempts: handedOver(reader, entry) + 1 };
      entry.changed = true;
    }
    const full = batch.handed;
    cut(batch, probeSize({ ...breaker, lease: true, suspects: breaker.suspects || full.length }, delivery().settings.batchSize));
    const { handed } = batch;
    const next = afterFailure(breaker, handed.length, false, retryAt());
    reader.lastError = DIED;
    reader.breaker = {
      ...next,
      // The run that died may have had any of the queue in hand.
      ...inVain(breaker, memory.position, reader.cursor.ackFloor),
      lease: true,
      alone: handed.length === 1 ? (handed[0]?.position ?? 0) : 0,
    };
    for (const entry of batch.entries) {
      if (entry.fate === "aside" && !isAside(entry)) entry.more = { ...entry.more, attempts: handedOver(reader, entry) };
    }
    const written = store.commit((rows) => {
      delivery().queue.rewriteChanged(full, rows);
      rows[memory.key] = store.header();
    });
    tell("died", [], DIED, breaker.failures);
    return written;
  }

  /** The destination is in trouble: what was not settled is kept, and the outbox begins again at the same head, later. */
  async function backOff(batch: Batch, kept: Entry[], error: unknown): Promise<void> {
    const { breaker } = reader;
    const { handed } = batch;
    keep(batch, kept);
    const failures = breaker.lease ? breaker.failures - 1 : breaker.failures;
    // A destination may have said when it wants to be asked again.
    const asked = askedSeconds(error);
    const settled = handed.some(({ fate }) => fate);
    // While others are delivered the destination is well: the search for what breaks its call need not wait longer each time.
    const delay = settled || breaker.proven ? 0 : failures;
    const vain = inVain(breaker, lastOf(kept), reader.cursor.ackFloor);
    const pauses = isPause(error);
    reader.lastError = truncated(textOf(error), STORED_ERROR);
    if (pauses) {
      // Nothing is under suspicion, and `resume()` begins at once.
      reader.breaker = { ...CLOSED, failures, ...vain };
      reader.paused = true;
    } else {
      const at = Math.max(retryAt(delay), store.now() + Math.ceil(Math.min(asked, delivery().settings.retry.maxDelaySeconds) * 1000));
      reader.breaker = { ...afterFailure({ ...breaker, failures }, kept.length, settled, at), ...vain };
    }
    await settle(batch, true, () => tell(pauses ? "paused" : "failed", kept, error, failures));
  }

  /** Lets these of a batch stay where they are: they have been handed over once more. */
  function keep({ entries, handed }: Batch, kept: Entry[]): void {
    // Messages that would have moved behind others of their key stay, because those stay.
    for (const entry of entries) if (entry.fate === "aside" && !handed.includes(entry)) delete entry.fate;
    for (const entry of kept) {
      if (!isAside(entry)) continue;
      entry.more = { ...entry.more, attempts: entry.attempts ?? 1 };
      entry.changed = true;
    }
  }

  async function stop(batch: Batch, kept: Entry[], before: Breaker, hasSettled: boolean): Promise<void> {
    const sent = batch.handed.length - kept.length;
    keep(batch, kept);
    if (sent > 0) reader.breaker = afterSuccess(before, sent);
    else if (!hasSettled) reader.breaker = { ...reader.breaker, suspects: kept.length, lease: false, alone: 0 };
    reader.breaker = { ...reader.breaker, ...inVain(reader.breaker, lastOf(kept), reader.cursor.ackFloor) };
    await settle(batch, true, () => host.wake(true));
    if (before.failures > 0 && reader.breaker.failures === 0) emit({ type: "breaker_closed", destination: reader.name });
  }

  function retryAt(failures: number = reader.breaker.failures): number {
    return store.now() + retryDelayMs(delivery().settings.retry, failures + 1, Math.random());
  }

  /** The last position of the queue among these, or 0. */
  function lastOf(handed: Entry[]): number {
    return Math.max(0, ...handed.filter((entry) => !isAside(entry)).map(({ position }) => position));
  }

  function tell(type: "failed" | "died" | "paused", kept: Entry[], error: unknown, before: number): void {
    const { failures, retryAt } = reader.breaker;
    host.wake(true);
    const [first] = kept;
    const named = { destination: reader.name, ...(first && { ...about(first), attempts: first.attempts ?? 1 }), ...failure(error) };
    if (type === "paused") {
      emit({ type, ids: kept.map(idOf), waiting: undelivered(reader), ...named });
      return;
    }
    const what = { ...named, retryAt };
    emit({ type, ids: kept.map(idOf), failures, ...what });
    if (before === 0) emit({ type: "breaker_opened", waiting: undelivered(reader), ...what });
  }

  /** Does what the fates say, and arms the next wake-up in the same turn: an alarm must not outlive what it was armed for. */
  async function settle(batch: Batch, save = false, then: () => void = host.wake, mayWait = false): Promise<void> {
    while (store.open) await store.open;
    if (batch.entries.some(({ fate }) => fate === "dead") && host.deadMessages()?.isHandled()) {
      committing();
      await handOverDead(batch);
      while (store.open) await store.open;
    }
    // An id is remembered from when the last reader has delivered its message.
    const over = (): Delivered[] => deliveredIn(batch.entries.filter((entry) => !host.isWanted(entry, reader)));
    const reading = store.ids.prepare(over());
    const ids = reading && (await reading);
    while (store.open) await store.open;
    committing();
    // While nothing but this waits, and is paused, the stored header says that no alarm is the outbox's: none may be set without it.
    const isLater = (): boolean => mayWait && !save && !reader.paused;
    await host.commit((rows) => delivery().queue.settle(batch, save, rows, over, ids), then, isLater);
    for (const event of eventsOf(reader.name, batch.entries, listening)) emit(event);
  }

  /** Makes dead letters of those that are to become some, each in a transaction with the class's `deadMessage`. For the others the batch is settled. */
  async function handOverDead({ entries }: Batch): Promise<void> {
    const { queue } = delivery();
    const dying = entries
      .filter(({ fate }) => fate === "dead")
      .map((entry) => ({
        ...{ reader, message: entry, entry },
        isGone: () => queue.isGone(entry),
        change: (rows: Record<string, unknown>) => queue.bury(entry, rows),
      }));
    const { done = [], left = [] } = (await host.deadMessages()?.handle(dying, isCareful())) ?? {};
    for (const { entry } of done) for (const event of eventsOf(reader.name, [entry], listening)) emit(event);
    // It is not handed over again: what has become of it goes with it.
    for (const { entry } of left) Object.assign(entry, { fate: "aside", more: { ...entry.more, due: store.now() } });
  }

  return { settle, backOff, stop, lease };
}
