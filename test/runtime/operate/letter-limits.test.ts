/** Limits of dead letters: which are deleted and when, that it is reported and counted, and what it costs. */
import { expect, it } from "vitest";
import type { OutboxOptions } from "../../../src/index.ts";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { crash, declared, eventually, inside, native, onBothBackends, outboxRows, until } from "../support/harness.ts";
import { deployed, got, objectWith, receivers, told } from "../support/named.ts";
import { Box, options, stageOf } from "../support/worker.ts";

const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, n) => first + n);

onBothBackends("the limits of dead letters", (backend) => {
  /** An object whose destinations reject everything that is a number. */
  function rejecting(destinations: Record<string, object>, options: OutboxOptions<"OUTBOX_MANAGER"> = {}) {
    const all = receivers("default", "other");
    for (const receiver of Object.values(all)) {
      receiver.rest = (messages, delivery) => {
        for (const { id, msg } of messages) if (typeof msg === "number") delivery.reject(id, "no");
      };
    }
    return { all, stub: objectWith(backend, all, destinations, options) };
  }

  it("deletes the first of more than max, for each destination, with their ids, and says so", async () => {
    const { stub } = rejecting({ other: { deadLetters: { max: 30 } } }, { deadLetters: { max: 3 } });
    await inside(stub, (_, outbox) => Promise.all(range(1, 40).map((n) => outbox.send(n, { id: `id ${n}` }))));
    await until(stub, async (box) => {
      const { destinations } = await box.outbox.stats();
      return destinations.default?.dead === 3 && destinations.other?.dead === 30 && destinations.default.deadDeleted === 37;
    });
    await inside(stub, async (_, outbox, state) => {
      const letters = await outbox.list({ state: "dead", limit: 1000 });
      expect(letters.map(({ msg }) => msg)).toEqual([...range(38, 40), ...range(11, 40)]);
      expect(await outbox.stats()).toMatchObject({ pending: 0, dead: 33, deadDeleted: 47 });
      expect(await native(state).getAlarm()).toBeNull();
      // The id of a message that has been deleted is free again.
      expect(await outbox.send("again", { id: "id 1" })).not.toHaveProperty("deduplicated");
    });
    const reports = told(stub, "dead_letters_deleted") as { destination: string; limit: string; ids: string[] }[];
    expect(new Set(reports.map(({ limit }) => limit))).toEqual(new Set(["max"]));
    const ofDefault = reports.filter(({ destination }) => destination === "default").flatMap(({ ids }) => ids);
    expect(ofDefault).toEqual(range(1, 37).map((n) => `id ${n}`));
  });

  it("deletes what has expired, and what has not stays", async () => {
    const { all, stub } = rejecting({}, { deadLetters: { expiresInSeconds: 2 } });
    await inside(stub, (_, outbox) => Promise.all(range(1, 20).map((n) => outbox.send(n))));
    await until(stub, async (box) => (await box.outbox.stats()).dead === 20);
    // Nobody calls the object meanwhile: an alarm of its own wakes it.
    await eventually(() => (told(stub, "dead_letters_deleted") as { ids: string[] }[]).flatMap(({ ids }) => ids).length === 20);
    expect(told(stub, "dead_letters_deleted")[0]).toMatchObject({ destination: "default", limit: "expiresInSeconds" });
    await until(stub, async (_, state) => (await native(state).getAlarm()) === null);
    await inside(stub, async (_, outbox, state) => {
      expect(await outbox.stats()).toMatchObject({ dead: 0, deadDeleted: 20, nextAttemptAt: null });
      expect((await outboxRows(state)).size).toBe(1);
      await outbox.send("fine");
    });
    await eventually(() => got(all.default).includes("fine"));
  });

  it("applies to letters from before it was set, and to those of a destination that the class does not have any more", async () => {
    const { all, stub } = rejecting({ other: {} });
    await inside(stub, (_, outbox) => Promise.all(range(1, 12).map((n) => outbox.send(n))));
    await until(stub, async (box) => (await box.outbox.stats()).dead === 24);
    const limited = await deployed(stub, all, {}, { deadLetters: { max: 2 } });
    await until(limited, async (box) => (await box.outbox.stats()).dead === 4);
    const later = await deployed(limited, all, {}, { deadLetters: { expiresInSeconds: 0.001 } });
    await until(later, async (box) => (await box.outbox.stats()).dead === 0);
    await inside(later, async (_, outbox) => expect((await outbox.stats()).deadDeleted).toBe(24));
  });

  it("keeps the object's own alarm at its time while letters wait for theirs", async () => {
    const limited = withTransactionalOutbox(class extends Box {}, { ...options, deadLetters: { expiresInSeconds: 600 } });
    const stub = declared(backend, limited);
    stageOf(stub).rest = (messages, delivery) => {
      for (const { id } of messages) delivery.reject(id, "no");
    };
    const time = await inside(stub, async (_, outbox, { storage }) => {
      await outbox.send(1);
      const time = Date.now() + 300_000;
      await storage.setAlarm(time);
      return time;
    });
    await until(stub, async (box) => (await box.outbox.stats()).dead === 1);
    await inside(stub, (_, outbox) => outbox.pause());
    const next = await crash(stub);
    await inside(next, async (_, __, state) => {
      expect(await state.storage.getAlarm()).toBe(time);
      // Once the object has none any more, the one that is set stands for the letters.
      expect(await native(state).getAlarm()).toBe(time);
      await state.storage.deleteAlarm();
      const alarm = await native(state).getAlarm();
      expect(await state.storage.getAlarm()).toBeNull();
      expect(alarm).toBeLessThan(Date.now() + 660_000);
    });
  });
});

it("checks its options", () => {
  const wrap = (deadLetters: object): unknown =>
    withTransactionalOutbox(
      class {
        sendMessages() {}
      } as never,
      { deadLetters } as never,
    );
  expect(() => wrap({ maximum: 3 })).toThrow("did you mean `max`?");
  expect(() => wrap({ max: 0 })).toThrow("Expected `options.deadLetters.max` to be a whole number from 1 to 1000000000, got 0.");
  expect(() => wrap({ max: 1.5 })).toThrow("options.deadLetters.max");
  expect(() => wrap({ expiresInSeconds: 0 })).toThrow(
    "Expected `options.deadLetters.expiresInSeconds` to be a number from 0.001 to 315360000, got 0.",
  );
});
