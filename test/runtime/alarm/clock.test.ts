/** A clock that does not run straight: it loses nothing and reorders nothing. */
import { evictDurableObject } from "cloudflare:test";
import { afterEach, expect, it, vi } from "vitest";
import type { OutboxPutOptions } from "../../../src/index.ts";
import { boxWith, callsOf, down, numbers, putMany } from "../support/batches.ts";
import { again, eventually, fresh, handedOver, inside, onBothBackends, type Stub, sent, until } from "../support/harness.ts";
import { deadOf, idle, patient } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

const send = (stub: Stub, msg: unknown, options?: OutboxPutOptions) => inside(stub, (_, outbox) => outbox.send(msg, options));

onBothBackends("a clock that jumps", (backend) => {
  let skew = 0;
  const HOUR = 3_600_000;

  afterEach(() => {
    skew = 0;
    vi.restoreAllMocks();
  });

  /** Moves the clock of the isolate, which the objects share with the test. Their alarms keep to the real one. */
  function skewed(): void {
    const real = Date.now.bind(Date);
    vi.spyOn(Date, "now").mockImplementation(() => real() + skew);
  }

  it.each([HOUR, -HOUR])("by %i ms while messages are put loses and reorders none when it jumps back", async (jump) => {
    skewed();
    const stub = fresh(backend);
    await putMany(stub, 20);
    skew = jump;
    await putMany(stub, 20, 21);
    skew = 0;
    await putMany(stub, 20, 41);
    await idle(stub);
    expect(callsOf(stub).flat()).toEqual(numbers(60));
  });

  it("ahead while a message is put is mended by the next start", async () => {
    skewed();
    const stub = fresh(backend);
    skew = HOUR;
    await putMany(stub, 3);
    skew = 0;
    await evictDurableObject(stub);
    await inside(again(stub), () => {});
    await handedOver(stub, 3);
    await idle(again(stub));
    expect(callsOf(stub).flat()).toEqual(numbers(3));
  });

  it.each([HOUR, -HOUR])("by %i ms during a backoff and a delay loses and reorders none", async (jump) => {
    skewed();
    const stub = boxWith(backend, { retry: { minDelaySeconds: 0.2, maxDelaySeconds: 0.2, jitter: 0 } });
    const taken: unknown[] = [];
    stageOf(stub).rest = (messages) => void taken.push(...messages.map(({ msg }) => msg));
    stageOf(stub).script.push(down);
    await putMany(stub, 20);
    await send(stub, "late", { delaySeconds: 0.4 });
    await handedOver(stub, 20);
    skew = jump;
    await putMany(stub, 20, 21);
    await evictDurableObject(stub);
    await inside(again(stub), (_, outbox) => outbox.send(41));
    skew = 0;
    await inside(again(stub), (_, outbox) => outbox.send(42));
    await idle(again(stub));
    expect(taken.filter((msg) => msg !== "late")).toEqual(numbers(42));
    expect(taken).toContain("late");
    expect(taken).toHaveLength(43);
  });

  it("behind the one that rings the alarm makes no loop of alarms", async () => {
    skewed();
    const stub = fresh(backend);
    await send(stub, "late", { delaySeconds: 0.1 });
    skew = -HOUR;
    const end = Date.now() + 600;
    await eventually(() => Date.now() > end);
    expect(await inside(stub, ({ ledger }) => ledger.alarms)).toBeLessThanOrEqual(10);
    skew = 0;
    await idle(stub);
    expect(callsOf(stub)).toEqual([["late"]]);
  });

  it.each([1, 2, 3])("at random delivers each message once, and those of a key in order (seed %i)", async (seed) => {
    skewed();
    let state = seed * 7919;
    const random = (below: number) => {
      state = (state * 48_271) % 2_147_483_647;
      return state % below;
    };
    const stub = boxWith(backend, { batchSize: 7, retry: patient });
    let life = stub;
    for (let n = 1; n <= 40; n++) {
      skew = [0, HOUR, -HOUR, 1000, -1000][random(5)] ?? 0;
      const key = [undefined, "a", "b"][random(3)];
      await send(life, { n, key }, { ...(key && { key }), ...(random(4) === 0 && { delaySeconds: random(100) / 1000 }) });
      if (random(8) === 0) await inside(life, (_, outbox) => outbox.flush());
      if (random(20) === 0) {
        await evictDurableObject(life);
        life = again(stub);
      }
    }
    skew = 2 * HOUR;
    await until(life, async ({ outbox }) => {
      await outbox.flush();
      const { pending, delayed, blocked } = await outbox.stats();
      return pending + delayed + blocked === 0;
    });
    // An eviction may come between a send and its clearing, so each message counts when it came first.
    const all = [...new Map(sent(stub).map(({ id, msg }) => [id, msg as { n: number; key?: string }])).values()];
    expect(all.map(({ n }) => n).sort((a, b) => a - b)).toEqual(numbers(40));
    for (const lane of ["a", "b"]) {
      const order = all.flatMap(({ n, key }) => (key === lane ? [n] : []));
      expect(order).toEqual(order.sort((a, b) => a - b));
    }
    expect(await deadOf(life)).toEqual([]);
  });
});
