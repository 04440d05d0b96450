/** Ids after their message has left: remembered for a while, at no row of their own; and ids whose message is just being sent. */
import { evictDurableObject } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import type { OutboxManager, OutboxOptions, OutboxPutOptions, OutboxReceipt } from "../../../src/index.ts";
import { boxWith, callsOf, numbers } from "../support/batches.ts";
import {
  again,
  crash,
  eventually,
  fresh,
  gate,
  handedOver,
  inside,
  onEitherBackend,
  outboxRows,
  type Stub,
  sent,
} from "../support/harness.ts";
import { flush, forward, ledgered } from "../support/lanes.ts";
import { crashDurably, deadOf, idle, listed, patient, statsOf, waiting } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

const send = (stub: Stub, msg: unknown, options?: OutboxPutOptions): Promise<OutboxReceipt> =>
  inside(stub, (_, outbox) => outbox.send(msg, options));

/** Runs in an object in which no alarm fires by itself: deliveries are those that the test asks for. */
const still = <R>(stub: Stub, body: (outbox: OutboxManager) => Promise<R>): Promise<R> =>
  inside(stub, (_, outbox, state) => state.blockConcurrencyWhile(() => body(outbox)));

const rowsIn = (stub: Stub): Promise<number> => inside(stub, async (_, __, state) => (await outboxRows(state)).size);

