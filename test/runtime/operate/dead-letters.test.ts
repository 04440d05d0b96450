import { expect, it } from "vitest";
import type { OutboxOptions, OutboxPutOptions } from "../../../src/index.ts";
import { boxWith, callsOf, numbers, putMany } from "../support/batches.ts";
import { eventually, fresh, gate, handedOver, inside, native, onBothBackends, outboxRows, type Stub, sent } from "../support/harness.ts";
import { beforeAnyAlarm, deadOf, eventsAbout, idle, listed, resumed, statsOf, withDead } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

/** Three attempts, at once. */
const three: OutboxOptions["retry"] & object = { minDelaySeconds: 0.01, maxDelaySeconds: 0.01, jitter: 0, maxAttempts: 3 };

const idsOf = async (stub: Stub): Promise<string[]> => (await listed(stub, "dead")).map(({ id }) => id);
const redrive = (stub: Stub, ids?: string[]) => inside(stub, (_, outbox) => outbox.redrive(ids));

onBothBackends("a message becomes a dead letter", (backend) => {
  it("after maxAttempts of its own, with the first and the last failure's time", async () => {
    const stub = boxWith(backend, { retry: three });
    const at: number[] = [];
    stageOf(stub).rest = (messages, delivery) => {
      const second = messages.find(({ msg }) => msg === 2);
      if (second === undefined) return;
      at.push(Date.now());
      delivery.retry(second.id);
    };
    await putMany(stub, 3);
    await idle(stub);
    expect(callsOf(stub)).toEqual([[1, 2, 3], [2], [2]]);
    const [, original, , , last] = sent(stub);
    const [dead, ...others] = await listed(stub, "dead");
    expect(others).toEqual([]);
    expect(dead).toEqual({
      ...original,
      attempts: 3,
      destination: "default",
      reason: "max_attempts",
      error: expect.any(String),
      firstFailedAt: expect.any(Number),
      lastFailedAt: expect.any(Number),
    });
    expect(last).toEqual({ ...original, attempts: 3 });
    for (const [failedAt = 0, handedAt = 0, next = 0] of [
      [dead?.firstFailedAt, at[0], at[1]],
      [dead?.lastFailedAt, at[2], Date.now()],
    ]) {
      expect(failedAt).toBeGreaterThanOrEqual(handedAt);
      expect(failedAt).toBeLessThanOrEqual(next);
    }
    expect(eventsAbout(dead?.id ?? "", "dead")).toMatchObject([
      { type: "dead", destination: "default", id: dead?.id, reason: "max_attempts", attempts: 3, error: dead?.error },
    ]);
  });

  it("at once when it is rejected, with the reason that was given", async () => {
    const stub = fresh(backend);
    const reasons = ["no such customer", "", "x".repeat(500), `${"y".repeat(499)}\u{1F600}`, "z".repeat(200_000)];
    stageOf(stub).rest = (messages, delivery) => {
      for (const { id, sequence } of messages) delivery.reject(id, reasons[sequence - 1]);
    };
    await putMany(stub, 6);
    await idle(stub);
    const dead = await listed(stub, "dead");
    expect(dead.map(({ sequence, reason, attempts }) => [sequence, reason, attempts])).toEqual(numbers(6).map((n) => [n, "rejected", 1]));
    const [told, empty, full, cut, long, none] = dead.map(({ error }) => error);
    expect([told, empty, full]).toEqual(reasons.slice(0, 3));
    expect(cut).toMatch(/^y{499}/);
    expect(cut?.length).toBeLessThanOrEqual(500);
    expect(long).toMatch(/^z{490}/);
    expect(long?.length).toBeLessThanOrEqual(500);
    expect(none).toBeTypeOf("string");
  });

  it("of any size, with its key and its headers", async () => {
    const stub = fresh(backend);
    const msg = { data: "d".repeat(100_000), when: new Date(5), map: new Map([[1, 2n]]) };
    stageOf(stub).rest = ([message], delivery) => delivery.reject(message?.id ?? "", "too big for me");
    await inside(stub, (_, outbox) => outbox.send(msg, { key: "customer:1", headers: { traceparent: "00-1" } }));
    await idle(stub);
    expect(await listed(stub, "dead")).toMatchObject([{ msg, key: "customer:1", headers: { traceparent: "00-1" } }]);
    stageOf(stub).rest = () => {};
    expect(await redrive(stub)).toBe(1);
    await idle(stub);
    expect(sent(stub)[1]).toEqual(sent(stub)[0]);
  });

  it("and stands in put order, in the way of nobody, with no alarm", async () => {
    const stub = fresh(backend);
    let refused = [5, 8];
    stageOf(stub).rest = (messages, delivery) => {
      for (const { id, sequence } of messages) {
        if (refused.includes(sequence)) delivery.reject(id);
        else if (sequence === 2) delivery.retry(id, { delaySeconds: 0.05 });
      }
      refused = [2, 11];
    };
    await putMany(stub, 10);
    await eventually(() => sent(stub).length >= 11);
    await putMany(stub, 3, 11);
    await idle(stub);
    expect(await deadOf(stub)).toEqual([2, 5, 8, 11]);
    expect(await statsOf(stub)).toMatchObject({ pending: 0, delayed: 0, blocked: 0, dead: 4, nextAttemptAt: null, oldestAgeSeconds: 0 });
    expect(await inside(stub, (_, __, state) => native(state).getAlarm())).toBeNull();
  });
});

