/** Delivery: the runs of one reader, which takes batches in order, hands them over and settles them. */

import type { Settings } from "../api/options.js";
import { isOutOfSubrequests, isPause } from "../api/verdict.js";
import { NEVER } from "../storage/memory.js";
import type { Store } from "../storage/store.js";
import type { Timers } from "../timers.js";
import { type Batch, emptyBatch, isAside } from "./batch.js";
import { blameOf } from "./blame.js";
import { afterSuccess, type Breaker, isOver, probeSize } from "./breaker.js";
import type { Send } from "./call.js";
import type { Host } from "./host.js";
import { outcomesOf } from "./outcome.js";
import { type Pace, paceOf } from "./pace.js";
import { type Pull, pullOf } from "./pull.js";
import { type Queue, queueOf } from "./queue.js";
import { dueAt, lookAgain, type Reader, waits } from "./reader.js";
import { settlingOf } from "./settling.js";
import { versionsOf } from "./versions.js";
import type { Wake } from "./wake.js";

/** With `dispatch: "immediate"`, the alarm that stands behind the first attempt is this far away, in milliseconds. */
export const SAFETY_MS = 10_000;
/** A run that found nothing to do although something seemed due is not repeated before this, in milliseconds. */
const NOTHING_MS = 1000;

/** What applies to one destination. */
export type DestinationSettings = Pick<Settings, "batchSize" | "timeoutSeconds" | "retry" | "ordering" | "maxPerSecond">;

/**
 * Delivery of one reader: runs one at a time; each either empties what is due or ends with the time of the next. Only a call of
 * a handler that has timed out may go on beside the next: nothing can stop it.
 */
export interface Delivery {
  readonly reader: Reader;
  /** The destination's handler: the object's `sendMessages`, say. Messages wait while there is none. */
  send: Send | null;
  /** What applies to it. */
  settings: DestinationSettings;
  /** How long what consumers have received is hidden from others, in milliseconds, where nothing else is said. */
  visibilityMs: number;
  readonly queue: Queue;
  /** When delivery is to be tried next for what waits now; `NEVER` when nothing does. */
  nextAttempt(): number;
  /** Whether it is to be tried now. */
  isDue(): boolean;
  /**
   * Starts a run, or joins the one under way. Never rejects.
   *
   * @param died an earlier run ended with its isolate
   * @param unguarded no call of the platform is under way that would tell the next life of this run's death: the header must
   * @param deadline when it takes no further batch, and leaves what is due to the next alarm
   */
  run(died: boolean, unguarded: boolean, deadline: number): Promise<void>;
  /** What its consumers have received, where they ask for messages. */
  readonly pull: Pull;
  readonly pace: Pace;
  /** Whether a run is under way. */
  readonly isRunning: boolean;
  /** Resolves when no run is under way. */
  join(): Promise<void>;
  /** A run found nothing to do although something seemed due: it is not repeated before this. */
  readonly idleUntil: number;
  /** When the step began whose result is yet to be committed; `NEVER` when there is none. */
  readonly stepAt: number;
}

/**
 * @param sync resolves when everything that was written is durable
 */
