/** The alarm slot: what a start, a call of the platform and a wake-up mean for the one alarm that the outbox and the object's code share. */

import type { Emit } from "../api/events.js";
import { NEVER } from "../storage/memory.js";
import type { Store } from "../storage/store.js";
import type { Timers } from "../timers.js";
import { callOf, type Deliver } from "./call.js";
import { nativeAlarmOf, unwatched } from "./native-alarm.js";
import { ownAlarmOf } from "./own-alarm.js";
import { type Handler, type Info, ownHandlerOf } from "./own-handler.js";
import { type OwnMethods, ownMethodsOf } from "./own-methods.js";
import { ownAlarmAt } from "./retries.js";
import { watchOf } from "./watch.js";

/** What the alarm needs of its object. */
export interface AlarmHost {
  /** The object's own `alarm` handler, looked up for each call; `null` where the class has none. */
  handler(): Handler | null;
  /** Does what is due, although the platform has not called: its alarm is late. */
  deliverLate(): Promise<void>;
  /** Resolves when everything that was written is durable. */
  durable(): Promise<void>;
  /** Resets the object: what is not yet committed is gone. */
  refuse(reason: string): void;
  /** Leave the outbox's alarm set when nothing waits any more, for the next message: it fires for nothing at most once. */
  readonly keepsAlarm: boolean;
}

/** The alarm slot of one object. */
export interface AlarmSlot {
  /** The time, in milliseconds since the Unix epoch: never before the alarm that is being handled, whatever the clock says. */
  now(): number;
  /** After a start: learns for when the native alarm is set, and repairs the wake-up. */
  load(wakeAt: number): Promise<void>;
  /**
   * Sets the outbox's wake-up, in the turn in which its rows are written. `NEVER` hands the native alarm back to the object.
   * Returns a promise where the alarm had to be set.
   *
   * @param isForced set it although the platform would repeat its call: it gives up after seven, and does not know our delays
   */
  setWake(wakeAt: number, isForced?: boolean): Promise<void> | undefined;
  /** Whether the alarm is set already for something that is due at this time, as after every put of a burst but the first. */
  isSetFor(now: number): boolean;
  /** The time of the outbox's alarm that is firing, is still set, or may be called again, or 0. */
  outboxAlarmLeft(): number;
  /** Memory has been rolled back: what is to start within the call under way starts by what is known again. */
  rolledBack(): void;
  /** Does what is due, although the platform has not called. */
  deliverLate(): Promise<void>;
  /** The instance's `alarm`: the platform's call, shared out. Throws only what the object's own handler threw. */
  handle(info: Info, deliver: Deliver): Promise<void>;
  /** The object's own `deleteAll()`, with nothing waiting, has deleted the alarm as well. */
  forget(): void;
  /** What a transaction may change beside memory. Returns what puts it back when that rolls back. */
  snapshot(): () => void;
  /** `getAlarm`, `setAlarm` and `deleteAlarm` for the object's own code, as if there were no outbox. */
  readonly methods: OwnMethods["methods"];
}