onBothBackends("redrive", (backend) => {
  it("puts all back before newer ones, as they were, with attempts from 1", async () => {
    const stub = fresh(backend);
    stageOf(stub).script.push((messages, delivery) => {
      for (const { id } of messages) delivery.reject(id);
    });
    await putMany(stub, 40);
    await idle(stub);
    const originals = sent(stub);
    await beforeAnyAlarm(stub, async (outbox) => {
      await Promise.all(numbers(20, 41).map((n) => outbox.send(n)));
      expect(await outbox.redrive()).toBe(40);
      await Promise.all(numbers(20, 61).map((n) => outbox.send(n)));
    });
    await idle(stub);
    const later = sent(stub).slice(40);
    expect(later.slice(0, 40)).toEqual(originals);
    expect(later.map(({ msg }) => msg)).toEqual(numbers(80));
    expect(later.map(({ sequence }) => sequence)).toEqual(numbers(80));
    expect(await deadOf(stub)).toEqual([]);
  });

  it("makes them pending: they wait for nothing but their turn", async () => {
    const stub = await withDead(backend, 20);
    await inside(stub, (_, outbox) => outbox.pause());
    const before = (await listed(stub, "dead")).map(({ id, sequence, timestamp }) => ({ id, sequence, timestamp }));
    await putMany(stub, 5, 21);
    expect(await redrive(stub)).toBe(20);
    expect(await statsOf(stub)).toMatchObject({ pending: 25, delayed: 0, blocked: 0, dead: 0 });
    const pending = await listed(stub, "pending");
    expect(pending.map(({ msg, attempts }) => [msg, attempts])).toEqual(numbers(25).map((n) => [n, 0]));
    expect(pending.slice(0, 20)).toMatchObject(before);
  });

  it("puts back those that are named, in their order, and counts them", async () => {
    const stub = await withDead(backend, 8);
    const ids = await idsOf(stub);
    expect(await redrive(stub, [ids[6] ?? "", "unknown", ids[1] ?? "", ids[3] ?? "", ids[1] ?? ""])).toBe(3);
    await idle(stub);
    expect(callsOf(stub).flat()).toEqual([2, 4, 7]);
    expect(await deadOf(stub)).toEqual([1, 3, 5, 6, 8]);
    expect(await redrive(stub, [])).toBe(0);
    expect(await redrive(stub)).toBe(5);
    await idle(stub);
    expect(callsOf(stub).flat()).toEqual([2, 4, 7, 1, 3, 5, 6, 8]);
  });

  it("puts a message back before the later ones of its key, also when those wait", async () => {
    const stub = fresh(backend);
    let refuses = true;
    stageOf(stub).rest = (messages, delivery) => {
      for (const { id, sequence } of messages) if (refuses && sequence <= 4) delivery.reject(id);
    };
    const put = (n: number, options: OutboxPutOptions = {}) => inside(stub, (_, outbox) => outbox.send(n, { key: "k", ...options }));
    for (let n = 1; n <= 4; n++) await put(n);
    await idle(stub);
    refuses = false;
    await put(5, { delaySeconds: 600 });
    await put(6);
    const ids = await idsOf(stub);
    expect(await redrive(stub, [ids[2] ?? "", ids[0] ?? ""])).toBe(2);
    await handedOver(stub, 6);
    expect(await redrive(stub)).toBe(2);
    await handedOver(stub, 8);
    expect(callsOf(stub).flat()).toEqual([1, 2, 3, 4, 1, 3, 2, 4]);
    await inside(stub, (_, outbox) => outbox.cancel(sent(stub)[0]?.id.replace(/1$/, "5") ?? ""));
    await idle(stub);
    expect(callsOf(stub).flat().slice(8)).toEqual([6]);
  });

  it.each([false, true])("leaves alone those of its key that stood in one row with it (during a send: %s)", async (sending) => {
    const stub = fresh(backend);
    const [rejects, held] = [gate(), gate()];
    stageOf(stub).script.push(
      ([first], delivery) => delivery.retry(first?.id ?? "", { delaySeconds: 0.05 }),
      () => {},
      async ([second], delivery) => {
        await rejects.passed();
        delivery.reject(second?.id ?? "");
      },
      held.passed,
    );
    await inside(stub, (_, outbox) => Promise.all(numbers(6).map((n) => outbox.send(n, { key: "k" }))));
    await handedOver(stub, 3);
    if (!sending) await inside(stub, (_, outbox) => outbox.pause());
    rejects.open();
    await eventually(async () => (await statsOf(stub)).dead === 1);
    if (sending) await handedOver(stub, 4);
    expect(await redrive(stub)).toBe(1);
    held.open();
    await resumed(stub);
    expect(callsOf(stub).flat()).toEqual(sending ? [1, 1, 2, 3, 2, 4, 5, 6] : [1, 1, 2, 2, 3, 4, 5, 6]);
  });

  it("a second time gives 0, also at the same time", async () => {
    const stub = await withDead(backend, 5);
    await beforeAnyAlarm(stub, async (outbox) => {
      const counts = await Promise.all([outbox.redrive(), outbox.redrive(), outbox.redrive(["unknown"])]);
      expect(counts.sort()).toEqual([0, 0, 5]);
      expect(await outbox.redrive()).toBe(0);
    });
    await idle(stub);
    expect(await redrive(stub)).toBe(0);
    expect(callsOf(stub).flat()).toEqual(numbers(5));
  });

  it("of none gives 0 and arms nothing", async () => {
    const stub = fresh(backend);
    expect(await redrive(stub)).toBe(0);
    expect(await inside(stub, (_, __, state) => native(state).getAlarm())).toBeNull();
  });

  it("gives a message all its attempts again", async () => {
    const stub = boxWith(backend, { retry: three });
    stageOf(stub).rest = ([message], delivery) => delivery.retry(message?.id ?? "");
    await putMany(stub, 1);
    await idle(stub);
    expect(await redrive(stub)).toBe(1);
    await idle(stub);
    expect(sent(stub).map(({ attempts }) => attempts)).toEqual([1, 2, 3, 1, 2, 3]);
    expect(await listed(stub, "dead")).toMatchObject([{ msg: 1, attempts: 3, reason: "max_attempts" }]);
  });

  it("during a send in flight hands each message over once", async () => {
    const stub = await withDead(backend, 30);
    const held = gate();
    stageOf(stub).script.push(held.passed);
    await putMany(stub, 5, 31);
    await handedOver(stub, 5);
    expect(await redrive(stub)).toBe(30);
    await putMany(stub, 5, 36);
    held.open();
    await idle(stub);
    expect(callsOf(stub).flat()).toEqual([...numbers(5, 31), ...numbers(30), ...numbers(5, 36)]);
  });

  it.each([129, 300])("of %i puts all back, in order", async (count) => {
    const stub = await withDead(backend, count);
    expect(await statsOf(stub)).toMatchObject({ dead: count });
    expect(await redrive(stub)).toBe(count);
    await idle(stub);
    expect(callsOf(stub).flat()).toEqual(numbers(count));
    expect(await statsOf(stub)).toMatchObject({ dead: 0 });
  });
});

