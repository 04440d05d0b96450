/** Objects with an inbox: how the tests stack it with an outbox, what their handlers do, and what became of the messages. */
import { describe, expect } from "vitest";
import {
  type InboxEvent,
  type InboxHandler,
  type InboxManager,
  type InboxOptions,
  type InboxOutcome,
  type InboxReceiver,
  type OutboxEnvelope,
  withTransactionalInbox,
} from "../../../src/inbox/index.ts";
import { type OutboxManager, type OutboxOptions, type OutboxTransaction, withTransactionalOutbox } from "../../../src/index.ts";
import { again, type Backend, declared, inside, native, onBothBackends, outboxRows, type Stub } from "./harness.ts";
import { Box, type BoxEnv, type Form, options } from "./worker.ts";

/** How the wrappers stand around the class. */
export type Stack = "the inbox alone" | "the inbox around the outbox" | "the outbox around the inbox";
export const STACKS: Stack[] = ["the inbox alone", "the inbox around the outbox", "the outbox around the inbox"];

export type Receive = (message: OutboxEnvelope, txn: OutboxTransaction, state: DurableObjectState) => unknown;

/** What a test scripts for one inbox and is told by it. It stands beside the object, and so survives its crashes. */
export interface Desk {
  /** What `receiveMessage` does. By default it counts the effects of each message. */
  receive: Receive;
  readonly events: InboxEvent[];
}

const desks = new Map<string, Desk>();

export function deskOf({ id }: { readonly id: DurableObjectId }): Desk {
  const desk = desks.get(id.toString()) ?? { receive: effect, events: [] };
  desks.set(id.toString(), desk);
  return desk;
}

/** The effect of a message: it is counted, beside its id. */
export const effect: Receive = async ({ id }, txn) => txn.put(`effect:${id}`, ((await txn.get<number>(`effect:${id}`)) ?? 0) + 1);

/** The same as a handler of `receive`. */
export const counting: InboxHandler = (txn, message) => effect(message, txn as OutboxTransaction, undefined as never);

export class InboxBox extends Box {
  readonly desk: Desk = deskOf(this.ctx);

  get inbox(): InboxManager {
    return (this.env as BoxEnv & { INBOX_MANAGER: InboxManager }).INBOX_MANAGER;
  }

  receiveMessage(message: OutboxEnvelope, txn: OutboxTransaction): unknown {
    return this.desk.receive(message, txn, this.ctx);
  }
}

export type TestInbox = InboxBox & InboxReceiver;

/** A class wrapped so. Its events go to the desk of its object, if one is given. */
export function wrapped(cls: Form, stack: Stack, chosen: InboxOptions = {}, outbox: OutboxOptions<"OUTBOX_MANAGER"> = {}): Form {
  const withInbox = (inner: Form): Form => withTransactionalInbox(inner, chosen) as Form;
  const withOutbox = (inner: Form): Form => withTransactionalOutbox(inner as never, { ...options, ...outbox });
  if (stack === "the inbox alone") return withInbox(cls);
  return stack === "the inbox around the outbox" ? withInbox(withOutbox(cls)) : withOutbox(withInbox(cls));
}

/** A fresh object with an inbox, and everything that it tells. */
export function inboxOf(
  backend: Backend,
  stack: Stack = "the inbox around the outbox",
  chosen: InboxOptions = {},
  outbox: OutboxOptions<"OUTBOX_MANAGER"> = {},
  cls: Form = class extends InboxBox {},
): { stub: Stub; told: InboxEvent[] } {
  const told: InboxEvent[] = [];
  const onEvent = (event: InboxEvent) => void told.push(event);
  return { stub: declared(backend, wrapped(cls, stack, { onEvent, ...chosen }, outbox)), told };
}

/** Runs inside the object, with its inbox. */
export function within<R>(
  stub: Stub,
  body: (inbox: InboxManager, box: TestInbox, state: DurableObjectState, outbox: OutboxManager) => R | Promise<R>,
): Promise<R> {
  return inside(stub, (box, outbox, state) => body((box as unknown as TestInbox).inbox, box as unknown as TestInbox, state, outbox));
}

