/** `onDead: "hold"`: a dead letter holds its ordering key until it is redriven or discarded, and nothing else. */
import { expect, it } from "vitest";
import type { OutboxDelivery, OutboxMessage } from "../../../src/index.ts";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { again, crash, eventually, inside, native, onBothBackends, outboxRows, until } from "../support/harness.ts";
import { deployed, got, objectWith, receivers } from "../support/named.ts";

/** Rejects messages that begin with "bad". */
function strict(messages: OutboxMessage[], delivery: OutboxDelivery): void {
  for (const { id, msg } of messages) if (String(msg).startsWith("bad")) delivery.reject(id, "no");
}

onBothBackends("a dead letter that holds its key", (backend) => {
  async function held() {
    const all = receivers("default");
    all.default.rest = strict;
    const stub = objectWith(backend, all, {}, { onDead: "hold" });
    const { id } = await inside(stub, async (_, outbox) => {
      const [first] = await Promise.all([
        outbox.send("bad a1", { key: "a" }),
        outbox.send("a2", { key: "a" }),
        outbox.send("b1", { key: "b" }),
      ]);
      return first;
    });
    await eventually(() => got(all.default).includes("b1"));
    await until(stub, async (box) => (await box.outbox.stats()).blocked === 1);
    return { all, stub, id };
  }

  it("makes later ones wait, in this life and the next, and no others: nothing wakes the object for them", async () => {
    const { all, stub } = await held();
    await inside(stub, (_, outbox) => Promise.all([outbox.send("a3", { key: "a" }), outbox.send("free"), outbox.send("bad free")]));
    await eventually(() => got(all.default).includes("bad free"));
    const next = await crash(stub);
    await inside(next, (_, outbox) => outbox.send("a4", { key: "a" }));
    await until(next, async (box) => (await box.outbox.stats()).pending === 0);
    await inside(next, async (_, outbox, state) => {
      expect(await outbox.stats()).toMatchObject({ pending: 0, delayed: 0, blocked: 3, held: 1, dead: 2, nextAttemptAt: null });
      expect((await outbox.list({ state: "delayed" })).map(({ msg }) => msg)).toEqual(["a2", "a3", "a4"]);
      const letters = await outbox.list({ state: "dead" });
      expect(letters.map(({ msg, holdsKey }) => [msg, holdsKey])).toEqual([
        ["bad a1", true],
        ["bad free", undefined],
      ]);
      await outbox.flush();
      expect(await native(state).getAlarm()).toBeNull();
    });
    expect(got(all.default)).not.toContain("a2");
  });

  it("goes out first when it is redriven, and the others follow in order", async () => {
    const { all, stub } = await held();
    all.default.rest = () => {};
    await inside(stub, async (_, outbox) => {
      await outbox.send("a3", { key: "a" });
      expect(await outbox.redrive()).toBe(1);
      await outbox.send("a4", { key: "a" });
    });
    await eventually(() => got(all.default).includes("a4"));
    expect(got(all.default).filter((msg) => String(msg).includes("a"))).toEqual(["bad a1", "bad a1", "a2", "a3", "a4"]);
    await until(stub, async (box) => (await box.outbox.stats()).blocked === 0);
    await inside(stub, async (_, outbox, state) => {
      expect(await outbox.stats()).toMatchObject({ pending: 0, delayed: 0, blocked: 0, held: 0, dead: 0 });
      expect((await outboxRows(state)).size).toBe(1);
    });
  });

  it("lets the others go when it is discarded, and each of several must be", async () => {
    const { all, stub, id } = await held();
    await inside(stub, async (_, outbox) => {
      await outbox.send("bad a3", { key: "a" });
      await outbox.send("a4", { key: "a" });
      expect(await outbox.discard([id])).toBe(1);
    });
    await until(stub, async (box) => (await box.outbox.stats()).dead === 1);
    await until(stub, async (box) => (await box.outbox.stats()).blocked === 1);
    expect(got(all.default)).toEqual(expect.arrayContaining(["a2", "bad a3"]));
    expect(got(all.default)).not.toContain("a4");
    await inside(stub, async (_, outbox) => outbox.discard((await outbox.list({ state: "dead" })).map((letter) => letter.id)));
    await eventually(() => got(all.default).includes("a4"));
    await until(stub, async (_, state) => (await outboxRows(state)).size === 1);
  });

  it("is one of several that died in one call, and each of them holds it", async () => {
    const all = receivers("default");
    all.default.rest = strict;
    const stub = objectWith(backend, all, {}, { onDead: "hold", ordering: "batch" });
    await inside(stub, (_, outbox) => Promise.all(["bad 1", "bad 2", "3", "bad 4"].map((msg) => outbox.send(msg, { key: "k" }))));
    await until(stub, async (box) => (await box.outbox.stats()).dead === 3);
    await inside(stub, async (_, outbox) => {
      // What was handed over too early comes again.
      expect(await outbox.stats()).toMatchObject({ blocked: 1, held: 1 });
      const [first, second, third] = (await outbox.list({ state: "dead" })).map(({ id }) => id);
      await outbox.discard([second as string]);
      await outbox.flush();
      await outbox.discard([first as string]);
      await outbox.flush();
      expect(await outbox.stats()).toMatchObject({ blocked: 1, held: 1, dead: 1 });
      await outbox.discard([third as string]);
    });
    await eventually(() => got(all.default).filter((msg) => msg === "3").length === 2);
  });

  it("has expired in the queue, or in a lane, and what is looked at with it waits all the same", async () => {
    const all = receivers("default");
    all.default.rest = (messages, delivery) => {
      for (const { id, msg, attempts } of messages) if (msg === "head" && attempts === 1) delivery.retry(id, { delaySeconds: 2 });
    };
    const stub = objectWith(backend, all, {}, { onDead: "hold" });
    await inside(stub, async (_, outbox) => {
      await outbox.pause();
      await outbox.send("old", { key: "queue", expiresInSeconds: 0.001 });
      await outbox.send("next", { key: "queue" });
      await outbox.send("head", { key: "lane" });
      await outbox.send("behind", { key: "lane", expiresInSeconds: 1 });
      await outbox.send("after", { key: "lane" });
      await new Promise((resolve) => setTimeout(resolve, 5));
      await outbox.resume();
    });
    await until(stub, async (box) => (await box.outbox.stats()).dead === 2);
    await inside(stub, (_, outbox) => outbox.send("last"));
    await eventually(() => got(all.default).includes("last"));
    await inside(stub, async (_, outbox) => {
      await outbox.flush();
      expect(await outbox.stats()).toMatchObject({ pending: 0, delayed: 0, blocked: 2, held: 2, dead: 2 });
    });
    expect(got(all.default)).not.toContain("next");
    expect(got(all.default)).not.toContain("after");
  });

  it("is rolled back with the transaction in which it is redriven", async () => {
    const { all, stub } = await held();
    all.default.rest = () => {};
    await inside(stub, async (_, outbox) => {
      const rolled = outbox.transaction(async () => {
        await outbox.redrive();
        throw new Error("not now");
      });
      await expect(rolled).rejects.toThrow("not now");
      await outbox.flush();
      expect(await outbox.stats()).toMatchObject({ blocked: 1, held: 1, dead: 1 });
      await outbox.redrive();
    });
    await eventually(() => got(all.default).includes("a2"));
  });

  it("holds it for its own destination, whose option may differ from the wrapper's, and for no one after that was changed", async () => {
    const all = receivers("a", "b");
    for (const receiver of [all.a, all.b]) receiver.rest = strict;
    const stub = objectWith(backend, all, { a: { onDead: "hold" }, b: {} });
    await inside(stub, (_, outbox) => Promise.all([outbox.send("bad 1", { key: "k" }), outbox.send("2", { key: "k" })]));
    await eventually(() => got(all.b).includes("2"));
    await until(stub, async (box) => (await box.outbox.stats()).destinations.a?.blocked === 1);
    await inside(stub, async (_, outbox) => {
      const { destinations } = await outbox.stats();
      expect([destinations.a?.held, destinations.b?.held]).toEqual([1, 0]);
    });
    const later = await deployed(stub, all, { a: {}, b: {} });
    await inside(later, async (_, outbox) => {
      // What it holds it holds.
      expect((await outbox.stats()).destinations.a).toMatchObject({ held: 1, blocked: 1 });
      await outbox.send("bad 3", { key: "other" });
      await outbox.send("4", { key: "other" });
    });
    await eventually(() => got(all.a).includes("4"));
    await inside(again(later), (_, outbox) => outbox.redrive(undefined, { destination: "a" }));
    await eventually(() => got(all.a).includes("2"));
  });

  it("lets its key go when a limit deletes it", async () => {
    const all = receivers("default");
    all.default.rest = strict;
    const stub = objectWith(backend, all, {}, { onDead: "hold", deadLetters: { max: 1 } });
    await inside(stub, (_, outbox) =>
      Promise.all(
        ["bad a", "a2", "bad b", "b2"].map((msg) => outbox.send(msg, { key: msg.includes("a2") || msg === "bad a" ? "a" : "b" })),
      ),
    );
    await eventually(() => got(all.default).includes("a2"));
    await until(stub, async (box) => (await box.outbox.stats()).blocked === 1);
    await inside(stub, async (_, outbox) => expect(await outbox.stats()).toMatchObject({ held: 1, dead: 1, deadDeleted: 1 }));
    expect(got(all.default)).not.toContain("b2");
  });
});

it("checks the option", () => {
  const wrap = (onDead: unknown): unknown =>
    withTransactionalOutbox(
      class {
        sendMessages() {}
      } as never,
      { onDead } as never,
    );
  expect(() => wrap("stop")).toThrow('Expected `options.onDead` to be "continue" or "hold", got "stop".');
});
