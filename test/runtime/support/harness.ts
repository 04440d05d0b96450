/** What every test inside workerd uses: fresh objects on both backends, crashes, and waiting for facts instead of for time. */
import { runInDurableObject } from "cloudflare:test";
import { env as bindings } from "cloudflare:workers";
import { describe, expect } from "vitest";
import type { OutboxManager } from "../../../src/index.ts";
import { polled } from "../../support/patience.ts";
import type { Ledger } from "./ledger.ts";
import { type Box, type Env, type Form, forms, type Sent, stageOf } from "./worker.ts";

export { by, unhurried } from "../../support/patience.ts";

export const env: Env = bindings as unknown as Env;

export type TestBox = Box & { ledger: Ledger };
export type Stub = DurableObjectStub<Box>;
export type Namespace = DurableObjectNamespace<Box>;

export interface Backend {
  name: "sqlite" | "kv";
  namespace: Namespace;
  other: Namespace;
  form: Namespace;
}

const BACKENDS: Backend[] = [
  { name: "sqlite", namespace: env.BOX_SQLITE, other: env.OTHER_SQLITE, form: env.FORM_SQLITE },
  { name: "kv", namespace: env.BOX_KV, other: env.OTHER_KV, form: env.FORM_KV },
];

/** Declares a suite once and runs it on a SQLite-backed and on a KV-backed class. */
export function onBothBackends(title: string, suite: (backend: Backend) => void): void {
  describe.each(BACKENDS)(`${title} ($name)`, suite);
}

/** Whether every suite runs on both backends, as in the proof: VITE_BACKENDS=both. */
const given = (import.meta as unknown as { env: Record<string, string | undefined> }).env;
const BOTH = given.VITE_PROOF === "1" || given.VITE_BACKENDS === "both";

/**
 * The same for what does not depend on how rows are stored: outside of the proof on one of the two, half of such suites on each. Which one follows from the
 * title.
 */
export function onEitherBackend(title: string, suite: (backend: Backend) => void): void {
  const sum = Array.from(title).reduce((all, character) => all + (character.codePointAt(0) ?? 0), 0);
  const [first, second] = BACKENDS as [Backend, Backend];
  describe.each(BOTH ? BACKENDS : [sum % 2 ? first : second])(`${title} ($name)`, suite);
}

/** A fresh object: storage is isolated by file only, so every test takes a name of its own. */
export function fresh(backend: Backend): Stub {
  return backend.namespace.get(backend.namespace.newUniqueId());
}

/** A fresh object of a class that the test declares. It has no RPC. */
export function declared(backend: Backend, cls: Form): Stub {
  return redeclared(backend.form.get(backend.form.newUniqueId()), cls);
}

/** The same object, with another class from its next life on: as after a deploy. */
export function redeclared(stub: Stub, cls: Form): Stub {
  forms.set(stub.id.toString(), cls);
  return again(stub);
}

/** Runs inside the object, with its manager. */
export function inside<R>(
  stub: Stub,
  body: (box: TestBox, outbox: OutboxManager, state: DurableObjectState) => R | Promise<R>,
): Promise<R> {
  return runInDurableObject(stub, (instance, state) => body(instance as TestBox, (instance as TestBox).outbox, state)) as Promise<R>;
}

/**
 * Aborts the object in the turn in which `last` was called: what is not yet durable is lost. An async `last` is not
 * awaited. Returns a stub of the object's next life.
 */
export function crash(stub: Stub, last?: (outbox: OutboxManager, state: DurableObjectState) => unknown): Promise<Stub> {
  return end(stub, (outbox, state) => {
    const result = last?.(outbox, state);
    if (result instanceof Promise) result.catch(() => {});
  });
}

/** Aborts the object in the turn in which what `last` returned has settled. */
export function crashAfter(stub: Stub, last: (outbox: OutboxManager, state: DurableObjectState) => Promise<unknown>): Promise<Stub> {
  return end(stub, last);
}

