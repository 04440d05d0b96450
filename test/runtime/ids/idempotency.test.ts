/** Ids of the caller's own: the same one stores one message, for as long as that is known. */
import { evictDurableObject } from "cloudflare:test";
import { describe, expect, it, vi } from "vitest";
import type { OutboxManager, OutboxPutOptions, OutboxReceipt } from "../../../src/index.ts";
import { boxWith, callsOf, numbers } from "../support/batches.ts";
import { again, type Backend, crash, expectUntouched, fresh, inside, onBothBackends, type Stub, sent } from "../support/harness.ts";
import { flush, forward, stats } from "../support/lanes.ts";
import { ageless, crashDurably, deadOf, idle, listed, patient, paused, resumed, statsOf } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

const put = (stub: Stub, key: string, msg: unknown, options?: OutboxPutOptions): Promise<OutboxReceipt> =>
  inside(stub, (_, outbox) => outbox.put(key, msg, msg, options));

const owned = (stub: Stub) => inside(stub, async (_, __, { storage }) => Object.fromEntries(await storage.list({ end: "\u{10FFFF}" })));

/** Lets the ten minutes pass for which a message waits, delivers it, and sets the clock right again. */
async function later(stub: Stub): Promise<void> {
  forward(601);
  await flush(stub);
  await idle(stub);
  vi.restoreAllMocks();
}

/** A message with the id "order", in each situation in which it is known: its object, and what lets it go on. */
const KNOWN: [string, (backend: Backend) => Promise<[Stub, goOn: (stub: Stub) => Promise<unknown>]>][] = [
  [
    "pending",
    async (backend) => {
      const stub = await paused(backend);
      await put(stub, "first", "first", { id: "order" });
      return [stub, resumed];
    },
  ],
  [
    "delayed",
    async (backend) => {
      const stub = fresh(backend);
      await put(stub, "first", "first", { id: "order", delaySeconds: 600 });
      await stats(stub, { pending: 0, delayed: 1 });
      return [stub, later];
    },
  ],
  [
    "blocked behind its key",
    async (backend) => {
      const stub = fresh(backend);
      await inside(stub, (_, outbox) => outbox.send("head", { key: "k", delaySeconds: 600 }));
      await put(stub, "first", "first", { id: "order", key: "k" });
      await stats(stub, { pending: 0, delayed: 1, blocked: 1 });
      return [stub, later];
    },
  ],
  [
    "waiting for its retry",
    async (backend) => {
      const stub = fresh(backend);
      stageOf(stub).script.push(([first], delivery) => delivery.retry(first?.id ?? "", { delaySeconds: 600 }));
      await put(stub, "first", "first", { id: "order" });
      await stats(stub, { pending: 0, delayed: 1 });
      return [stub, later];
    },
  ],
  [
    "waiting for a destination that is down",
    async (backend) => {
      const stub = boxWith(backend, { retry: patient });
      stageOf(stub).script.push(() => Promise.reject(new Error("down")));
      await put(stub, "first", "first", { id: "order" });
      await stats(stub, { pending: 1, failures: 1 });
      return [stub, flush];
    },
  ],
  [
    "dead",
    async (backend) => {
      const stub = fresh(backend);
      stageOf(stub).script.push(([first], delivery) => delivery.reject(first?.id ?? ""));
      await put(stub, "first", "first", { id: "order" });
      await stats(stub, { pending: 0, dead: 1 });
      return [stub, async (life) => expect(await inside(life, (_, outbox) => outbox.redrive(["order"]))).toBe(1)];
    },
  ],
];