/** Aborts the object once `body` has ended and what it wrote is durable. Returns a stub of the object's next life. */
export async function diesAfter(stub: Stub, body: Parameters<typeof within<unknown>>[1]): Promise<Stub> {
  const died = within(stub, async (inbox, box, state, outbox) => {
    await body(inbox, box, state, outbox);
    await state.storage.sync();
    state.abort("the crash that the test wants");
  });
  await expect(died).rejects.toThrow("the crash that the test wants");
  return again(stub);
}

/** Receives with the handler that counts. */
export const receive = (stub: Stub, message: OutboxEnvelope, handler: InboxHandler = counting): Promise<string> =>
  within(stub, async (inbox) => (await inbox.receive(message, handler)).status);

/** Hands messages to `receiveMessages`, as a sender would. */
export const hand = (stub: Stub, messages: OutboxEnvelope[]): Promise<InboxOutcome[]> =>
  within(stub, (_, box) => box.receiveMessages(messages));

/** A message with a number. */
export function numbered(sequence: number, source = "sender", more: Partial<OutboxEnvelope> = {}): OutboxEnvelope {
  return { v: 1, id: `${source}-${sequence}`, source, sequence, msg: { n: sequence }, ...more };
}

/** A message with an id only. */
export function foreign(id: string, more: Partial<OutboxEnvelope> = {}): OutboxEnvelope {
  return { v: 1, id, msg: id, ...more };
}

/** How often each message has had its effect, by id. */
export async function effects(stub: Stub): Promise<Record<string, number>> {
  return within(stub, async (_, __, { storage }) =>
    Object.fromEntries([...(await storage.list<number>({ prefix: "effect:" }))].map(([key, count]) => [key.slice(7), count])),
  );
}

/** Each of these once. */
export const once = (ids: Iterable<string>): Record<string, number> => Object.fromEntries(Array.from(ids, (id) => [id, 1]));

/** The inbox's rows, by what follows their common beginning. */
export const rows = (stub: Stub): Promise<Map<string, unknown>> =>
  within(stub, async (_, __, state) => {
    const all = [...(await outboxRows(state))];
    return new Map(all.flatMap(([key, value]) => (key.includes("inbox/") ? [[key.slice(key.indexOf("/") + 1), value] as const] : [])));
  });

/** The rows of one kind: `s` senders, `p` pages, `w` waiting, `i` ids, `t` their times. */
export const rowsOf = async (stub: Stub, kind: "s" | "p" | "w" | "i" | "t"): Promise<[string, unknown][]> =>
  [...(await rows(stub))].filter(([key]) => key.startsWith(kind));

export const nativeAlarm = (stub: Stub): Promise<number | null> => inside(stub, (_, __, state) => native(state).getAlarm());

const THREE: [Backend["name"], Stack][] = [
  ["sqlite", "the inbox around the outbox"],
  ["kv", "the outbox around the inbox"],
  ["sqlite", "the inbox alone"],
];

/** Declares a suite for both backends and every way of stacking, but not for each with each: for what takes its time. */
export function onThreeStacks(title: string, suite: (make: (chosen?: InboxOptions) => Stub) => void): void {
  onBothBackends(title, (backend) => {
    const stacks = THREE.flatMap(([name, stack]) => (name === backend.name ? stack : []));
    describe.each(stacks)("%s", (stack) => suite((chosen = {}) => inboxOf(backend, stack, chosen).stub));
  });
}

/** Declares a suite for both backends and every way of stacking. */
export function onAllStacks(title: string, suite: (make: (chosen?: InboxOptions) => Stub, backend: Backend, stack: Stack) => void): void {
  onBothBackends(title, (backend) => {
    describe.each(STACKS)("%s", (stack) => suite((chosen = {}) => inboxOf(backend, stack, chosen).stub, backend, stack));
  });
}