async function end(stub: Stub, last: (outbox: OutboxManager, state: DurableObjectState) => unknown): Promise<Stub> {
  const died = inside(stub, (_, outbox, state) => {
    const result = last(outbox, state);
    const abort = () => state.abort("the crash that the test wants");
    return result instanceof Promise ? result.then(abort) : abort();
  });
  await expect(died).rejects.toThrow("the crash that the test wants");
  return again(stub);
}

/** Another stub of the same object: one whose object was aborted stays broken. */
export function again(stub: Stub): Stub {
  for (const namespace of BACKENDS.flatMap((backend) => [backend.namespace, backend.other, backend.form])) {
    try {
      return namespace.get(namespace.idFromString(stub.id.toString()));
    } catch {
      // The id is another namespace's.
    }
  }
  return expect.fail("the stub is of no namespace that the tests know");
}

/** Polls, without touching any object, until `fact` gives something other than `undefined`, `null` or `false`, and returns that. */
export function eventually<R>(fact: () => R | Promise<R>): Promise<Exclude<R, undefined | null | false>> {
  return polled(10, fact);
}

/** Polls inside the object, as `eventually` does. Each look is a request, which starts the object if need be. */
export function until<R>(
  stub: Stub,
  fact: (box: TestBox, state: DurableObjectState) => R | Promise<R>,
): Promise<Exclude<R, undefined | null | false>> {
  return eventually(() => inside(stub, (box, _, state) => fact(box, state)));
}

/** Waits until no message waits for anything: not for its turn, nor for a time, nor behind its key. */
export function drained(stub: Stub): Promise<true> {
  return until(stub, async (box) => {
    const { pending, delayed, blocked } = await box.outbox.stats();
    return pending + delayed + blocked === 0 ? true : undefined;
  });
}

/** Every message that `sendMessages` saw, in order, over all lives of the object. */
export function sent(stub: Stub): Sent {
  return stageOf(stub).calls.flat();
}

/** Waits, without touching the object, until so many messages were handed over, and returns them. */
export async function handedOver(stub: Stub, count: number): Promise<Sent> {
  await eventually(() => sent(stub).length >= count);
  return sent(stub);
}

/** Asserts that the object holds exactly these rows of its own, no row of the outbox and no alarm. */
export async function expectUntouched(state: DurableObjectState, own: Record<string, unknown> = {}): Promise<void> {
  expect(Object.fromEntries(await native(state).list())).toEqual(own);
  expect(await native(state).getAlarm()).toBeNull();
}

/** Asserts that the next message is the object's first, and the only one that arrives. */
export async function expectFirst(stub: Stub): Promise<void> {
  const { sequence } = await inside(stub, (_, outbox) => outbox.send("the first"));
  expect(sequence).toBe(1);
  await drained(stub);
  expect(sent(stub).map(({ msg }) => msg)).toEqual(["the first"]);
}

/** This many entries, whose keys sort by their numbers. */
export function numbered(count: number): Record<string, number> {
  return Object.fromEntries(Array.from({ length: count }, (_, n) => [`key:${String(n).padStart(4, "0")}`, n]));
}

/** Every row of the outbox, whatever it is. */
export function outboxRows(state: DurableObjectState): Promise<Map<string, unknown>> {
  return native(state).list({ prefix: "\u{10FFFF}" });
}

/** The platform's own methods, past every shadow on this object's storage. */
export function native({ storage }: DurableObjectState): DurableObjectStorage {
  const methods: DurableObjectStorage = Object.getPrototypeOf(storage);
  return new Proxy(storage, {
    get: (_, name) => {
      const method: unknown = Reflect.get(methods, name, storage);
      return typeof method === "function" ? method.bind(storage) : method;
    },
  });
}

/** A gate that holds a step of the script until the test opens it. */
export function gate(): { open: () => void; passed: () => Promise<void> } {
  let opened = false;
  return {
    open: () => {
      opened = true;
    },
    // Polled, because a promise that another object settles does not wake this one.
    passed: async () => {
      while (!opened) await scheduler.wait(5);
    },
  };
}
