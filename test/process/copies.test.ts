/** Copies on disk: an object that finds the rows of another, and no alarm, delivers after its first start, and begins an epoch of its own. */
import { describe, expect, it } from "vitest";
import { BACKENDS, by, folder, Receiver, range, unhurried, until } from "./harness.ts";
import { copyWithoutAlarm, remove, standing } from "./standing.ts";

describe.concurrent.each(BACKENDS)("an object copied on disk (%s)", (backend) => {
  it("delivers what is pending, delayed, blocked and dead once, and names its own messages by a new epoch", () =>
    unhurried(3000, async (ms) => {
      const path = folder();
      const receiver = new Receiver();
      const ids: string[] = [];
      await by(Date.now() + ms, async () => {
        await using first = await standing(path, receiver);
        await first.call(backend, "original", "hold", ms / 1000);
        await until(async () => {
          const { pending, delayed, blocked, dead } = await first.call<Record<string, number>>(backend, "original", "stats");
          return [pending, delayed, blocked, dead].join() === "0,2,1,1";
        });
        receiver.order = () => "throw";
        await first.call(backend, "original", "put", 1, 40);
        await until(() => receiver.calls.some((call) => call.some(({ msg }) => msg.n === 1)));
        await first.call(backend, "copy", "put", 999, 1);
        for (const name of ["original", "copy"]) ids.push(await first.call<string>(backend, name, "objectId"));
      });
      const [original = "", copy = ""] = ids;
      const before = receiver.calls.flatMap((call) => call.filter(({ msg }) => msg.n <= 40).map(({ id }) => id));
      copyWithoutAlarm(path, backend, original, copy);
      // What the original does is not the question.
      remove(path, backend, original);
      receiver.calls.length = receiver.orders.length = 0;
      receiver.order = () => "deliver";

      await using second = await standing(path, receiver);
      await second.call(backend, "copy", "put", 41, 1);
      await until(() => receiver.delivered.length >= 44);
      const seen = receiver.calls.flat();
      expect(receiver.delivered.filter((n) => n < 100)).toEqual(range(1, 41));
      expect(receiver.delivered.filter((n) => n > 100).sort()).toEqual([102, 103, 104]);
      expect(receiver.delivered.indexOf(103)).toBeLessThan(receiver.delivered.indexOf(104));
      expect(seen.filter(({ msg }) => msg.n < 41 || msg.n > 100).every(({ source }) => source.startsWith(`${original}:`))).toBe(true);
      expect(before.length).toBeGreaterThan(0);
      expect(seen.map(({ id }) => id)).toEqual(expect.arrayContaining(before));
      expect(seen.find(({ msg }) => msg.n === 41)).toMatchObject({ sequence: 1, source: expect.stringContaining(`${copy}:`) });

      expect(await second.call(backend, "copy", "redrive")).toBe(1);
      await second.call(backend, "copy", "put", 42, 1);
      await until(async () => (await second.call<{ pending: number }>(backend, "copy", "stats")).pending === 0);
      expect(receiver.calls.flat().find(({ msg }) => msg.n === 42)).toMatchObject({ sequence: 2 });
      await until(async () => (await second.call(backend, "copy", "nativeAlarm")) === null);
    }));

  it("delivers after its first start whatever that was for, without another word", async () => {
    const path = folder();
    const receiver = new Receiver();
    receiver.order = () => "throw";
    let ids: string[];
    {
      await using first = await standing(path, receiver);
      await first.call(backend, "original", "put", 1, 20);
      await first.call(backend, "original", "setOwnAlarm", 600_000);
      await first.call(backend, "copy", "put", 999, 1);
      ids = await Promise.all(["original", "copy"].map((name) => first.call<string>(backend, name, "objectId")));
    }
    const [original = "", copy = ""] = ids;
    copyWithoutAlarm(path, backend, original, copy);
    remove(path, backend, original);
    receiver.calls.length = receiver.orders.length = 0;
    receiver.order = () => "deliver";

    await using second = await standing(path, receiver);
    expect(await second.call(backend, "copy", "objectId")).toBe(copy);
    await until(() => receiver.delivered.length >= 20);
    expect(receiver.delivered).toEqual(range(1, 20));
    // An alarm is not restored with a copy, so the original's own is not the copy's.
    expect(await second.call(backend, "copy", "getAlarm")).toBeNull();
    expect(await second.call(backend, "copy", "ownAlarms")).toBeUndefined();
  });
});
