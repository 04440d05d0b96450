/** `OutboxManager.deleteAll(msg)`: everything that is the object's own goes and a last message stays, in one commit. */
import { evictDurableObject } from "cloudflare:test";
import { expect, it } from "vitest";
import type { OutboxManager } from "../../../src/index.ts";
import { boxWith, callsOf, eventsOf, numbers, putMany } from "../support/batches.ts";
import { expectDelivered, FULL, full } from "../support/full.ts";
import { again, crash, fresh, handedOver, inside, native, numbered, onBothBackends, type Stub, sent } from "../support/harness.ts";
import { flush, forward, stats } from "../support/lanes.ts";
import { ageless, deadOf, eventsAbout, idle, paused, resumed } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";
import { alarmsOf, expectFired, expectNoOther, getAlarm, setIn } from "../support/worlds.ts";

/** The object's own keys, read past the outbox. */
const ownKeys = (stub: Stub): Promise<string[]> =>
  inside(stub, async (_, __, state) => [...(await native(state).list({ end: "\u{10FFFF}" })).keys()]);

/** Asserts that a call is refused with this, and that it has deleted nothing and stored nothing. */
async function expectRefused(stub: Stub, call: (outbox: OutboxManager) => Promise<unknown>, error: object): Promise<void> {
  const at = await setIn(stub, 60_000);
  await inside(stub, async (_, outbox, { storage }) => {
    await storage.put({ a: 1, b: 2 });
    const before = [ageless(await outbox.stats()), await outbox.list()];
    await expect(call(outbox)).rejects.toMatchObject(error);
    expect(await storage.get(["a", "b"])).toEqual(new Map(Object.entries({ a: 1, b: 2 })));
    const after = [ageless(await outbox.stats()), await outbox.list()];
    expect(after).toEqual(before);
  });
  expect(await getAlarm(stub)).toBe(at);
}

onBothBackends("deleteAll with a last message", (backend) => {
  it("deletes all own state and alarm, gives a receipt, and delivers the message", async () => {
    const stub = fresh(backend);
    await setIn(stub, 600_000);
    const receipt = await inside(stub, async (_, outbox, { storage }) => {
      await storage.put(numbered(500));
      const given = await outbox.deleteAll({ type: "closed" }, { headers: { trace: "x" } });
      expect((await storage.list()).size).toBe(0);
      expect(await storage.getAlarm()).toBeNull();
      return given;
    });
    expect(receipt).toEqual({ id: expect.any(String), sequence: 1 });
    await idle(stub);
    expect(sent(stub)).toMatchObject([{ ...receipt, msg: { type: "closed" }, headers: { trace: "x" }, attempts: 1 }]);
    expect(await ownKeys(stub)).toEqual([]);
    await expectFired(stub, 1, await setIn(stub, 400));
    await expectNoOther(stub, 1);
    expect(eventsAbout(receipt.id, "stored")).toHaveLength(1);
    expect(eventsOf(stub, "delivered")).toHaveLength(1);
  });

  it("keeps what stands, and delivers the last message behind it", async () => {
    const stub = await full(backend);
    await inside(stub, (_, outbox) => outbox.deleteAll("the last"));
    expect(await ownKeys(stub)).toEqual([]);
    await stats(stub, { ...FULL, pending: 41 });
    await expectDelivered(stub, ["the last"]);
  });

  it("stores the message as it is at the call", async () => {
    const stub = await paused(backend);
    await inside(stub, async (_, outbox) => {
      const msg = { text: "at the call" };
      const deleted = outbox.deleteAll(msg);
      msg.text = "after it";
      await deleted;
    });
    await resumed(stub);
    expect(callsOf(stub)).toEqual([[{ text: "at the call" }]]);
  });

  it("goes on numbering, and what follows is the next message", async () => {
    const stub = fresh(backend);
    const receipts = await inside(stub, (_, outbox) =>
      Promise.all([outbox.put("a", 1, "first"), outbox.deleteAll("second"), outbox.put("b", 1, "third")]),
    );
    expect(receipts.map(({ sequence }) => sequence)).toEqual([1, 2, 3]);
    await idle(stub);
    await evictDurableObject(stub);
    await inside(again(stub), (_, outbox) => outbox.send("fourth"));
    await idle(again(stub));
    expect(sent(stub).map(({ msg, sequence }) => [msg, sequence])).toEqual([
      ["first", 1],
      ["second", 2],
      ["third", 3],
      ["fourth", 4],
    ]);
    expect(new Set(sent(stub).map(({ source }) => source)).size).toBe(1);
    expect(await ownKeys(again(stub))).toEqual(["b"]);
  });

  it.each(["without an id", "with an id"])("leaves what the same turn writes after it, %s", async (kind) => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox, { storage }) => {
      await storage.put(numbered(300));
      const deleted = outbox.deleteAll("last", kind === "with an id" ? { id: "mine" } : {});
      storage.put("a", 1);
      outbox.put("b", 2, "after");
      await deleted;
    });
    expect(await ownKeys(stub)).toEqual(["a", "b"]);
    await idle(stub);
    expect(callsOf(stub).flat()).toEqual(["last", "after"]);
  });

  it("twice is two messages, and with one id it is one message and two deletions", async () => {
    const stub = await paused(backend);
    await inside(stub, async (_, outbox, { storage }) => {
      expect(await Promise.all([outbox.deleteAll("one"), outbox.deleteAll("two")])).toMatchObject([{ sequence: 1 }, { sequence: 2 }]);
      expect(await outbox.deleteAll("three", { id: "mine" })).toEqual({ id: "mine", sequence: 3 });
      await storage.put(numbered(200));
      expect(await outbox.deleteAll("not stored", { id: "mine" })).toEqual({ id: "mine", sequence: 3, deduplicated: true });
      expect((await storage.list()).size).toBe(0);
    });
    await resumed(stub);
    expect(callsOf(stub).flat()).toEqual(["one", "two", "three"]);
    // The id is remembered for five minutes: what the object keeps of its messages is not deleted.
    const repeated = await inside(stub, (_, outbox) => outbox.deleteAll("four", { id: "mine" }));
    expect(repeated).toEqual({ id: "mine", sequence: 3, deduplicated: true });
    forward(301);
    expect(await inside(stub, (_, outbox) => outbox.deleteAll("five", { id: "mine" }))).toEqual({ id: "mine", sequence: 4 });
    await flush(stub);
    await idle(stub);
    expect(callsOf(stub).flat()).toEqual(["one", "two", "three", "five"]);
  });

  it("takes delays, ordering keys and expiry as put does", async () => {
    const stub = await paused(backend);
    await inside(stub, async (_, outbox, { storage }) => {
      await storage.put("a", 1);
      await outbox.deleteAll("later", { delaySeconds: 600, key: "k", expiresInSeconds: 1000 });
    });
    await stats(stub, { delayed: 1 });
    expect(await ownKeys(stub)).toEqual([]);
  });

  it("is a dead letter where the destination rejects it", async () => {
    const stub = fresh(backend);
    stageOf(stub).rest = (messages, delivery) => {
      for (const { id } of messages) delivery.reject(id, "no");
    };
    await inside(stub, (_, outbox) => outbox.deleteAll("last"));
    await idle(stub);
    expect(await deadOf(stub)).toEqual(["last"]);
    await inside(stub, (_, __, { storage }) => storage.deleteAll());
    expect(await deadOf(stub)).toEqual(["last"]);
  });

  it("wakes the object where the caller does not wait for it, and in the next life", async () => {
    const stub = fresh(backend);
    await inside(stub, (_, outbox, { storage }) => {
      storage.put("a", 1);
      outbox.deleteAll("last");
    });
    await handedOver(stub, 1);
    const next = fresh(backend);
    await inside(next, async (_, outbox, { storage }) => {
      await outbox.deleteAll("last");
      await storage.sync();
    });
    await evictDurableObject(next);
    await handedOver(next, 1);
    await idle(again(next));
    expect([callsOf(stub), callsOf(next)]).toEqual([[["last"]], [["last"]]]);
  });

  it("is delivered at once with dispatch immediate", async () => {
    const stub = boxWith(backend, { dispatch: "immediate" });
    await setIn(stub, 60_000);
    await inside(stub, (_, outbox) => outbox.deleteAll("last"));
    await idle(stub);
    expect(callsOf(stub)).toEqual([["last"]]);
    expect(await getAlarm(stub)).toBeNull();
    expect(alarmsOf(stub)).toEqual([]);
  });
});