onBothBackends("an id that is put again", (backend) => {
  describe.each(KNOWN)("while its message is %s", (_, make) => {
    it("stores the state and no second message, in this life and the next, until five minutes after it is delivered", async () => {
      const [stub, goOn] = await make(backend);
      const before = await statsOf(stub);
      const told = { id: "order", sequence: (await handedOrListed(stub)).sequence, deduplicated: true };
      expect(await put(stub, "second", "second", { id: "order" })).toEqual(told);
      expect(await put(stub, "first", "third", { id: "order", delaySeconds: 60, key: "other" })).toEqual(told);
      expect(await owned(stub)).toEqual({ first: "third", second: "second" });
      expect(ageless(await statsOf(stub))).toEqual(ageless(before));
      await evictDurableObject(stub);
      expect(await put(again(stub), "fourth", "fourth", { id: "order" })).toEqual(told);
      expect(await owned(again(stub))).toEqual({ first: "third", second: "second", fourth: "fourth" });

      await goOn(again(stub));
      await idle(again(stub));
      expect(await deadOf(again(stub))).toEqual([]);
      const own = sent(stub).filter(({ msg }) => msg !== "head");
      expect(new Set(own.map(({ msg, id, sequence }) => [msg, id, sequence].join()))).toEqual(new Set([`first,order,${told.sequence}`]));

      expect(await put(again(stub), "fifth", "fifth", { id: "order" })).toEqual(told);
      await evictDurableObject(again(stub));
      forward(301);
      const next = await put(again(stub), "sixth", "sixth", { id: "order" });
      expect(next).toEqual({ id: "order", sequence: told.sequence + 1 });
      await flush(again(stub));
      await idle(again(stub));
      expect(sent(stub).at(-1)).toMatchObject({ msg: "sixth", id: "order", attempts: 1 });
    });
  });

  /** The message with the id "order", wherever it is listed. */
  async function handedOrListed(stub: Stub): Promise<{ sequence: number }> {
    const all = [...(await listed(stub, "pending")), ...(await listed(stub, "delayed")), ...(await listed(stub, "dead"))];
    return all.find(({ id }) => id === "order") ?? expect.fail("the message is listed nowhere");
  }

  it("at the same time, in one turn and from many requests, stores one message and every state", async () => {
    const stub = await paused(backend);
    const [first, ...others] = await inside(stub, (_, outbox) =>
      Promise.all(numbers(20).map((n) => outbox.put(`key:${n}`, n, n, { id: "order" }))),
    );
    expect(first).toEqual({ id: "order", sequence: 1 });
    expect(others).toEqual(Array(19).fill({ id: "order", sequence: 1, deduplicated: true }));
    const receipts = await Promise.all(numbers(20, 21).map((n) => put(stub, `key:${n}`, n, { id: "other" })));
    expect(receipts.filter(({ deduplicated }) => !deduplicated)).toHaveLength(1);
    expect(Object.keys(await owned(stub))).toHaveLength(40);
    await inside(stub, (_, outbox) => outbox.send("after"));
    await resumed(stub);
    expect(sent(stub).map(({ id, sequence }) => [sequence, id])).toEqual([
      [1, "order"],
      [2, "other"],
      [3, expect.any(String)],
    ]);
  });

  it("by any form of a write stores no second message", async () => {
    const stub = await paused(backend);
    const id = "order";
    const known = { id, sequence: 1, deduplicated: true };
    await inside(stub, async (_, outbox) => {
      expect(await outbox.send("first", { id })).toEqual({ id, sequence: 1 });
      expect(await outbox.send("again", { id })).toEqual(known);
      expect(await outbox.put({ a: 1, b: 2 }, "again", { id })).toEqual(known);
      expect(await outbox.put(Object.fromEntries(numbers(200).map((n) => [`${n}`, n])), "again", { id })).toEqual(known);
      expect(await outbox.delete("a", "again", { id })).toBe(true);
      expect(await outbox.delete(["a", "b", "c"], "again", { id })).toBe(1);
    });
    expect(Object.keys(await owned(stub))).toHaveLength(200);
    await resumed(stub);
    expect(callsOf(stub)).toEqual([["first"]]);
  });

  it("whose message was canceled or discarded stores a new one", async () => {
    const stub = await paused(backend);
    await put(stub, "a", 1, { id: "order" });
    expect(await inside(stub, (_, outbox) => outbox.cancel("order"))).toBe(true);
    expect(await put(stub, "a", 2, { id: "order" })).toEqual({ id: "order", sequence: 2 });
    stageOf(stub).script.push((_, delivery) => delivery.reject("order"));
    await resumed(stub);
    expect(await put(stub, "a", 3, { id: "order" })).toEqual({ id: "order", sequence: 2, deduplicated: true });
    await inside(stub, (_, outbox) => outbox.pause());
    expect(await inside(stub, (_, outbox) => outbox.redrive())).toBe(1);
    expect(await put(stub, "a", 3, { id: "order" })).toEqual({ id: "order", sequence: 2, deduplicated: true });
    stageOf(stub).script.push((_, delivery) => delivery.reject("order"));
    await resumed(stub);
    expect(await inside(stub, (_, outbox) => outbox.discard(["order"]))).toBe(1);
    expect(await put(stub, "a", 4, { id: "order" })).toEqual({ id: "order", sequence: 3 });
    await idle(stub);
    expect(callsOf(stub)).toEqual([[2], [2], [4]]);
  });

  it("is known for each of hundreds of messages, among others, in the next life and until five minutes after they are delivered", async () => {
    const stub = await paused(backend);
    const all = (life: Stub) =>
      inside(life, (_, outbox) => Promise.all(numbers(300).map((n) => outbox.send(n, n % 3 ? { id: `order:${n}` } : {}))));
    const first = await all(stub);
    await evictDurableObject(stub);
    const again300 = await all(again(stub));
    for (const [n, receipt] of again300.entries()) {
      if ((n + 1) % 3) expect(receipt).toEqual({ ...first[n], deduplicated: true });
      else expect(receipt.deduplicated).toBeUndefined();
    }
    await resumed(again(stub));
    expect(callsOf(stub).flat().length).toBe(400);
    expect(new Set(callsOf(stub).flat())).toEqual(new Set(numbers(300)));
    expect(await all(again(stub))).toEqual(again300.map((receipt, n) => ((n + 1) % 3 ? receipt : expect.anything())));
    await idle(again(stub));
    expect(sent(stub)).toHaveLength(500);
    await evictDurableObject(again(stub));
    forward(301);
    expect((await all(again(stub))).every(({ deduplicated }) => !deduplicated)).toBe(true);
    await flush(again(stub));
    await idle(again(stub));
    expect(sent(stub)).toHaveLength(800);
  });
});

onBothBackends("an id and a crash:", (backend) => {
  const store = (outbox: OutboxManager) => outbox.put("key", "first", "first", { id: "order" });

  it("in the turn of the put the id is as free as before", async () => {
    const stub = await crash(fresh(backend), store);
    await inside(stub, (_, __, state) => expectUntouched(state));
    expect(await put(stub, "key", "second", { id: "order" })).toEqual({ id: "order", sequence: 1 });
    await idle(stub);
    expect(callsOf(stub)).toEqual([["second"]]);
  });

  it("once the put is durable the id is known, however often it is put", async () => {
    let stub = await paused(backend);
    for (let n = 0; n < 3; n++) stub = await crashDurably(stub, store);
    expect(await store2(stub)).toEqual({ id: "order", sequence: 1, deduplicated: true });
    await resumed(stub);
    expect(callsOf(stub)).toEqual([["first"]]);
    stub = await crashDurably(stub, store);
    expect(await store2(stub)).toEqual({ id: "order", sequence: 1, deduplicated: true });
    forward(301);
    stub = await crash(stub, store);
    expect(await store2(stub)).toEqual({ id: "order", sequence: 2 });
  });

  const store2 = (stub: Stub) => inside(stub, (_, outbox) => store(outbox));
});