onEitherBackend("the id of a message that was delivered", (backend) => {
  describe.each([
    ["five minutes by default", {}, 300],
    ["as long as idempotencySeconds says", { idempotencySeconds: 60 }, 60],
    ["for a week at most", { idempotencySeconds: 604_800 }, 604_800],
  ] as [string, OutboxOptions<"OUTBOX_MANAGER">, number][])("is remembered for %s", (_, chosen, seconds) => {
    it("in this life and the next, and names a new message afterwards", async () => {
      const stub = boxWith(backend, chosen);
      const first = await send(stub, 1, { id: "order" });
      await idle(stub);
      expect(await send(stub, 2, { id: "order" })).toEqual({ ...first, deduplicated: true });
      forward(seconds - 10);
      expect(await send(stub, 3, { id: "order" })).toEqual({ ...first, deduplicated: true });
      await evictDurableObject(stub);
      expect(await send(again(stub), 4, { id: "order" })).toEqual({ ...first, deduplicated: true });
      forward(10);
      expect(await send(again(stub), 5, { id: "order" })).toEqual({ id: "order", sequence: 2 });
      expect(await send(again(stub), 6, { id: "order" })).toEqual({ id: "order", sequence: 2, deduplicated: true });
      await flush(again(stub));
      await idle(again(stub));
      expect(callsOf(stub)).toEqual([[1], [5]]);
      expect(await send(again(stub), 7, { id: "order" })).toEqual({ id: "order", sequence: 2, deduplicated: true });
    });
  });

  it("is forgotten at once with idempotencySeconds 0, and only the marker is left", async () => {
    const stub = boxWith(backend, { idempotencySeconds: 0 });
    for (const n of numbers(3)) {
      expect(await send(stub, n, { id: "order" })).toEqual({ id: "order", sequence: n });
      await idle(stub);
      expect(await rowsIn(stub)).toBe(1);
    }
  });

  it("is known to every form of a write", async () => {
    const stub = fresh(backend);
    await send(stub, 1, { id: "order" });
    await idle(stub);
    const known = { id: "order", sequence: 1, deduplicated: true };
    await inside(stub, async (_, outbox, { storage }) => {
      await storage.put("held", 1);
      const options = { id: "order" };
      expect(await outbox.put("key", 1, 2, options)).toEqual(known);
      expect(await outbox.put(Object.fromEntries(numbers(200).map((n) => [`${n}`, n])), 2, options)).toEqual(known);
      expect(await outbox.delete("held", 2, options)).toBe(true);
      expect(await outbox.transaction((txn) => txn.send(2, options))).toEqual(known);
      if (backend.name === "sqlite") expect(outbox.transactionSync((txn) => txn.send(2, options))).toEqual(known);
      expect(await outbox.deleteAll(2, options)).toEqual(known);
      expect((await storage.list()).size).toBe(0);
    });
    await idle(stub);
    expect(callsOf(stub)).toEqual([[1]]);
  });

  it("is remembered after a new epoch began, and as it was in a transaction that rolls back", async () => {
    const stub = fresh(backend);
    await send(stub, 1, { id: "order" });
    await idle(stub);
    forward(301);
    await inside(stub, async (_, outbox) => {
      const failing = outbox.transaction(async (txn) => {
        expect(await txn.send("lost", { id: "order" })).toEqual({ id: "order", sequence: 2 });
        throw new Error("the test wants it");
      });
      await expect(failing).rejects.toThrow("the test wants it");
      expect(await outbox.send(2, { id: "order" })).toEqual({ id: "order", sequence: 2 });
    });
    await flush(stub);
    await idle(stub);
    await inside(stub, (_, outbox) => outbox.newEpoch());
    expect(await send(stub, 3, { id: "order" })).toEqual({ id: "order", sequence: 2, deduplicated: true });
    expect(await send(stub, 4, { id: "another" })).toEqual({ id: "another", sequence: 1 });
    await flush(stub);
    await idle(stub);
    expect(callsOf(stub).flat()).toEqual([1, 2, 4]);
  });

  it("is remembered for many at a time, none of which is known a moment too long, whether or not its row has been deleted", async () => {
    const stub = ledgered(backend, { retry: patient });
    const all = (life: Stub) =>
      still(life, async (outbox) => {
        const receipts = await Promise.all(numbers(500).map((n) => outbox.send(n, { id: `order:${n}` })));
        await outbox.flush();
        return receipts;
      });
    const first = await all(stub);
    await evictDurableObject(stub);
    expect(await all(again(stub))).toEqual(first.map((receipt) => ({ ...receipt, deduplicated: true })));
    forward(301);
    expect(await all(again(stub))).toEqual(first.map(({ id, sequence }) => ({ id, sequence: sequence + 500 })));
    expect(sent(stub)).toHaveLength(1000);
    expect(await all(again(stub))).toEqual(first.map(({ id, sequence }) => ({ id, sequence: sequence + 500, deduplicated: true })));
  });

  it("is forgotten in its time as well where it came out of its turn", async () => {
    const stub = ledgered(backend, { retry: patient });
    const late = ["order:1", "order:7", "order:20"];
    // The first call takes all but three of them and fails, the third one sets one of these aside: each time others have gone before.
    stageOf(stub).script.push(
      (messages, delivery) => {
        for (const { id } of messages) if (!late.includes(id)) delivery.ack(id);
        throw new Error("the test wants it");
      },
      ([first], delivery) => delivery.retry(first?.id ?? "", { delaySeconds: 0 }),
    );
    await still(stub, async (outbox) => {
      await Promise.all(numbers(40).map((n) => outbox.send(n, { id: `order:${n}` })));
      while (waiting(await outbox.stats()) > 0) await outbox.flush();
      // These make room for no more of them in the header.
      await Promise.all(numbers(40).map((n) => outbox.send(n, { id: `other:${n}` })));
      await outbox.flush();
      for (const id of late) expect(await outbox.send("again", { id })).toMatchObject({ id, deduplicated: true });
    });
    await evictDurableObject(stub);
    forward(301);
    const receipts = await inside(again(stub), (_, outbox) => Promise.all(late.map((id) => outbox.send("new", { id }))));
    expect(receipts).toEqual(late.map((id, n) => ({ id, sequence: 81 + n })));
  });

  it("costs no row but that of the put and its deletion, and a few for each sixty-four of many", async () => {
    const stub = ledgered(backend, { retry: patient });
    const cost = (step: (outbox: OutboxManager) => Promise<unknown>) =>
      inside(stub, ({ ledger }, outbox, state) =>
        state.blockConcurrencyWhile(async () => {
          const { rows, alarms } = ledger;
          await step(outbox);
          await outbox.flush();
          return [ledger.rows - rows, ledger.alarms - alarms];
        }),
      );
    expect(await cost((outbox) => outbox.send(1))).toEqual([2, 1]);
    // The put and the delivery, and the id's own row.
    expect(await cost((outbox) => outbox.send(1, { id: "a" }))).toEqual([2 + 1, 1]);
    expect(await cost((outbox) => outbox.send(1, { id: "b" }))).toEqual([2 + 1, 1]);
    forward(301);
    // Those two are deleted with the next delivery.
    expect(await cost((outbox) => outbox.send(1, { id: "c" }))).toEqual([2 + 1 + 2, 1]);
    const [plain] = await cost((outbox) => Promise.all(numbers(1000).map((n) => outbox.send(n))));
    const many = numbers(1000).map((n) => `order:${n}`);
    const [named] = await cost((outbox) => Promise.all(many.map((id) => outbox.send(1, { id }))));
    expect((named ?? 0) - (plain ?? 0) - many.length).toBeLessThan(40);
    forward(301);
    const before = await rowsIn(stub);
    expect(before).toBeGreaterThan(1000);
    // In steps: with each delivery at most so many more than it brings.
    const steps: number[] = [];
    for (let rows = before; rows > 3 && steps.length < 100; ) {
      await cost((outbox) => outbox.send(1));
      const left = await rowsIn(stub);
      steps.push(rows - left);
      rows = left;
    }
    expect(Math.max(...steps)).toBeLessThanOrEqual(2 * 65 + 32);
    expect(steps.length).toBeLessThan(30);
    expect(await rowsIn(stub)).toBeLessThanOrEqual(2);
    expect(await cost((outbox) => outbox.send(1))).toEqual([2, 1]);
  });

  it("sets no alarm to be forgotten, and goes with deleteAll()", async () => {
    const stub = fresh(backend);
    await Promise.all(numbers(40).map((n) => send(stub, n, { id: `order:${n}` })));
    await idle(stub);
    expect((await statsOf(stub)).nextAttemptAt).toBeNull();
    await inside(stub, async (_, __, { storage }) => {
      expect(await storage.getAlarm()).toBeNull();
      await storage.deleteAll();
    });
    expect(await rowsIn(stub)).toBe(0);
    expect(await send(stub, "new", { id: "order:1" })).toMatchObject({ id: "order:1", sequence: 1 });
    await idle(stub);
  });
});

