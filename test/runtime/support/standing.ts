/** What stands in an outbox: how the tests make it stand still, and what they see of it. */
import type { OutboxDeadLetter, OutboxEvent, OutboxListed, OutboxManager, OutboxOptions, OutboxStats } from "../../../src/index.ts";
import { boxWith, putMany } from "./batches.ts";
import { type Backend, crashAfter, eventually, inside, type Stub, until } from "./harness.ts";
import { events, stageOf } from "./worker.ts";

/** A backoff that no test waits out. */
export const patient: OutboxOptions["retry"] & object = { minDelaySeconds: 600, maxDelaySeconds: 600, jitter: 0 };

/** Stats that can be compared: without the age, which grows by itself. */
export const ageless = ({ oldestAgeSeconds: _, destinations, ...rest }: OutboxStats): unknown => ({
  ...rest,
  destinations: Object.fromEntries(Object.entries(destinations).map(([name, each]) => [name, { ...each, oldestAgeSeconds: 0 }])),
});

export const statsOf = (stub: Stub): Promise<OutboxStats> => inside(stub, (_, outbox) => outbox.stats());

/** Waits until nothing waits any more, for whatever reason, and gives the stats. Dead letters may stand. */
export function idle(stub: Stub): Promise<OutboxStats> {
  return until(stub, async (box) => box.outbox.stats().then((stats) => waiting(stats) === 0 && stats));
}

/** Messages that are stored and neither delivered nor dead. */
export const waiting = ({ pending, delayed, blocked }: OutboxStats): number => pending + delayed + blocked;

/** An object of a wrapped box that hands nothing over until it is resumed. */
export async function paused(backend: Backend, chosen: OutboxOptions<"OUTBOX_MANAGER"> = {}): Promise<Stub> {
  const stub = boxWith(backend, chosen);
  await inside(stub, (_, outbox) => outbox.pause());
  return stub;
}

/** Lets an object go on that was paused, and waits until nothing waits. */
export async function resumed(stub: Stub): Promise<OutboxStats> {
  await inside(stub, (_, outbox) => outbox.resume());
  return idle(stub);
}

/** An object with this many dead letters, from 1, and nothing else. From now on its destination takes everything. */
export async function withDead(backend: Backend, count: number, chosen: OutboxOptions<"OUTBOX_MANAGER"> = {}): Promise<Stub> {
  const stub = boxWith(backend, chosen);
  const stage = stageOf(stub);
  stage.rest = (messages, delivery) => {
    for (const { id } of messages) delivery.reject(id, "not wanted");
  };
  await putMany(stub, count);
  await eventually(() => stage.calls.flat().length === count);
  await idle(stub);
  stage.rest = () => {};
  stage.calls.length = 0;
  return stub;
}

export function listed(stub: Stub, state: "dead"): Promise<OutboxDeadLetter[]>;
export function listed(stub: Stub, state: "pending" | "delayed"): Promise<OutboxListed[]>;
/** The first thousand of what stands in this state. */
export function listed(stub: Stub, state: "pending" | "delayed" | "dead"): Promise<OutboxListed[]> {
  return inside(stub, (_, outbox) => outbox.list({ state, limit: 1000 }));
}

/** The contents of the dead letters. */
export const deadOf = async (stub: Stub): Promise<unknown[]> => (await listed(stub, "dead")).map(({ msg }) => msg);

/** The events of this type that are about this one message. */
export function eventsAbout<T extends OutboxEvent["type"]>(id: string, type: T): Extract<OutboxEvent, { type: T }>[] {
  return events.filter((event) => event.type === type && "id" in event && event.id === id) as Extract<OutboxEvent, { type: T }>[];
}

/** Aborts the object once `last` has settled and what it wrote is durable. Returns a stub of the object's next life. */
export function crashDurably(stub: Stub, last: (outbox: OutboxManager) => Promise<unknown>): Promise<Stub> {
  return crashAfter(stub, async (outbox, state) => {
    await last(outbox);
    await state.storage.sync();
  });
}

/** Keeps alarms from firing, and every other request from coming, until `body` has ended. */
export function beforeAnyAlarm<R>(stub: Stub, body: (outbox: OutboxManager) => Promise<R>): Promise<R> {
  return inside(stub, (_, outbox, state) => state.blockConcurrencyWhile(() => body(outbox)));
}