export function deliveryOf(
  store: Store,
  reader: Reader,
  alarm: Wake,
  settings: Settings,
  timers: Timers,
  sync: () => Promise<void>,
  host: Host,
): Delivery {
  const { immediate, emit } = settings;
  const queue = queueOf(store, reader);
  const self = (): Delivery => delivery;
  const versions = versionsOf(settings.schemas, reader, emit, () => delivery.settings);
  const outcomes = outcomesOf(store, reader, settings, timers, versions, self);
  const { hand } = outcomes;
  const { judgeFailure, judgeDeath } = blameOf(store, reader, settings, self, { ...outcomes, take, untilConfirmed });
  const committing = (): void => {
    stepAt = NEVER;
  };
  const { settle, backOff, stop, lease } = settlingOf(store, reader, settings, host, self, cut, committing, () => careful);
  const release = (): void => {
    queue.batch = null;
  };
  const isStrict = (): boolean => delivery.settings.ordering !== "batch";
  const pull = pullOf(store, reader, { ...outcomes, versions, take, settle, release, isStrict, untilConfirmed });
  const pace = paceOf(alarm.now, () => delivery.settings.maxPerSecond);
  let active: Promise<void> | null = null;
  let [stepAt, idleUntil, hasSettled] = [NEVER, 0, false];
  /** An earlier run has died, or nothing would tell that this one does. */
  let careful = false;

  async function run(died: boolean, unguarded: boolean, deadline: number): Promise<void> {
    idleUntil = 0;
    hasSettled = false;
    let leased = died || reader.breaker.lease;
    careful = leased || unguarded;
    const goesOn = (): boolean => !leased && !host.isSpent && dueAt(reader) <= alarm.now() && store.now() < deadline;
    do {
      if (pace.room() === 0) return host.wake();
      stepAt = store.now();
      const { breaker } = reader;
      const allowIsolated = leased || isOver(breaker);
      let batch = await takeNext(allowIsolated);
      if (batch.entries.length === 0 && !allowIsolated) {
        // What was looked at in vain is looked at again.
        if (reader.delayedCount + reader.blockedCount > 0) reader.delayedDueAt = 0;
        batch = await takeNext(true);
      }
      if (leased && judgeDeath(batch)) {
        leased = false;
        await settle(batch);
        continue;
      }
      const noted = leased ? null : note(batch, breaker, unguarded);
      // With nothing in hand no user code runs.
      if (leased) await (batch.entries.length > 0 && lease(batch));
      else if (noted) await noted;
      if (!(await attempt(batch, breaker, leased, noted !== null))) return;
      // After a lease the next run has the platform's own retries behind it again, which tell a death without a row being written.
    } while (goesOn());
  }

  /** Reads the next batch. `allowIsolated`: messages that have broken their batch may be tried. */
  function takeNext(allowIsolated: boolean): Promise<Batch> {
    // A handler may set a single message aside, and the next of its key must not be under way with it.
    const onePerKey = (delivery.send?.ordering ?? delivery.settings.ordering) !== "batch";
    return take(Math.min(delivery.settings.batchSize, Math.max(1, pace.room())), onePerKey, allowIsolated);
  }

  /**
   * Cuts a batch to what is tried next. If the next life could not tell otherwise that this run has died, or of which message, the header
   * says so first: then returns a promise of that.
   */
  function note(batch: Batch, breaker: Breaker, unguarded: boolean): Promise<void> | null {
    cut(batch, probeSize(breaker, delivery.settings.batchSize));
    const [head] = batch.handed;
    if (!head || !(unguarded || head.more.deaths !== undefined)) return null;
    // If it has killed before and does so again, the next run must know what to blame.
    reader.breaker = { ...breaker, lease: true, alone: head.more.deaths ? head.position : 0 };
    return store.saveHeader();
  }

  /**
   * Hands a batch over, and settles it. Returns whether the run goes on.
   *
   * @param breaker as it was before anything was noted of this call
   * @param leased an earlier run died: an alarm is set for what follows if this one does
   * @param noted the header says that this run is under way
   */
  async function attempt(given: Batch, breaker: Breaker, leased: boolean, noted: boolean): Promise<boolean> {
    let batch = given;
    const { lanes: seen } = reader;
    await untilConfirmed();
    const leave = await host.enter();
    let before: Breaker;
    let failed: { error: unknown } | null;
    let asksToPause: boolean;
    let isSpent: boolean;
    try {
      // A dead letter of its key has been redriven meanwhile: all of it is looked at again.
      const overtakes = batch.handed.some(({ more: { key = "" } }) => reader.lanes.get(key) !== seen.get(key));
      if (overtakes) lookAgain(reader);
      if (reader.paused || overtakes) {
        batch.entries = batch.handed = [];
        // Nothing was handed over that the next run could blame.
        if (noted || leased) {
          reader.breaker = noted ? breaker : { ...reader.breaker, lease: false, alone: 0 };
          await store.saveHeader();
        }
      }
      // User code runs from here on.
      batch.handed = versions.bring(batch.handed, store.now());
      before = leased ? { ...reader.breaker, suspects: breaker.suspects } : breaker;
      failed = batch.handed.length > 0 ? await hand(batch.handed) : null;
      // What memory learns while a transaction is open goes back with it. From here to the next await it is not.
      while (store.open) await store.open;
      // The run has lived: what was noted for the case of its death is over, and goes with what follows.
      if (noted) reader.breaker = { ...reader.breaker, lease: false, alone: 0 };
      asksToPause = failed !== null && isPause(failed.error);
      // A message that alone needs more than there is fails as any other.
      isSpent = failed !== null && isOutOfSubrequests(failed.error) && (hasSettled || host.isSpent || batch.handed.length > 1);
      if (failed && !asksToPause && !isSpent) {
        batch = await judgeFailure(batch, before, failed.error);
        while (store.open) await store.open;
      }
      // A batch of which nothing could be handed over tells nothing of the destination.
      else if (!failed && batch.handed.length > 0) reader.breaker = afterSuccess(before, batch.handed.length);
    } finally {
      leave();
    }
    const rest = batch.handed.filter(({ fate }) => !fate);
    if (isSpent) {
      host.spend();
      pace.rest();
      await stop(batch, rest, before, hasSettled);
      return false;
    }
    if (failed && (asksToPause || rest.length > 0)) {
      await backOff(batch, rest, failed.error);
      return false;
    }
    if (!batch.entries.some(({ fate }) => fate)) return settleNothing(batch);
    const changed = before !== reader.breaker && !(isOver(before) && isOver(reader.breaker));
    hasSettled = true;
    await settle(batch, noted || changed, undefined, true);
    if (before.failures > 0 && reader.breaker.failures === 0) emit({ type: "breaker_closed", destination: reader.name });
    return true;
  }

  /** Nothing of a batch was handed over, although something seemed due. Returns whether the run goes on. */
  async function settleNothing(batch: Batch): Promise<boolean> {
    const lanes = reader.lanes.size;
    // A lane of which nothing is left has ended, and makes room; and what the reader does not take it has passed.
    if (batch.lanes.length > 0 || batch.isCut) await settle(batch, batch.isCut);
    if (reader.lanes.size < lanes || batch.isCut) return true;
    const wake = delivery.nextAttempt();
    idleUntil = store.now() + NOTHING_MS;
    host.wake(false, { delivery, time: wake > store.now() ? wake : idleUntil });
    return false;
  }

  /** Storage holds back what is sent until everything is durable, but not for what was put with `allowUnconfirmed`. */
  async function untilConfirmed(): Promise<void> {
    if (!store.unconfirmed) return;
    store.unconfirmed = false;
    await sync();
    while (store.open) await store.open;
  }

  async function take(limit: number, onePerKey: boolean, allowIsolated: boolean, beside = false): Promise<Batch> {
    for (;;) {
      while (store.open) await store.open;
      const batch = await queue.take({ limit, now: alarm.now(), onePerKey, allowIsolated, versions }, beside);
      if (batch) {
        versions.report(batch);
        return batch;
      }
      // What was read of a transaction that is still open may yet be rolled back. What storage refuses it refuses at once, and then the
      // message is taken back before this read is over. Either way all of it is looked at again.
      lookAgain(reader);
    }
  }

  /** Only the first `size` messages are handed over; what was read behind them is as if it had not been. */
  function cut(batch: Batch, size: number): void {
    const last = batch.handed[size - 1];
    if (!last || batch.handed.length <= size) return;
    batch.handed = batch.handed.slice(0, size);
    if (reader.delayedCount + reader.blockedCount > 0) reader.delayedDueAt = 0;
    batch.entries = batch.entries.slice(0, batch.entries.indexOf(last) + 1);
  }

  /**
   * A clock that was ahead when the backoff began must not make it longer than the longest. Stored, so that the time at which it ends
   * does not move on with each look and each life of the object.
   */
  function capBackoff(now: number): void {
    const latest = now + delivery.settings.retry.maxDelaySeconds * 1000;
    if (reader.breaker.retryAt <= latest) return;
    reader.breaker = { ...reader.breaker, retryAt: latest };
    store.saveHeader().catch(() => {}); // A write that fails resets the object.
  }

  const delivery: Delivery = {
    reader,
    send: null,
    settings,
    queue,
    pull,
    pace,
    visibilityMs: 0,

    isDue: () =>
      dueAt(reader) <= alarm.now() &&
      pace.opensAt() <= alarm.now() &&
      (reader.breaker.retryAt === 0 || delivery.nextAttempt() <= alarm.now()),

    nextAttempt() {
      const now = store.now();
      let due = dueAt(reader);
      // What is in hand and is stored outside the queue, or is about to be, is due until it is settled.
      if (due > now && waits(reader) && queue.batch && movesOn(queue.batch)) due = 0;
      if (due === NEVER) return NEVER;
      capBackoff(now);
      const { retryAt } = reader.breaker;
      const next = Math.max(due, now, retryAt, pace.opensAt());
      return next > now || retryAt || !immediate ? next : now + SAFETY_MS;
    },

    run(died, unguarded, deadline) {
      active ??= run(died, unguarded, deadline)
        // Storage failed, not the destination. What waits is still stored; try again as after any failure.
        .catch((error) => {
          lookAgain(reader);
          return backOff(emptyBatch(), [], error);
        })
        .catch(() => {})
        .then(() => {
          stepAt = NEVER;
          active = null;
          queue.batch = null;
        });
      return active;
    },

    get isRunning() {
      return active !== null;
    },

    join: () => active ?? Promise.resolve(),

    get idleUntil() {
      // The clock may have been set back.
      return idleUntil <= store.now() + NOTHING_MS ? idleUntil : 0;
    },

    get stepAt() {
      return stepAt;
    },
  };
  return delivery;
}

/** Whether some of a batch stands outside the queue, or may do so, or is about to: what is known of its time holds when it is settled. */
function movesOn({ entries, lanes, isRead }: Batch): boolean {
  return !isRead || lanes.length > 0 || entries.some((entry) => isAside(entry) || entry.fate === "aside");
}
