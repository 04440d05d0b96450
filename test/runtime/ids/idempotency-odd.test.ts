/** Ids of the caller's own that are odd, and puts with one that are refused, not awaited or changed behind their back. */
import { evictDurableObject } from "cloudflare:test";
import { expect, it } from "vitest";
import { callsOf, numbers } from "../support/batches.ts";
import { again, expectFirst, expectUntouched, fresh, inside, onBothBackends, type Stub, sent } from "../support/harness.ts";
import { idle, listed, paused, resumed } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

onBothBackends("a put with an id", (backend) => {
  it("that is refused leaves the id as free as before", async () => {
    const stub = await paused(backend);
    const results = await inside(stub, (_, outbox) =>
      Promise.allSettled([
        outbox.put("bad", () => {}, "lost", { id: "order" }),
        outbox.put("good", 1, "first", { id: "order" }),
        outbox.put("bad", () => {}, "lost", { id: "order" }),
        outbox.put("good", 2, () => {}, { id: "other" }),
        outbox.put("good", 3, "second", { id: "order" }),
      ]),
    );
    expect(results.map(({ status }) => status)).toEqual(["rejected", "fulfilled", "rejected", "rejected", "fulfilled"]);
    expect(await inside(stub, async (_, __, { storage }) => [...(await storage.list({ end: "\u{10FFFF}" }))])).toEqual([["good", 3]]);
    expect(await inside(stub, (_, outbox) => outbox.put("good", 4, "other", { id: "other" }))).toMatchObject({ id: "other" });
    await resumed(stub);
    expect(sent(stub).map(({ id, msg }) => [id, msg])).toEqual([
      ["order", "first"],
      ["other", "other"],
    ]);
  });

  it("stores state and message as they were at the call", async () => {
    const stub = await paused(backend);
    await inside(stub, async (_, outbox, { storage }) => {
      const [value, msg, entries] = [{ n: 1 }, { n: 1 }, { a: { n: 1 } } as Record<string, unknown>];
      const written = [outbox.put("key", value, msg, { id: "one" }), outbox.put(entries, msg, { id: "two" })];
      value.n = msg.n = 2;
      (entries.a as { n: number }).n = 2;
      entries.b = 1;
      await Promise.all(written);
      expect(Object.fromEntries(await storage.list({ end: "\u{10FFFF}" }))).toEqual({ key: { n: 1 }, a: { n: 1 } });
    });
    await resumed(stub);
    expect(callsOf(stub).flat()).toEqual([{ n: 1 }, { n: 1 }]);
  });

  it("does not change the order of the messages, where the puts are not awaited", async () => {
    const stub = await paused(backend);
    await inside(stub, (_, outbox) => Promise.all(numbers(9).map((n) => outbox.send(n, n % 3 ? {} : { id: `order:${n}` }))));
    await resumed(stub);
    expect(callsOf(stub).flat()).toEqual(numbers(9));
  });

  it.each([false, true])(
    "that is another message's derived one stores no second message under it (of an earlier epoch: %s)",
    async (earlier) => {
      const stub = await paused(backend);
      const { id } = await inside(stub, (_, outbox) => outbox.send("first"));
      if (earlier) await inside(stub, (_, outbox) => outbox.newEpoch());
      const second = await inside(stub, (_, outbox) => outbox.send("second", { id })).catch((error: unknown) => error);
      await resumed(stub);
      const ids = sent(stub).map((message) => message.id);
      expect([second, ids]).toEqual([second, [...new Set(ids)]]);
    },
  );
});

onBothBackends("an id of odd characters", (backend) => {
  const ODD = [" ", "/", "a/b", "a\0b", "..", "%2F", "\n", "\u{1F600}", "\ud800", "\udc00", "\ufffd", "\u{10FFFF}", "\u{10FFFF}outbox/h"];
  ODD.push("__proto__", "constructor", "toString", "0", "1", "01", "-1", "true", "a", "A", "\u00e9", "e\u0301", "a ", "a\u200b");
  ODD.push("x".repeat(256), `${"x".repeat(255)}y`, "\u2713".repeat(256), `${"\u2713".repeat(255)}\u2714`);

  it("may begin with a hyphen in an object that has stored nothing yet", async () => {
    const stub = fresh(backend);
    expect(await inside(stub, (_, outbox) => outbox.send(1, { id: "-1" }))).toEqual({ id: "-1", sequence: 1 });
    await idle(stub);
  });

  it("is kept as it is, and taken for no other", async () => {
    const stub = await paused(backend);
    const all = (life: Stub) => inside(life, (_, outbox) => Promise.all(ODD.map((id, n) => outbox.send(n + 1, { id }))));
    const expected = ODD.map((id, n) => ({ id, sequence: n + 1 }));
    expect(await all(stub)).toEqual(expected);
    await evictDurableObject(stub);
    expect(await all(again(stub))).toEqual(expected.map((receipt) => ({ ...receipt, deduplicated: true })));
    expect((await listed(again(stub), "pending")).map(({ id }) => id)).toEqual(ODD);
    stageOf(stub).script.push((messages, delivery) => {
      for (const { id, sequence } of messages) {
        if (sequence % 3 === 0) delivery.reject(id);
        else if (sequence % 3 === 1) delivery.retry(id);
        else delivery.ack(id);
      }
    });
    await resumed(again(stub));
    expect((await listed(again(stub), "dead")).map(({ id }) => id)).toEqual(ODD.filter((_, n) => (n + 1) % 3 === 0));
    expect(await inside(again(stub), (_, outbox) => outbox.redrive(ODD))).toBe(Math.floor(ODD.length / 3));
    await idle(again(stub));
    expect(callsOf(stub).flat().length).toBe(2 * ODD.length - Math.floor(ODD.length / 3));
    expect(new Set(sent(stub).map(({ id }) => id))).toEqual(new Set(ODD));
  });

  it.each([{ id: "" }, { id: "x".repeat(257) }, { id: 5 }, { id: {} }, { id: Symbol("id") }, { id: ["a"] }])(
    "that is none (%o) is a TypeError",
    async (bad) => {
      const stub = fresh(backend);
      await inside(stub, async (_, outbox, state) => {
        await expect(outbox.put("key", 1, "message", bad as never)).rejects.toThrow(TypeError);
        await expect(outbox.delete("key", "message", bad as never)).rejects.toThrow(TypeError);
        await expect(outbox.send("message", bad as never)).rejects.toThrow("options.id");
        await expectUntouched(state);
      });
      await expectFirst(stub);
    },
  );
});
