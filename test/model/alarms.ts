/** The platform's alarm scheduler for one object: it outlives every life of it. */

import { chance } from "./globals.ts";
import type { Disk } from "./layers.ts";
import type { Loop } from "./loop.ts";

/** The platform's rule for an alarm that throws or dies: again after 2 s, doubling, six times. */
const RETRY_MS = 2000;
const RETRIES = 6;

/** How long after its time the platform calls an alarm: at once, 1.5 s later, up to a minute later, ten minutes later, an hour later, not within a day. */
export type Lateness = "punctual" | "late" | "random" | "very late" | "an hour late" | "never";

const LATE_MS: Readonly<Record<Lateness, readonly number[]>> = {
  punctual: [0],
  late: [1500],
  random: [0, 0, 20, 900, 1500, 4000, 60_000],
  "very late": [600_000],
  "an hour late": [3_600_000],
  never: [86_400_000],
};

interface Due {
  readonly time: number;
  readonly retryCount: number;
  /** When the platform heard of it, on the clock that never jumps: what sets an alarm again makes the platform wait anew. */
  readonly set: number;
  readonly lateMs: number;
  /** When it is tried again, on the same clock. */
  readonly at?: number;
}

export interface AlarmCall {
  readonly scheduledTime: number;
  readonly retryCount: number;
  readonly isRetry: boolean;
}

export class Alarms {
  #due: Due | null = null;
  /** The call under way, from before it starts the object: `replaced` when another alarm has been set since. */
  #firing: (Due & { replaced: boolean; entered?: boolean; returned?: boolean }) | null = null;
  /** The durable alarm stands, and will never fire: the runtime's own bug. */
  lost = false;
  /** How often an alarm has been set, and how often the platform has called. */
  sets = 0;
  calls = 0;
  readonly #late: () => number;

  constructor(
    readonly disk: Disk,
    readonly loop: Loop,
    /** Calls the object. */
    readonly call: (info: AlarmCall) => void,
    lateness: Lateness = "punctual",
    seed = 1,
  ) {
    const next = chance(seed);
    const choices = LATE_MS[lateness];
    this.#late = () => (choices.length > 1 ? choices[next() % choices.length] : choices[0]) ?? 0;
  }

  next(): number {
    if (!this.#due || this.#firing) return Number.POSITIVE_INFINITY;
    const { at, time, set, lateMs } = this.#due;
    return Math.max(this.loop.now, (at ?? Math.max(set, time - this.loop.skew)) + lateMs);
  }

  fire(): void {
    const due = this.#due;
    if (!due) return;
    this.calls++;
    this.#due = null;
    this.#firing = { ...due, replaced: false };
    this.call({ scheduledTime: due.time, retryCount: due.retryCount, isRetry: due.retryCount > 0 });
  }

  /** The alarm as the object sees it where it has written nothing: not the one that fires, but what has replaced it. */
  seen(): number | null {
    return this.#firing && !this.#firing.replaced ? null : this.disk.alarm;
  }

  get firing(): boolean {
    return this.#firing !== null;
  }

  /** The time of the alarm that fires, or 0: for the outbox it is no earlier while its handler runs. */
  get time(): number {
    return this.#firing?.time ?? 0;
  }

  /** Whether the platform would repeat the call under way. */
  get guarding(): boolean {
    return this.#firing?.replaced === false;
  }

  /** Whether the platform still means to call for what is on the disk. */
  get standing(): boolean {
    return this.#due !== null || this.guarding;
  }

  /** What identifies the state of the scheduler, for whoever compares two. */
  get state(): string {
    const known = (due: Due | null): unknown => due && [due.time, due.retryCount];
    return JSON.stringify([known(this.#due), this.next(), known(this.#firing), this.#firing?.replaced, this.#firing?.entered, this.lost]);
  }

  /** The call of the handler that has begun. */
  get entry(): object | null {
    return this.#firing?.entered ? this.#firing : null;
  }

  /**
   * An alarm that was set or deleted has been committed: it replaces the call under way, whose retries are off.
   *
   * @param call the one in which it was set
   */
  changed(call: object | null): void {
    const { alarm } = this.disk;
    const firing = this.#firing;
    if (firing) firing.replaced = true;
    // Set in the handler, not after the firing alarm's own millisecond: `getAlarm()` shows it, and nothing fires.
    // While the call still waits, for the end of a transaction say, the new one comes after it (seen on workerd).
    this.lost = alarm !== null && firing !== null && call === firing && alarm <= firing.time;
    if (alarm !== null) this.sets++;
    this.#due = alarm === null || this.lost ? null : { time: alarm, retryCount: 0, set: this.loop.now, lateMs: this.#late() };
  }

  /** The handler begins. Returns whether it may: not where the alarm has been deleted, or set to another time, while its call waited. */
  entered(starts: boolean): boolean {
    const firing = this.#firing;
    if (!firing) return true;
    // In the start that the call itself has caused it is too late for that.
    if (firing.replaced && !starts && this.disk.alarm !== firing.time) {
      this.#firing = null;
      return false;
    }
    firing.entered = true;
    return true;
  }

  /** The handler has returned: its call is over once everything is durable that was written before. */
  returned(): void {
    if (this.#firing) this.#firing.returned = true;
  }

  /** The time of a call that has returned, and would be repeated all the same. */
  get settling(): number | null {
    return this.guarding && this.#firing?.returned ? this.#firing.time : null;
  }

  /** Everything of the call is durable. Gives whether the durable alarm is to be deleted. */
  succeeded(): boolean {
    const replaced = this.#firing?.replaced;
    this.#firing = null;
    return replaced === false;
  }

  /** The handler has thrown, or died with the object. Returns whether the platform has given the alarm up. */
  failed(): boolean {
    const firing = this.#firing;
    this.#firing = null;
    if (!firing || firing.replaced) return false;
    const { time, retryCount, set } = firing;
    if (retryCount >= RETRIES) {
      this.disk.alarm = null;
      return true;
    }
    this.#due = { time, retryCount: retryCount + 1, set, lateMs: this.#late(), at: this.loop.now + RETRY_MS * 2 ** retryCount };
    return false;
  }

  /** The object has ended itself with `retryAlarm: false`: the call under way is not repeated, and its alarm is gone. */
  abandoned(): void {
    const firing = this.#firing;
    this.#firing = null;
    if (firing && !firing.replaced) this.disk.alarm = null;
  }

  /** The platform forgets the alarm: it was given up, or the object was restored from a snapshot. */
  forget(): void {
    this.#due = null;
    this.disk.alarm = null;
  }
}
