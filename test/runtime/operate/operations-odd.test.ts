/** Operations across epochs, after `deleteAll()`, and while `sendMessages` is under way. */
import { evictDurableObject } from "cloudflare:test";
import { expect, it } from "vitest";
import { callsOf, numbers, putMany } from "../support/batches.ts";
import { again, crash, fresh, gate, handedOver, inside, onEitherBackend, type Stub, sent } from "../support/harness.ts";
import { stats } from "../support/lanes.ts";
import { ageless, crashDurably, deadOf, idle, listed, paused, resumed, statsOf, withDead } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

const deleteAll = (stub: Stub) => inside(stub, (_, __, { storage }) => storage.deleteAll());
const newEpoch = (stub: Stub) => inside(stub, (_, outbox) => outbox.newEpoch());

/** The contents of all messages in this state, page by page. */
async function paged(stub: Stub, state: "pending" | "delayed" | "dead", limit: number): Promise<unknown[]> {
  const found: unknown[] = [];
  for (let after: string | undefined; ; ) {
    const page = await inside(stub, (_, outbox) => outbox.list({ state, limit, ...(after !== undefined && { after }) }));
    found.push(...page.map(({ msg }) => msg));
    after = page.at(-1)?.id;
    if (after === undefined || found.length > 1000) return found;
  }
}

onEitherBackend("messages of several epochs", (backend) => {
  it("are listed in pages, in put order", async () => {
    const stub = await paused(backend);
    for (const from of [1, 41, 81]) {
      await putMany(stub, 40, from);
      await newEpoch(stub);
    }
    expect(await paged(stub, "pending", 7)).toEqual(numbers(120));
    stageOf(stub).rest = (messages, delivery) => {
      for (const { id } of messages) delivery.reject(id);
    };
    await resumed(stub);
    expect(await paged(stub, "dead", 7)).toEqual(numbers(120));
  });

  it("are canceled, redriven and discarded by their ids", async () => {
    const stub = await withDead(backend, 20);
    const dead = await listed(stub, "dead");
    await inside(stub, (_, outbox) => outbox.pause());
    const receipts = (await putMany(stub, 20, 21)) as { id: string }[];
    await newEpoch(stub);
    await putMany(stub, 20, 41);
    await evictDurableObject(stub);
    const ids = (list: { id: string }[], every: number) => list.flatMap(({ id }, n) => ((n + 1) % every ? [] : [id]));
    await inside(again(stub), async (_, outbox) => {
      for (const id of ids(receipts, 5)) expect(await outbox.cancel(id)).toBe(true);
      expect(await outbox.redrive(ids(dead, 4))).toBe(5);
      expect(await outbox.discard(ids(dead, 3))).toBe(5); // The twelfth is redriven already.
    });
    await resumed(again(stub));
    const redriven = [4, 8, 12, 16, 20];
    expect(callsOf(stub).flat()).toEqual([...redriven, ...numbers(40, 21).filter((n) => n > 40 || n % 5)]);
    expect(await deadOf(again(stub))).toEqual(numbers(20).filter((n) => n % 4 && n % 3));
    expect(new Set(sent(stub).map(({ id }) => id)).size).toBe(sent(stub).length);
  });
});

onEitherBackend("deleteAll by the object's own code", (backend) => {
  it("keeps what waits, what is dead, what is known and what is paused, in this life and the next", async () => {
    const stub = await withDead(backend, 3);
    await inside(stub, (_, outbox) => outbox.pause());
    await inside(stub, async (_, outbox) => {
      await outbox.send("known", { id: "order", key: "k", delaySeconds: 2 });
      await outbox.send("blocked", { key: "k" });
      await outbox.put("own", 1, "pending");
    });
    const [before, dead] = [await statsOf(stub), await listed(stub, "dead")];
    await deleteAll(stub);
    for (const next of [() => stub, () => crash(stub)]) {
      const life = await next();
      expect(ageless(await statsOf(life))).toEqual(ageless(before));
      expect(await listed(life, "dead")).toEqual(dead);
      expect(await inside(life, (_, outbox) => outbox.send("again", { id: "order" }))).toMatchObject({ deduplicated: true });
      if (life === stub) await inside(life, (_, __, { storage }) => storage.sync());
    }
    await resumed(again(stub));
    // Whether the two seconds are over by now depends on the machine.
    const calls = callsOf(stub).flat();
    expect(calls.filter((msg) => msg !== "pending")).toEqual(["known", "blocked"]);
    expect(calls).toHaveLength(3);
    expect(calls).toContain("pending");
    expect(await inside(again(stub), (_, outbox) => outbox.redrive())).toBe(3);
    await idle(again(stub));
    expect(callsOf(stub).flat().slice(3)).toEqual([1, 2, 3]);
  });

  it("leaves an outbox in which nothing stands paused, as it was", async () => {
    const stub = await crashDurably(await paused(backend), async () => {});
    await deleteAll(stub);
    expect(await statsOf(stub)).toMatchObject({ paused: true });
    await inside(stub, (_, __, { storage }) => storage.sync());
    const next = await crash(stub);
    expect(await statsOf(next)).toMatchObject({ paused: true });
    await putMany(next, 1);
    await resumed(next);
    expect(callsOf(stub)).toEqual([[1]]);
  });
});

onEitherBackend("operations during a send in flight", (backend) => {
  it("change nothing of what is in the call, and everything else as they say", async () => {
    const stub = fresh(backend);
    const held = gate();
    stageOf(stub).script.push(
      (messages, delivery) => {
        for (const { id } of messages) delivery.reject(id);
      },
      async (messages, delivery) => {
        await held.passed();
        for (const { id, msg } of messages) {
          if (msg === 11) delivery.retry(id, { delaySeconds: 0 });
          if (msg === 12) delivery.reject(id);
        }
      },
    );
    await putMany(stub, 6);
    await stats(stub, { pending: 0, dead: 6 });
    const dead = await listed(stub, "dead");
    await putMany(stub, 10, 11);
    await handedOver(stub, 16);
    const receipts = (await putMany(stub, 40, 21)) as { id: string }[];
    await inside(stub, async (_, outbox) => {
      expect(await outbox.redrive(dead.slice(0, 2).map(({ id }) => id))).toBe(2);
      expect(await outbox.discard(dead.slice(2, 4).map(({ id }) => id))).toBe(2);
      for (const { id } of sent(stub).slice(6)) expect(await outbox.cancel(id)).toBe(false);
      expect(await outbox.cancel(receipts[0]?.id ?? "")).toBe(true);
      await outbox.newEpoch();
      await outbox.send(61);
      expect(await outbox.cancel(receipts[39]?.id ?? "")).toBe(true);
      expect(await outbox.stats()).toMatchObject({ dead: 2 });
    });
    held.open();
    await idle(stub);
    const later = callsOf(stub).slice(2).flat();
    expect([...later].sort((a, b) => Number(a) - Number(b))).toEqual([1, 2, 11, ...numbers(38, 22), 61]);
    expect(later.filter((n) => Number(n) > 20)).toEqual([...numbers(38, 22), 61]);
    expect(await deadOf(stub)).toEqual([5, 6, 12]);
  });
});
