/** An object in which something of every kind stands: own state and alarm, and messages that are pending, delayed, blocked and dead. */
import { evictDurableObject } from "cloudflare:test";
import { expect } from "vitest";
import type { OutboxManager, OutboxOptions } from "../../../src/index.ts";
import { boxWith, callsOf, numbers, putMany } from "./batches.ts";
import { again, type Backend, inside, type Stub } from "./harness.ts";
import { flush, forward, stats } from "./lanes.ts";
import { listed, patient } from "./standing.ts";
import { stageOf } from "./worker.ts";

/** How many messages of each kind stand in it. */
export const FULL = { pending: 40, delayed: 2, blocked: 1, dead: 1, paused: true };

/** A paused object with messages of every kind, each in the row that its kind has, and forty keys of its own. */
export async function full(backend: Backend, chosen: OutboxOptions<"OUTBOX_MANAGER"> = {}): Promise<Stub> {
  const stub = boxWith(backend, { retry: patient, ...chosen });
  stageOf(stub).rest = (messages, delivery) => {
    for (const { id, msg } of messages) {
      if (msg === "dead") delivery.reject(id, "not wanted");
      if (msg === "behind its key") delivery.retry(id, { delaySeconds: 600 });
    }
  };
  const sendAll = (outbox: OutboxManager) =>
    Promise.all([
      outbox.send("late", { delaySeconds: 600 }),
      outbox.send("dead"),
      outbox.send("behind its key", { key: "a" }),
      outbox.send("blocked", { key: "a" }),
      outbox.send("at once"),
    ]);
  await inside(stub, (_, outbox, state) => state.blockConcurrencyWhile(() => sendAll(outbox)));
  await stats(stub, { pending: 0, delayed: 2, blocked: 1, dead: 1 });
  await inside(stub, (_, outbox) => outbox.pause());
  await putMany(stub, 40);
  await stats(stub, FULL);
  stageOf(stub).rest = () => {};
  stageOf(stub).calls.length = 0;
  return stub;
}

/** Every message that stands there, as `list` shows it. */
export async function standing(stub: Stub): Promise<unknown[][]> {
  return [await listed(stub, "pending"), await listed(stub, "delayed"), await listed(stub, "dead")];
}

/** Asserts that everything of `full` is delivered in this life or the next, each message once, and `others` behind it. */
export async function expectDelivered(stub: Stub, others: unknown[] = []): Promise<void> {
  await evictDurableObject(stub);
  const next = again(stub);
  await stats(next, { ...FULL, pending: 40 + others.length });
  await inside(next, (_, outbox) => outbox.redrive());
  forward(700);
  await inside(next, (_, outbox) => outbox.resume());
  for (let pass = 0; pass < 3; pass++) await flush(next);
  await stats(next, { pending: 0, delayed: 0, blocked: 0, dead: 0, paused: false });
  const delivered = callsOf(next).flat();
  expect(delivered.filter((msg) => typeof msg === "number" || others.includes(msg))).toEqual([...numbers(40), ...others]);
  const odd = ["behind its key", "blocked", "dead", "late"];
  expect(delivered.filter((msg) => odd.includes(msg as string)).sort()).toEqual(odd);
  expect(delivered).toHaveLength(44 + others.length);
}
