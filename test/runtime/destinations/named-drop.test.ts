/** Dropping a destination that the class does not have any more: its messages are abandoned, for good or to its dead letters. */
import { expect, it } from "vitest";
import { eventually, inside, onEitherBackend, outboxRows, until } from "../support/harness.ts";
import { deployed, got, objectWith, receivers, told } from "../support/named.ts";

const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, n) => first + n);

onEitherBackend("dropDestination", (backend) => {
  /** An object of which a destination has been removed that had messages queued, delayed, blocked and dead. */
  async function withRemoved() {
    const all = receivers("a", "b");
    const stub = objectWith(backend, all, { a: {}, b: {} });
    all.b.rest = (messages, delivery) => {
      for (const { id, msg } of messages) {
        if (msg === 1) delivery.retry(id, { delaySeconds: 600 });
        if (msg === 3) delivery.reject(id, "no");
        if (msg === 4) throw new Error("down");
      }
    };
    await inside(stub, async (_, outbox) => {
      await outbox.send(1, { key: "k", id: "one" });
      await outbox.send(2, { key: "k" });
      await outbox.send(3);
    });
    await until(stub, async (box) => {
      const { destinations } = await box.outbox.stats();
      return destinations.b?.dead === 1 && destinations.b.blocked === 1 && destinations.a?.pending === 0;
    });
    await inside(stub, (_, outbox) => Promise.all(range(4, 50).map((n) => outbox.send(n))));
    await eventually(() => got(all.a).length >= 50 && got(all.b).includes(4));
    return { all, stub: await deployed(stub, all, { a: {} }) };
  }

  it("deletes what it has yet to get and its dead letters, and forgets it", async () => {
    const { all, stub } = await withRemoved();
    await inside(stub, async (_, outbox, state) => {
      await expect(outbox.dropDestination("a")).rejects.toThrow("The class still has the destination");
      await expect(outbox.dropDestination("c")).rejects.toThrow('Expected `options.destination` to be one of "a", "b"');
      await expect(outbox.transaction(() => outbox.dropDestination("b"))).rejects.toMatchObject({ code: "unsupported" });
      expect(await outbox.dropDestination("b")).toBe(49);
      expect((await outboxRows(state)).size).toBe(1);
      expect(Object.keys((await outbox.stats()).destinations)).toEqual(["a"]);
      // No id of its messages is remembered any more.
      expect(await outbox.send("again", { id: "one" })).not.toHaveProperty("deduplicated");
    });
    await eventually(() => got(all.a).includes("again"));
    // Should the class have one of that name again, that is a new one.
    const later = await deployed(stub, all, { a: {}, b: {} });
    all.b.calls.length = 0;
    all.b.rest = () => {};
    await inside(later, (_, outbox) => outbox.send(51));
    await eventually(() => got(all.b).length > 0);
    expect(got(all.b)).toEqual([51]);
  });

  it("makes dead letters of what it has yet to get, and gives it nothing more", async () => {
    const { all, stub } = await withRemoved();
    await inside(stub, async (_, outbox) => {
      expect(await outbox.dropDestination("b", { deadLetters: true })).toBe(49);
      await outbox.send(51);
      const { destinations } = await outbox.stats();
      expect(destinations.b).toMatchObject({ pending: 0, delayed: 0, blocked: 0, dead: 50, missing: true });
      const letters = await outbox.list({ state: "dead", destination: "b", limit: 1000 });
      expect(letters.map(({ msg }) => msg)).toEqual(range(1, 50));
      expect(letters.map(({ reason }) => reason).filter((reason) => reason !== "dropped")).toEqual(["rejected"]);
    });
    await eventually(() => got(all.a).includes(51));
    // A later life does not report it again, and its letters can be discarded.
    const reports = told(stub, "destination_missing").length;
    const later = await deployed(stub, all, { a: {} });
    await inside(later, async (_, outbox, state) => {
      const letters = await outbox.list({ state: "dead", destination: "b", limit: 1000 });
      expect(await outbox.discard(letters.map(({ id }) => id))).toBe(50);
      expect((await outboxRows(state)).size).toBe(1);
    });
    expect(told(later, "destination_missing")).toHaveLength(reports);
    // When it is back, it goes on with what is put from then on, and with what is redriven.
    const back = await deployed(later, all, { a: {}, b: {} });
    all.b.calls.length = 0;
    all.b.rest = () => {};
    await inside(back, (_, outbox) => outbox.send(52));
    await eventually(() => got(all.b).length > 0);
    expect(got(all.b)).toEqual([52]);
  });
});
