/** What an operator limits and sees: `maxPending`, stats, listings in pages. */
import { evictDurableObject } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import type { OutboxDestinationStats, OutboxManager, OutboxStats } from "../../../src/index.ts";
import { boxWith, callsOf, down, eventsOf, numbers, putMany } from "../support/batches.ts";
import { again, drained, eventually, fresh, gate, handedOver, inside, onEitherBackend, type Stub } from "../support/harness.ts";
import { stats } from "../support/lanes.ts";
import { beforeAnyAlarm, idle, listed, patient, paused, resumed, statsOf } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

onEitherBackend("maxPending", (backend) => {
  const WRITES: [string, (outbox: OutboxManager) => Promise<unknown>][] = [
    ["put", (outbox) => outbox.put("key", "refused", "refused")],
    ["put of 200 entries", (outbox) => outbox.put(Object.fromEntries(numbers(200).map((n) => [`${n}`, n])), "refused")],
    ["delete", (outbox) => outbox.delete("key", "refused")],
    ["send", (outbox) => outbox.send("refused")],
    ["a delayed send", (outbox) => outbox.send("refused", { delaySeconds: 60 })],
  ];

  it.each(WRITES)("refuses a %s before anything is written, in this life and the next", async (_, write) => {
    const stub = await paused(backend, { maxPending: 3 });
    await inside(stub, (_, outbox) => outbox.put("key", 0, 0));
    await putMany(stub, 2);
    for (const life of [stub, again(stub)]) {
      await inside(life, async (_, outbox, { storage }) => {
        const before = [...(await storage.list())];
        await expect(write(outbox)).rejects.toMatchObject({ name: "OutboxError", code: "outbox_full" });
        expect([...(await storage.list())]).toEqual(before);
        expect(await outbox.stats()).toMatchObject({ pending: 3 });
      });
      await evictDurableObject(life);
    }
    await resumed(again(stub));
    await inside(again(stub), (_, outbox) => write(outbox));
    expect(callsOf(stub)[0]).toEqual([0, 1, 2]);
    await stats(again(stub), { pending: 0 });
  });

  it("lets no more than so many through in one turn", async () => {
    const stub = await paused(backend, { maxPending: 5 });
    const results = await inside(stub, (_, outbox) => Promise.allSettled(numbers(12).map((n) => outbox.put(`key:${n}`, n, n))));
    expect(results.map(({ status }) => status === "fulfilled")).toEqual(numbers(12).map((n) => n <= 5));
    expect(await inside(stub, async (_, __, { storage }) => (await storage.list({ end: "\u{10FFFF}" })).size)).toBe(5);
    await resumed(stub);
    expect(callsOf(stub)).toEqual([numbers(5)]);
  });

  it("counts whatever waits, and no dead letters", async () => {
    const stub = boxWith(backend, { maxPending: 4 });
    stageOf(stub).rest = (messages, delivery) => {
      for (const { id, msg } of messages) if (typeof msg === "number") delivery.reject(id);
    };
    await putMany(stub, 4);
    await stats(stub, { pending: 0, dead: 4 });
    await inside(stub, (_, outbox) => outbox.send("late", { key: "k", delaySeconds: 600 }));
    await inside(stub, (_, outbox) => outbox.send("blocked", { key: "k" }));
    await stats(stub, { pending: 0, delayed: 1, blocked: 1 });
    await putMany(stub, 2, 5);
    await stats(stub, { pending: 0, dead: 6 });
    await beforeAnyAlarm(stub, async (outbox) => {
      await Promise.all(numbers(2, 7).map((n) => outbox.send(n)));
      await expect(outbox.send("one too many")).rejects.toMatchObject({ code: "outbox_full" });
    });
    await stats(stub, { pending: 0, delayed: 1, blocked: 1, dead: 8 });
    await inside(stub, (_, outbox) => outbox.send("fits"));
  });
});

