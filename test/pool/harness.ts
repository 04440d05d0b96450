/** What every test in the pool uses: fresh objects on both backends, and waiting for facts instead of for time. */
import { runInDurableObject } from "cloudflare:test";
import { env as bindings } from "cloudflare:workers";
import { describe, expect } from "vitest";
import type { OutboxManager } from "../../src/index.ts";
import type { Box, Env, Ledger } from "./worker.ts";

const env = bindings as unknown as Env;

export type TestBox = Box & { ledger: Ledger };
export type Stub = DurableObjectStub<Box>;

export interface Backend {
  name: "sqlite" | "kv";
  namespace: DurableObjectNamespace<Box>;
  other: DurableObjectNamespace<Box>;
}

const BACKENDS: Backend[] = [
  { name: "sqlite", namespace: env.BOX_SQLITE, other: env.OTHER_SQLITE },
  { name: "kv", namespace: env.BOX_KV, other: env.OTHER_KV },
];

/** Declares a suite once and runs it on a SQLite-backed and on a KV-backed class. */
export function onBothBackends(title: string, suite: (backend: Backend) => void): void {
  describe.each(BACKENDS)(`${title} ($name)`, suite);
}

/** A fresh object: storage is isolated by file only, so every test takes a name of its own. */
export function fresh(backend: Backend): Stub {
  return backend.namespace.get(backend.namespace.newUniqueId());
}

/** Runs inside the object, with its manager. */
export function inside<R>(
  stub: Stub,
  body: (box: TestBox, outbox: OutboxManager, state: DurableObjectState) => R | Promise<R>,
): Promise<R> {
  return runInDurableObject(stub, (instance, state) => body(instance as TestBox, (instance as TestBox).outbox, state)) as Promise<R>;
}

/** Polls inside the object until `fact` gives something other than `undefined`, `null` or `false`, and returns that. */
export async function until<R>(
  stub: Stub,
  fact: (box: TestBox, state: DurableObjectState) => R | Promise<R>,
  seconds = 5,
): Promise<NonNullable<R>> {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await inside(stub, (box, _, state) => fact(box, state));
    if (found !== undefined && found !== null && found !== false) return found as NonNullable<R>;
    if (Date.now() > end) expect.fail(`not within ${seconds} s: ${fact}`);
    await scheduler.wait(10);
  }
}

/** Waits until nothing is pending. */
export function drained(stub: Stub, seconds = 5): Promise<true> {
  return until(stub, async (box) => ((await box.outbox.stats()).pending === 0 ? true : undefined), seconds);
}

/** Every row of the outbox, whatever it is. */
export function outboxRows(state: DurableObjectState): Promise<Map<string, unknown>> {
  return state.storage.list({ prefix: "\u{10FFFF}" });
}
