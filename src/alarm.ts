/** The alarm slot: the platform gives an object one alarm, and here the outbox and the object's own code share it. */

import { expected, told } from "./errors.js";
import type { Emit } from "./events.js";
import { NEVER } from "./memory.js";
import type { Store } from "./store.js";
import type { Cancel, Timers } from "./timers.js";
import type { OwnAlarm, Trouble } from "./trouble.js";

/** An alarm that is overdue by this much, in milliseconds, with no run under way, has been lost by the platform. */
const LOST_MS = 1000;
/** How long after a write, in milliseconds, the alarm is looked at, so that all writes of that time pay for one look. */
const CHECK_MS = 1000;
/** The same after a start. */
const START_MS = 100;
/** The platform's own rule for an alarm that throws: retried after 2 s, doubling, six times (Alarms API documentation). */
const PLATFORM_RETRY_MS = 2000;
const PLATFORM_RETRIES = 6;
/** The runtime takes no date from here on: 2190-01-01, in milliseconds since the Unix epoch (seen in its error). */
const LAST_DATE = 6_942_672_000_000;

/** What a facet says in production; a local run refuses the commit itself. */
const NO_ALARM: string = told("This object can't set an alarm, as facets can't: put the outbox in the object that holds the facet.");

/** What fires: the platform's description of the call, or nothing when a test helper calls. */
type Info = AlarmInvocationInfo | undefined;

/** The alarm slot of one object. */
export interface AlarmSlot {
  /** The time, in milliseconds since the Unix epoch: never before the alarm that is being handled, whatever the clock says. */
  now(): number;
  /** The object's own `alarm` handler. */
  handler: ((info: Info) => unknown) | null;
  /** After a start: learns what the native slot holds and mends the wake-up. */
  load(wake: number): Promise<void>;
  /**
   * Sets the outbox's wake-up, in the turn in which its rows are written. `NEVER` hands the slot back to the object.
   * Gives a promise where the alarm had to be set.
   *
   * @param now arm it although the platform would repeat its call: it gives up after seven, and does not know our delays
   */
  setWake(wake: number, now?: boolean): Promise<void> | undefined;
  /** Whether the alarm stands already for something that is due at this time, as after every put of a burst but the first. */
  stands(now: number): boolean;
  /** The instance's `alarm`: the platform's call, shared out. Throws only what the object's own handler threw. */
  handle(info: Info, deliver: (died: boolean) => Promise<void>): Promise<void>;
  /** The object's own `deleteAll()`, with nothing waiting, has taken the alarm with it. */
  forget(): void;
  /** `getAlarm`, `setAlarm` and `deleteAlarm` for the object's own code, as if there were no outbox. */
  readonly methods: Pick<DurableObjectStorage, "getAlarm" | "setAlarm" | "deleteAlarm">;
}

/**
 * Keeps one invariant: the native alarm stands no later than the earlier of the outbox's wake-up and the object's own
 * alarm. While nothing waits in the outbox, the native slot belongs to the object, untouched.
 *
 * @param keep leave the outbox's alarm standing when nothing waits any more, for the next message: it fires once at most
 * @param refuse resets the object: what is not yet committed is gone
 */