onEitherBackend("stats", (backend) => {
  const none: OutboxDestinationStats = {
    pending: 0,
    delayed: 0,
    scheduled: 0,
    blocked: 0,
    dead: 0,
    held: 0,
    deadDeleted: 0,
    oldestAgeSeconds: 0,
    nextAttemptAt: null,
    breaker: "closed",
    failures: 0,
    paused: false,
  };
  const zeros: OutboxStats = { ...none, pressure: 0, destinations: { default: none } };

  it("are zeros before the first message and after the last, in this life and the next", async () => {
    const stub = fresh(backend);
    expect(await statsOf(stub)).toEqual(zeros);
    await putMany(stub, 40);
    await idle(stub);
    expect(await statsOf(stub)).toEqual(zeros);
    await evictDurableObject(stub);
    expect(await statsOf(again(stub))).toEqual(zeros);
  });

  it("tell each message once, by what it waits for", async () => {
    const stub = fresh(backend);
    const deliverAt = Date.now() + 60_000;
    stageOf(stub).script.push((messages, delivery) => {
      for (const { id, msg } of messages) {
        if (msg === "retried") delivery.retry(id, { delaySeconds: 600 });
        if (msg === "rejected") delivery.reject(id);
      }
    });
    await inside(stub, (_, outbox) =>
      Promise.all([
        outbox.send("retried", { key: "a" }),
        outbox.send("rejected"),
        outbox.send("delivered"),
        outbox.send("delayed", { key: "b", deliverAt }),
        ...numbers(3).map((n) => outbox.send(n, { key: n % 2 ? "a" : "b" })),
      ]),
    );
    const put = Date.now();
    const wanted = { pending: 0, delayed: 2, blocked: 3, dead: 1, nextAttemptAt: deliverAt, breaker: "closed", failures: 0 } as const;
    await stats(stub, wanted);
    await evictDurableObject(stub);
    await stats(again(stub), wanted);
    expect((await listed(again(stub), "delayed")).map(({ msg }) => msg).sort()).toEqual([1, 2, 3, "delayed", "retried"]);
    const asked = Date.now();
    expect((await statsOf(again(stub))).oldestAgeSeconds * 1000).toBeGreaterThanOrEqual(asked - put - 0.01);
  });

  it("tell how the destination fares, and when it is asked again", async () => {
    const stub = boxWith(backend, { retry: patient });
    stageOf(stub).script.push(down, down);
    stageOf(stub).rest = () => {};
    const before = Date.now();
    await putMany(stub, 30);
    const put = Date.now();
    for (const failures of [1, 2]) {
      if (failures > 1) await inside(stub, (_, outbox) => outbox.flush());
      let asked = 0;
      const seen = await eventually(async () => {
        asked = Date.now();
        const now = await statsOf(stub);
        return now.failures === failures && now;
      });
      const retryAt = eventsOf(stub, "failed").at(failures - 1)?.retryAt;
      expect(seen).toMatchObject({ pending: 30, delayed: 0, dead: 0, nextAttemptAt: retryAt, breaker: "open", paused: false });
      expect(seen.oldestAgeSeconds * 1000).toBeGreaterThanOrEqual(asked - put - 0.01);
      expect(seen.oldestAgeSeconds).toBeLessThanOrEqual((Date.now() - before) / 1000 + 0.01);
    }
    await inside(stub, (_, outbox) => outbox.flush());
    await idle(stub);
    expect(await statsOf(stub)).toEqual(zeros);
  });

  it("count messages in flight as pending", async () => {
    const stub = fresh(backend);
    const held = gate();
    stageOf(stub).script.push(held.passed);
    await putMany(stub, 5);
    await handedOver(stub, 5);
    await putMany(stub, 2, 6);
    expect(await statsOf(stub)).toMatchObject({ pending: 7, delayed: 0, blocked: 0 });
    held.open();
    await drained(stub);
    expect(await statsOf(stub)).toEqual(zeros);
  });
});

onEitherBackend("a listing in pages", (backend) => {
  const COUNT = 250;
  type State = "pending" | "delayed" | "dead";

  const STATES: [string, State, (id: (n: number) => { id?: string }) => Promise<Stub>][] = [
    ["pending messages", "pending", async (id) => sending(await paused(backend), (n) => id(n))],
    ["delayed messages", "delayed", (id) => sending(boxWith(backend, {}), (n) => ({ ...id(n), delaySeconds: 600 + (n % 7) }))],
    [
      "blocked messages",
      "delayed",
      (id) => sending(boxWith(backend, {}), (n) => ({ ...id(n), key: "k", delaySeconds: n === 1 ? 600 : 0 })),
    ],
    [
      "dead letters",
      "dead",
      async (id) => {
        const stub = boxWith(backend, { retry: patient });
        stageOf(stub).rest = (messages, delivery) => {
          for (const message of messages) delivery.reject(message.id);
        };
        return sending(stub, id);
      },
    ],
  ];

  async function sending(stub: Stub, options: (n: number) => object): Promise<Stub> {
    await inside(stub, (_, outbox) => Promise.all(numbers(COUNT).map((n) => outbox.send(n, options(n)))));
    return stub;
  }

  describe.each(STATES)("of %s", (_, state, make) => {
    it.each([
      ["derived ids", () => ({})],
      ["ids of the caller's own, which sort in another order", (n: number) => ({ id: `${(n * 37) % 251}` })],
    ])("shows each once, with %s", async (_, id) => {
      const stub = await make(id);
      await eventually(async () => (await listed(stub, state as "dead")).length === COUNT);
      const pages: unknown[][] = [];
      await inside(stub, async (_, outbox) => {
        let after: string | undefined;
        do {
          const page = await outbox.list({ state, limit: 60, ...(after !== undefined && { after }) });
          pages.push(page.map(({ msg }) => msg));
          after = page.at(-1)?.id;
        } while (after !== undefined);
      });
      expect(pages.map(({ length }) => length)).toEqual([60, 60, 60, 60, 10, 0]);
      const all = pages.flat() as number[];
      expect(state === "delayed" ? all.sort((a, b) => a - b) : all).toEqual(numbers(COUNT));
      expect(await inside(stub, async (_, outbox) => (await outbox.list({ state })).length)).toBe(100);
    });
  });

  it.each([{ after: 5 }, { state: "sent" }, { state: "dead", limit: 0 }, { state: "delayed", limit: 1001 }])("refuses %o", async (bad) => {
    await inside(fresh(backend), async (_, outbox) => expect(outbox.list(bad as never)).rejects.toThrow(TypeError));
  });
});
