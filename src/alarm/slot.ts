/** The alarm slot: the platform gives an object one alarm, and here the outbox and the object's own code share it. */

import { expected, told } from "../api/errors.js";
import type { Emit } from "../api/events.js";
import { NEVER } from "../storage/memory.js";
import type { Store } from "../storage/store.js";
import { type OwnAlarm, retryOf } from "./own-alarm.js";
import { isTestPool } from "./test-pool.js";
import type { Cancel, Timers } from "./timers.js";
import { LATE_MS, watchOf } from "./watch.js";

/** The platform's own rule for an alarm that fails: retried after 2 s, doubling (Alarms API documentation). */
const PLATFORM_RETRY_MS = 2000;
/** An own alarm that has failed before runs alone for so long, in milliseconds: should it die again, it takes no send with it. */
const ALONE_MS = 1000;
/** So long after its handler has returned, in milliseconds, the platform may still repeat a call, because not all of it is durable. */
const SETTLING_MS = 1000;
/** The runtime takes no date from here on: 2190-01-01, in milliseconds since the Unix epoch (seen in its error). */
const LAST_DATE = 6_942_672_000_000;

/** No call settles. */
const NOTHING: { readonly time: number } = { time: 0 };

/** What a facet says in production; a local run refuses the commit itself. */
const NO_ALARM: string = told("This object can't set an alarm (facets can't): put the outbox in the object that holds the facet.");

/** What fires: the platform's description of the call, or nothing when a test calls. */
type Info = AlarmInvocationInfo | undefined;

/** The alarm slot of one object. */
export interface AlarmSlot {
  /** The time, in milliseconds since the Unix epoch: never before the alarm that is being handled, whatever the clock says. */
  now(): number;
  /** The object's own `alarm` handler. */
  handler: ((info: Info) => unknown) | null;
  /** Does what is due, although the platform has not called: its alarm is late. */
  late: () => Promise<void>;
  /** After a start: learns what the native slot holds and repairs the wake-up. */
  load(wakeAt: number): Promise<void>;
  /**
   * Sets the outbox's wake-up, in the turn in which its rows are written. `NEVER` hands the slot back to the object.
   * Returns a promise where the alarm had to be set.
   *
   * @param now arm it although the platform would repeat its call: it gives up after seven, and does not know our delays
   */
  setWake(wakeAt: number, now?: boolean): Promise<void> | undefined;
  /** Whether the alarm is set already for something that is due at this time, as after every put of a burst but the first. */
  stands(now: number): boolean;
  /** Memory has been rolled back: what is to start within the call under way starts by what is known again. */
  rolledBack(): void;
  /** The instance's `alarm`: the platform's call, shared out. Throws only what the object's own handler threw. */
  handle(info: Info, deliver: (died: boolean) => Promise<void>): Promise<void>;
  /** The object's own `deleteAll()`, with nothing waiting, has taken the alarm with it. */
  forget(): void;
  /** What a transaction may change beside memory. Returns what puts it back when that rolls back. */
  snapshot(): () => void;
  /** `getAlarm`, `setAlarm` and `deleteAlarm` for the object's own code, as if there were no outbox. */
  readonly methods: Pick<DurableObjectStorage, "getAlarm" | "setAlarm" | "deleteAlarm">;
}

/**
 * Keeps one invariant: the native alarm is set no later than the earlier of the outbox's wake-up and the object's own
 * alarm. While nothing waits in the outbox, the native slot belongs to the object, untouched. An alarm that is overdue is late, and not
 * lost: it is left as it is.
 *
 * @param keep leave the outbox's alarm set when nothing waits any more, for the next message: it fires once at most
 * @param durable resolves when everything that was written is durable
 * @param refuse resets the object: what is not yet committed is gone
 */