export function alarmSlot(store: Store, emit: Emit, timers: Timers, keep: boolean, refuse: (reason: string) => void): AlarmSlot {
  const { memory } = store;
  /** The time of the alarm that is being handled; 0 when none is. */
  let firing = 0;
  /** The call under way is the platform's, which repeats it if we die: until it ends, nothing needs to be armed. */
  let guarded = false;
  /** No alarm is armed at or before this: the platform may lose one that is not after the alarm that fired last. */
  let floor = 0;
  /** The object's own alarm as the marker had it at the start: it holds if the marker's alarm is called once more. */
  let kept: { readonly own: OwnAlarm | null; readonly firing: number } | null = null;
  /** An alarm that was overdue when the object started, and how the destination was thought to fare then. */
  let orphan: { readonly time: number; readonly trouble: Trouble } | null = null;
  let checking = false;
  let cancels: Cancel[] = [];
  /** Starts delivery within the call under way. */
  let deliver: ((died: boolean) => Promise<void>) | null = null;
  let delivering: Promise<void> | null = null;
  let ownRun: Promise<void> | null = null;
  /** What the object's own handler threw in this call. */
  let thrown: unknown[] = [];

  function cancel(): void {
    for (const each of cancels) each();
    cancels = [];
  }

  function deliverNow(): void {
    if (deliver) delivering = deliver(false);
  }

  /** Brings the native slot in line; nothing to wait for when it was. */
  function sync(): Promise<void> | undefined {
    const { own, wake, armed } = memory;
    const due = own?.due ?? NEVER;
    const now = Date.now();
    cancel();
    // The platform makes one call at a time. While it lasts both sides fire from here: neither waits for the end of the other.
    if (firing && wake < NEVER) {
      if (due < NEVER) cancels.push(timers.after(due - now, () => isDue(due) && startOwn()));
      if (ownRun) cancels.push(timers.after(wake - now, () => isDue(wake) && deliverNow()));
    }
    // At its end the slot is set once.
    if (guarded) return;
    const time = Math.max(Math.min(wake, due), now + 1, floor + 1);
    if (time === NEVER && keep && armed === memory.stale) return;
    // An alarm that stands earlier stays: it costs a run at most, and moving one that is due at once would postpone it. The object's own is
    // set all the same: once nothing waits, nobody looks whether the other one still stands.
    const stands = wake === NEVER ? armed === due || armed === time : armed <= time && (armed > now - LOST_MS || firing);
    if (stands && time < NEVER) return;
    memory.armed = time;
    if (time === NEVER) {
      if (armed < NEVER) unwatched(store.native.deleteAlarm());
      return;
    }
    // Unless it is exactly the object's own.
    if (time !== due) memory.stale = time;
    const set = store.native.setAlarm(time);
    // Without an alarm nothing would wake the object: whatever this turn has written must not stay.
    set.catch((error) => refuse(`${NO_ALARM} ${error}`));
    return set;
  }

  /** Looks, once per burst, whether the alarm still stands. Others can delete it, and the platform has been seen to lose it. */
  function check(delay = CHECK_MS): void {
    if (checking) return;
    checking = true;
    timers.after(delay, async () => {
      checking = false;
      const { armed } = memory;
      const alarm = (await store.native.getAlarm().catch(() => armed)) ?? NEVER;
      if (memory.wake === NEVER || firing || memory.armed !== armed) return;
      if (alarm === NEVER || alarm !== armed || alarm < Date.now() - LOST_MS) repair(alarm);
      else if (alarm <= Date.now()) check(LOST_MS);
    });
  }

  function repair(alarm: number): void {
    memory.armed = alarm > Date.now() ? alarm : NEVER;
    if (!sync()) return;
    // What takes the place of the platform's repetition must know what that would have told.
    if (orphan) unwatched(store.saveHeader());
    emit({ type: "repaired" });
  }

  function isDue(time: number): boolean {
    return time <= slot.now();
  }

  function startOwn(info?: Info): void {
    const { own } = memory;
    // One call of the handler at a time, as on the platform. When it ends, the slot is looked at again.
    if (!own || ownRun || !firing) return;
    memory.own = null;
    memory.running = own;
    // Should the handler die with the isolate, its next call is a retry.
    if (memory.wake < NEVER) unwatched(store.saveHeader());
    // The platform's call for exactly this time carries the platform's own count. Any other call carries ours.
    const { time: scheduledTime, retryCount } = own;
    const native = firing === scheduledTime && (info?.retryCount ?? 0) >= retryCount;
    ownRun = runOwn(scheduledTime, native, native ? info : { ...info, scheduledTime, retryCount, isRetry: retryCount > 0 });
    sync();
  }

  /** @param native whether the call is the platform's for this very alarm, which it repeats by itself when the handler throws */
  async function runOwn(time: number, native: boolean, info: Info): Promise<void> {
    try {
      // Never at once: whoever waits for the end must find it running.
      await (async () => slot.handler?.(info))();
    } catch (error) {
      thrown = [error];
      const failures = info?.retryCount ?? 0;
      // Not when the handler set or deleted its alarm before it threw: that replaces the retries.
      if (memory.running && failures < PLATFORM_RETRIES) {
        const due = Date.now() + PLATFORM_RETRY_MS * 2 ** failures;
        memory.own = { time, due, retryCount: failures + 1 };
        // While nothing waits the platform itself calls again: setting the alarm would replace its retries.
        if (guarded && native && memory.wake === NEVER) memory.armed = due;
      }
    }
    // The platform does not know of a retry that is ours.
    const saved = (memory.running && memory.wake < NEVER) || (memory.own?.retryCount && memory.armed !== memory.own.due);
    memory.running = ownRun = null;
    if (saved) await store.saveHeader();
    sync();
  }

  async function ownEnd(): Promise<void> {
    while (ownRun) await ownRun;
  }

  async function setOwn(own: OwnAlarm | null, write: () => Promise<void>): Promise<void> {
    memory.own = own;
    memory.running = kept = null;
    if (memory.wake === NEVER) {
      // The slot is the object's. What it sets replaces the call under way, which the platform no longer repeats.
      guarded = false;
      const written = write();
      const forgotten = memory.armed === memory.stale || (own !== null && own.time <= memory.firing);
      memory.armed = own?.time ?? NEVER;
      // The marker must not take the object's alarm for the one that it has replaced.
      if (forgotten) await store.saveHeader();
      return written;
    }
    // The handler may end the call in a way after which the platform does not repeat it.
    if (ownRun) guarded = false;
    const saved = store.saveHeader();
    sync();
    return saved;
  }

  store.leftover = () => (guarded ? firing : memory.armed === memory.stale && (keep || memory.own) ? memory.stale : 0);

  const slot: AlarmSlot = {
    handler: null,

    now: () => Math.max(firing, Date.now()),

    async load(wake) {
      if (wake === NEVER && !slot.handler) return;
      const alarm = (await store.native.getAlarm()) ?? NEVER;
      memory.armed = alarm;
      memory.wake = wake;
      if (wake < NEVER) {
        // What stands is the outbox's, unless it is the object's own.
        if (alarm < NEVER && alarm !== memory.own?.due) memory.stale = alarm;
        // Overdue or gone: most likely it is why the object starts, and the handler is called next. Setting it would take the place
        // of that call's repetition. If it is not, a look finds out.
        if (alarm === NEVER) check(START_MS);
        else if (alarm <= Date.now()) {
          // Its call never ended, unless it comes yet: until then the next run counts as one after a death.
          orphan = { time: alarm, trouble: memory.trouble };
          memory.trouble = { ...memory.trouble, lease: true };
          check(START_MS);
        } else repair(alarm);
        return;
      }
      // Paused while a call was under way that never ended.
      if (memory.firing && store.undelivered() > 0) memory.trouble = { ...memory.trouble, lease: true };
      // The crash may have come after the last message was cleared and before the slot was handed back: that alarm is not the object's.
      memory.stale = memory.firing;
      if (alarm <= memory.stale) sync();
      else {
        kept = { own: memory.own, firing: memory.stale };
        // Where it is a retry, only the header knows of what.
        if (memory.own?.due !== alarm) memory.own = alarm < NEVER ? ownAlarm(alarm) : null;
      }
    },

    stands(now) {
      const { wake, armed } = memory;
      if (wake > now || !(guarded || (armed <= now + 1 && armed > now - LOST_MS))) return false;
      check();
      return true;
    },

    setWake(wake, now) {
      if (now) guarded = false;
      memory.wake = wake;
      const armed = sync();
      if (!armed && wake < NEVER) check();
      return armed;
    },

    async handle(info, run) {
      if (firing) return run(false); // Called by hand while another call is under way.
      deliver = run;
      const { armed } = memory;
      firing = info?.scheduledTime ?? Math.min(armed, Date.now());
      const shared = memory.wake < NEVER || firing <= memory.stale;
      // An alarm that was set since the platform began its call takes the place of the call's repetition.
      const repeated = memory.own?.time === firing && memory.own.due === armed;
      guarded = !!info && (armed <= firing || armed === NEVER || repeated);
      if (guarded) memory.armed = NEVER;
      floor = Math.max(floor, firing);
      // The platform calls it, and says itself whether it has done so before.
      if (info && orphan && firing <= orphan.time && memory.trouble.lease) memory.trouble = orphan.trouble;
      orphan = null;
      // The marker's alarm is called once more: what it remembers of the object's own holds.
      if (kept?.own && (firing <= kept.firing || firing === kept.own.due)) memory.own ??= kept.own;
      kept = null;
      if (shared) memory.stale = memory.armed === memory.stale ? memory.stale : firing;
      // While the slot is the object's, every call is the object's, whether or not we saw it set. So is one by hand.
      if (!shared || !info) memory.own ??= ownAlarm(firing);
      thrown = [];
      if (memory.own && (!info || isDue(memory.own.due) || memory.own.time === firing)) startOwn(info);
      else sync();
      try {
        const due = isDue(memory.wake);
        if (due) await run(shared && !!info?.retryCount);
        await ownEnd();
        await delivering;
        if (!due && isDue(memory.wake)) await run(false);
        await ownEnd();
      } finally {
        firing = 0;
        guarded = false;
        deliver = delivering = null;
        // An alarm whose time has passed during the call may have been taken by it.
        if (memory.armed <= Date.now()) memory.armed = NEVER;
        sync();
      }
      if (thrown.length > 0) throw thrown[0];
    },

    forget() {
      memory.own = memory.running = null;
      memory.armed = NEVER;
      sync();
    },

    methods: {
      getAlarm: async (options) =>
        memory.wake === NEVER && !firing && !memory.own?.retryCount && memory.armed !== memory.stale
          ? store.native.getAlarm(options)
          : (memory.own?.time ?? null),

      // With a shared slot the platform does not see the argument, so it is checked here.
      async setAlarm(scheduledTime, options) {
        if (!slot.handler) throw expected("alarm", "a handler of the class", null);
        const time = Math.trunc(Number(scheduledTime));
        if (!(time > 0 && time < LAST_DATE) || typeof scheduledTime === "boolean") throw expected("scheduledTime", "a time", scheduledTime);
        return setOwn(ownAlarm(Math.max(time, Date.now())), () => store.native.setAlarm(scheduledTime, options));
      },

      deleteAlarm: async (options) => setOwn(null, () => store.native.deleteAlarm(options)),
    },
  };
  return slot;
}

/** A write for which nobody waits. Where storage fails the object is broken, and its next life mends what it finds. */
function unwatched(write: Promise<unknown>): void {
  write.catch(() => {});
}

function ownAlarm(time: number): OwnAlarm {
  return { time, due: time, retryCount: 0 };
}
