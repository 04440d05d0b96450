/** The alarm slot: the platform gives an object one alarm, and here the outbox and the object's own code share it. */

import type { Emit } from "./events.js";
import type { OwnAlarm } from "./rows.js";
import type { Store } from "./store.js";

/** The native alarm methods, bound, of `ctx.storage` or of an open transaction. */
export type NativeAlarm = Pick<DurableObjectTransaction, "getAlarm" | "setAlarm" | "deleteAlarm">;

type OwnHandler = (info?: AlarmInvocationInfo) => unknown;

/** An alarm that is overdue by this much, in milliseconds, with no run under way, has been lost by the platform. */
const LOST_MS = 1000;
/** How long after a write, in milliseconds, the alarm is looked at, so that a burst pays for one look. */
const CHECK_MS = 100;
/** The platform's own rule for an alarm that throws: retried after 2 s, doubling, six times (Alarms API documentation). */
const PLATFORM_RETRY_MS = 2000;
const PLATFORM_RETRIES = 6;
/** The runtime takes no date from here on: 2190-01-01, in milliseconds since the Unix epoch (seen in its error). */
const LAST_DATE = 6_942_672_000_000;

/** Memory as it was, to be put back when a transaction rolls back. */
export interface AlarmSnapshot {
  readonly wake: number | null;
  readonly armed: number | null;
  readonly target: number | null;
}

/** What the platform's alarm calls: delivers what is due. `died` tells that an earlier run ended with its isolate. */
export type Deliver = (died: boolean) => Promise<void>;

/**
 * Keeps one invariant: the native alarm stands no later than the earlier of the outbox's wake-up and the object's own
 * alarm. While nothing waits in the outbox, the native slot belongs to the object, untouched.
 */
export class AlarmSlot {
  /** The object's own `alarm` handler. */
  handler: OwnHandler | null = null;
  readonly #store: Store;
  readonly #emit: Emit;
  #native: NativeAlarm;
  /** When the outbox wants to run; `null` while nothing waits. */
  #wake: number | null = null;
  /** What the native slot is believed to hold. */
  #armed: number | null = null;
  /** What `#armed` was set for: they differ where the platform must be given a later millisecond. */
  #target: number | null = null;
  /** The time of the alarm that is being handled. */
  #firing: number | null = null;
  /** The call under way is the platform's, which repeats it if we die: until it ends, nothing needs to be armed. */
  #guarded = false;
  /** No alarm is armed at or before this: the platform may lose one that is not after the alarm that fired last. */
  #floor = 0;
  /** An alarm with this time was the outbox's. When it fires again, after a crash or a throw, it is not the object's own. */
  #stale: number | undefined;
  #checking = false;
  #ownTimer: number | null = null;
  #ownRun: Promise<void> | null = null;
  #ownFailure: { readonly error: unknown } | null = null;

  constructor(native: NativeAlarm, store: Store, emit: Emit) {
    this.#native = native;
    this.#store = store;
    this.#emit = emit;
  }

  get wake(): number | null {
    return this.#wake;
  }

  /** After a start: learns what the native slot holds and mends the wake-up. */
  async load(wake: number | null, stale: number | undefined): Promise<void> {
    if (wake === null && this.handler === null) return;
    const alarm = await this.#native.getAlarm();
    this.#armed = this.#target = alarm;
    this.#wake = wake;
    if (wake === null) {
      if (alarm !== null && alarm === stale) {
        // The crash came after the last message was cleared and before the slot was handed back.
        this.#stale = stale;
        this.#sync();
      } else {
        this.#store.own = alarm === null ? null : { time: alarm, due: alarm, retryCount: 0 };
      }
    } else if (alarm !== null && alarm <= Date.now()) {
      // Overdue: most likely it is why the object starts, and the handler is called next. If not, this look finds out.
      this.#check();
    } else if (this.#sync()) {
      this.#emit({ type: "repaired", alarm });
    }
  }

