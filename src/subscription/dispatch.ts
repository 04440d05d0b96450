/** Dispatch: which readers deliver, how many handlers run at a time, and which results share a commit. */

import type { Settings } from "../api/options.js";
import { NEVER } from "../storage/memory.js";
import { payloadOf, type Read } from "../storage/message.js";
import type { Store } from "../storage/store.js";
import type { Timers } from "../timers.js";
import { isAcked } from "./cursor.js";
import type { DeadMessages } from "./dead-message.js";
import { type Delivery, deliveryOf, SAFETY_MS } from "./delivery.js";
import type { Host } from "./host.js";
import { type Reader, takes } from "./reader.js";
import type { Wake } from "./wake.js";

/** So many handlers are called at a time: the platform lets six requests wait for their response headers at once (Workers limits page). */
const MOST_HANDLERS = 6;
/** After this long, in milliseconds, everything that is due is left to the next alarm: far from the platform's limit of 15 minutes for one. */
const RUN_BUDGET_MS = 60_000;
/** And so long after that, in milliseconds, a call must have ended that began beside one that hangs. */
const MOST_LATE_MS = 780_000;
/** So long after a delivery that is not recorded yet an alarm that rings records it, in milliseconds: a little less than the time for which one is set. */
const MOST_IDLE_MS = 9000;
/** So long after another reader's step began its result is waited for, in milliseconds, to be committed together. */
const TOGETHER_MS = 100;

/** Delivery of one object, to all of its destinations. */
export interface Dispatch {
  /** Those of all readers, missing ones included, in the order of the class. Replaced when that is known. */
  readonly all: readonly Delivery[];
  /** The class's `deadMessage`, once the manager in whose transactions it is called has been made. */
  deadMessages: DeadMessages | null;
  /** Takes over the readers of memory, once they are known. */
  adopt(): void;
  /** That of one destination. */
  of(name: string): Delivery | undefined;
  /** When delivery is to be tried next for what waits now; `NEVER` when nothing does. */
  nextAttempt(): number;
  /** Whether any of them is to be tried now. */
  isDue(): boolean;
  /** When the alarm must ring: for delivery, or for other work. */
  nextWake(): number;
  /**
   * Starts what is due, or joins what is under way. Never rejects.
   *
   * @param died an earlier run ended with its isolate
   * @param unguarded no call of the platform is under way that would tell the next life of this run's death: the header must
   */
  run(died: boolean, unguarded?: boolean): Promise<void>;
  /** Runs these at once, whether or not their time has come. Never rejects. */
  flush(deliveries: readonly Delivery[]): Promise<void>;
  /** Whether any run is under way. */
  readonly isRunning: boolean;
  /** Something may have become due: starts it beside what is under way; and with `dispatch: "immediate"` once everything that was written is durable. */
  kick(): void;
  /** Whether a reader other than this one has yet to deliver a message of the log. */
  isWanted(message: Pick<Read, "position" | "stored">, by: Reader): boolean;
  /** Whether the message at a position is in the hands of any handler. */
  isInHand(position: number): boolean;
  /** Whether no destination is waiting out a backoff. */
  isClosed(): boolean;
  /** Records what was delivered and is not recorded yet, in this turn. */
  record(): void;
}

/** A result that waits to be committed. */
interface Result {
  readonly change: (rows: Record<string, unknown>) => void;
  readonly then: () => void;
  readonly mayWait: () => boolean;
  readonly done: (written: Promise<unknown>) => void;
}

