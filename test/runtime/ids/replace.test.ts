/** `replace`: a message that no handler has had gives way to a newer one of its id, in the commit that stores that one. */
import { expect, it } from "vitest";
import type { OutboxManager } from "../../../src/index.ts";
import { crash, drained, eventually, fresh, gate, inside, onBothBackends, outboxRows, sent, until } from "../support/harness.ts";
import { got, objectWith, receivers } from "../support/named.ts";
import { stageOf } from "../support/worker.ts";

const replacing = (outbox: OutboxManager, n: number, options: object = {}) =>
  outbox.put("state", n, n, { id: "one", replace: true, ...options });

onBothBackends("a put with replace", (backend) => {
  it.each([
    ["is queued", {}],
    ["is delayed", { delaySeconds: 600 }],
    ["is behind its key", { key: "k" }],
  ])("takes the place of a message that %s, with its id, and leaves nothing of it", async (_, options) => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox) => {
      await outbox.pause();
      if ("key" in options) await outbox.send(0, { id: "head", key: "k", delaySeconds: 600 });
    });
    const first = await inside(stub, (_, outbox) => replacing(outbox, 1, options));
    // What is delayed or blocked is stored in a row of its own once it has been looked at.
    await inside(stub, async (_, outbox) => {
      await outbox.resume();
      await outbox.flush();
    });
    await until(stub, async (box) => "key" in options || "delaySeconds" in options || (await box.outbox.stats()).pending === 0);
    await inside(stub, (_, outbox) => outbox.pause());
    if (Object.keys(options).length > 0) {
      const second = await inside(stub, (_, outbox) => replacing(outbox, 2, "key" in options ? options : {}));
      expect(second.id).toBe("one");
      expect(second.sequence).toBeGreaterThan(first.sequence);
      await inside(stub, async (_, outbox) => {
        await outbox.resume();
        if ("key" in options) await outbox.cancel("head");
      });
      await drained(stub);
      await eventually(() => sent(stub).some(({ msg }) => msg === 2));
      expect(sent(stub).filter(({ msg }) => msg === 1)).toEqual([]);
      expect(sent(stub).find(({ msg }) => msg === 2)).toMatchObject({ id: "one" });
    }
    await until(stub, async (box, state) => {
      const { pending, delayed, blocked } = await box.outbox.stats();
      // The header, and the row of the id that is remembered.
      return pending + delayed + blocked === 0 && (await outboxRows(state)).size <= 2;
    });
  });

  it("debounces: of fifty only the last is delivered, and their states are all written", async () => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox, state) => {
      await outbox.pause();
      for (let n = 1; n <= 50; n++) await replacing(outbox, n, n % 3 ? { delaySeconds: 0.01 * (n % 3) } : {});
      expect(await state.storage.get("state")).toBe(50);
      const { pending, delayed } = await outbox.stats();
      expect(pending + delayed).toBe(1);
      await outbox.resume();
    });
    await eventually(() => sent(stub).length > 0);
    await drained(stub);
    expect(sent(stub).map(({ id, msg }) => [id, msg])).toEqual([["one", 50]]);
  });

  it("of many at once keeps the last", async () => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox) => {
      await outbox.pause();
      await Promise.all([1, 2, 3, 4, 5].map((n) => replacing(outbox, n)));
      expect((await outbox.list()).map(({ id, msg }) => [id, msg])).toEqual([["one", 5]]);
      await outbox.resume();
    });
    await drained(stub);
    expect(sent(stub).map(({ msg }) => msg)).toEqual([5]);
  });

  it("stores a second message, under an id of its own, while the first is in the hands of the handler, has failed or is dead", async () => {
    const stub = fresh(backend);
    const held = gate();
    stageOf(stub).script.push(
      () => held.passed(),
      (messages, delivery) => {
        for (const { id } of messages) delivery.retry(id, { delaySeconds: 600 });
      },
      (messages, delivery) => {
        for (const { id } of messages) delivery.reject(id);
      },
    );
    await inside(stub, (_, outbox) => replacing(outbox, 1));
    await eventually(() => sent(stub).length > 0);
    const second = await inside(stub, (_, outbox) => replacing(outbox, 2));
    expect(second).not.toHaveProperty("deduplicated");
    expect(second.id).not.toBe("one");
    held.open();
    await eventually(() => sent(stub).length >= 2);
    await until(stub, async (box) => (await box.outbox.stats()).delayed === 1);
    // The second has failed and waits. So the third is another one.
    const third = await inside(stub, (_, outbox) => replacing(outbox, 3));
    await until(stub, async (box) => (await box.outbox.stats()).dead === 1);
    const fourth = await inside(stub, (_, outbox) => replacing(outbox, 4));
    await eventually(() => sent(stub).length >= 4);
    expect(new Set([second.id, third.id, fourth.id, "one"]).size).toBeGreaterThanOrEqual(3);
    expect(sent(stub).map(({ msg }) => msg)).toEqual([1, 2, 3, 4]);
    expect(new Set(sent(stub).map(({ id }) => id)).size).toBe(4);
  });

  it("stores a message again once the first has been delivered, however long its id is remembered", async () => {
    const stub = fresh(backend);
    await inside(stub, (_, outbox) => replacing(outbox, 1));
    await eventually(() => sent(stub).length > 0);
    await drained(stub);
    const again = await inside(stub, (_, outbox) => replacing(outbox, 2));
    expect(again).toEqual({ id: "one", sequence: 2 });
    await eventually(() => sent(stub).length > 1);
    await drained(stub);
    expect(await inside(stub, (_, outbox) => outbox.put("state", 3, 3, { id: "one" }))).toEqual({ ...again, deduplicated: true });
  });

  it("is one commit: a crash in its turn leaves the first, or the second and its state", async () => {
    for (let microtasks = 0; microtasks < 40; microtasks += 3) {
      const stub = fresh(backend);
      await inside(stub, async (_, outbox, { storage }) => {
        await outbox.pause();
        await replacing(outbox, 1);
        await storage.sync();
      });
      const next = await crash(stub, async (outbox) => {
        void replacing(outbox, 2).catch(() => {});
        for (let n = 0; n < microtasks; n++) await null;
      });
      const [listed, state] = await inside(
        next,
        async (_, outbox, { storage }) => [await outbox.list(), await storage.get("state")] as const,
      );
      expect(listed.map(({ id, msg }) => [id, msg])).toEqual([["one", state]]);
    }
  });

  it("belongs to its transaction, and is refused in a synchronous one", async () => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox) => {
      await outbox.pause();
      await replacing(outbox, 1);
      const undone = outbox.transaction(async (txn) => {
        await txn.send(2, { id: "one", replace: true });
        throw new Error("undone");
      });
      await expect(undone).rejects.toThrow("undone");
      expect((await outbox.list()).map(({ msg }) => msg)).toEqual([1]);
      await outbox.transaction((txn) => txn.send(3, { id: "one", replace: true }));
      expect((await outbox.list()).map(({ id, msg }) => [id, msg])).toEqual([["one", 3]]);
      expect(() => outbox.transactionSync((txn) => txn.send(4, { id: "one", replace: true }))).toThrow("unsupported");
      await outbox.resume();
    });
    await drained(stub);
    expect(sent(stub).map(({ msg }) => msg)).toEqual([3]);
  });

  it("reaches the destinations that have not had the first, and is a second message for those that have", async () => {
    const all = receivers("fast", "paused");
    const stub = objectWith(backend, all, { fast: {}, paused: {} });
    await inside(stub, async (_, outbox) => {
      await outbox.pause({ destination: "paused" });
      await replacing(outbox, 1);
    });
    await until(stub, async (box) => (await box.outbox.stats()).destinations.fast?.pending === 0);
    await inside(stub, (_, outbox) => replacing(outbox, 2));
    await eventually(() => got(all.fast).length >= 2);
    await inside(stub, (_, outbox) => outbox.resume());
    await eventually(() => got(all.paused).length >= 1);
    await until(stub, async (box) => (await box.outbox.stats()).pending === 0);
    expect([got(all.fast), got(all.paused)]).toEqual([[1, 2], [2]]);
  });

  it("needs an id, and a boolean", async () => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox, state) => {
      await expect(outbox.send(1, { replace: true })).rejects.toThrow("Expected `options.replace` to be beside an id");
      await expect(outbox.send(1, { id: "one", replace: 1 as never })).rejects.toThrow("Expected `options.replace` to be a boolean, got 1");
      await expect(outbox.deleteAll(1, { id: "one", replace: true })).rejects.toMatchObject({ code: "unsupported" });
      expect((await outboxRows(state)).size).toBe(0);
    });
  });
});
