/** What a destination gets that begins in the middle of the log, or goes back in it: nothing that was never committed, and nothing that was trimmed. */
import { expect, it } from "vitest";
import type { OutboxManager } from "../../../src/index.ts";
import { again, crash, drained, eventually, inside, onBothBackends } from "../support/harness.ts";
import { deployed, got, objectWith, receivers } from "../support/named.ts";

const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, n) => first + n);

/** Puts one message that storage refuses, and in the same turn so many others that it is in a segment by then. */
async function putAround(outbox: OutboxManager): Promise<void> {
  const results = await Promise.allSettled([
    ...range(1, 3).map((n) => outbox.send(n)),
    outbox.put("bad", () => {}, { type: "refused" }),
    ...range(4, 40).map((n) => outbox.send(n)),
  ]);
  expect(results.filter(({ status }) => status === "rejected")).toHaveLength(1);
}

onBothBackends("a message whose put storage has refused", (backend) => {
  it("is not got again by a destination that is rewound, in this life or the next", async () => {
    const all = receivers("one");
    const stub = objectWith(backend, all, { one: {} }, { retain: "all" });
    await inside(stub, (_, outbox) => putAround(outbox));
    await eventually(() => got(all.one).length >= 40);
    expect(await inside(stub, (_, outbox) => outbox.rewind("one", { to: 1 }))).toBe(40);
    await eventually(() => got(all.one).length >= 80);
    await drained(stub);
    const next = await crash(stub);
    await inside(next, (_, outbox) => outbox.rewind("one", { to: 1 }));
    await eventually(() => got(all.one).length >= 120);
    await drained(next);
    expect(got(all.one)).toEqual([...range(1, 40), ...range(1, 40), ...range(1, 40)]);
  });

  it.each([{}, { retain: "all" as const }])(
    "is not got by a destination that is new, or takes other types from now on: %j",
    async (options) => {
      const all = receivers("one", "two", "three");
      const stub = objectWith(backend, all, { one: {}, three: { types: ["other"] } }, options);
      await inside(stub, async (_, outbox) => {
        await outbox.pause();
        await outbox.send({ type: "other" });
        await putAround(outbox);
      });
      const next = await deployed(stub, all, { one: {}, two: { from: "start" }, three: { types: ["other", "refused"] } }, options);
      await inside(next, (_, outbox) => outbox.resume());
      await eventually(() => [all.one, all.two].every((each) => got(each).length >= 41));
      await drained(next);
      for (const each of [all.one, all.two]) expect(got(each)).toEqual([{ type: "other" }, ...range(1, 40)]);
      expect(got(all.three)).toEqual([{ type: "other" }]);
    },
  );

  it("is in segments at most 32 times: with one more the object is reset, and what was put beside it is not stored", async () => {
    const all = receivers("one");
    const stub = objectWith(backend, all, { one: {} }, { retain: "all" });
    const around = (outbox: OutboxManager): Promise<unknown> =>
      Promise.allSettled([outbox.put("bad", () => {}, 0), ...range(1, 40).map((n) => outbox.send(n))]);
    await inside(stub, async (_, outbox) => {
      for (let n = 0; n < 32; n++) await around(outbox);
      expect(await outbox.stats()).toMatchObject({ log: { last: 32 * 41 } });
    });
    await expect(inside(stub, (_, outbox) => around(outbox))).rejects.toThrow();
    const next = again(stub);
    await inside(next, async (_, outbox) => expect(await outbox.stats()).toMatchObject({ log: { last: 32 * 41 } }));
    await drained(next);
    expect(got(all.one)).toEqual(range(1, 32).flatMap(() => range(1, 40)));
  });
});

onBothBackends("a message that has been trimmed", (backend) => {
  it.each(["start", 3] as const)("is not got by a new destination, although its row is still there: from %s", async (from) => {
    const all = receivers("one", "two");
    const stub = objectWith(backend, all, { one: {} }, { retain: "all" });
    await inside(stub, (_, outbox) => Promise.all(range(1, 10).map((n) => outbox.send(n))));
    await eventually(() => got(all.one).length >= 10);
    await drained(stub);
    expect(await inside(stub, (_, outbox) => outbox.trim({ before: 6 }))).toBe(6);
    const next = await deployed(stub, all, { one: {}, two: { from } }, { retain: "all" });
    await inside(next, (_, outbox) => outbox.send(11));
    await eventually(() => got(all.two).length >= 6);
    await drained(next);
    expect(got(all.two)).toEqual(range(6, 11));
  });
});