export function alarmSlot(
  store: Store,
  emit: Emit,
  timers: Timers,
  keep: boolean,
  durable: () => Promise<void>,
  refuse: (reason: string) => void,
): AlarmSlot {
  const { memory } = store;
  /** The time of the alarm that is being handled; 0 when none is. */
  let firing = 0;
  /** The platform's call has not returned: a little longer than `firing`. */
  let called = false;
  /** The call under way is the platform's, which repeats it if we die: until it ends, nothing needs to be set. */
  let platformWillRetry = false;
  /** The outbox's alarm whose handler has returned, while the platform would repeat it should we die: it is not over before all is durable. */
  let settling = NOTHING;
  /** No alarm is set at or before this: the platform may lose one that is not after the alarm that fired last. */
  let lastFiredAt = 0;
  /** The object's own alarm as the marker had it at the start: it holds if the marker's alarm is called once more. */
  let ownAlarmAtStart: { readonly own: OwnAlarm | null; readonly firing: number; readonly called: boolean } | null = null;
  /** Changes when a call of the platform begins, and when it ends. */
  let call = 0;
  /** The earliest time for which this life has set the slot. */
  let earliest = NEVER;
  /** The own alarm that has been deleted in this turn: `runDurableObjectAlarm` does that before it calls `alarm()`. */
  let deleted: OwnAlarm | null = null;
  /** `runDurableObjectAlarm` has been told of the outbox's alarm, and calls it next, before its time. */
  let poolAsked = false;
  /** The object's own alarm was set behind one of the outbox's, which may have been lost before. */
  let unsure = false;
  /** An earlier life ended while the object's own handler ran: that is what it died of, as far as anybody knows. */
  let ownDied = false;
  /** A run has ended in this life: what the platform tells of an earlier one has been superseded. */
  let ran = false;
  let cancels: Cancel[] = [];
  /** Starts delivery within the call under way. */
  let deliver: ((died: boolean) => Promise<void>) | null = null;
  let delivering: Promise<void> | null = null;
  let ownRun: Promise<void> | null = null;
  /** When the handler began that has failed before; 0 when none runs. The alarm is set for what follows its death. */
  let leased = 0;
  /** What the object's own handler threw in this call. */
  let thrown: unknown[] = [];

  function cancel(): void {
    for (const each of cancels) each();
    cancels = [];
  }

  function deliverNow(): void {
    if (deliver) delivering = deliver(false);
  }

  /** No alarm is set before this: outside a call the one that fired last no longer matters, which a clock that was ahead would put far off. */
  function after(): number {
    return called || lastFiredAt < store.now() + LATE_MS ? lastFiredAt + 1 : 0;
  }

  /** Whether an alarm of the outbox is late. It is left as it is: the platform will still call, and setting it again would make it wait anew. */
  function isLate(): boolean {
    return !firing && memory.nativeAlarmAt <= store.now() - LATE_MS;
  }

  /** Brings the native slot in line; nothing to wait for when it was. */
  function sync(): Promise<void> | undefined {
    const { ownAlarm: own, wakeAt, nativeAlarmAt, runningAlarm: running } = memory;
    // Where the platform would not repeat the call, the slot is set for what follows should the handler die.
    const due = (own ?? (running && retryOf(running)))?.due ?? NEVER;
    const now = store.now();
    cancel();
    // The platform makes one call at a time. While it lasts both sides fire from here: neither waits for the end of the other.
    if (firing && wakeAt < NEVER) {
      if (own) cancels.push(timers.after(own.due - now, () => isDue(own.due) && startOwn()));
      if (ownRun) cancels.push(timers.after(Math.max(wakeAt, leased && leased + ALONE_MS) - now, () => isDue(wakeAt) && deliverNow()));
    }
    // At its end the slot is set once.
    if (platformWillRetry) return;
    const time = Math.max(Math.min(wakeAt, due), now + 1, after());
    const late = isLate();
    const ours = nativeAlarmAt === memory.outboxAlarmAt && !unsure;
    if (time === NEVER && ours && (keep || late)) return;
    // One that is late covers what is due now, which the object does by itself. For what is due later it is set anew, with patience.
    const covers = nativeAlarmAt <= time && (!late || time <= now + LATE_MS || !watch.mayArm(now));
    // An alarm that is set earlier stays: it costs a call at most, and moving one that is due at once would postpone it. When nothing waits
    // any more the object's own is set all the same, unless the other one is left for the next message.
    const stands = wakeAt === NEVER ? nativeAlarmAt === due || nativeAlarmAt === time || (ours && covers && (keep || late)) : covers;
    if (stands && time < NEVER) return;
    memory.nativeAlarmAt = time;
    if (time === NEVER && nativeAlarmAt === NEVER) return;
    // What is set or deleted takes the place of a repetition.
    settling = NOTHING;
    if (time === NEVER) {
      unwatched(store.native.deleteAlarm());
      return;
    }
    // Unless it is exactly the object's own.
    if (time !== due) memory.outboxAlarmAt = time;
    // The slot's time must tell the next life whose it is.
    if (own && wakeAt === NEVER && time > due) {
      memory.ownAlarm = { ...own, due: time };
      unwatched(store.saveHeader());
    }
    watch.armed(time, now, late);
    if (!store.open) unsure = false;
    earliest = Math.min(earliest, time);
    const set = store.native.setAlarm(time);
    // Without an alarm nothing would wake the object: whatever this turn has written must not stay.
    set.catch((error) => refuse(`${NO_ALARM} ${error}`));
    return set;
  }

  function repair(alarm: number): void {
    memory.nativeAlarmAt = alarm > store.now() ? alarm : NEVER;
    if (sync()) emit({ type: "repaired" });
  }

  const watch = watchOf(store, timers, {
    called: () => firing > 0,
    due: () => isDue(memory.wakeAt),
    async deliver() {
      await slot.late();
      ran = true;
    },
    repair,
  });

  function isDue(time: number): boolean {
    return time <= slot.now();
  }

  function startOwn(info?: Info): void {
    const { ownAlarm: own } = memory;
    // One call of the handler at a time, as on the platform. When it ends, the slot is looked at again.
    if (!own || ownRun || !firing) return;
    const { time: scheduledTime, retryCount } = own;
    // The platform's call for exactly this time carries the platform's own count. Any other call carries ours.
    const native = firing === scheduledTime && (info?.retryCount ?? 0) >= retryCount;
    const told = native ? info : { ...info, scheduledTime, retryCount, isRetry: retryCount > 0 };
    const failures = told?.retryCount ?? 0;
    memory.ownAlarm = null;
    memory.runningAlarm = { time: scheduledTime, due: store.now() + PLATFORM_RETRY_MS * 2 ** failures, retryCount: failures + 1 };
    // While the slot is the object's, and has been all along, the platform counts and repeats.
    const ours = memory.wakeAt < NEVER || !native;
    // Should the handler die with the isolate, its next call is a retry, which waits as long and comes as seldom as on the platform.
    if (ours) unwatched(store.saveHeader());
    ownRun = runOwn(native, told, ours);
    if (ours && failures > 0) lease();
    else sync();
  }

  /** The handler has failed before: if it dies, an alarm is set all the same, and does not depend on how often the platform has called. */
  function lease(): void {
    leased = store.now();
    platformWillRetry = false;
    memory.nativeAlarmAt = NEVER;
    if (!sync()) unwatched(store.native.deleteAlarm());
  }

  /**
   * @param native whether the call is the platform's for this very alarm, which it repeats by itself when the handler throws
   * @param ours whether the header knows of the call: then that is durable before the handler can end it
   */
  async function runOwn(native: boolean, info: Info, ours: boolean): Promise<void> {
    let failed = false;
    try {
      // Never at once: the caller that waits for the end must find it running.
      if (ours) await durable();
      // Awaited within as well, so that a rejection is handled in its own turn, as compatibility dates before 2026-03-10 ask for.
      await (async () => await slot.handler?.(info))();
    } catch (error) {
      thrown = [error];
      failed = true;
    }
    // What memory learns while a transaction is open would go back with it.
    while (store.open) await store.open;
    // Not when the handler set or deleted its alarm before it threw: that replaces the retries.
    const retry = failed && memory.runningAlarm ? retryOf(memory.runningAlarm) : null;
    if (retry) {
      const due = store.now() + PLATFORM_RETRY_MS * 2 ** (retry.retryCount - 1);
      memory.ownAlarm = { ...retry, due };
      // While nothing waits the platform itself calls again: setting the alarm would replace its retries.
      if (platformWillRetry && native && memory.wakeAt === NEVER) memory.nativeAlarmAt = due;
    }
    // The platform does not know of a retry that is ours.
    const held = memory.runningAlarm !== null && memory.nativeAlarmAt === memory.runningAlarm.due;
    const saved = leased || held || memory.isRunningAtRest || (memory.ownAlarm?.retryCount && memory.nativeAlarmAt !== memory.ownAlarm.due);
    memory.runningAlarm = ownRun = null;
    leased = 0;
    // Both in one commit.
    sync();
    if (saved) await store.saveHeader();
  }

  /** A call of the outbox's alarm returns: a header that is written before the platform has counted it as over must still name it. */
  function settle(time: number): void {
    const settled = { time };
    settling = settled;
    timers.after(SETTLING_MS, () => {
      settled.time = 0;
    });
  }

  async function ownEnd(): Promise<void> {
    while (ownRun) await ownRun;
  }

  async function setOwn(own: OwnAlarm | null, write: (time: number) => Promise<void>): Promise<void> {
    // What is not after the alarm that fired last the platform may lose.
    const due = own ? Math.max(own.time, after()) : NEVER;
    memory.ownAlarm = own && { ...own, due };
    memory.runningAlarm = ownAlarmAtStart = null;
    if (memory.wakeAt === NEVER) {
      // The slot is the object's. What it sets replaces the call under way, which the platform no longer repeats.
      platformWillRetry = false;
      settling = NOTHING;
      const written = write(due);
      const forgotten =
        memory.nativeAlarmAt === memory.outboxAlarmAt || (own !== null && (own.time <= memory.outboxAlarmAtRest || due > own.time));
      memory.nativeAlarmAt = due;
      // The marker must not take the object's alarm for the one that it has replaced.
      if (forgotten) await store.saveHeader();
      return written;
    }
    // The handler may end the call in a way after which the platform does not repeat it.
    if (ownRun) platformWillRetry = false;
    // An alarm of the outbox's that is believed to be set may have been lost before: it must not stand in for the object's own.
    if (memory.nativeAlarmAt === due && !platformWillRetry) memory.nativeAlarmAt = NEVER;
    if (own) unsure = true;
    const saved = store.saveHeader();
    sync();
    return saved;
  }

  store.outboxAlarmLeft = () =>
    platformWillRetry
      ? firing
      : memory.nativeAlarmAt === memory.outboxAlarmAt && (keep || memory.ownAlarm || isLate())
        ? memory.outboxAlarmAt
        : settling.time;

  const slot: AlarmSlot = {
    handler: null,
    late: async () => {},

    now: () => Math.max(firing, store.now()),

    async load(wakeAt) {
      if (wakeAt === NEVER && !slot.handler) return;
      const alarm = (await store.native.getAlarm()) ?? NEVER;
      memory.nativeAlarmAt = alarm;
      memory.wakeAt = wakeAt;
      memory.isRunningAtRest = ownDied = memory.ownAlarm?.running === true;
      if (memory.ownAlarm) memory.ownAlarm = ownAlarmAt(memory.ownAlarm.time, memory.ownAlarm);
      if (wakeAt < NEVER) {
        // What is set is the outbox's, unless it is the object's own.
        if (alarm < NEVER && alarm !== memory.ownAlarm?.due) memory.outboxAlarmAt = alarm;
        if (ownDied) {
          // A run beside it has died with it, and not of what it had in hand. The next death is another matter.
          store.absolve();
          unwatched(store.saveHeader());
        }
        // Overdue or gone: most likely it is why the object starts, and the handler is called next. Setting it would take the place
        // of that call's repetition. If it is not, a look finds out.
        if (alarm === NEVER || alarm <= store.now()) watch.started(alarm < NEVER);
        else repair(alarm);
        return;
      }
      // Paused while a call was under way that never ended.
      if (memory.outboxAlarmAtRest) store.suspect();
      // The crash may have come after the last message was cleared and before the slot was handed back: that alarm is not the object's.
      memory.outboxAlarmAt = memory.outboxAlarmAtRest;
      if (alarm <= memory.outboxAlarmAt) sync();
      else {
        ownAlarmAtStart = { own: memory.ownAlarm, firing: memory.outboxAlarmAt, called: alarm === NEVER };
        // Where it is a retry, only the header knows of what.
        if (memory.ownAlarm?.due !== alarm) memory.ownAlarm = alarm < NEVER ? ownAlarmAt(alarm) : null;
      }
    },

    stands(now) {
      const { wakeAt, nativeAlarmAt } = memory;
      if (wakeAt > now || !(platformWillRetry || nativeAlarmAt <= now + 1)) return false;
      watch.look();
      return true;
    },

    setWake(wakeAt, now) {
      if (now) platformWillRetry = false;
      memory.wakeAt = wakeAt;
      const set = sync();
      if (!set && wakeAt < NEVER) watch.look();
      return set;
    },

    rolledBack: () => void sync(),

    async handle(info, run) {
      if (firing) return run(false); // Called by hand while another call is under way.
      deliver = run;
      call++;
      called = true;
      const { nativeAlarmAt } = memory;
      // `runDurableObjectAlarm` calls for what the outbox wants to do next, as if its time had come.
      const early = !info && poolAsked && memory.wakeAt < NEVER;
      firing = info?.scheduledTime ?? Math.max(Math.min(nativeAlarmAt, store.now()), early ? memory.wakeAt : 0);
      // One that the outbox has left set is the only one there is, whatever its time.
      // But the object's own may have been called for as the object started: then the slot was empty, and this life has set it later.
      const isOwn = info && ownAlarmAtStart?.called && firing > ownAlarmAtStart.firing && firing < earliest;
      const shared =
        !isOwn &&
        (memory.wakeAt < NEVER || firing <= memory.outboxAlarmAt || (nativeAlarmAt < NEVER && nativeAlarmAt === memory.outboxAlarmAt));
      // An alarm that was set since the platform began its call takes the place of the call's repetition.
      const repeated = memory.ownAlarm?.time === firing && memory.ownAlarm.due === nativeAlarmAt;
      platformWillRetry = !!info && (nativeAlarmAt <= firing || nativeAlarmAt === NEVER || repeated);
      if (platformWillRetry) memory.nativeAlarmAt = NEVER;
      if (!early) lastFiredAt = Math.max(lastFiredAt, firing);
      if (info) watch.heard();
      // The marker's alarm is called once more: what it remembers of the object's own holds.
      if (ownAlarmAtStart?.own && (firing <= ownAlarmAtStart.firing || firing === ownAlarmAtStart.own.due))
        memory.ownAlarm ??= ownAlarmAtStart.own;
      ownAlarmAtStart = null;
      if (shared) memory.outboxAlarmAt = memory.nativeAlarmAt === memory.outboxAlarmAt ? memory.outboxAlarmAt : firing;
      // A call that says nothing of itself is for what is due. Not the platform's is one that comes early, and one that follows a deletion.
      const byHand = !info && !early && (deleted || (nativeAlarmAt > store.now() && nativeAlarmAt < NEVER));
      // While the slot is the object's, every call is the object's, whether or not we saw it set.
      if (!shared || byHand) memory.ownAlarm ??= deleted ?? ownAlarmAt(firing);
      deleted = null;
      poolAsked = false;
      thrown = [];
      const { ownAlarm: own } = memory;
      const again = info && own?.time === firing && info.retryCount >= own.retryCount;
      if (own && (isDue(own.due) || again || byHand || (!info && !shared))) startOwn(info);
      else sync();
      const died = shared && !!info?.retryCount && !ran && !ownDied;
      ownDied = false;
      try {
        const due = isDue(memory.wakeAt) && !leased;
        if (due) await run(died);
        await ownEnd();
        await delivering;
        if (!due && isDue(memory.wakeAt)) await run(false);
        await ownEnd();
      } finally {
        if (platformWillRetry && shared && thrown.length === 0) settle(firing);
        firing = 0;
        call++;
        platformWillRetry = false;
        ran = true;
        deliver = delivering = null;
        // An alarm whose time has passed during the call may have been taken by it.
        if (memory.nativeAlarmAt <= store.now() && Math.min(memory.wakeAt, memory.ownAlarm?.due ?? NEVER) < NEVER)
          memory.nativeAlarmAt = NEVER;
        sync();
        called = false;
      }
      if (thrown.length > 0) throw thrown[0];
    },

    snapshot() {
      const before = { call, platformWillRetry, settling, ownAlarmAtStart, earliest };
      return () => {
        deleted = null;
        earliest = before.earliest;
        // A call that began or ended meanwhile is no part of the transaction.
        if (call === before.call) ({ platformWillRetry, settling, ownAlarmAtStart } = before);
      };
    },

    forget() {
      memory.ownAlarm = memory.runningAlarm = null;
      memory.nativeAlarmAt = NEVER;
      sync();
    },

    methods: {
      getAlarm: async (options) => {
        const { ownAlarm: own, wakeAt, nativeAlarmAt, outboxAlarmAt } = memory;
        if (wakeAt === NEVER && !firing && !(own && own.due > own.time) && nativeAlarmAt !== outboxAlarmAt)
          return store.native.getAlarm(options);
        poolAsked = !own && wakeAt < NEVER && isTestPool();
        return poolAsked ? store.native.getAlarm() : (own?.time ?? null);
      },

      // With a shared slot the platform does not see the argument, so it is checked here.
      async setAlarm(scheduledTime, options) {
        if (!slot.handler) throw expected("alarm", "a handler of the class", null);
        const time = Math.trunc(Number(scheduledTime));
        if (!(time > 0 && time < LAST_DATE) || typeof scheduledTime === "boolean") throw expected("scheduledTime", "a time", scheduledTime);
        return setOwn(ownAlarmAt(Math.max(time, store.now())), (due) =>
          store.native.setAlarm(due > after() ? scheduledTime : due, options),
        );
      },

      async deleteAlarm(options) {
        if (memory.wakeAt < NEVER) {
          deleted = memory.ownAlarm;
          timers.after(0, () => {
            deleted = null;
          });
        }
        return setOwn(null, () => store.native.deleteAlarm(options));
      },
    },
  };
  return slot;
}

/** A write for which nobody waits. Where storage fails the object is broken, and its next life repairs what it finds. */
function unwatched(write: Promise<unknown>): void {
  write.catch(() => {});
}

function ownAlarmAt(time: number, { due, retryCount } = { due: time, retryCount: 0 }): OwnAlarm {
  return { time, due, retryCount };
}
