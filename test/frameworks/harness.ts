/** What every test of a framework uses: objects, waiting for facts instead of for time, and the platform's own storage. */
import { runInDurableObject } from "cloudflare:test";
import { env as bindings } from "cloudflare:workers";
import { expect } from "vitest";
import { polled } from "../support/patience.ts";
import { type Note, type Staged, stageOf } from "./stage.ts";

export { by, unhurried } from "../support/patience.ts";

export type Namespace = DurableObjectNamespace;
export type Stub = DurableObjectStub;

/** The same class of a framework, as the framework has it and wrapped. */
export interface Kind {
  readonly bare: Namespace;
  readonly wrapped: Namespace;
}

/** The namespaces that vitest.config.ts binds, by the name of their class. */
export const env: Record<string, Namespace> = bindings as never;

export function kind(name: string): Kind {
  const bare = env[`Bare${name}`] ?? expect.fail(`Bare${name} is not bound`);
  const wrapped = env[name] ?? expect.fail(`${name} is not bound`);
  return { bare, wrapped };
}

let objects = 0;

/** A fresh object. It has a name, because frameworks ask for one. */
export function fresh(namespace: Namespace): Stub {
  return namespace.getByName(`object ${++objects}`);
}

/** A stub of the object's next life, once the abort that was asked for has happened: until then, and in the old stub, all is broken. */
export function reborn(namespace: Namespace, stub: Stub): Promise<Stub> {
  return eventually(async () => {
    // In this order: a stub of the life that is about to be aborted would be broken with it.
    if (await lives(stub)) return false;
    const next = namespace.get(stub.id);
    return (await lives(next)) && next;
  });
}

const lives = (stub: Stub): Promise<boolean> => inside(stub, () => true).catch(() => false);

/** Runs inside the object. */
export function inside<T extends Staged, R>(stub: Stub, body: (self: T, state: DurableObjectState) => R | Promise<R>): Promise<R> {
  return runInDurableObject(stub as never, (instance, state) => body(instance as never, state)) as Promise<R>;
}

/** Polls, without touching any object, until `fact` gives something other than `undefined`, `null` or `false`, and returns that. */
export function eventually<R>(fact: () => R | Promise<R>): Promise<Exclude<R, undefined | null | false>> {
  return polled(10, fact);
}

/** The content of every message that `sendMessages` saw, in order. */
export const sent = (stub: Stub): unknown[] => stageOf(stub).calls.flatMap((call) => call.map(({ msg }) => msg));

/** Waits, without touching the object, until so many messages were handed over, and returns what was. */
export async function handedOver(stub: Stub, count: number): Promise<unknown[]> {
  await eventually(() => sent(stub).length >= count);
  return sent(stub);
}

/** Waits, without touching the object, until its destination has taken these messages, each once, in whichever order. */
export async function delivered(stub: Stub, ...expected: string[]): Promise<void> {
  const { taken } = stageOf(stub);
  await eventually(() => expected.every((msg) => taken.includes(msg)));
  expect([...taken].sort()).toEqual([...expected].sort());
}

/** Waits until no message waits. Each look is a request, which starts the object if need be. */
export async function drained(stub: Stub): Promise<void> {
  await eventually(() =>
    inside(stub, async ({ outbox }) => {
      const { pending, delayed } = await outbox.stats();
      return pending + delayed === 0;
    }),
  );
}

/** What a framework noted under these names, in order. */
export const notes = (stub: Stub, ...names: string[]): Note[] => stageOf(stub).notes.filter(({ what }) => names.includes(what));

/** What the noted calls were given, in order. */
export const details = (stub: Stub, ...names: string[]): unknown[] => notes(stub, ...names).map(({ detail }) => detail);

/** Waits for the call with this number, from 1, and asserts that it did not come before this time, in milliseconds since the Unix epoch. */
export async function expectAt(stub: Stub, what: string, number: number, time: number): Promise<void> {
  await eventually(() => notes(stub, what).length >= number);
  const { at = 0 } = notes(stub, what)[number - 1] ?? {};
  expect(at).toBeGreaterThanOrEqual(time);
}

/** Asserts what the noted calls were given: in order, unless the machine was so slow that the last was due before the first was called. */
export function expectInOrder(stub: Stub, what: string, last: number, given: unknown[]): void {
  const late = (notes(stub, what)[0]?.at ?? 0) >= last;
  const seen = details(stub, what);
  expect(late ? new Set(seen) : seen).toEqual(late ? new Set(given) : given);
}

/** The destination refuses everything from now on. */
export function down(stub: Stub): void {
  stageOf(stub).destination = () => Promise.reject(new Error("the destination is down"));
}

/** The destination takes everything from now on. */
export function up(stub: Stub): void {
  stageOf(stub).destination = () => {};
}

/** A wrapped object with one message, which its destination has refused and goes on refusing. */
export async function backlogged(namespace: Namespace): Promise<Stub> {
  const stub = fresh(namespace);
  down(stub);
  await inside(stub, ({ outbox }) => outbox.send("waits"));
  await handedOver(stub, 1);
  return stub;
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
