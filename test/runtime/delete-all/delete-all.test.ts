/** `storage.deleteAll()` by the object's own code: all that is its own goes, its alarm too, and every message stays. */
import { evictDurableObject } from "cloudflare:test";
import { expect, it } from "vitest";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { boxWith, callsOf, numbers, putMany } from "../support/batches.ts";
import { expectDelivered, FULL, full, standing } from "../support/full.ts";
import {
  again,
  type Backend,
  expectUntouched,
  fresh,
  gate,
  handedOver,
  inside,
  native,
  numbered,
  onBothBackends,
  outboxRows,
  redeclared,
  type Stub,
} from "../support/harness.ts";
import { stats } from "../support/lanes.ts";
import { idle, patient, paused, resumed, statsOf } from "../support/standing.ts";
import { Box, options, stageOf } from "../support/worker.ts";
import { alarmsOf, expectFired, expectNoOther, getAlarm, setIn } from "../support/worlds.ts";

const deleteAll = (stub: Stub): Promise<void> => inside(stub, (_, __, { storage }) => storage.deleteAll());

/** The object's own rows, read past the outbox. */
const ownRows = (stub: Stub): Promise<Record<string, unknown>> =>
  inside(stub, async (_, __, state) => Object.fromEntries(await native(state).list({ end: "\u{10FFFF}" })));

/** An object with this many messages that wait, none of which has been handed over. */
async function backlog(backend: Backend, count: number): Promise<Stub> {
  const stub = await paused(backend);
  await putMany(stub, count);
  return stub;
}

