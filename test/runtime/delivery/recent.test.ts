/** The segments of a burst are delivered from memory: whatever happened to them meanwhile, memory and storage say the same. */
import { evictDurableObject } from "cloudflare:test";
import { expect, it } from "vitest";
import type { OutboxManager } from "../../../src/index.ts";
import { boxWith, callsOf, numbers } from "../support/batches.ts";
import { again, crash, eventually, fresh, gate, handedOver, inside, onBothBackends, outboxRows, type Stub } from "../support/harness.ts";
import { crashDurably, idle, paused, resumed } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

/** Two segments, and some in the header. */
const BURST = 40;
/** In the first segment, in the second, and in the header. */
const SOME = [1, 5, 16, 17, 20, 32, 33, 40];

async function burst(stub: Stub): Promise<string[]> {
  const receipts = await inside(stub, (_, outbox) => Promise.all(numbers(BURST).map((n) => outbox.send(n))));
  return receipts.map(({ id }) => id);
}

const cancelled = async (outbox: OutboxManager, ids: string[]): Promise<boolean[]> => {
  const all: boolean[] = [];
  for (const n of SOME) all.push(await outbox.cancel(ids[n - 1] ?? ""));
  return all;
};
const left = numbers(BURST).filter((n) => !SOME.includes(n));

onBothBackends("a burst", (backend) => {
  it("is delivered without one read", async () => {
    const stub = fresh(backend);
    await inside(stub, (_, outbox) => outbox.pause());
    await burst(stub);
    const reads = () => inside(stub, ({ ledger }) => ledger.reads);
    const before = await reads();
    await inside(stub, async (_, outbox) => {
      await outbox.resume();
      await outbox.flush();
    });
    expect(callsOf(stub)).toEqual([numbers(BURST)]);
    expect(await reads()).toBe(before);
  });

  it("comes without those that were cancelled, in this life and in the next", async () => {
    for (const evict of [false, true]) {
      const stub = await paused(backend);
      const ids = await burst(stub);
      expect(await inside(stub, (_, outbox) => cancelled(outbox, ids))).toEqual(SOME.map(() => true));
      if (evict) await evictDurableObject(stub);
      await resumed(evict ? again(stub) : stub);
      expect(callsOf(stub).flat()).toEqual(left);
    }
  });

  it("comes whole when the transaction in which some were cancelled rolls back", async () => {
    for (const evict of [false, true]) {
      const stub = await paused(backend);
      const ids = await burst(stub);
      await inside(stub, async (_, outbox) => {
        const done = outbox.transaction(async () => {
          expect(await cancelled(outbox, ids)).toEqual(SOME.map(() => true));
          throw new Error("rolled back");
        });
        await expect(done).rejects.toThrow("rolled back");
      });
      if (evict) await evictDurableObject(stub);
      await resumed(evict ? again(stub) : stub);
      expect(callsOf(stub).flat()).toEqual(numbers(BURST));
    }
  });

  it("comes without its own when it was put in a transaction that rolls back", async () => {
    const stub = await paused(backend);
    await burst(stub);
    await inside(stub, async (_, outbox) => {
      const done = outbox.transaction(async () => {
        for (const n of numbers(BURST, BURST + 1)) await outbox.send(n);
        throw new Error("rolled back");
      });
      await expect(done).rejects.toThrow("rolled back");
      for (const n of numbers(BURST, 2 * BURST + 1)) await outbox.send(n);
    });
    await resumed(stub);
    expect(callsOf(stub).flat()).toEqual([...numbers(BURST), ...numbers(BURST, 2 * BURST + 1)]);
  });

  it.each([
    [10, "of which the first of a segment are in hand"],
    [100, "of which the header's are in hand"],
  ])("grows into no segment that is being delivered: batches of %i, %s", async (batchSize) => {
    for (const dies of [false, true]) {
      const stub = boxWith(backend, { batchSize });
      const held = gate();
      stageOf(stub).script.push(held.passed);
      await inside(stub, (_, outbox) => Promise.all(numbers(17).map((n) => outbox.send(n))));
      await handedOver(stub, Math.min(batchSize, 17));
      await inside(stub, (_, outbox) => Promise.all(numbers(BURST, 18).map((n) => outbox.send(n))));
      held.open();
      await idle(stub);
      const more = (outbox: OutboxManager) => Promise.all(numbers(BURST, 101).map((n) => outbox.send(n)));
      const next = dies ? await crashDurably(stub, more) : stub;
      if (!dies) await inside(stub, (_, outbox) => more(outbox));
      await idle(next);
      expect([...new Set(callsOf(stub).flat())]).toEqual([...numbers(17 + BURST), ...numbers(BURST, 101)]);
    }
  });

  it("that grows a segment of which the beginning is in hand, and leaves it far behind meanwhile, comes whole", async () => {
    for (const dies of [false, true]) {
      const stub = boxWith(backend, { batchSize: 16 });
      const held = gate();
      stageOf(stub).script.push(held.passed);
      await inside(stub, (_, outbox) => Promise.all(numbers(17).map((n) => outbox.send(n))));
      await handedOver(stub, 16);
      // More segments than are remembered.
      await inside(stub, (_, outbox) => Promise.all(numbers(600, 18).map((n) => outbox.send(n))));
      held.open();
      await eventually(() => callsOf(stub).length > 1);
      const next = dies ? await crash(stub) : stub;
      await idle(next);
      expect([...new Set(callsOf(stub).flat())]).toEqual(numbers(617));
      expect((await inside(next, (_, __, state) => outboxRows(state))).size).toBe(1);
    }
  });
});
