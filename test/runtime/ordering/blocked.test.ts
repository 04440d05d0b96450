/** Many messages blocked behind one ordering key cost those that are not blocked nothing. */
import { evictDurableObject } from "cloudflare:test";
import { expect, it } from "vitest";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { size } from "../../support/random.ts";
import { callsOf, numbers } from "../support/batches.ts";
import {
  again,
  type Backend,
  declared,
  eventually,
  handedOver,
  inside,
  native,
  onBothBackends,
  type Stub,
  sent,
} from "../support/harness.ts";
import { flush, forward, simple, stats } from "../support/lanes.ts";
import { counted, type Ledger } from "../support/ledger.ts";
import { idle, statsOf } from "../support/standing.ts";
import { Box, type BoxEnv, options, stageOf } from "../support/worker.ts";

/** How many are blocked. The KV-backed class stands on the same storage locally: fewer are enough to show what grows. */
const BLOCKED = { sqlite: size(4000, 100_000), kv: size(2000, 20_000) };
const HEAD_SECONDS = 3600;

/** What storage was asked for. The ledger counts calls; this also counts the rows that they gave. */
interface Cost extends Pick<Ledger, "rows" | "alarms" | "disarmed" | "reads"> {
  rowsRead: number;
}

class Counting extends withTransactionalOutbox(class extends Box {}, { ...options, onEvent: () => {} }) {
  readonly cost: () => Cost;

  constructor(ctx: DurableObjectState, env: BoxEnv) {
    const { storage } = ctx;
    const ledger = counted(storage);
    let rowsRead = 0;
    const { get, list } = storage;
    const count = (found: unknown) => {
      rowsRead += found instanceof Map ? found.size : 1;
      return found;
    };
    Object.assign(storage, {
      get: async (...args: Parameters<typeof get>) => count(await get(...args)),
      list: async (...args: Parameters<typeof list>) => count(await list(...args)),
    });
    super(ctx, env);
    this.cost = () => ({ rows: ledger.rows, alarms: ledger.alarms, disarmed: ledger.disarmed, reads: ledger.reads, rowsRead });
  }
}

const costOf = (stub: Stub): Promise<Cost> => inside(stub, (box) => (box as unknown as Counting).cost());

/** An object whose only messages have one ordering key: a head that waits for an hour, and so many behind it. */
async function withBlocked(backend: Backend, count: number): Promise<Stub> {
  const stub = declared(backend, Counting);
  await inside(stub, (_, outbox) => outbox.send(0, { key: "blocked", delaySeconds: HEAD_SECONDS }));
  for (let from = 1; from <= count; from += 5000) {
    const some = numbers(Math.min(5000, count - from + 1), from);
    await inside(stub, (_, outbox) => Promise.all(some.map((n) => outbox.send(n, { key: "blocked" }))));
  }
  await eventually(() => said(stub, count));
  expect(sent(stub)).toEqual([]);
  return stub;
}

const said = async (stub: Stub, blocked: number): Promise<boolean> => {
  const now = await statsOf(stub);
  return now.pending === 0 && now.delayed === 1 && now.blocked === blocked;
};

/** What it costs to store and deliver a hundred others, until the alarm stands at the head's time again. */
async function costOfHundred(stub: Stub): Promise<Cost> {
  const before = await costOf(stub);
  const handed = sent(stub).length;
  await inside(stub, (_, outbox) => Promise.all(numbers(100).map((n) => outbox.send(n, n % 2 ? {} : { key: `other:${n}` }))));
  await handedOver(stub, handed + 100);
  const waits = Date.now() + (HEAD_SECONDS / 2) * 1000;
  // This look goes past everything that counts.
  await eventually(async () => ((await inside(stub, (_, __, state) => native(state).getAlarm())) ?? 0) > waits);
  const after = await costOf(stub);
  expect(callsOf(stub).flat().slice(handed)).toEqual(numbers(100));
  return Object.fromEntries(Object.entries(after).map(([name, value]) => [name, value - before[name as keyof Cost]])) as unknown as Cost;
}

/** The same, but for an alarm or two that a busy machine costs when it calls late, and what goes with them. */
function isAbout(cost: Cost, wanted: Cost): void {
  for (const [name, value] of Object.entries(cost)) expect(Math.abs(value - wanted[name as keyof Cost]), name).toBeLessThanOrEqual(4);
}

onBothBackends("messages blocked behind one key", (backend) => {
  it("do not change what it costs to deliver a hundred others, in this life and the next", async () => {
    const bare = await withBlocked(backend, 0);
    const crowded = await withBlocked(backend, BLOCKED[backend.name]);
    // The first hundred make the head leave the end of the queue, where it may wait as long as nothing is behind it.
    for (const stub of [bare, crowded]) await costOfHundred(stub);
    const [least, cost] = [await costOfHundred(bare), await costOfHundred(crowded)];
    console.log(`${backend.name}, ${BLOCKED[backend.name]} blocked: 100 others cost ${JSON.stringify(cost)}`);
    isAbout(cost, least);
    expect(least.rows).toBeGreaterThan(0);
    expect(least.reads).toBeLessThan(30);

    // And once more from a cold start.
    for (const stub of [bare, crowded]) await evictDurableObject(stub);
    const [start, startCrowded] = [await costOf(again(bare)), await costOf(again(crowded))];
    isAbout(startCrowded, start);
    isAbout(await costOfHundred(again(crowded)), await costOfHundred(again(bare)));

    // To look at the whole costs a thousand rows at most, from which the age of the oldest is known, and a page.
    const before = await costOf(again(crowded));
    expect(await said(again(crowded), BLOCKED[backend.name])).toBe(true);
    expect((await costOf(again(crowded))).rowsRead - before.rowsRead).toBeLessThanOrEqual(1128);
  });

  it("all follow in order once their head is delivered, at little more than a row each", async () => {
    const stub = declared(backend, Counting);
    const count = 3000;
    stageOf(stub).rest = () => {};
    await inside(stub, (_, outbox) => outbox.send(0, { key: "blocked", delaySeconds: HEAD_SECONDS }));
    await inside(stub, (_, outbox) => Promise.all(numbers(count).map((n) => outbox.send(n, { key: "blocked" }))));
    await eventually(() => said(stub, count));
    await stats(stub, { pending: 0, delayed: 1, blocked: count });
    forward(HEAD_SECONDS + 1);
    await flush(stub);
    await idle(stub);
    expect(callsOf(stub).flat()).toEqual([0, ...numbers(count)]);
  });

  it("follow in full batches with ordering batch", async () => {
    const stub = simple(backend);
    await inside(stub, (_, outbox) => outbox.send(0, { key: "blocked", delaySeconds: HEAD_SECONDS }));
    await inside(stub, (_, outbox) => Promise.all(numbers(1000).map((n) => outbox.send(n, { key: "blocked" }))));
    await stats(stub, { pending: 0, delayed: 1, blocked: 1000 });
    forward(HEAD_SECONDS + 1);
    await flush(stub);
    await idle(stub);
    expect(callsOf(stub).flat()).toEqual([0, ...numbers(1000)]);
    expect(callsOf(stub).length).toBeLessThanOrEqual(12);
  });
});