onBothBackends("deleteAll", (backend) => {
  it("deletes the object's own data and alarm, and keeps pending, delayed, blocked and dead messages", async () => {
    const stub = await full(backend);
    await inside(stub, (_, __, { storage }) => storage.put({ mine: 1 }));
    await setIn(stub, 50_000);
    const before = await standing(stub);
    await inside(stub, async (_, __, { storage }) => {
      await storage.deleteAll();
      expect((await storage.list()).size).toBe(0);
      expect(await storage.get("key:1")).toBeUndefined();
      expect(await storage.getAlarm()).toBeNull();
    });
    expect(await ownRows(stub)).toEqual({});
    expect(await standing(stub)).toEqual(before);
    expect(await statsOf(stub)).toMatchObject(FULL);
    await expectDelivered(stub);
    expect(await ownRows(again(stub))).toEqual({});
  });

  it("keeps 10,000 messages, and all are delivered in order", async () => {
    const stub = await paused(backend, { batchSize: 1000 });
    await inside(stub, (_, outbox) => Promise.all(numbers(10_000).map((n) => outbox.put(`key:${n}`, n, n))));
    await deleteAll(stub);
    expect(await ownRows(stub)).toEqual({});
    await evictDurableObject(stub);
    await resumed(again(stub));
    expect(callsOf(stub).flat()).toEqual(numbers(10_000));
  });

  it("deletes thousands of own keys, and says so to every read of the same turn", async () => {
    const stub = await backlog(backend, 1);
    await inside(stub, async (_, __, { storage }) => {
      for (let n = 0; n < 5; n++) await storage.put(Object.fromEntries(numbers(1000).map((m) => [`${n}:${m}:\u{10FFFE}`, "x".repeat(50)])));
    });
    await inside(stub, async (_, __, { storage }) => {
      const deleted = storage.deleteAll();
      const [list, get, alarm] = await Promise.all([
        storage.list({ limit: 3 }),
        storage.get(["0:1:\u{10FFFE}", "key:1"]),
        storage.getAlarm(),
      ]);
      expect([list.size, get.size, alarm]).toEqual([0, 0, null]);
      await deleted;
    });
    expect(await ownRows(stub)).toEqual({});
    await resumed(stub);
    expect(callsOf(stub).flat()).toEqual([1]);
  });

  it.each([1, 0])("leaves what the same turn writes after it, awaited or not, with %i messages pending", async (count) => {
    const stub = await (count ? backlog(backend, count) : fresh(backend));
    const time = await inside(stub, async (_, outbox, { storage }) => {
      await storage.put(numbered(200));
      const at = Date.now() + 60_000;
      storage.put("before", 1);
      const deleted = storage.deleteAll();
      storage.put("a", 1);
      storage.put({ b: 2, "key:0001": "again" });
      storage.delete("b");
      storage.setAlarm(at);
      outbox.put("c", 3, "after");
      await deleted;
      await storage.put("d", 4);
      return at;
    });
    expect(await ownRows(stub)).toEqual({ a: 1, "key:0001": "again", c: 3, d: 4 });
    expect(await getAlarm(stub)).toBe(time);
    await resumed(stub);
    expect(callsOf(stub).flat()).toEqual([...numbers(count), "after"]);
    expect(await getAlarm(stub)).toBe(time);
  });

  it("takes what the same turn has written before it, a message with an id of its own included", async () => {
    const stub = await paused(backend);
    await inside(stub, async (_, outbox, { storage }) => {
      storage.put("a", 1);
      outbox.put("b", 2, "plain");
      outbox.put("c", 3, "with an id", { id: "mine" });
      await storage.deleteAll();
    });
    await stats(stub, { pending: 2 });
    expect(await ownRows(stub)).toEqual({});
    await resumed(stub);
    expect(callsOf(stub).flat()).toEqual(["plain", "with an id"]);
  });

  it("can be called twice in one turn, and again at any time", async () => {
    const stub = await backlog(backend, 20);
    await inside(stub, async (_, __, { storage }) => {
      await Promise.all([storage.deleteAll(), storage.put("between", 1), storage.deleteAll()]);
      expect((await storage.list()).size).toBe(0);
      await storage.put("next", 1);
      await storage.deleteAll();
    });
    expect(await ownRows(stub)).toEqual({});
    await resumed(stub);
    expect(callsOf(stub).flat()).toEqual(numbers(20));
  });

  it.each(["with messages pending", "with none"])("deletes the own alarm for good, %s: its handler is never called", async (world) => {
    const stub = boxWith(backend, { retry: patient });
    if (world !== "with none") {
      stageOf(stub).rest = () => Promise.reject(new Error("down"));
      await inside(stub, (_, outbox) => outbox.send("waits"));
      await handedOver(stub, 1);
    }
    await setIn(stub, 600_000);
    await deleteAll(stub);
    expect(await getAlarm(stub)).toBeNull();
    // One that is set later, and comes later, is the only one.
    await expectFired(stub, 1, await setIn(stub, 400));
    await expectNoOther(stub, 1);
  });

  it.each([5, 0])("is refused in a transaction, and has deleted nothing, with %i messages pending", async (count) => {
    const stub = await (count ? backlog(backend, count) : fresh(backend));
    await inside(stub, async (_, __, { storage }) => {
      await storage.put("a", 1);
      const at = Date.now() + 60_000;
      await storage.setAlarm(at);
      const deleting = storage.transaction(async (txn) => {
        await txn.put("b", 2);
        await storage.deleteAll();
      });
      await expect(deleting).rejects.toMatchObject(count ? { name: "OutboxError", code: "unsupported" } : { message: /transaction/ });
      await storage.transaction(async (txn) => {
        await txn.put("c", 3);
        await storage.deleteAll().catch(() => {});
      });
      expect(await storage.getAlarm()).toBe(at);
      expect(await storage.get(["a", "b", "c"])).toEqual(new Map(Object.entries({ a: 1, c: 3 })));
    });
    await stats(stub, { pending: count });
    await resumed(stub);
    expect(callsOf(stub).flat()).toEqual(numbers(count));
  });

  it("leaves no row at all when no message stands, and so does the next start", async () => {
    const stub = fresh(backend);
    await inside(stub, (_, outbox) => outbox.put("a", 1, "delivered"));
    await idle(stub);
    await setIn(stub, 50_000);
    await deleteAll(stub);
    await inside(stub, (_, __, state) => expectUntouched(state));
    await evictDurableObject(stub);
    await inside(again(stub), (_, __, state) => expectUntouched(state));
  });

  it("leaves no row but the marker once what stood then has been delivered", async () => {
    const stub = await backlog(backend, 40);
    await deleteAll(stub);
    await resumed(stub);
    expect(await inside(stub, async (_, __, state) => (await native(state).list()).size)).toBe(1);
    await deleteAll(stub);
    await inside(stub, (_, __, state) => expectUntouched(state));
  });

  it("leaves a paused outbox paused, also an empty one and also in its next life", async () => {
    const stub = await paused(backend);
    await deleteAll(stub);
    await evictDurableObject(stub);
    await inside(again(stub), (_, outbox) => outbox.send("held back"));
    await stats(again(stub), { paused: true, pending: 1 });
    await resumed(again(stub));
    expect(callsOf(stub)).toEqual([["held back"]]);
  });

  it("during a send in flight takes nothing from it, and what it handed over is not sent again", async () => {
    const stub = fresh(backend);
    const { open, passed } = gate();
    stageOf(stub).script.push(passed);
    await inside(stub, (_, outbox, state) =>
      state.blockConcurrencyWhile(() => Promise.all(numbers(20).map((n) => outbox.put(`key:${n}`, n, n)))),
    );
    await handedOver(stub, 20);
    await putMany(stub, 20, 21);
    await deleteAll(stub);
    await inside(stub, (_, outbox) => outbox.put("after", 1, 41));
    open();
    await idle(stub);
    expect(callsOf(stub).flat()).toEqual(numbers(41));
    expect(await ownRows(stub)).toEqual({ after: 1 });
  });

  it("in the constructor keeps what an earlier life has left to deliver", async () => {
    const stub = await backlog(backend, 20);
    await setIn(stub, 50_000);
    await evictDurableObject(stub);

    const next = redeclared(
      stub,
      withTransactionalOutbox(
        class extends Box {
          constructor(...args: ConstructorParameters<typeof Box>) {
            super(...args);
            this.ctx.blockConcurrencyWhile(async () => {
              await this.ctx.storage.deleteAll();
              await this.ctx.storage.put("begun", 1);
            });
          }
        },
        options,
      ),
    );
    expect(await ownRows(next)).toEqual({ begun: 1 });
    expect(await getAlarm(next)).toBeNull();
    await resumed(next);
    expect(callsOf(stub).flat()).toEqual(numbers(20));
    expect(alarmsOf(stub)).toEqual([]);
  });

  it("after a header that could not be read is followed by messages that the next life knows", async () => {
    const stub = await backlog(backend, 20);
    await inside(stub, async (_, __, state) => {
      const header = [...(await outboxRows(state)).keys()].find((key) => key.endsWith("/h")) ?? "";
      await native(state).put(header, "no header");
    });
    await evictDurableObject(stub);
    await idle(again(stub));
    await deleteAll(again(stub));
    await inside(again(stub), async (_, outbox) => {
      await outbox.pause();
      await outbox.send("after");
    });
    await evictDurableObject(stub);
    await resumed(again(stub));
    expect(callsOf(stub).flat().at(-1)).toBe("after");
  });
});