onBothBackends("discard", (backend) => {
  it("deletes the dead letters that are named, and nothing else", async () => {
    const stub = await withDead(backend, 5);
    const ids = await idsOf(stub);
    const discard = (chosen: string[]) => inside(stub, (_, outbox) => outbox.discard(chosen));
    expect(await discard([])).toBe(0);
    expect(await discard([ids[3] ?? "", "unknown", ids[0] ?? "", ids[3] ?? ""])).toBe(2);
    expect(await discard([ids[3] ?? ""])).toBe(0);
    expect(await deadOf(stub)).toEqual([2, 3, 5]);
    expect(await inside(stub, (_, outbox) => outbox.pause())).toBeUndefined();
    const { id } = await inside(stub, (_, outbox) => outbox.send("waits"));
    expect(await discard([id])).toBe(0);
    await resumed(stub);
    expect(callsOf(stub)).toEqual([["waits"]]);
    expect(await redrive(stub, ids)).toBe(3);
  });

  it("of 300 leaves nothing of them", async () => {
    const stub = await withDead(backend, 300);
    const ids = await idsOf(stub);
    expect(await inside(stub, (_, outbox) => outbox.discard(ids))).toBe(300);
    expect(await statsOf(stub)).toMatchObject({ pending: 0, dead: 0 });
    expect(await inside(stub, async (_, __, state) => (await outboxRows(state)).size)).toBeLessThanOrEqual(1);
  });
});