/** @param sync resolves when everything that was written is durable */
export function dispatchOf(store: Store, alarm: Wake, settings: Settings, timers: Timers, sync: () => Promise<void>): Dispatch {
  const { memory } = store;
  const { immediate } = settings;
  const settleMs = settings.settleWithinSeconds * 1000;
  let isRecordPlanned = false;
  let all: readonly Delivery[] = [];
  let active: Promise<void> | null = null;
  let kicked = false;
  /** Looks again at what is due, while something is under way. */
  let look: () => void = () => {};
  let free = MOST_HANDLERS;
  let isSpent = false;
  const queued: (() => void)[] = [];
  let results: Result[] = [];
  let cancel: () => void = () => {};

  const leave = (): void => {
    const next = queued.shift();
    if (next) next();
    else free++;
  };

  const host: Host = {
    wake(now, own) {
      const times = all.map((delivery) => (delivery === own?.delivery ? own.time : delivery.nextAttempt()));
      void alarm.setWake(Math.min(...times, otherWake()), now);
    },

    async enter() {
      if (free > 0) free--;
      else await new Promise<void>((resolve) => queued.push(resolve));
      let isOver = false;
      return () => {
        if (isOver) return;
        isOver = true;
        leave();
      };
    },

    async commit(change, then, mayWait) {
      const written = await new Promise<{ readonly written: Promise<unknown> }>((resolve) => {
        results.push({ change, then, mayWait, done: (written) => resolve({ written }) });
        flushResults();
      });
      await written.written;
    },

    deadMessages: () => dispatch.deadMessages,
    isWanted: (entry, by) => dispatch.isWanted(entry, by),
    spend() {
      isSpent = true;
    },

    get isSpent() {
      return isSpent;
    },
  };

  /** Commits what has come, unless more is about to. */
  function flushResults(): void {
    cancel();
    cancel = () => {};
    if (results.length === 0) return;
    const now = store.now();
    // A step that seems to begin later has seen the clock before it was set back.
    const until = Math.max(0, ...all.map(({ stepAt }) => (stepAt <= now ? stepAt + TOGETHER_MS : 0)));
    if (until > now) {
      cancel = timers.after(until - now, flushResults);
      return;
    }
    if (store.open) return void store.open.then(flushResults);
    const together = results;
    results = [];
    let written: Promise<unknown>;
    try {
      const change = (rows: Record<string, unknown>): void => {
        for (const { change } of together) change(rows);
      };
      written = store.commit(change, isCovered(now) && together.every(({ mayWait }) => mayWait()) ? settleMs : 0);
      for (const { then } of together) then();
      planRecord();
    } catch (error) {
      written = Promise.reject(error);
    }
    for (const { done } of together) done(written);
  }

  /** Whether an alarm is set that repeats what a crash leaves unrecorded. Where none is, another one would cost as much as recording it. */
  function isCovered(now: number): boolean {
    return memory.nativeAlarmAt > now && memory.nativeAlarmAt <= now + SAFETY_MS;
  }

  /** When the alarm must ring for something else than what waits. What is not recorded yet has the alarm that it had while it waited. */
  function otherWake(): number {
    const now = store.now();
    const stands = isCovered(now) ? memory.nativeAlarmAt : now + SAFETY_MS;
    return Math.min(Math.max(store.otherWorkAt(), now), memory.settleAt < NEVER ? stands : NEVER);
  }

  /** Plans to record by itself what was delivered, should nothing else be written before. */
  function planRecord(): void {
    if (isRecordPlanned || memory.settleAt === NEVER) return;
    isRecordPlanned = true;
    const record = (): void => {
      isRecordPlanned = false;
      // Beyond the time that it may take, it has been planned by a clock that was set back since.
      const wait = memory.settleAt - store.now();
      if (store.open) store.open.then(planRecord);
      else if (wait > 0 && wait <= settleMs) planRecord();
      else dispatch.record();
    };
    timers.after(Math.min(Math.max(0, memory.settleAt - store.now()), settleMs), record);
  }

  /** Starts a run. At its end nothing waits for its result any more, and what waited for its turn may begin. */
  async function started(delivery: Delivery, died: boolean, unguarded: boolean, deadline: number): Promise<void> {
    await delivery.run(died, unguarded, deadline);
    flushResults();
    look();
  }

  /** Runs what is due. What becomes due while something is under way is started beside it. */
  async function run(died: boolean, unguarded: boolean): Promise<void> {
    const blamed = all.filter(({ reader }) => reader.breaker.lease);
    const due = (delivery: Delivery): boolean => !delivery.reader.isPulled && (delivery.isDue() || all.length === 1);
    // One at a time, so that the next death tells which it was.
    const suspects = (blamed.length > 0 ? blamed : died ? all : []).filter(due);
    const deadline = store.now() + RUN_BUDGET_MS;
    const start = (delivery: Delivery, died = false): Promise<void> => started(delivery, died, unguarded, deadline);
    let isTried = false;
    const trial = (async () => {
      for (const delivery of suspects) await start(delivery, died);
      isTried = true;
      look();
    })();
    const isFree = (delivery: Delivery): boolean => !delivery.isRunning && (isTried || !suspects.includes(delivery));
    for (const delivery of all) if (isFree(delivery) && due(delivery)) void start(delivery, false);
    if (all.length === 1) {
      await trial;
      await all[0]?.join();
      return;
    }
    await untilIdle(deadline, start, isFree, () => isTried);
  }

  /** Starts what becomes due beside what is under way, until nothing is, and nothing is left to be tried. */
  async function untilIdle(
    deadline: number,
    start: (delivery: Delivery) => Promise<void>,
    isFree = ({ isRunning }: Delivery): boolean => !isRunning,
    isTried = (): boolean => true,
  ): Promise<void> {
    const isUnderWay = (): boolean => !isTried() || all.some(({ isRunning }) => isRunning);
    /** Started after the deadline: only beside a call that began before it and hangs, and only what ends in time. */
    const late = new Set<Delivery>();
    const hangs = (delivery: Delivery): boolean => delivery.isRunning && !late.has(delivery);
    const inTime = ({ settings }: Delivery, now: number): boolean =>
      now < deadline || (all.some(hangs) && now + settings.timeoutSeconds * 1000 < deadline + MOST_LATE_MS);
    while (isUnderWay()) {
      await changed();
      const now = store.now();
      for (const delivery of all) {
        const isNext = !isSpent && inTime(delivery, now) && isFree(delivery) && delivery.isDue() && delivery.idleUntil <= now;
        if (!isNext || !isUnderWay()) continue;
        if (now >= deadline) late.add(delivery);
        void start(delivery);
      }
    }
  }

  /** Resolves when a run has ended, or another may begin. */
  function changed(): Promise<void> {
    return new Promise((resolve) => {
      const idle = all.filter(({ isRunning }) => !isRunning);
      const next = Math.min(NEVER, ...idle.map((delivery) => Math.max(delivery.nextAttempt(), delivery.idleUntil)));
      const now = store.now();
      // What is due and was not started waits for its turn.
      const stop = next < NEVER && next > now ? timers.after(next - now, () => look()) : () => {};
      look = () => {
        look = () => {};
        stop();
        resolve();
      };
    });
  }

  function begin(runs: () => Promise<void>): Promise<void> {
    const tidied = async (): Promise<void> => {
      await runs();
      // Nothing has been put for so long: another alarm would cost as much.
      if (memory.settleAt - settleMs <= alarm.now() - MOST_IDLE_MS || memory.settleAt <= alarm.now()) dispatch.record();
      // An alarm that came for something else, and found nothing due, must not be set again for that.
      else if (memory.settleAt < NEVER) host.wake();
      // What storage refuses resets the object.
      await store.tidy().catch(() => {});
    };
    if (!active) isSpent = false;
    active ??= tidied().then(() => {
      active = null;
      dispatch.kick();
    });
    return active;
  }

  const dispatch: Dispatch = {
    deadMessages: null,

    get all() {
      return all;
    },

    adopt() {
      all = memory.readers.map((reader) => dispatch.of(reader.name) ?? deliveryOf(store, reader, alarm, settings, timers, sync, host));
    },

    of: (name) => all.find(({ reader }) => reader.name === name),

    nextAttempt: () => all.reduce((first, delivery) => Math.min(first, delivery.nextAttempt()), NEVER),
    isDue: () => all.some((delivery) => delivery.isDue()),
    nextWake: () => Math.min(dispatch.nextAttempt(), otherWake()),
    run: (died, unguarded = false) => begin(() => run(died, unguarded)),

    async flush(deliveries) {
      const deadline = store.now() + RUN_BUDGET_MS;
      const start = (delivery: Delivery): Promise<void> => started(delivery, false, false, deadline);
      // What runs is joined, and what does not is begun beside it.
      if (active) return void (await Promise.all(deliveries.map(start)));
      let chosen: Promise<unknown> = Promise.resolve();
      const over = begin(async () => {
        chosen = Promise.all(deliveries.map(start));
        // The others need not wait for one of these that hangs.
        await untilIdle(deadline, start);
      });
      await chosen;
      if (!all.some(({ isRunning }) => isRunning)) await over;
    },

    get isRunning() {
      return active !== null;
    },

    kick() {
      if (active) look();
      const isReady = (): boolean => all.some((delivery) => delivery.reader.breaker.retryAt === 0 && delivery.isDue());
      if (!immediate || kicked || active || store.open || !isReady()) return;
      kicked = true;
      const begin = () => {
        kicked = false;
        if (isReady()) void dispatch.run(false);
      };
      // Where storage fails the object is broken, and its next life has the alarm.
      sync().then(begin, () => {});
    },

    isWanted({ position, stored }, by) {
      const others = memory.readers.filter((reader) => reader !== by && !isAcked(reader.cursor, position));
      if (others.length === 0) return false;
      // What user code has had in hand is read again.
      const msg = payloadOf(stored);
      return others.some((reader) => takes(reader, msg));
    },

    isInHand: (position) =>
      all.some(({ queue, pull }) => pull.has(position) || queue.batch?.handed.some((entry) => entry.position === position)),

    isClosed: () => all.every(({ reader }) => reader.breaker.retryAt === 0),

    record() {
      if (store.open) return;
      // A write that fails resets the object.
      if (memory.settleAt < NEVER) store.saveHeader().catch(() => {});
      // Also where it went with something else: then nothing has to wake the object any more.
      host.wake();
    },
  };
  return dispatch;
}
