/** `cancel(id)`: takes a message back that waits, tried or not, and no other. */
import { evictDurableObject } from "cloudflare:test";
import { expect, it } from "vitest";
import type { OutboxPutOptions } from "../../../src/index.ts";
import { boxWith, callsOf, down, numbers, putMany } from "../support/batches.ts";
import {
  again,
  crash,
  eventually,
  fresh,
  gate,
  handedOver,
  inside,
  native,
  onBothBackends,
  outboxRows,
  type Stub,
  sent,
} from "../support/harness.ts";
import { flush, stats } from "../support/lanes.ts";
import { crashDurably, deadOf, idle, listed, patient, paused, resumed, statsOf, withDead } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

const cancel = (stub: Stub, id: string) => inside(stub, (_, outbox) => outbox.cancel(id));
const send = (stub: Stub, msg: unknown, options?: OutboxPutOptions) => inside(stub, (_, outbox) => outbox.send(msg, options));

onBothBackends("cancel is true", (backend) => {
  it("once for a message that is pending, which is never handed over", async () => {
    const stub = await paused(backend);
    const { id } = await send(stub, 1);
    await send(stub, 2);
    expect(await cancel(stub, id)).toBe(true);
    expect(await cancel(stub, id)).toBe(false);
    expect(await statsOf(stub)).toMatchObject({ pending: 1, delayed: 0, dead: 0 });
    expect((await listed(stub, "pending")).map(({ msg }) => msg)).toEqual([2]);
    await resumed(stub);
    expect(callsOf(stub)).toEqual([[2]]);
  });

  it("for a message that is delayed, whose alarm goes with it", async () => {
    const stub = fresh(backend);
    const { id } = await send(stub, "late", { delaySeconds: 0.3 });
    const { id: soon } = await send(stub, "soon", { delaySeconds: 0.4 });
    expect(await cancel(stub, id)).toBe(true);
    await handedOver(stub, 1);
    expect(sent(stub)).toMatchObject([{ id: soon }]);
    const { id: far } = await send(stub, "far", { delaySeconds: 600 });
    expect(await cancel(stub, far)).toBe(true);
    expect(await statsOf(stub)).toMatchObject({ pending: 0, delayed: 0, blocked: 0, dead: 0, nextAttemptAt: null });
    expect(await inside(stub, (_, __, state) => native(state).getAlarm())).toBeNull();
  });

  it("for a message that waits behind its key, and for the delayed head, which lets the next go", async () => {
    const stub = fresh(backend);
    const [head, second] = await inside(stub, (_, outbox) =>
      Promise.all([outbox.send(1, { key: "k", delaySeconds: 600 }), ...[2, 3, 4].map((n) => outbox.send(n, { key: "k" }))]),
    );
    await eventually(async () => (await statsOf(stub)).pending === 0);
    expect(await statsOf(stub)).toMatchObject({ delayed: 1, blocked: 3 });
    expect(await cancel(stub, second?.id ?? "")).toBe(true);
    expect(await cancel(stub, head?.id ?? "")).toBe(true);
    await idle(stub);
    expect(callsOf(stub).flat()).toEqual([3, 4]);
  });

  it("for a message put during a send in flight, also right after its put", async () => {
    const stub = fresh(backend);
    const held = gate();
    stageOf(stub).script.push(held.passed);
    await putMany(stub, 2);
    await handedOver(stub, 2);
    const { id } = await send(stub, 3);
    await send(stub, 4);
    expect(await cancel(stub, id)).toBe(true);
    const canceled = await inside(stub, async (_, outbox) => {
      await outbox.send(5, { id: "five" });
      const five = outbox.cancel("five");
      const [, six] = await Promise.all([outbox.send(6, { id: "six" }), outbox.cancel("six")]);
      return [await five, six];
    });
    // A cancel in the turn of the put may come too early for it, but then it says so.
    expect(canceled).toEqual([true, expect.any(Boolean)]);
    held.open();
    await idle(stub);
    expect(callsOf(stub)).toEqual([[1, 2], canceled[1] ? [4] : [4, 6]]);
  });

  it("for messages anywhere in a backlog, and leaves the others in order with their numbers", async () => {
    const stub = await paused(backend);
    const receipts = (await putMany(stub, 70)) as { id: string }[];
    const gone = [1, 2, 15, 16, 17, 32, 33, 48, 40, 69, 70];
    for (const n of gone) expect(await cancel(stub, receipts[n - 1]?.id ?? "")).toBe(true);
    await putMany(stub, 10, 71);
    const left = numbers(80).filter((n) => !gone.includes(n));
    expect(await statsOf(stub)).toMatchObject({ pending: left.length });
    expect((await listed(stub, "pending")).map(({ msg }) => msg)).toEqual(left);
    await resumed(stub);
    expect(callsOf(stub).flat()).toEqual(left);
    expect(sent(stub).map(({ sequence }) => sequence)).toEqual(left);
  });

  it("for a message among others of which some are delivered, which brings none of those back", async () => {
    const stub = await paused(backend, { batchSize: 2 });
    const held = gate();
    stageOf(stub).script.push(() => {}, held.passed);
    const receipts = (await putMany(stub, 20)) as { id: string }[];
    await inside(stub, (_, outbox) => outbox.resume());
    await handedOver(stub, 4);
    await inside(stub, (_, outbox) => outbox.pause());
    held.open();
    await stats(stub, { pending: 16 });
    expect(await cancel(stub, receipts[9]?.id ?? "")).toBe(true);
    expect(await statsOf(stub)).toMatchObject({ pending: 15 });
    await resumed(stub);
    expect(callsOf(stub).flat()).toEqual(numbers(20).filter((n) => n !== 10));
  });

  it("for every message, which leaves one row at most and no alarm", async () => {
    const stub = boxWith(backend, { retry: patient });
    const receipts = await inside(stub, (_, outbox) => Promise.all(numbers(40).map((n) => outbox.send(n, { delaySeconds: 60 * (n % 2) }))));
    await stats(stub, { pending: 0, delayed: 20 });
    for (const { id } of receipts) await cancel(stub, id);
    expect(await statsOf(stub)).toMatchObject({ pending: 0, delayed: 0, blocked: 0, nextAttemptAt: null });
    await inside(stub, async (_, __, state) => {
      expect((await outboxRows(state)).size).toBeLessThanOrEqual(1);
      expect(await native(state).getAlarm()).toBeNull();
    });
    await evictDurableObject(stub);
    expect(await send(again(stub), "next")).toMatchObject({ sequence: 41 });
    await idle(again(stub));
    expect(callsOf(stub).flat()).toEqual([...numbers(20).map((n) => n * 2), "next"]);
  });

  it("for messages that have failed and wait, in this life and the next, which are never handed over again", async () => {
    const stub = boxWith(backend, { retry: patient });
    stageOf(stub).script.push((messages, delivery) => {
      for (const { id } of messages.slice(0, 2)) delivery.retry(id);
    }, down);
    await putMany(stub, 2);
    await stats(stub, { delayed: 2 });
    await putMany(stub, 3, 3);
    await stats(stub, { failures: 1, pending: 3 });
    const ids = new Map(sent(stub).map(({ msg, id }) => [msg, id]));
    for (const n of [1, 3]) expect(await cancel(stub, ids.get(n) ?? "")).toBe(true);
    await evictDurableObject(stub);
    for (const n of [2, 4]) expect(await cancel(again(stub), ids.get(n) ?? "")).toBe(true);
    for (const n of [1, 2, 3, 4]) expect(await cancel(again(stub), ids.get(n) ?? "")).toBe(false);
    expect(await statsOf(again(stub))).toMatchObject({ pending: 1, delayed: 0, dead: 0 });
    await inside(again(stub), (_, outbox) => outbox.resume());
    await inside(again(stub), (_, outbox) => outbox.flush());
    expect(callsOf(stub)).toEqual([[1, 2], [3, 4, 5], [5]]);
    await idle(again(stub));
    await inside(again(stub), async (_, __, state) => {
      expect((await outboxRows(state)).size).toBeLessThanOrEqual(1);
      expect(await native(state).getAlarm()).toBeNull();
    });
  });

  it("for the message that its key waits behind because it has failed, and for the one that breaks its batch", async () => {
    const stub = boxWith(backend, { retry: patient });
    stageOf(stub).script.push(([first], delivery) => delivery.retry(first?.id ?? ""));
    const [head] = await inside(stub, (_, outbox) => Promise.all([1, 2, 3].map((n) => outbox.send(n, { key: "k" }))));
    await stats(stub, { delayed: 1, blocked: 2 });
    expect(await cancel(stub, head?.id ?? "")).toBe(true);
    await idle(stub);
    expect(callsOf(stub)).toEqual([[1], [2], [3]]);
    stageOf(stub).rest = (messages) => (messages.some(({ msg }) => msg === 12) ? down() : undefined);
    const receipts = (await putMany(stub, 4, 11)) as { id: string }[];
    await stats(stub, { failures: 1 });
    await flush(stub);
    expect(await cancel(stub, receipts[1]?.id ?? "")).toBe(true);
    await flush(stub);
    expect(await idle(stub)).toMatchObject({ dead: 0, breaker: "closed" });
    expect(callsOf(stub).at(-1)).toEqual([11, 13, 14]);
  });

  it("for good: a crash after it brings nothing back, and one in its turn loses nothing else", async () => {
    const stub = await paused(backend);
    const receipts = (await putMany(stub, 40)) as { id: string }[];
    const id = (n: number) => receipts[n - 1]?.id ?? "";
    let life = await crashDurably(stub, (outbox) => outbox.cancel(id(20)));
    life = await crash(life, (outbox) => outbox.cancel(id(10)));
    const left = (await listed(life, "pending")).map(({ msg }) => msg).filter((n) => n !== 10);
    expect(left).toEqual(numbers(40).filter((n) => n !== 10 && n !== 20));
    await cancel(life, id(10));
    await resumed(life);
    expect(callsOf(stub).flat()).toEqual(left);
  });
});