onEitherBackend("the same id put while its message is in the hands of sendMessages", (backend) => {
  /** An object that is sending "first" under the id "order", and what ends that call. */
  async function sending(end: (id: string, delivery: never) => unknown = () => {}): Promise<{ stub: Stub; open: () => void }> {
    const stub = boxWith(backend, { timeoutSeconds: 30 });
    const held = gate();
    stageOf(stub).script.push(async ([message], delivery) => {
      await held.passed();
      return end(message?.id ?? "", delivery as never);
    });
    expect(await send(stub, "first", { id: "order" })).toEqual({ id: "order", sequence: 1 });
    await handedOver(stub, 1);
    return { stub, open: held.open };
  }

  const ENDS: [string, (id: string, delivery: { retry: (id: string, options: object) => void }) => unknown, string[]][] = [
    ["delivered", () => {}, ["first", "second"]],
    ["retried", (id, delivery) => delivery.retry(id, { delaySeconds: 0 }), ["first", "first", "second"]],
    [
      "kept, because the call fails",
      () => {
        throw new Error("the test wants it");
      },
      ["first", "first", "second"],
    ],
  ];

  describe.each(ENDS)("and then %s", (_, end, told) => {
    it("stores a second message under an id of its own, and names that from then on", async () => {
      const { stub, open } = await sending(end as never);
      const second = await inside(stub, (_, outbox) => outbox.put("stock", 4, "second", { id: "order" }));
      expect(second).toEqual({ id: expect.stringMatching(/-000000000000002$/), sequence: 2 });
      const known = { id: second.id, sequence: 2, deduplicated: true };
      expect(await send(stub, "third", { id: "order" })).toEqual(known);
      open();
      await idle(stub);
      expect(callsOf(stub).flat().sort()).toEqual([...told].sort());
      const ids = new Map(sent(stub).map(({ msg, id }) => [msg, id]));
      expect(ids).toEqual(
        new Map([
          ["first", "order"],
          ["second", second.id],
        ]),
      );
      await evictDurableObject(stub);
      expect(await send(again(stub), "fourth", { id: "order" })).toEqual(known);
      forward(301);
      expect(await send(again(stub), "fifth", { id: "order" })).toEqual({ id: "order", sequence: 3 });
      await flush(again(stub));
      await idle(again(stub));
    });
  });

  it("names the second message also where the first becomes a dead letter, which keeps its id", async () => {
    const { stub, open } = await sending((id, delivery) => (delivery as { reject: (id: string) => void }).reject(id));
    stageOf(stub).rest = (messages, delivery) => {
      for (const { id } of messages) delivery.retry(id, { delaySeconds: 600 });
    };
    const second = await send(stub, "second", { id: "order" });
    open();
    await handedOver(stub, 2);
    expect(await listed(stub, "dead")).toMatchObject([{ id: "order", msg: "first" }]);
    expect(await send(stub, "third", { id: "order" })).toEqual({ ...second, deduplicated: true });
    expect(await inside(stub, (_, outbox) => outbox.discard(["order"]))).toBe(1);
    expect(await deadOf(stub)).toEqual([]);
    expect(await send(stub, "fourth", { id: "order" })).toEqual({ ...second, deduplicated: true });
    stageOf(stub).rest = (messages, delivery) => {
      for (const { id } of messages) delivery.reject(id);
    };
    forward(601);
    await flush(stub);
    await idle(stub);
    expect(await send(stub, "fifth", { id: "order" })).toEqual({ ...second, deduplicated: true });
    stageOf(stub).rest = () => {};
    expect(await inside(stub, (_, outbox) => outbox.discard([second.id]))).toBe(1);
    expect(await send(stub, "sixth", { id: "order" })).toEqual({ id: "order", sequence: 3 });
  });

  it("is never given to another message while the first is stored, however long that waits", async () => {
    const { stub, open } = await sending((id, delivery) =>
      (delivery as { retry: (id: string, options: object) => void }).retry(id, { delaySeconds: 2000 }),
    );
    const second = await send(stub, "second", { id: "order" });
    open();
    await handedOver(stub, 2);
    await eventually(async () => (await statsOf(stub)).pending === 0);
    forward(301);
    // The time of the second is over, and the first waits.
    const third = await send(stub, "third", { id: "order" });
    expect([third.deduplicated, third.sequence]).toEqual([undefined, 3]);
    expect(new Set(["order", second.id, third.id]).size).toBe(3);
    expect(await send(stub, "again", { id: "order" })).toEqual({ ...third, deduplicated: true });
    await flush(stub);
    forward(301);
    // What is over is forgotten with a delivery, and the first still waits.
    await send(stub, "other");
    await flush(stub);
    await evictDurableObject(stub);
    const fourth = await send(again(stub), "fourth", { id: "order" });
    expect([fourth.id === "order", fourth.deduplicated]).toEqual([false, undefined]);
    forward(2000);
    await flush(again(stub));
    await idle(again(stub));
    expect(callsOf(stub).flat().sort()).toEqual(["first", "first", "fourth", "other", "second", "third"]);
    forward(301);
    await send(again(stub), "last");
    await flush(again(stub));
    expect(await send(again(stub), "free", { id: "order" })).toMatchObject({ id: "order" });
    await flush(again(stub));
    await idle(again(stub));
  });

  it("again, while the second is being sent, stores a third", async () => {
    const { stub, open } = await sending();
    const held = gate();
    stageOf(stub).script.push(held.passed);
    const second = await send(stub, "second", { id: "order" });
    open();
    await handedOver(stub, 2);
    const third = await send(stub, "third", { id: "order" });
    expect(third.sequence).toBe(3);
    expect(new Set(["order", second.id, third.id]).size).toBe(3);
    held.open();
    await idle(stub);
    expect(callsOf(stub).flat()).toEqual(["first", "second", "third"]);
    expect(await send(stub, "fourth", { id: "order" })).toEqual({ ...third, deduplicated: true });
  });

  it("is as it was before when the object dies in the turn of the put, and knows the second when it dies later", async () => {
    const { stub } = await sending();
    const store = (outbox: OutboxManager) => outbox.put("state", 1, "second", { id: "order" });
    stageOf(stub).rest = (messages, delivery) => {
      for (const { id } of messages) delivery.retry(id, { delaySeconds: 600 });
    };
    const next = await crash(stub, store);
    expect(await send(next, "again", { id: "order" })).toMatchObject({ sequence: expect.any(Number) });
    expect(await inside(next, (_, __, { storage }) => storage.get("state"))).toBeUndefined();

    const other = await sending();
    stageOf(other.stub).rest = () => {};
    const life = await crashDurably(other.stub, store);
    const known = await send(life, "third", { id: "order" });
    expect(known).toEqual({ id: expect.stringMatching(/-000000000000002$/), sequence: 2, deduplicated: true });
    await idle(life);
    expect(new Set(callsOf(life).flat())).toEqual(new Set(["first", "second"]));
    expect(await send(life, "fourth", { id: "order" })).toEqual(known);
  });

  it("in a transaction that rolls back leaves it as it was", async () => {
    const { stub, open } = await sending();
    await inside(stub, async (_, outbox) => {
      const failing = outbox.transaction(async (txn) => {
        await txn.send("lost", { id: "order" });
        throw new Error("the test wants it");
      });
      await expect(failing).rejects.toThrow("the test wants it");
    });
    open();
    await idle(stub);
    expect(await send(stub, "again", { id: "order" })).toEqual({ id: "order", sequence: 1, deduplicated: true });
    expect(callsOf(stub)).toEqual([["first"]]);
  });
});