  /** Sets the outbox's wake-up, in the turn in which its rows are written. `null` hands the slot back to the object. */
  setWake(wake: number | null): void {
    const earlier = wake !== null && this.#wake !== null && this.#wake <= wake;
    if (!earlier || wake === null) this.#wake = wake;
    if (!this.#sync() && wake !== null) this.#check();
  }

  /** The platform's alarm under way, which the marker remembers: should it fire again after a crash, it is not the object's own. */
  get firing(): number | undefined {
    return this.#guarded && this.handler !== null ? (this.#firing ?? undefined) : undefined;
  }

  /** Arms an alarm although the platform would repeat its call: it gives up after seven, this does not. */
  lease(until: number): void {
    this.#guarded = false;
    this.moveWake(until);
  }

  /** Replaces the wake-up, also by a later one. */
  moveWake(wake: number | null): void {
    this.#wake = wake;
    this.#sync();
  }

  /** Brings the native slot in line. Returns whether it had to be set. */
  #sync(): boolean {
    const own = this.#store.own;
    const due = own === null ? null : own.due;
    const wake = this.#wake;
    if (this.#guarded) {
      // At the end of the call the slot is set once.
      this.#timeOwn(wake === null ? null : due);
      return false;
    }
    const target = wake === null ? due : due === null ? wake : Math.min(wake, due);
    const now = Date.now();
    if (target === null) {
      if (this.#armed !== null) void this.#native.deleteAlarm();
      this.#armed = this.#target = null;
      return false;
    }
    const lost = this.#armed !== null && this.#firing === null && this.#armed < now - LOST_MS;
    if (target === this.#target && this.#armed !== null && !lost) return false;
    // An alarm that stands a little earlier than it must costs a run; one that is moved costs a row each time.
    if (this.#armed !== null && !lost && wake !== null && target <= now && this.#armed <= now + 1) return false;
    this.#set(target, now);
    return true;
  }

  #set(target: number, now: number): void {
    const time = target > now && target > this.#floor ? target : Math.max(target, now, this.#floor) + 1;
    void this.#native.setAlarm(time);
    this.#armed = time;
    this.#target = target;
  }

  /** Looks, once per burst, whether the alarm still stands. Others can delete it, and the platform has been seen to lose it. */
  #check(delay = CHECK_MS): void {
    if (this.#checking) return;
    this.#checking = true;
    setTimeout(() => {
      this.#checking = false;
      this.#mend().catch(() => {});
    }, delay);
  }

  async #mend(): Promise<void> {
    if (this.#wake === null || this.#firing !== null) return;
    const before = this.#armed;
    const alarm = await this.#native.getAlarm();
    if (this.#wake === null || this.#firing !== null || this.#armed !== before) return;
    const now = Date.now();
    const wanted = Math.max(this.#target ?? this.#wake, this.#armed ?? 0);
    if (alarm !== null && alarm > now - LOST_MS && alarm <= wanted) {
      if (alarm <= now) this.#check(LOST_MS);
      return;
    }
    this.#armed = null;
    this.#sync();
    this.#emit({ type: "repaired", alarm });
  }

  /** The instance's `alarm`: the platform's call, shared out. Throws only what the object's own handler threw. */
  async handle(info: AlarmInvocationInfo | undefined, deliver: Deliver): Promise<void> {
    const fired = info?.scheduledTime ?? this.#armed ?? Date.now();
    if (this.#firing !== null) return deliver(false); // Called by hand while another call is under way.
    const shared = this.#wake !== null || fired === this.#stale;
    this.#firing = fired;
    this.#guarded = info !== undefined;
    this.#floor = Math.max(this.#floor, fired);
    this.#armed = this.#target = null;
    this.#ownFailure = null;
    this.#stale = shared ? fired : undefined;
    // While the slot is the object's, every call is the object's, whether or not we saw it set.
    if (!shared) this.#store.own ??= { time: fired, due: fired, retryCount: 0 };
    if (this.#ownDue(fired) || this.#store.own?.time === info?.scheduledTime) this.#startOwn(info);
    else this.#sync();
    try {
      const due = this.#outboxDue(fired);
      if (due) await deliver(shared && (info?.retryCount ?? 0) > 0);
      while (this.#ownRun !== null) await this.#ownRun;
      if (!due && this.#outboxDue(fired)) await deliver(false);
      while (this.#ownRun !== null) await this.#ownRun;
    } finally {
      this.#end();
    }
    const failure = this.#ownFailure as { readonly error: unknown } | null;
    if (failure !== null) throw failure.error;
  }

  #end(): void {
    clearTimeout(this.#ownTimer);
    const guarded = this.#guarded;
    this.#firing = null;
    this.#guarded = false;
    // The platform retries by itself what threw while nothing waited: setting the alarm would replace its retries.
    const own = this.#store.own;
    if (this.#wake === null && own !== null && own.retryCount > 0 && this.#ownFailure !== null && guarded) {
      this.#armed = this.#target = own.due;
      return;
    }
    this.#sync();
  }

  #outboxDue(fired: number): boolean {
    return this.#wake !== null && this.#wake <= Math.max(fired, Date.now());
  }

  #ownDue(fired: number): boolean {
    const own = this.#store.own;
    return own !== null && own.due <= Math.max(fired, Date.now());
  }

  /** While the platform's call is under way, the object's own alarm fires from here, so that a slow send can't delay it. */
  #timeOwn(due: number | null): void {
    clearTimeout(this.#ownTimer);
    if (due === null) return;
    this.#ownTimer = setTimeout(
      () => {
        if (this.#firing === null || !this.#ownDue(0)) return;
        if (this.#ownRun === null) this.#startOwn(undefined);
        else void this.#ownRun.then(() => this.#timeOwn(this.#store.own?.due ?? null));
      },
      Math.max(0, due - Date.now()),
    );
  }

  #startOwn(info: AlarmInvocationInfo | undefined): void {
    const own = this.#store.own;
    if (own === null) return;
    this.#store.own = null;
    this.#store.running = own;
    // The platform's call for exactly this time carries the platform's own count. Any other call carries ours.
    const native = this.#firing === own.time && (info === undefined || info.retryCount >= own.retryCount);
    const told = { ...info, scheduledTime: own.time, retryCount: own.retryCount, isRetry: own.retryCount > 0 };
    this.#ownRun = this.#runOwn(own, native ? info : told).finally(() => {
      this.#ownRun = null;
    });
  }

  async #runOwn(own: OwnAlarm, info: AlarmInvocationInfo | undefined): Promise<void> {
    try {
      await this.handler?.(info);
    } catch (error) {
      this.#ownFailure = { error };
      const failures = info?.retryCount ?? own.retryCount;
      if (this.#store.running !== null && this.#store.own === null && failures < PLATFORM_RETRIES) {
        this.#store.own = { time: own.time, due: Date.now() + PLATFORM_RETRY_MS * 2 ** failures, retryCount: failures + 1 };
      }
    }
    const kept = this.#store.running !== null;
    this.#store.running = null;
    if (kept && this.#wake !== null) await this.#store.saveHeader();
  }

  /** `getAlarm()` as the platform would answer if there were no outbox. */
  getAlarm(options?: DurableObjectGetAlarmOptions): Promise<number | null> {
    if (this.#wake === null && this.#firing === null) return this.#native.getAlarm(options);
    return Promise.resolve(this.#store.own?.time ?? null);
  }

  /** `setAlarm()` of the object's own code. */
  setAlarm(scheduledTime: number | Date, options?: DurableObjectSetAlarmOptions): Promise<void> {
    const time = this.#checkTime(scheduledTime);
    this.#store.own = { time, due: time, retryCount: 0 };
    this.#store.running = null;
    if (this.#wake === null) {
      clearTimeout(this.#ownTimer);
      this.#guarded = false;
      this.#armed = this.#target = time;
      return this.#native.setAlarm(scheduledTime, options);
    }
    const written = this.#store.saveHeader();
    this.#sync();
    return written;
  }

  /** `deleteAlarm()` of the object's own code. */
  deleteAlarm(options?: DurableObjectSetAlarmOptions): Promise<void> {
    this.#store.own = this.#store.running = null;
    if (this.#wake === null) {
      this.#guarded = false;
      this.#armed = this.#target = null;
      return this.#native.deleteAlarm(options);
    }
    const written = this.#store.saveHeader();
    this.#sync();
    return written;
  }

  /** What the platform checks, in its words: with a shared slot it would not see the argument. */
  #checkTime(scheduledTime: number | Date): number {
    if (this.handler === null) {
      throw new TypeError("Your Durable Object class must have an alarm() handler in order to call setAlarm()");
    }
    if (typeof scheduledTime !== "number" && !(scheduledTime instanceof Date)) {
      throw new TypeError("Failed to execute 'setAlarm' on 'DurableObjectStorage': parameter 1 is not of type 'date'.");
    }
    const time = Number(scheduledTime);
    if (!Number.isFinite(time)) throw new TypeError("The value cannot be converted because it is not a valid Date.");
    if (time <= 0) throw new TypeError("setAlarm() cannot be called with an alarm time <= 0");
    if (time >= LAST_DATE) throw new TypeError("This API doesn't support dates after 2189.");
    return Math.max(Math.trunc(time), Date.now());
  }

  /** The object's own `deleteAll()` has taken the alarm with it. */
  forget(alarmDeleted: boolean): void {
    if (alarmDeleted) {
      this.#store.own = this.#store.running = null;
      this.#armed = this.#target = null;
    }
    this.#sync();
  }

  /** Alarm calls go through an open transaction until it ends. */
  enter(native: NativeAlarm): NativeAlarm {
    const outer = this.#native;
    this.#native = native;
    return outer;
  }

  snapshot(): AlarmSnapshot {
    return { wake: this.#wake, armed: this.#armed, target: this.#target };
  }

  restore({ wake, armed, target }: AlarmSnapshot): void {
    this.#wake = wake;
    this.#armed = armed;
    this.#target = target;
  }
}
