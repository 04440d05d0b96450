/** `discard(ids)` of messages that have failed and wait: deleted like dead letters, unlike those that nobody has tried. */
import { evictDurableObject } from "cloudflare:test";
import { expect, it } from "vitest";
import type { OutboxOptions } from "../../../src/index.ts";
import { boxWith, callsOf, down, numbers, putMany } from "../support/batches.ts";
import { again, crash, gate, handedOver, inside, native, onBothBackends, outboxRows, type Stub, sent } from "../support/harness.ts";
import { flush, stats } from "../support/lanes.ts";
import { crashDurably, idle, patient, statsOf } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

const discard = (stub: Stub, ids: string[]) => inside(stub, (_, outbox) => outbox.discard(ids));
const idOf = (stub: Stub, msg: unknown): string => sent(stub).find((message) => message.msg === msg)?.id ?? "";

onBothBackends("discard", (backend) => {
  const box = (chosen: OutboxOptions<"OUTBOX_MANAGER"> = {}) => boxWith(backend, { retry: patient, ...chosen });

  it("deletes dead letters and messages that have failed and wait, in one call, and counts both", async () => {
    const stub = box();
    stageOf(stub).script.push((messages, delivery) => {
      for (const { id, msg } of messages) delivery[msg === 1 ? "reject" : "retry"](id);
    }, down);
    await putMany(stub, 4);
    await stats(stub, { delayed: 3, dead: 1 });
    await putMany(stub, 3, 5);
    await stats(stub, { failures: 1, pending: 3 });
    const wanted = [1, 2, 4, 6].map((n) => idOf(stub, n));
    expect(await discard(stub, [...wanted, ...wanted, "unknown"])).toBe(4);
    expect(await discard(stub, wanted)).toBe(0);
    expect(await statsOf(stub)).toMatchObject({ pending: 2, delayed: 1, dead: 0 });
    await evictDurableObject(stub);
    expect(await discard(again(stub), [idOf(stub, 3)])).toBe(1);
    await flush(again(stub));
    expect(await idle(again(stub))).toMatchObject({ dead: 0 });
    expect(callsOf(stub)).toEqual([numbers(4), numbers(3, 5), [5, 7]]);
    await inside(again(stub), async (_, __, state) => {
      expect((await outboxRows(state)).size).toBeLessThanOrEqual(1);
      expect(await native(state).getAlarm()).toBeNull();
    });
  });

  it("lets the next of its key go when the head that has failed is deleted", async () => {
    const stub = box();
    stageOf(stub).script.push(([first], delivery) => delivery.retry(first?.id ?? ""));
    await inside(stub, (_, outbox) => Promise.all([1, 2, 3].map((n) => outbox.send(n, { key: "k" }))));
    await stats(stub, { delayed: 1, blocked: 2 });
    expect(await discard(stub, [idOf(stub, 1)])).toBe(1);
    await idle(stub);
    expect(callsOf(stub)).toEqual([[1], [2], [3]]);
  });

  it("leaves alone what has never been tried, and what is being handed over", async () => {
    const stub = box();
    const held = gate();
    stageOf(stub).script.push(([first], delivery) => delivery.retry(first?.id ?? "", { delaySeconds: 0 }), held.passed);
    await putMany(stub, 1);
    await handedOver(stub, 2);
    const [late] = await inside(stub, (_, outbox) => Promise.all([outbox.send("late", { delaySeconds: 600 }), outbox.send("next")]));
    expect(await discard(stub, [idOf(stub, 1), late?.id ?? ""])).toBe(0);
    held.open();
    await stats(stub, { pending: 0, delayed: 1 });
    expect(await discard(stub, [late?.id ?? ""])).toBe(0);
    expect(callsOf(stub)).toEqual([[1], [1], ["next"]]);
  });

  it("is for good: a crash after it brings nothing back, and one in its turn loses nothing else", async () => {
    const stub = box();
    stageOf(stub).script.push((messages, delivery) => {
      for (const { id } of messages) delivery.retry(id);
    });
    await putMany(stub, 20);
    await stats(stub, { delayed: 20 });
    let life = await crashDurably(stub, (outbox) => outbox.discard([3, 4].map((n) => idOf(stub, n))));
    expect(await statsOf(life)).toMatchObject({ delayed: 18 });
    life = await crash(life, (outbox) => outbox.discard([5, 6].map((n) => idOf(stub, n))));
    const { delayed } = await statsOf(life);
    expect(delayed).toBeGreaterThanOrEqual(16);
    const left = await discard(
      life,
      [5, 6].map((n) => idOf(stub, n)),
    );
    expect(delayed - left).toBe(16);
    expect(await statsOf(life)).toMatchObject({ delayed: 16 });
  });
});
