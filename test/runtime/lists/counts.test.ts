/** Counts: `stats()` counts what there is, whatever was cancelled, expired or damaged, and after every restart. */
import { expect, it } from "vitest";
import { boxWith, callsOf, numbers } from "../support/batches.ts";
import { again, crash, crashAfter, eventually, inside, native, onEitherBackend, outboxRows } from "../support/harness.ts";
import { crashDurably, deadOf, idle, listed, statsOf } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

const waitUntil = async (time: number): Promise<void> => {
  while (Date.now() <= time) await scheduler.wait(20);
};

onEitherBackend("counts", (backend) => {
  it("are right when the head was cancelled, and the object dies after part of the queue was delivered", async () => {
    const stub = boxWith(backend, { batchSize: 5 });
    const stage = stageOf(stub);
    stage.rest = async () => {
      if (stage.calls.length !== 2) return;
      await inside(again(stub), (_, __, state) => state.abort("a deploy")).catch(() => {});
      await new Promise(() => {});
    };
    const next = await crashAfter(stub, async (outbox, state) => {
      const [head] = await Promise.all(numbers(20).map((n) => outbox.send(n)));
      expect(await outbox.cancel(head?.id ?? "")).toBe(true);
      await state.storage.sync();
    });
    await eventually(() => new Set(callsOf(next).flat()).size === 19);
    await idle(again(stub));
    for (const object of [again(stub), await crash(again(stub))])
      expect(await statsOf(again(object))).toMatchObject({ pending: 0, delayed: 0 });
    expect([...new Set(callsOf(stub).flat())].sort((a, b) => Number(a) - Number(b))).toEqual(numbers(19, 2));
  });

  it("are right, and nothing is stuck, when a message expires while the destination is probed and the header fills", async () => {
    const stub = boxWith(backend, { batchSize: 1, retry: { minDelaySeconds: 0.2, maxDelaySeconds: 0.2, jitter: 0 } });
    const stage = stageOf(stub);
    const expiresAt = Date.now() + 2000;
    stage.rest = async () => {
      const call = stage.calls.length;
      // While the second call is under way, its message expires, and others fill the header.
      if (call === 2) await waitUntil(expiresAt + 100);
      if (call < 5) throw new Error("down");
    };
    await inside(stub, (_, outbox) =>
      Promise.all([
        outbox.send("A", { expiresInSeconds: 0.1 }),
        outbox.send("B", { expiresInSeconds: (expiresAt - Date.now()) / 1000 }),
        outbox.send("C"),
      ]),
    );
    await eventually(() => stage.calls.length === 2);
    await inside(stub, (_, outbox) => Promise.all(numbers(40).map((n) => outbox.send(n))));
    await eventually(() => callsOf(stub).flat().includes(40));
    const { dead } = await idle(stub);
    expect(dead).toBe((await deadOf(stub)).length);
    expect(await inside(stub, (_, __, state) => native(state).getAlarm())).toBeNull();
    expect(await statsOf(await crash(stub))).toMatchObject({ pending: 0, dead });
  });

  it("are right after the header was lost, and every message is still delivered once", async () => {
    const stub = boxWith(backend, {});
    const stage = stageOf(stub);
    stage.script.push((messages, delivery) => {
      for (const { id, msg } of messages) {
        if (msg === "dead") delivery.reject(id, "not wanted");
        if (msg === "retried") delivery.retry(id, { delaySeconds: 3600 });
      }
    });
    await inside(stub, (_, outbox) => Promise.all([outbox.send("dead"), outbox.send("retried", { key: "k" })]));
    await eventually(async () => (await statsOf(stub)).delayed === 1);
    const damaged = await crashDurably(stub, async (outbox) => {
      await outbox.pause();
      await Promise.all(numbers(40).map((n) => outbox.send(n)));
      await outbox.send("blocked", { key: "k" });
      await Promise.all(numbers(3).map((n) => outbox.send(`later ${n}`, { delaySeconds: 3600 })));
      await Promise.all(numbers(40, 41).map((n) => outbox.send(n)));
    });
    const header = await inside(damaged, async (_, __, state) => {
      const [key = ""] = [...(await outboxRows(state)).keys()].filter((key) => key.endsWith("/h"));
      const row = String(await native(state).get(key));
      await native(state).put(key, "not a header");
      return row.split("\n").slice(1).length;
    });
    const next = await crash(again(stub));
    const { pending, delayed, blocked, dead } = await statsOf(next);
    // The messages that stood in the header are lost with it; all others are counted.
    expect(pending + delayed + blocked + header).toBe(40 + 1 + 1 + 3 + 40);
    expect(dead).toBe(1);
    await eventually(async () => (await statsOf(next)).pending === 0);
    const numbersSent = callsOf(next)
      .flat()
      .filter((msg) => typeof msg === "number");
    expect(new Set(numbersSent).size).toBe(numbersSent.length);
    expect(await statsOf(await crash(next))).toMatchObject({ pending: 0, dead: 1 });
    // What waited in the queue behind its key has moved behind it.
    expect(await statsOf(again(stub))).toMatchObject({ pending: 0, delayed: 4, blocked: 1 });
    expect((await listed(again(stub), "delayed")).length).toBe(5);
  });
});
