/** The object's own handler: one call of it at a time, with the count of its failures stored before it can die. */

import { NEVER } from "../storage/memory.js";
import type { Store } from "../storage/store.js";
import type { Call } from "./call.js";
import { type NativeAlarmOwner, unwatched } from "./native-alarm.js";
import type { OwnAlarmOwner } from "./own-alarm.js";

/** How long a handler that has failed before runs alone, in milliseconds: if it dies again within that time, it takes no send with it. */
const ALONE_MS = 1000;

/** What describes a call: the platform's own words, or nothing when a test calls. */
export type Info = AlarmInvocationInfo | undefined;

/** The object's `alarm` handler. */
export type Handler = (info: Info) => unknown;

export interface OwnHandler {
  readonly isRunning: boolean;
  /** When the running handler began, in milliseconds since the Unix epoch, if it has failed before; otherwise 0. */
  readonly leasedAt: number;
  /** When delivery may start beside the running handler, in milliseconds since the Unix epoch; 0 for at once. */
  deliversFrom(): number;
  /** Calls the handler within the call under way, unless it is running. When it ends, the native alarm is looked at again. */
  start(info?: Info): void;
  /** Resolves when it is not running. */
  ended(): Promise<void>;
}

/**
 * @param find the handler, looked up for each call
 * @param durable resolves when everything that was written is durable
 * @param sync brings the native alarm in line
 */
export function ownHandlerOf(
  store: Store,
  call: Call,
  own: OwnAlarmOwner,
  native: NativeAlarmOwner,
  find: () => Handler | null,
  durable: () => Promise<void>,
  sync: () => Promise<void> | undefined,
): OwnHandler {
  const { memory } = store;
  let run: Promise<void> | null = null;

  /** The handler has failed before: if it dies, an alarm is set all the same, and does not depend on how often the platform has called. */
  function lease(): void {
    handler.leasedAt = store.now();
    native.dropRetry();
    if (!sync()) unwatched(store.native.deleteAlarm());
  }

  /**
   * @param isNative whether the call is the platform's for this very alarm, which it repeats by itself when the handler throws
   * @param isStored whether the header says that the handler runs: then that is durable before the handler can end the call
   */
  async function execute(isNative: boolean, info: Info, isStored: boolean): Promise<void> {
    let failed = false;
    try {
      // Never at once: the caller that waits for the end must find it running.
      if (isStored) await durable();
      // Awaited within as well, so that a rejection is handled in its own turn, as compatibility dates before 2026-03-10 ask for.
      await (async () => await find()?.(info))();
    } catch (error) {
      call.threw(error);
      failed = true;
    }
    // What memory learns while a transaction is open would go back with it.
    while (store.open) await store.open;
    const { runningAlarm } = memory;
    // Not when the handler set or deleted its alarm before it threw: that replaces the retries.
    const retryAt = failed ? own.retry() : 0;
    if (retryAt && isNative) native.expectRetry(retryAt);
    const { ownAlarm, nativeAlarmAt } = memory;
    // The platform does not know of a retry that is the outbox's.
    const isHeld = runningAlarm !== null && nativeAlarmAt === runningAlarm.due;
    const isRetry = ownAlarm !== null && ownAlarm.retryCount > 0 && nativeAlarmAt !== ownAlarm.due;
    const mustSave = handler.leasedAt > 0 || isHeld || memory.isRunningAtRest || isRetry;
    own.end();
    run = null;
    handler.leasedAt = 0;
    // Both in one commit.
    sync();
    if (mustSave) await store.saveHeader();
  }

  const handler: { -readonly [Name in keyof OwnHandler]: OwnHandler[Name] } = {
    get isRunning() {
      return run !== null;
    },

    leasedAt: 0,

    deliversFrom: () => handler.leasedAt && handler.leasedAt + ALONE_MS,

    start(info) {
      const { ownAlarm } = memory;
      // One call of the handler at a time, as on the platform.
      if (!ownAlarm || run || !call.firingAt) return;
      const { time: scheduledTime, retryCount } = ownAlarm;
      // The platform's call for exactly this time carries the platform's own count. Any other call carries ours.
      const isNative = call.firingAt === scheduledTime && (info?.retryCount ?? 0) >= retryCount;
      const given = isNative ? info : { ...info, scheduledTime, retryCount, isRetry: retryCount > 0 };
      const failures = given?.retryCount ?? 0;
      own.begin(scheduledTime, failures);
      // While the native alarm is the object's, and has been all along, the platform counts and repeats.
      const isStored = memory.wakeAt < NEVER || !isNative;
      // Should the handler die with the isolate, its next call is a retry, which waits as long and comes as seldom as on the platform.
      if (isStored) unwatched(store.saveHeader());
      run = execute(isNative, given, isStored);
      if (isStored && failures > 0) lease();
      else sync();
    },

    async ended() {
      while (run) await run;
    },
  };
  return handler;
}