onBothBackends("deleteAll that is refused", (backend) => {
  const WRONG: [string, (outbox: OutboxManager) => Promise<unknown>, object][] = [
    ["undefined", (outbox) => outbox.deleteAll(undefined), { name: "TypeError", message: /`msg`/ }],
    ["what can't be cloned", (outbox) => outbox.deleteAll(() => {}), { name: "TypeError", message: /`msg`/ }],
    ["more than fits", (outbox) => outbox.deleteAll("x".repeat(3_000_000)), { code: "too_large" }],
    ["an option that is wrong", (outbox) => outbox.deleteAll("last", { delaySeconds: -1 }), { name: "TypeError", message: /delaySeconds/ }],
    ["an id that is wrong", (outbox) => outbox.deleteAll("last", { id: "" }), { name: "TypeError", message: /options\.id/ }],
  ];

  it.each(WRONG)("for %s deletes nothing", async (_, call, error) => {
    await expectRefused(fresh(backend), call, error);
    const stub = await paused(backend);
    await putMany(stub, 20);
    await expectRefused(stub, call, error);
    await resumed(stub);
    expect(callsOf(stub).flat()).toEqual(numbers(20));
  });

  it.each([{}, { id: "mine" }])("because the outbox is full deletes nothing, with the options %j", async (chosen) => {
    const stub = await paused(backend, { maxPending: 3 });
    await putMany(stub, 3);
    await expectRefused(stub, (outbox) => outbox.deleteAll("last", chosen), { code: "outbox_full" });
    await resumed(stub);
    await inside(stub, (_, outbox) => outbox.deleteAll("last", chosen));
    await idle(stub);
    expect(callsOf(stub).flat()).toEqual([...numbers(3), "last"]);
  });

  it("in a transaction deletes nothing and stores nothing", async () => {
    const stub = fresh(backend);
    const call = (outbox: OutboxManager) => outbox.transaction(() => outbox.deleteAll("last"));
    await expectRefused(stub, call, { code: "unsupported" });
    await inside(stub, (_, outbox) => outbox.transaction((txn) => txn.send("kept").then(() => outbox.deleteAll("last").catch(() => {}))));
    await idle(stub);
    expect(callsOf(stub)).toEqual([["kept"]]);
  });

  it("leaves no trace for what comes next", async () => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox, { storage }) => {
      const refused = outbox.deleteAll(undefined);
      const put = outbox.put("a", 1, "next");
      await expect(refused).rejects.toThrow(TypeError);
      expect(await put).toMatchObject({ sequence: 1 });
      await storage.put("b", 2);
    });
    const next = await crash(stub);
    await idle(next);
    expect(callsOf(next)).toEqual([["next"]]);
    expect(await ownKeys(next)).toEqual(["a", "b"]);
  });
});
