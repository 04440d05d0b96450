/** Steps: what an object does when something is due, done at once and awaited, in place of its alarm. */

import { told } from "../api/errors.js";
import { NEVER } from "../storage/memory.js";
import type { Instance } from "./inside.js";
import type { Life, Watched } from "./probe.js";

/** A handler that has not settled after this long, in milliseconds of the runtime's clock, counts as hanging. */
const PATIENCE_MS = 1000;
/** The most steps taken without moving the clock. */
const MOST_STEPS = 10_000;
/** The same if a handler is known to hang. */
const SOON_MS = 20;
/** As they are before a test replaces them. */
const { setTimeout: setTimer, Date: RealDate } = globalThis;

/** When the object next has work to do: its outbox, its inbox, or its own alarm. */
export function dueAt(life: Life): number {
  const { store, delivery } = life;
  if (delivery.isDue()) return store.now();
  return Math.min(delivery.nextAttempt(), store.otherWorkAt(), ownDueAt(life));
}

/** The same of its own alarm: kept by the outbox while that has the slot, and otherwise what the slot holds. */
function ownDueAt({ store: { memory } }: Life): number {
  const { ownAlarm, wakeAt, nativeAlarmAt, outboxAlarmAt } = memory;
  return ownAlarm?.due ?? (wakeAt === NEVER && nativeAlarmAt !== outboxAlarmAt ? nativeAlarmAt : NEVER);
}

/** Whether it is doing something. */
export function isBusy({ store, delivery, call }: Life): boolean {
  return call !== null || delivery.isRunning || store.memory.runningAlarm !== null;
}

/**
 * Does everything that is due, step by step. Resolves to whether nothing is left to do: a handler may hang.
 *
 * @param failures gets what the object's own alarm handler throws
 */
export async function settle(life: Life, instance: Instance, object: Watched, failures: unknown[]): Promise<boolean> {
  for (let steps = 0; steps < MOST_STEPS; steps++) {
    if (isBusy(life) && !(await ended(life, object))) return false;
    if (dueAt(life) > object.now) return true;
    begin(life, instance, failures);
  }
  throw new Error(told(`The object always has something to do: it did not settle in ${MOST_STEPS} steps.`));
}

function begin(life: Life, instance: Instance, failures: unknown[]): void {
  const { store, alarm, native } = life;
  // As the platform does: the alarm is gone, and then it is called.
  const call = ownDueAt(life) <= store.now() ? native.deleteAlarm().then(() => instance.alarm()) : alarm.deliverLate();
  life.call = Promise.resolve(call).then(
    () => {
      life.call = null;
    },
    (error: unknown) => {
      life.call = null;
      failures.push(error);
    },
  );
}

/** Waits for the current work to end. Resolves to whether it has. */
async function ended(life: Life, object: Watched): Promise<boolean> {
  const begun = RealDate.now();
  const patience = (): number => (object.hangs || object.room < 0 ? SOON_MS : PATIENCE_MS);
  while (isBusy(life)) {
    if (RealDate.now() - begun > patience()) return false;
    await new Promise<void>((resolve) => void setTimer(resolve, 1));
  }
  object.hangs = false;
  return true;
}

/** Moves the object's clock to a time, if that is ahead. */
export function moveTo(life: Life, object: Watched, time: number): void {
  object.now = Math.max(object.now, time);
  life.timers.run();
}
