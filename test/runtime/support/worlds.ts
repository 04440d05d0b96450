/**
 * The object's own alarm, in three worlds: each fact is first held against the platform itself, on a class without an
 * outbox, and then against a wrapped one: idle, and with a destination that is down all the while.
 */
import { expect } from "vitest";
import { type Backend, declared, eventually, fresh, handedOver, inside, type Stub } from "./harness.ts";
import { Box, type Stage, stageOf } from "./worker.ts";

export const WORLDS: { world: string; object: (backend: Backend) => Promise<Stub> }[] = [
  { world: "on the platform alone", object: async (backend) => declared(backend, Box) },
  { world: "beside an idle outbox", object: async (backend) => fresh(backend) },
  { world: "beside an outbox whose destination is down", object: backlogged },
];

/** A wrapped object with one message, which its destination refuses until the stage says otherwise. */
export async function backlogged(backend: Backend): Promise<Stub> {
  const stub = fresh(backend);
  stageOf(stub).rest = () => Promise.reject(new Error("the destination is down"));
  await inside(stub, (_, outbox) => outbox.send("waits"));
  await handedOver(stub, 1);
  return stub;
}

/** Every call of the object's own alarm handler, over all its lives. */
export const alarmsOf = (stub: Stub): Stage["alarms"] => stageOf(stub).alarms;

/** Sets the object's own alarm, asserts that `getAlarm` knows it, and gives the time. */
export function setIn(stub: Stub, ms: number): Promise<number> {
  return inside(stub, async (_, __, { storage }) => {
    const time = Date.now() + ms;
    await storage.setAlarm(time);
    expect(await storage.getAlarm()).toBe(time);
    return time;
  });
}

export const getAlarm = (stub: Stub): Promise<number | null> => inside(stub, (_, __, { storage }) => storage.getAlarm());

/** Waits for the alarm with this number, from 1, and asserts that it came at its time, not before, and was told that time. */
export async function expectFired(stub: Stub, number: number, scheduledTime: number, retryCount = 0): Promise<void> {
  await eventually(() => alarmsOf(stub).length >= number);
  const { info, at } = alarmsOf(stub)[number - 1] ?? {};
  expect(info).toEqual({ scheduledTime, retryCount, isRetry: retryCount > 0 });
  expect(at).toBeGreaterThanOrEqual(scheduledTime);
}

/** Asserts that no alarm comes besides those that came: one that is set now is the next. */
export async function expectNoOther(stub: Stub, count: number): Promise<void> {
  await expectFired(stub, count + 1, await setIn(stub, 100));
  expect(alarmsOf(stub)).toHaveLength(count + 1);
}
