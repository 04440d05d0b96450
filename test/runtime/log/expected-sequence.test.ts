/** `expectedSequence`: of writes that know the same last message, one is stored. */
import { expect, it } from "vitest";
import { crash, drained, expectUntouched, fresh, inside, numbered, onBothBackends, sent } from "../support/harness.ts";

onBothBackends("a write with expectedSequence", (backend) => {
  it("is stored where it names the last message, and is refused otherwise, with nothing written", async () => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox, state) => {
      await expect(outbox.put("a", 1, "early", { expectedSequence: 1 })).rejects.toMatchObject({ code: "sequence_conflict", actual: 0 });
      await expectUntouched(state);
      expect(await outbox.put("a", 1, "first", { expectedSequence: 0 })).toMatchObject({ sequence: 1 });
      await expect(outbox.put("a", 2, "late", { expectedSequence: 0 })).rejects.toMatchObject({ code: "sequence_conflict", actual: 1 });
      expect(await state.storage.get("a")).toBe(1);
      await expect(outbox.delete("a", "late", { expectedSequence: 5 })).rejects.toMatchObject({ actual: 1 });
      await expect(outbox.send("late", { expectedSequence: 0 })).rejects.toThrow("expectedSequence is 0, and the last message has 1");
      await expect(outbox.transaction((txn) => txn.send("late", { expectedSequence: 0 }))).rejects.toMatchObject({ actual: 1 });
      await outbox.transaction((txn) => txn.send("second", { expectedSequence: 1 }));
    });
    await drained(stub);
    await crash(stub);
    expect(sent(stub).map(({ msg }) => msg)).toEqual(["first", "second"]);
  });

  it("is refused in every other form as well, and leaves state and messages as they were", async () => {
    await inside(fresh(backend), async (_, outbox, { storage }) => {
      await outbox.pause();
      await outbox.put({ a: 1 }, "first", { id: "one" });
      const stale = { expectedSequence: 0 };
      const writes = [
        () => outbox.put({ a: 2, b: 2 }, "x", stale),
        () => outbox.put(numbered(200), "x", stale),
        () => outbox.delete(["a"], "x", stale),
        () => outbox.deleteAll("x", stale),
        () => outbox.put("a", 2, "x", { ...stale, id: "one", replace: true }),
      ];
      for (const write of writes) await expect(write()).rejects.toMatchObject({ code: "sequence_conflict", actual: 1 });
      expect([...(await storage.list())]).toEqual([["a", 1]]);
      expect(await outbox.list()).toMatchObject([{ id: "one", msg: "first" }]);
      expect(await outbox.put("a", 2, "second", { id: "one", replace: true, expectedSequence: 1 })).toMatchObject({
        id: "one",
        sequence: 2,
      });
      expect(await outbox.deleteAll("last", { expectedSequence: 2 })).toMatchObject({ sequence: 3 });
    });
  });

  it("wins each number once, whoever tries", async () => {
    const stub = fresh(backend);
    const WINS = 250;
    const wins = await inside(stub, async (_, outbox) => {
      const wins: number[] = [];
      const writer = async (name: number): Promise<void> => {
        for (let tries = 0; wins.length < WINS; tries++) {
          const expectedSequence = wins.length;
          await outbox.send({ name, tries }, { expectedSequence }).then(
            ({ sequence }) => wins.push(sequence),
            (error: { code: string }) => expect(error.code).toBe("sequence_conflict"),
          );
        }
      };
      await Promise.all([1, 2, 3, 4].map(writer));
      return wins;
    });
    expect(wins).toEqual(wins.map((_, i) => i + 1));
  });

  it("of a known id returns the receipt of its message", async () => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox) => {
      await outbox.send("first", { id: "one", expectedSequence: 0 });
      expect(await outbox.send("first", { id: "one", expectedSequence: 0 })).toEqual({ id: "one", sequence: 1, deduplicated: true });
      await outbox.newEpoch();
      await expect(outbox.send("x", { expectedSequence: 1 })).rejects.toMatchObject({ actual: 0 });
      expect(await outbox.send("x", { expectedSequence: 0 })).toMatchObject({ sequence: 1 });
    });
  });

  if (backend.name === "sqlite") {
    it("holds in transactionSync", async () => {
      const stub = fresh(backend);
      await inside(stub, (_, outbox) => {
        outbox.transactionSync((txn) => void txn.send(1, { expectedSequence: 0 }));
        expect(() => outbox.transactionSync((txn) => void txn.send(2, { expectedSequence: 0 }))).toThrow("sequence_conflict");
        outbox.transactionSync((txn) => void txn.send(2, { expectedSequence: 1 }));
      });
    });
  }

  it.each([-1, 0.5, "1", Number.NaN])("refuses %o", async (expectedSequence) => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox, state) => {
      await expect(outbox.put("a", 1, "x", { expectedSequence } as object)).rejects.toThrow("options.expectedSequence");
      await expectUntouched(state);
    });
  });
});
