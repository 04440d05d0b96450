/** How long the oldest message has waited: since it could first be delivered, and not a moment longer than any that is still there. */
import { expect, it } from "vitest";
import type { OutboxStats } from "../../../src/index.ts";
import { boxWith, numbers } from "../support/batches.ts";
import { by, crash, eventually, inside, onEitherBackend, type Stub, sent, unhurried } from "../support/harness.ts";
import { crashDurably, listed, paused, resumed, statsOf } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

/** Asserts that the oldest message has waited since a time, to the millisecond. */
async function isOldSince(stub: Stub, since: number): Promise<OutboxStats> {
  return inside(stub, async (_, outbox) => {
    const before = Date.now();
    const stats = await outbox.stats();
    expect(stats.oldestAgeSeconds * 1000).toBeGreaterThanOrEqual(before - since - 0.01);
    expect(stats.oldestAgeSeconds * 1000).toBeLessThanOrEqual(Date.now() - since + 0.01);
    return stats;
  });
}

const timestampOf = async (stub: Stub, state: "pending" | "delayed", msg: unknown): Promise<number> =>
  (await listed(stub, state)).find((message) => message.msg === msg)?.timestamp ?? expect.fail(`${msg} is not ${state}`);

/** A destination that puts off what begins with "later" by ten minutes, and what begins with "once" by a moment, once. */
function puttingOff(stub: Stub, momentMs = 200): void {
  const seen = new Set<unknown>();
  stageOf(stub).rest = (messages, delivery) => {
    for (const { id, msg } of messages) {
      if (String(msg).startsWith("later")) delivery.retry(id, { delaySeconds: 600 });
      else if (!seen.has(msg) && String(msg).startsWith("once")) delivery.retry(id, { delaySeconds: momentMs / 1000 });
      seen.add(msg);
    }
  };
}

onEitherBackend("the oldest message", (backend) => {
  it("is none while all that waits is scheduled, in the queue and set aside", async () => {
    const stub = boxWith(backend, {});
    await inside(stub, async (_, outbox) => {
      await outbox.send("aside", { delaySeconds: 600 });
      await outbox.send("of a key", { delaySeconds: 600, key: "a" });
      await outbox.send("now");
    });
    await eventually(() => sent(stub).length === 1);
    await eventually(async () => (await statsOf(stub)).pending === 0);
    await inside(stub, (_, outbox) => outbox.send("in the queue", { delaySeconds: 600 }));
    expect(await statsOf(stub)).toMatchObject({ pending: 0, delayed: 3, scheduled: 3, blocked: 0, oldestAgeSeconds: 0 });
    const next = await crash(stub);
    expect(await statsOf(next)).toMatchObject({ pending: 0, delayed: 3, scheduled: 3, blocked: 0, oldestAgeSeconds: 0 });
  });

  it("is the next one when the oldest has left what is set aside, also in another life of the object", () =>
    unhurried(500, async (ms) => {
      let stub = boxWith(backend, {});
      puttingOff(stub, ms);
      await by(Date.now() + ms, async () => {
        await inside(stub, (_, outbox) => outbox.send("once"));
        await eventually(async () => (await statsOf(stub)).delayed === 1);
        await isOldSince(stub, await timestampOf(stub, "delayed", "once"));
      });
      stub = await crash(stub);
      await inside(stub, (_, outbox) => outbox.send("later"));
      // Never less than one is set aside, and the first of them leaves.
      await eventually(
        async () => (await statsOf(stub)).delayed === 2 || (await listed(stub, "delayed")).every(({ msg }) => msg === "later"),
      );
      await eventually(async () => (await listed(stub, "delayed")).length === 1 && (await statsOf(stub)).pending === 0);
      const since = await timestampOf(stub, "delayed", "later");
      expect(await isOldSince(stub, since)).toMatchObject({ delayed: 1, scheduled: 0 });
      await isOldSince(await crash(stub), since);
    }));

  it("counts from its own time where it was put with one, also when it has failed since", async () => {
    const stub = boxWith(backend, {});
    puttingOff(stub);
    const deliverAt = await inside(stub, async (_, outbox) => {
      const at = Date.now() + 300;
      await outbox.send("later", { deliverAt: at });
      return at;
    });
    await eventually(() => sent(stub).length === 1);
    await eventually(async () => (await statsOf(stub)).scheduled === 0);
    expect(await isOldSince(stub, deliverAt)).toMatchObject({ delayed: 1, scheduled: 0 });
    await isOldSince(await crash(stub), deliverAt);
  });

  it("may wait behind one of its key that is scheduled", async () => {
    const stub = boxWith(backend, {});
    await inside(stub, async (_, outbox) => {
      await outbox.send("scheduled", { delaySeconds: 600, key: "a" });
      await outbox.send("behind", { key: "a" });
      await outbox.send("now");
    });
    await eventually(() => sent(stub).length === 1);
    await eventually(async () => (await statsOf(stub)).blocked === 1);
    expect(await isOldSince(stub, await timestampOf(stub, "delayed", "behind"))).toMatchObject({ delayed: 1, scheduled: 1, blocked: 1 });
  });

  it("is the first of the queue that is not scheduled", async () => {
    const stub = await paused(backend);
    await inside(stub, async (_, outbox) => {
      await Promise.all(numbers(100).map((n) => outbox.send(n, { delaySeconds: 600 })));
    });
    expect(await statsOf(stub)).toMatchObject({ pending: 0, delayed: 100, scheduled: 100, oldestAgeSeconds: 0 });
    const next = await crashDurably(stub, (outbox) => outbox.send("first"));
    await inside(next, (_, outbox) => outbox.send("second"));
    expect(await isOldSince(next, await timestampOf(next, "pending", "first"))).toMatchObject({ pending: 2, scheduled: 100 });
  });

  it("leaves nothing behind in the counts when all that was scheduled is cancelled or delivered", async () => {
    const stub = boxWith(backend, {});
    const ids = await inside(stub, async (_, outbox) => {
      const ids: string[] = [];
      for (const n of numbers(6)) ids.push((await outbox.send(n, { delaySeconds: n % 2 ? 600 : 0.2, ...(n > 3 && { key: "a" }) })).id);
      await outbox.send("now");
      return ids;
    });
    await eventually(() => sent(stub).length >= 1);
    await inside(stub, async (_, outbox) => {
      for (const id of ids) await outbox.cancel(id);
    });
    const stats = await resumed(stub);
    expect(stats).toMatchObject({ pending: 0, delayed: 0, scheduled: 0, blocked: 0, oldestAgeSeconds: 0 });
  });
});
