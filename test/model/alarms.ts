/** The platform's alarm scheduler for one object: it outlives every life of it. */

import type { Disk } from "./layers.ts";
import type { Loop } from "./loop.ts";

/** The platform's rule for an alarm that throws or dies: again after 2 s, doubling, six times. */
const RETRY_MS = 2000;
const RETRIES = 6;

interface Due {
  readonly time: number;
  readonly retryCount: number;
  /** When it is tried again, on the clock that never jumps. */
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
  #firing: (Due & { replaced: boolean }) | null = null;
  /** The durable alarm stands, and will never fire: the runtime's own bug. */
  lost = false;

  constructor(
    readonly disk: Disk,
    readonly loop: Loop,
    /** Calls the object. */
    readonly call: (info: AlarmCall) => void,
  ) {}

  next(): number {
    if (!this.#due || this.#firing) return Number.POSITIVE_INFINITY;
    return Math.max(this.loop.now, this.#due.at ?? this.#due.time - this.loop.skew);
  }

  fire(): void {
    const due = this.#due;
    if (!due) return;
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
    return JSON.stringify([this.#due, this.#firing, this.lost]);
  }

  /** An alarm that was set or deleted has been committed: it replaces the call under way, whose retries are off. */
  changed(): void {
    const { alarm } = this.disk;
    const firing = this.#firing;
    if (firing) firing.replaced = true;
    // Set in the handler, not after the firing alarm's own millisecond: `getAlarm()` shows it, and nothing fires.
    this.lost = alarm !== null && firing !== null && alarm <= firing.time;
    this.#due = alarm === null || this.lost ? null : { time: alarm, retryCount: 0 };
  }

  /** The handler has returned. Gives whether the durable alarm is to be deleted. */
  succeeded(): boolean {
    const replaced = this.#firing?.replaced;
    this.#firing = null;
    return replaced === false;
  }

  /** The handler has thrown, or died with the object. */
  failed(): void {
    const firing = this.#firing;
    this.#firing = null;
    if (!firing || firing.replaced) return;
    if (firing.retryCount >= RETRIES) this.disk.alarm = null;
    else this.#due = { time: firing.time, retryCount: firing.retryCount + 1, at: this.loop.now + RETRY_MS * 2 ** firing.retryCount };
  }

  /** The platform forgets the alarm: it was given up, or the object was restored from a snapshot. */
  forget(): void {
    this.#due = null;
    this.disk.alarm = null;
  }
}