onBothBackends("cancel is false", (backend) => {
  it("for a message in flight, which is delivered", async () => {
    const stub = fresh(backend);
    const held = gate();
    stageOf(stub).script.push(held.passed);
    await putMany(stub, 3);
    await handedOver(stub, 3);
    for (const { id } of sent(stub)) expect(await cancel(stub, id)).toBe(false);
    held.open();
    expect(await idle(stub)).toMatchObject({ dead: 0 });
    for (const { id } of sent(stub)) expect(await cancel(stub, id)).toBe(false);
    expect(callsOf(stub)).toEqual([[1, 2, 3]]);
  });

  it("for a message that is tried in place of those that keep failing, while it is under way", async () => {
    const stub = boxWith(backend, { retry: { minDelaySeconds: 0.01, maxDelaySeconds: 0.01, jitter: 0 } });
    const held = gate();
    stageOf(stub).script.push(down, down, down, held.passed);
    const receipts = (await putMany(stub, 4)) as { id: string }[];
    await eventually(() => callsOf(stub).length === 4);
    expect(callsOf(stub)[3]).toEqual([4]);
    expect(await cancel(stub, receipts[3]?.id ?? "")).toBe(false);
    held.open();
    await idle(stub);
    expect(
      callsOf(stub)
        .flat()
        .filter((n) => n === 4),
    ).toHaveLength(3);
  });

  it("for a dead letter, which stays, and for ids that mean nothing", async () => {
    const stub = await withDead(backend, 2);
    for (const { id } of await listed(stub, "dead")) expect(await cancel(stub, id)).toBe(false);
    for (const id of ["unknown", "", "__proto__", "\u{10FFFF}outbox/h", "x".repeat(10_000)]) expect(await cancel(stub, id)).toBe(false);
    expect(await deadOf(stub)).toEqual([1, 2]);
    expect(await cancel(fresh(backend), "unknown")).toBe(false);
  });
});
