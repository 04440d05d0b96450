/** Named destinations: each has its own position in the log, its own retries and its own dead letters, and harms no other. */
import { expect, it } from "vitest";
import { eventually, gate, inside, onEitherBackend, outboxRows, until } from "../support/harness.ts";
import { deployed, got, objectWith, receivers, told } from "../support/named.ts";

/** The numbers from the first to the last. */
const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, n) => first + n);

/** Puts messages from one number to another, all in one turn. */
const put = (stub: Parameters<typeof inside>[0], first: number, last: number, type?: string) =>
  inside(stub, (_, outbox) => Promise.all(range(first, last).map((n) => outbox.put(`n:${n}`, n, type ? { type, n } : n))));

onEitherBackend("named destinations", (backend) => {
  it("get every message, each of them once and in order, and leave one row and no alarm", async () => {
    const all = receivers("a", "b", "c");
    const stub = objectWith(backend, all, { a: {}, b: {}, c: {} });
    await put(stub, 1, 250);
    await eventually(() => Object.values(all).every((each) => got(each).length >= 250));
    for (const each of Object.values(all)) expect(got(each)).toEqual(range(1, 250));
    await until(stub, async (_, state) => (await state.storage.getAlarm()) === null);
    expect((await inside(stub, (_, __, state) => outboxRows(state))).size).toBe(1);
    const { destinations, ...sum } = await inside(stub, (_, outbox) => outbox.stats());
    expect(sum).toMatchObject({ pending: 0, dead: 0, failures: 0, breaker: "closed" });
    expect(Object.keys(destinations)).toEqual(["a", "b", "c"]);
  });

  it("beside sendMessages are beside the one named default", async () => {
    const all = receivers("default", "a");
    const stub = objectWith(backend, all, { a: {} });
    await put(stub, 1, 3);
    await eventually(() => got(all.default).length + got(all.a).length >= 6);
    expect([got(all.default), got(all.a)]).toEqual([range(1, 3), range(1, 3)]);
  });

  it("that are down, hang or are poisoned neither delay nor repeat what the others get", async () => {
    const all = receivers("down", "hanging", "poisoned", "rejecting", "well", "fine");
    const held = gate();
    all.down.rest = () => Promise.reject(new Error("down"));
    all.hanging.rest = () => held.passed();
    all.poisoned.rest = (messages) => {
      if (messages.some(({ msg }) => msg === 7)) throw new Error("poison");
    };
    all.rejecting.rest = (messages, delivery) => {
      for (const { id, msg } of messages) if (msg === 9) delivery.reject(id, "not this one");
    };
    const stub = objectWith(backend, all, { down: {}, hanging: {}, poisoned: {}, rejecting: {}, well: {}, fine: {} });
    await put(stub, 1, 20);
    await eventually(() => got(all.well).length >= 20 && got(all.fine).length >= 20 && got(all.rejecting).length >= 20);
    // What is put while one of them hangs is delivered to the others meanwhile.
    await put(stub, 21, 40);
    await eventually(() => got(all.well).length >= 40 && got(all.fine).length >= 40 && got(all.rejecting).length >= 40);
    for (const each of [all.well, all.fine, all.rejecting]) expect(got(each)).toEqual(range(1, 40));
    expect(all.hanging.calls).toHaveLength(1);
    const { destinations } = await inside(stub, (_, outbox) => outbox.stats());
    expect(destinations.down).toMatchObject({ pending: 40, breaker: "open", dead: 0 });
    expect(destinations.well).toMatchObject({ pending: 0, breaker: "closed", dead: 0 });
    expect(destinations.rejecting).toMatchObject({ pending: 0, dead: 1 });
    // Each goes on where it stopped once it is well.
    held.open();
    all.down.rest = () => {};
    const withoutPoison = range(1, 40).filter((n) => n !== 7);
    await eventually(() => new Set(got(all.poisoned)).size >= 40 && got(all.hanging).length >= 40);
    await until(stub, async (box) => {
      const { destinations } = await box.outbox.stats();
      return destinations.down?.pending === 0 && destinations.hanging?.pending === 0 && destinations.poisoned?.pending === 0;
    });
    expect(got(all.hanging)).toEqual(range(1, 40));
    // While it is down, a single message may be tried ahead of its turn.
    expect([...new Set(got(all.down))].sort((a, b) => Number(a) - Number(b))).toEqual(range(1, 40));
    expect([...new Set(got(all.poisoned).filter((n) => n !== 7))].sort((a, b) => Number(a) - Number(b))).toEqual(withoutPoison);
    for (const each of [all.well, all.fine, all.rejecting]) expect(got(each)).toEqual(range(1, 40));
  });

  it("take only the types that they name, and a message that none takes is refused before anything is written", async () => {
    const all = receivers("orders", "payments", "everything");
    const stub = objectWith(backend, all, { orders: { types: ["order"] }, payments: { types: ["payment", "refund"] }, everything: {} });
    await inside(stub, async (_, outbox) => {
      await Promise.all(["order", "payment", "other", "refund", "order"].map((type, n) => outbox.send({ type, n })));
      await outbox.send("no type");
    });
    await eventually(() => got(all.everything).length >= 6 && got(all.orders).length >= 2 && got(all.payments).length >= 2);
    expect(got(all.orders).map((msg) => (msg as { n: number }).n)).toEqual([0, 4]);
    expect(got(all.payments).map((msg) => (msg as { n: number }).n)).toEqual([1, 3]);

    const narrow = objectWith(backend, all, { orders: { types: ["order"] } });
    await inside(narrow, async (_, outbox, state) => {
      for (const refused of [
        () => outbox.put("k", 1, { type: "payment" }),
        () => outbox.put({ k: 1 }, "no type"),
        () => outbox.delete("k", { type: 1 }),
        () => outbox.deleteAll({ type: "payment" }),
        () => outbox.transaction((txn) => txn.send({})),
      ]) {
        await state.storage.put("k", 0);
        await expect(refused()).rejects.toMatchObject({ code: "no_destination" });
        expect(await state.storage.get("k")).toBe(0);
      }
      expect((await outboxRows(state)).size).toBe(0);
      await outbox.put("k", 2, { type: "order" });
    });
  });

  it("pass thousands of messages of other types without holding any up, and with each of their own", async () => {
    const all = receivers("rare", "common");
    const stub = objectWith(backend, all, { rare: { types: ["rare"] }, common: { types: ["common"], batchSize: 1000 } });
    await inside(stub, async (_, outbox) => {
      await outbox.pause();
      await outbox.send({ type: "rare", n: 0 });
      for (let step = 0; step < 5; step++) {
        await Promise.all(range(1, 1000).map((n) => outbox.send({ type: "common", n: step * 1000 + n })));
      }
      await outbox.send({ type: "rare", n: 1 });
      await outbox.resume();
    });
    await eventually(() => got(all.common).length >= 5000 && got(all.rare).length >= 2);
    expect(got(all.rare)).toEqual([0, 1].map((n) => ({ type: "rare", n })));
    expect(got(all.common)).toEqual(range(1, 5000).map((n) => ({ type: "common", n })));
    await until(stub, async (box, state) => (await box.outbox.stats()).pending === 0 && (await outboxRows(state)).size === 1);
  });

  it("keep dead letters of their own, which are listed, redriven and discarded for one or for all", async () => {
    const all = receivers("a", "b");
    for (const each of [all.a, all.b]) {
      each.rest = (messages, delivery) => {
        for (const { id } of messages) delivery.reject(id, "no");
      };
    }
    const stub = objectWith(backend, all, { a: {}, b: {} });
    const { id } = await inside(stub, (_, outbox) => outbox.send("one"));
    await inside(stub, (_, outbox) => outbox.send("two"));
    await until(stub, async (box) => (await box.outbox.stats()).dead === 4);
    await inside(stub, async (_, outbox) => {
      const listed = await outbox.list({ state: "dead" });
      expect(listed.map(({ destination, msg }) => [destination, msg])).toEqual([
        ["a", "one"],
        ["a", "two"],
        ["b", "one"],
        ["b", "two"],
      ]);
      const paged: unknown[] = [];
      let after: string | undefined;
      for (let page = await outbox.list({ state: "dead", limit: 1 }); page.length > 0; ) {
        paged.push(...page.map(({ destination, msg }) => [destination, msg]));
        after = page[0]?.id as string;
        page = await outbox.list({ state: "dead", limit: 1, after });
        if (paged.length > 4) break;
      }
      expect(paged).toEqual(listed.map(({ destination, msg }) => [destination, msg]));
      expect(await outbox.list({ state: "dead", destination: "b" })).toHaveLength(2);
      await expect(outbox.list({ destination: "c" })).rejects.toThrow('Expected `options.destination` to be one of "a", "b", got "c"');
      all.a.rest = all.b.rest = () => {};
      expect(await outbox.redrive([id], { destination: "a" })).toBe(1);
    });
    await eventually(() => got(all.a).filter((msg) => msg === "one").length >= 2);
    await inside(stub, async (_, outbox) => {
      expect(await outbox.discard([id], { destination: "b" })).toBe(1);
      expect(await outbox.redrive()).toBe(2);
    });
    await until(stub, async (box) => {
      const { pending, dead } = await box.outbox.stats();
      return pending + dead === 0;
    });
    expect([got(all.a), got(all.b)]).toEqual([
      ["one", "two", "one", "two"],
      ["one", "two", "two"],
    ]);
  });

  it("are paused, resumed, flushed and cancelled for one or for all", async () => {
    const all = receivers("a", "b");
    const stub = objectWith(backend, all, { a: {}, b: {} });
    await inside(stub, async (_, outbox) => {
      await outbox.pause({ destination: "a" });
      await outbox.send(1);
    });
    await eventually(() => got(all.b).length >= 1);
    await inside(stub, async (_, outbox) => {
      const { paused, destinations } = await outbox.stats();
      expect([paused, destinations.a?.paused, destinations.a?.pending, destinations.b?.paused]).toEqual([false, true, 1, false]);
      await outbox.pause();
      expect((await outbox.stats()).paused).toBe(true);
      const { id } = await outbox.send(2);
      expect(await outbox.cancel(id, { destination: "b" })).toBe(true);
      expect(await outbox.cancel(id)).toBe(true);
      expect(await outbox.cancel(id)).toBe(false);
      await outbox.send(3);
      await outbox.resume({ destination: "b" });
      await outbox.flush({ destination: "b" });
      expect([got(all.a), got(all.b)]).toEqual([[], [1, 3]]);
      await outbox.resume();
    });
    await eventually(() => got(all.a).length >= 2);
    expect([got(all.a), got(all.b)]).toEqual([
      [1, 3],
      [1, 3],
    ]);
  });

  it("get messages of their own: what a handler does to its messages no other one sees", async () => {
    const all = receivers("meddling", "other", "failing");
    const meddle = (message: unknown): void => {
      const { msg } = message as { msg: { list?: unknown } | Map<string, unknown> };
      if (msg instanceof Map) msg.clear();
      else msg.list = 1n;
    };
    all.meddling.rest = (messages) => messages.forEach(meddle);
    all.failing.rest = (messages) => {
      messages.forEach(meddle);
      if (all.failing.calls.length < 3) throw new Error("down");
    };
    const stub = objectWith(backend, all, { meddling: {}, other: {}, failing: {} });
    const messages = [{ list: [1, 2] }, new Map([["a", 1]]), { list: ["x"] }];
    await inside(stub, (_, outbox) => Promise.all(messages.map((msg) => outbox.send(msg))));
    await until(stub, async (box) => (await box.outbox.stats()).pending === 0);
    for (const each of Object.values(all)) expect(got(each).slice(-3)).toEqual(messages);
  });

  it("have a time limit, attempts, a batch size and an expiry of their own", async () => {
    const all = receivers("slow", "failing", "small", "late", "plain");
    all.slow.rest = () => new Promise(() => {});
    all.failing.rest = (messages, delivery) => {
      for (const { id } of messages) delivery.retry(id, { delaySeconds: 0 });
    };
    all.late.rest = () => Promise.reject(new Error("down"));
    const stub = objectWith(backend, all, {
      slow: { timeoutSeconds: 0.05 },
      failing: { retry: { maxAttempts: 2 } },
      small: { batchSize: 2 },
      late: { expiresInSeconds: 0.2 },
      plain: {},
    });
    await put(stub, 1, 5);
    await until(stub, async (box) => {
      const { destinations } = await box.outbox.stats();
      return destinations.failing?.dead === 5 && destinations.late?.dead === 5;
    });
    expect(all.small.calls.map((call) => call.length)).toEqual([2, 2, 1]);
    expect(all.plain.calls.map((call) => call.length)).toEqual([5]);
    const dead = await inside(stub, (_, outbox) => outbox.list({ state: "dead" }));
    expect(new Set(dead.map(({ destination, reason }) => `${destination} ${reason}`))).toEqual(
      new Set(["failing max_attempts", "late expired"]),
    );
    await eventually(() => told(stub, "failed").some((event) => (event as { destination?: string }).destination === "slow"));
    expect(told(stub, "failed")).toContainEqual(
      expect.objectContaining({ destination: "slow", error: 'The destination "slow" took over 0.05 s. (timeout)' }),
    );
  });

  it("wait behind an ordering key each by itself", async () => {
    const all = receivers("a", "b");
    let refuses = true;
    all.a.rest = (messages, delivery) => {
      for (const { id, msg } of messages) if (msg === 1 && refuses) delivery.retry(id, { delaySeconds: 0.05 });
    };
    const stub = objectWith(backend, all, { a: {}, b: {} });
    await inside(stub, (_, outbox) => Promise.all([1, 2, 3].map((n) => outbox.send(n, { key: "k" }))));
    await eventually(() => got(all.b).length >= 3 && got(all.a).length >= 3);
    expect(got(all.a).every((n) => n === 1)).toBe(true);
    refuses = false;
    await until(stub, async (box) => {
      const { pending, delayed, blocked } = await box.outbox.stats();
      return pending + delayed + blocked === 0;
    });
    expect([got(all.a).filter((n) => n !== 1), got(all.b)]).toEqual([
      [2, 3],
      [1, 2, 3],
    ]);
  });

  it("that a deployment removes keep their place, are reported, and go on when they are back", async () => {
    const all = receivers("a", "b");
    all.b.rest = () => Promise.reject(new Error("down"));
    let stub = objectWith(backend, all, { a: {}, b: {} });
    await put(stub, 1, 3);
    await eventually(() => got(all.a).length >= 3 && all.b.calls.length > 0);
    stub = await deployed(stub, all, { a: {} });
    await put(stub, 4, 6);
    await eventually(() => got(all.a).length >= 6);
    expect(told(stub, "destination_missing")).toContainEqual(expect.objectContaining({ destination: "b", waiting: 3, dead: 0 }));
    await until(stub, async (_, state) => (await state.storage.getAlarm()) === null);
    const { destinations } = await inside(stub, (_, outbox) => outbox.stats());
    expect(destinations.b).toMatchObject({ missing: true, pending: 6, nextAttemptAt: null });
    all.b.rest = () => {};
    all.b.calls.length = 0;
    stub = await deployed(stub, all, { b: {}, a: {} });
    await inside(stub, (_, outbox) => outbox.flush());
    await eventually(() => got(all.b).length >= 6);
    await put(stub, 7, 7);
    await eventually(() => got(all.b).length >= 7);
    expect([got(all.a), got(all.b)]).toEqual([range(1, 7), range(1, 7)]);
  });

  it("that are new begin with the next message, with the first that the log still has, or with one of it; a new name goes on where the old one stopped", async () => {
    const all = receivers("a", "late", "early", "middle", "ahead", "renamed");
    all.a.rest = () => Promise.reject(new Error("down"));
    let stub = objectWith(backend, all, { a: {} });
    await put(stub, 1, 40);
    await eventually(() => all.a.calls.length > 0);
    stub = await deployed(stub, all, {
      renamed: { formerly: ["older", "a"] },
      late: {},
      early: { from: "start" },
      middle: { from: 23 },
      ahead: { from: 100 },
    });
    await put(stub, 41, 42);
    await eventually(() => got(all.late).length >= 2 && got(all.early).length >= 42 && got(all.renamed).length >= 42);
    await eventually(() => got(all.middle).length >= 20 && got(all.ahead).length >= 2);
    expect([got(all.middle), got(all.ahead)]).toEqual([range(23, 42), [41, 42]]);
    expect(got(all.late)).toEqual([41, 42]);
    expect(got(all.early)).toEqual(range(1, 42));
    expect(got(all.renamed)).toEqual(range(1, 42));
    expect(told(stub, "destination_missing")).toEqual([]);
  });

  it("take what is still in the queue by the types that they have now", async () => {
    const all = receivers("wider", "narrower", "rest");
    let stub = objectWith(backend, all, { wider: { types: ["x"] }, narrower: { types: ["x", "y"] }, rest: {} });
    await inside(stub, async (_, outbox) => {
      await outbox.pause();
      await Promise.all(["x", "y", "x", "z"].map((type, n) => outbox.send({ type, n })));
    });
    stub = await deployed(stub, all, { wider: { types: ["x", "y"] }, narrower: { types: ["x"] }, rest: {} });
    await inside(stub, (_, outbox) => outbox.resume());
    await eventually(() => got(all.rest).length >= 4);
    await until(stub, async (box, state) => (await box.outbox.stats()).pending === 0 && (await state.storage.getAlarm()) === null);
    const numbersOf = (name: keyof typeof all) => got(all[name]).map((msg) => (msg as { n: number }).n);
    expect([numbersOf("wider"), numbersOf("narrower"), numbersOf("rest")]).toEqual([
      [0, 1, 2],
      [0, 2],
      [0, 1, 2, 3],
    ]);
    expect((await inside(stub, (_, __, state) => outboxRows(state))).size).toBe(1);
  });

  it("remember an id until the last of them has delivered its message", async () => {
    const all = receivers("a", "b");
    all.b.rest = () => Promise.reject(new Error("down"));
    const stub = objectWith(backend, all, { a: {}, b: {} }, { idempotencySeconds: 0 });
    const first = await inside(stub, (_, outbox) => outbox.send(1, { id: "one" }));
    await eventually(() => got(all.a).length >= 1);
    await until(stub, async (box) => (await box.outbox.stats()).destinations.a?.pending === 0);
    expect(await inside(stub, (_, outbox) => outbox.send(2, { id: "one" }))).toEqual({ ...first, deduplicated: true });
    all.b.rest = () => {};
    await until(stub, async (box) => (await box.outbox.stats()).pending === 0);
    const again = await inside(stub, (_, outbox) => outbox.send(3, { id: "one" }));
    expect(again.deduplicated).toBeUndefined();
    await eventually(() => got(all.a).length >= 2);
    expect(got(all.a)).toEqual([1, 3]);
  });

  it("cost one row to store a message, one alarm, and one row to clear it, however many succeed", async () => {
    const all = receivers("a", "b", "c", "d", "e");
    const stub = objectWith(backend, all, { a: {}, b: {}, c: {}, d: {}, e: {} });
    await inside(stub, ({ ledger }, outbox, state) =>
      state.blockConcurrencyWhile(async () => {
        await outbox.send(1);
        expect([ledger.rows, ledger.alarms]).toEqual([1, 1]);
        await outbox.flush();
        expect([ledger.rows, ledger.alarms]).toEqual([2, 1]);
      }),
    );
    for (const each of Object.values(all)) expect(got(each)).toEqual([1]);
  });

  it("cost at most 0.02 rows a message each in bursts of a hundred", async () => {
    const names = range(1, 10).map((n) => `destination-${n}`);
    const all = receivers(...names);
    const stub = objectWith(backend, all, Object.fromEntries(names.map((name) => [name, {}])));
    await inside(stub, ({ ledger }, outbox, state) =>
      state.blockConcurrencyWhile(async () => {
        for (let burst = 0; burst < 10; burst++) {
          await Promise.all(range(1, 100).map((n) => outbox.send(n)));
          await outbox.flush();
        }
        expect((ledger.rows + ledger.alarms) / 1000).toBeLessThanOrEqual(1.11 + 0.02 * 9);
      }),
    );
    for (const each of Object.values(all)) expect(got(each)).toHaveLength(1000);
  });

  it("that are far ahead of one that is down read no more for it", async () => {
    const all = receivers("a", "down");
    all.down.rest = () => Promise.reject(new Error("down"));
    const stub = objectWith(backend, all, { a: {}, down: { retry: { minDelaySeconds: 3600, maxDelaySeconds: 3600 } } });
    const costs: number[] = [];
    await inside(stub, ({ ledger }, outbox, state) =>
      state.blockConcurrencyWhile(async () => {
        for (let step = 0; step < 12; step++) {
          await Promise.all(range(1, 400).map((n) => outbox.send(n)));
          const before = ledger.reads;
          await outbox.flush({ destination: "a" });
          costs.push(ledger.reads - before);
        }
      }),
    );
    expect(got(all.a)).toHaveLength(4800);
    expect(Math.max(...costs.slice(-3))).toBeLessThanOrEqual(Math.max(...costs.slice(0, 3)) + 1);
  });

  it("are rolled back together, with what each has in hand", async () => {
    const all = receivers("a", "b");
    const held = gate();
    all.a.rest = () => held.passed();
    const stub = objectWith(backend, all, { a: {}, b: {} });
    await put(stub, 1, 2);
    await eventually(() => all.a.calls.length > 0 && got(all.b).length >= 2);
    await until(stub, async (box) => (await box.outbox.stats()).destinations.b?.pending === 0);
    await inside(stub, async (_, outbox) => {
      const undone = outbox.transaction(async (txn) => {
        await txn.send(3);
        await outbox.pause({ destination: "b" });
        throw new Error("rolled back");
      });
      await expect(undone).rejects.toThrow("rolled back");
      expect((await outbox.stats()).destinations.b).toMatchObject({ paused: false, pending: 0 });
    });
    held.open();
    await put(stub, 4, 4);
    await eventually(() => got(all.a).length >= 3 && got(all.b).length >= 3);
    expect([got(all.a), got(all.b)]).toEqual([
      [1, 2, 4],
      [1, 2, 4],
    ]);
  });
});
