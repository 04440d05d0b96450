/** Many messages: how the delivery tests store them, and what they see of the calls that take them. */
import { type OutboxEvent, type OutboxOptions, withTransactionalOutbox } from "../../../src/index.ts";
import { type Backend, declared, inside, type Stub, sent } from "./harness.ts";
import { Box, events, options, stageOf } from "./worker.ts";

/** Stores this many messages in one turn, before any alarm can fire. */
export function putMany(stub: Stub, count: number, from = 1): Promise<unknown> {
  return inside(stub, (_, outbox) =>
    Promise.all(Array.from({ length: count }, (_, n) => outbox.put(`key:${from + n}`, from + n, from + n))),
  );
}

/** The numbers from `from` on, as `putMany` stores them. */
export const numbers = (count: number, from = 1): number[] => Array.from({ length: count }, (_, n) => from + n);

/** The messages of each call, by their content. */
export const callsOf = (stub: Stub): unknown[][] => stageOf(stub).calls.map((call) => call.map(({ msg }) => msg));

/** An object of a box that is wrapped with these options over the usual ones. */
export function boxWith(backend: Backend, chosen: OutboxOptions<"OUTBOX_MANAGER">): Stub {
  return declared(backend, withTransactionalOutbox(class extends Box {}, { ...options, ...chosen }));
}

export type Failed = Extract<OutboxEvent, { failures: number }>;

/** The events of this type that name a message of the object. */
export function eventsOf(stub: Stub, type: "failed"): Failed[];
export function eventsOf(stub: Stub, type: "delivered"): Extract<OutboxEvent, { type: "delivered" }>[];
export function eventsOf(stub: Stub, type: OutboxEvent["type"]): OutboxEvent[] {
  const known = new Set(sent(stub).map(({ id }) => id));
  return events.filter((event) => event.type === type && "ids" in event && event.ids.some((id) => known.has(id)));
}

/** What a destination does that is down. */
export const down = (): Promise<never> => Promise.reject(new Error("the destination is down"));