/** Puts the owners together: each file of this folder owns a part of the state, and here is what happens in which order. */
export function alarmSlot(store: Store, emit: Emit, timers: Timers, host: AlarmHost): AlarmSlot {
  const { memory } = store;
  const call = callOf(store, timers);
  const own = ownAlarmOf(store, call);
  const watch = watchOf(store, timers, {
    isCalled: () => call.firingAt > 0,
    isDue: () => call.isDue(memory.wakeAt),
    async deliver() {
      await host.deliverLate();
      call.ranLate();
    },
    repair,
  });
  const native = nativeAlarmOf(store, call, own, watch, timers, host.keepsAlarm, host.refuse);
  const handler = ownHandlerOf(store, call, own, native, host.handler, host.durable, sync);
  const hasHandler = (): boolean => host.handler() !== null;
  const asked = ownMethodsOf(store, call, own, native, handler, timers, hasHandler, sync);

  /** Brings the native alarm in line, and what is to start within the call under way; returns nothing where the alarm was right. */
  function sync(): Promise<void> | undefined {
    const { ownAlarm, wakeAt } = memory;
    call.cancelPlans();
    // The platform makes one call at a time. While it lasts both sides fire from here: neither waits for the end of the other.
    if (call.firingAt && wakeAt < NEVER) {
      const now = store.now();
      if (ownAlarm) call.plan(ownAlarm.due - now, () => call.isDue(ownAlarm.due) && handler.start());
      if (handler.isRunning) call.plan(Math.max(wakeAt, handler.deliversFrom()) - now, () => call.isDue(wakeAt) && call.startDelivery());
    }
    return native.sync();
  }

  function repair(nativeAlarmAt: number): void {
    native.found(nativeAlarmAt);
    if (sync()) emit({ type: "repaired" });
  }

  /** Begins a call: what it is for, and what follows for the native alarm and the object's own. Returns how to go on. */
  function begin(info: Info, deliver: Deliver): { isShared: boolean; died: boolean; startsOwn: boolean } {
    const { nativeAlarmAt } = memory;
    const { deleted, isPoolNext } = asked.hints;
    // `runDurableObjectAlarm` calls for what the outbox wants to do next, as if its time had come.
    const isEarly = !info && isPoolNext && memory.wakeAt < NEVER;
    const firingAt = info?.scheduledTime ?? Math.max(Math.min(nativeAlarmAt, store.now()), isEarly ? memory.wakeAt : 0);
    // The object's own may have been called for as the object started: then no alarm was set, and this life has set it later.
    const isOwn = info !== undefined && own.isFromEarlierLife(firingAt, native.firstSetAt);
    const isShared = !isOwn && native.isShared(firingAt);
    const died = isShared && !!info?.retryCount && !call.hasRun && !own.hasDied;
    call.begin(firingAt, deliver);
    native.began({ firingAt, isPlatforms: info !== undefined, isShared, isEarly });
    own.called(firingAt);
    asked.called();
    // A call that says nothing of itself is for what is due. Not the platform's is one that comes early, and one that follows a deletion.
    const isByHand = !info && !isEarly && (deleted !== null || (nativeAlarmAt > store.now() && nativeAlarmAt < NEVER));
    // While the native alarm is the object's, every call is the object's, whether or not we saw it set.
    if (!isShared || isByHand) own.assume(deleted ?? ownAlarmAt(firingAt));
    const { ownAlarm } = memory;
    const isRetry = info !== undefined && ownAlarm?.time === firingAt && info.retryCount >= ownAlarm.retryCount;
    const startsOwn = ownAlarm !== null && (call.isDue(ownAlarm.due) || isRetry || isByHand || (!info && !isShared));
    return { isShared, died, startsOwn };
  }

  return {
    now: call.now,

    async load(wakeAt) {
      if (wakeAt === NEVER && !hasHandler()) return;
      const alarm = (await store.native.getAlarm()) ?? NEVER;
      native.load(alarm, wakeAt);
      own.load();
      if (wakeAt < NEVER) {
        if (own.hasDied) {
          // A run beside it has died with it, and not of what it had in hand. The next death is another matter.
          store.absolve();
          unwatched(store.saveHeader());
        }
        // Overdue or gone: most likely it is why the object starts, and the handler is called next. Setting it would take the place
        // of that call's repetition. If it is not, the watch finds out.
        if (alarm === NEVER || alarm <= store.now()) watch.started(alarm < NEVER);
        else repair(alarm);
        return;
      }
      // Paused while a call was under way that never ended.
      if (memory.outboxAlarmAtRest) store.suspect();
      if (alarm <= memory.outboxAlarmAt) sync();
      else own.loadFrom(alarm, memory.outboxAlarmAt);
    },

    isSetFor(now) {
      const { wakeAt, nativeAlarmAt } = memory;
      if (wakeAt > now || !(native.platformWillRetry || nativeAlarmAt <= now + 1)) return false;
      watch.checkAfter();
      return true;
    },

    setWake(wakeAt, isForced) {
      native.setWake(wakeAt, isForced);
      const set = sync();
      if (!set && wakeAt < NEVER) watch.checkAfter();
      return set;
    },

    outboxAlarmLeft: native.outboxAlarmLeft,

    deliverLate: host.deliverLate,

    rolledBack: () => void sync(),

    async handle(info, deliver) {
      if (call.firingAt) return deliver(false); // Called by other code while another call is under way.
      const { isShared, died, startsOwn } = begin(info, deliver);
      if (startsOwn) handler.start(info);
      else sync();
      try {
        const isDue = call.isDue(memory.wakeAt) && !handler.leasedAt;
        if (isDue) await deliver(died);
        await handler.ended();
        await call.delivering;
        if (!isDue && call.isDue(memory.wakeAt)) await deliver(false);
        await handler.ended();
      } finally {
        native.ended({ firingAt: call.firingAt, isShared }, isShared && call.thrown === null);
        call.end();
        sync();
        call.close();
      }
      if (call.thrown) throw call.thrown.error;
    },

    snapshot() {
      const restores = [native.snapshot(), own.snapshot(), asked.snapshot()];
      return () => {
        for (const restore of restores) restore();
      };
    },

    forget() {
      own.forget();
      native.forget();
      sync();
    },

    methods: asked.methods,
  };
}
