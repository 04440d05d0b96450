/** `transaction()` of the manager: `txn.send` beside the platform's own methods; all of it commits, or nothing. */
import { expect, it } from "vitest";
import type { OutboxTransaction } from "../../../src/index.ts";
import { boxWith, numbers } from "../support/batches.ts";
import {
  type Backend,
  by,
  crashAfter,
  drained,
  expectFirst,
  expectUntouched,
  handedOver,
  inside,
  native,
  onBothBackends,
  sent,
  unhurried,
} from "../support/harness.ts";
import { stats, telling } from "../support/lanes.ts";
import { paused, resumed } from "../support/standing.ts";

class Rollback extends Error {}

const ENDS = ["throws", "is rolled back"] as const;

/** Ends a transaction so that nothing of it stays. */
function undo(end: (typeof ENDS)[number], txn: DurableObjectTransaction): void {
  if (end === "throws") throw new Rollback();
  txn.rollback();
}

const isRollback = (error: unknown): void => expect(error).toBeInstanceOf(Rollback);

/** A fresh object of a class that nothing else is done to. */
const box = (backend: Backend) => boxWith(backend, {});

onBothBackends("transaction()", (backend) => {
  it("gives the platform's own methods, which see what the transaction has written", async () => {
    await inside(box(backend), async (_, outbox, { storage }) => {
      await storage.put({ one: 1, two: 2 });
      const seen = await outbox.transaction(async (txn) => {
        await txn.put("three", 3);
        await txn.put({ four: 4, five: 5 });
        expect([await txn.delete("one"), await txn.delete(["two", "none"])]).toEqual([true, 1]);
        const time = Date.now() + 60_000;
        await txn.setAlarm(time);
        expect(await txn.getAlarm()).toBe(time);
        await txn.deleteAlarm();
        expect(await txn.getAlarm()).toBeNull();
        await txn.setAlarm(time);
        return [await txn.get("three"), await txn.get(["four", "one"]), await txn.list({ limit: 2, reverse: true }), time] as const;
      });
      expect(seen.slice(0, 3)).toEqual([
        3,
        new Map([["four", 4]]),
        new Map([
          ["three", 3],
          ["four", 4],
        ]),
      ]);
      expect(await storage.list()).toEqual(new Map(Object.entries({ five: 5, four: 4, three: 3 })));
      expect(await storage.getAlarm()).toBe(seen[3]);
    });
  });

  it("stores the message with the state, and tells of it when both are committed", async () => {
    const { stub, told } = telling(backend);
    const receipts = await inside(stub, async (_, outbox, { storage }) => {
      const given = await outbox.transaction(async (txn) => {
        await txn.put("order", "new");
        const first = await txn.send({ order: 1 });
        await txn.put("count", 1);
        const second = await txn.send({ order: 2 });
        expect(told).toEqual([]);
        return [first, second];
      });
      expect(await storage.list()).toEqual(new Map(Object.entries({ count: 1, order: "new" })));
      return given;
    });
    expect(told.slice(0, 2)).toMatchObject(receipts.map((receipt) => ({ type: "stored", ...receipt })));
    await handedOver(stub, 2);
    await drained(stub);
    expect(sent(stub)).toMatchObject([
      { msg: { order: 1 }, ...receipts[0] },
      { msg: { order: 2 }, ...receipts[1] },
    ]);
    expect(receipts.map(({ sequence }) => sequence)).toEqual([1, 2]);
  });

  it.each(ENDS)("that %s leaves no state, no message, no gap, no wake-up and no event", async (end) => {
    const { stub, told } = telling(backend);
    await inside(stub, async (_, outbox, state) => {
      const done = outbox.transaction(async (txn) => {
        await txn.put("order", "new");
        await txn.send("one");
        await txn.send("two", { id: "mine", key: "k", delaySeconds: 1 });
        await outbox.put("joined", 1, "three");
        void txn.send("four").catch(() => {});
        void txn.send("five", { id: "other" }).catch(() => {});
        await txn.setAlarm(Date.now() + 60_000);
        undo(end, txn);
      });
      await done.catch(isRollback);
      await expectUntouched(state);
      expect(await state.storage.getAlarm()).toBeNull();
      // The ids of what was rolled back are free again.
      expect(await outbox.send("now", { id: "mine" })).toEqual({ id: "mine", sequence: 1 });
    });
    await drained(stub);
    expect(sent(stub).map(({ msg }) => msg)).toEqual(["now"]);
    expect(told.filter(({ type }) => type === "stored")).toMatchObject([{ id: "mine", sequence: 1 }]);
  });

  it.each(["sync", "async"])("passes the result of a closure that is %s, and what it throws", async (kind) => {
    await inside(box(backend), async (_, outbox) => {
      const closure = <T>(body: () => T) => (kind === "sync" ? body : async () => body());
      const result = { any: "value" };
      expect(await outbox.transaction(closure(() => result))).toBe(result);
      expect(await outbox.transaction(closure(() => undefined))).toBeUndefined();
      for (const thrown of [new Rollback(), "a text", undefined, { code: 1 }]) {
        const done = outbox.transaction(
          closure(() => {
            throw thrown;
          }),
        );
        expect(await done.catch((error) => ({ caught: error }))).toEqual({ caught: thrown });
      }
    });
  });

  it.each([undefined, null, 5, "text", {}, []])("refuses %o in the place of a closure, and goes on", async (closure) => {
    const stub = box(backend);
    await inside(stub, async (_, outbox, state) => {
      await expect(outbox.transaction(closure as never)).rejects.toThrow(TypeError);
      await expect(outbox.transaction(closure as never)).rejects.toThrow("`closure`");
      await expectUntouched(state);
    });
    await expectFirst(stub);
  });

  it("gives send to its own transactions only", async () => {
    await inside(box(backend), async (_, outbox, { storage }) => {
      await storage.transaction(async (txn) => expect("send" in txn).toBe(false));
      await outbox.transaction(async (txn) => expect(Object.keys(txn)).not.toContain("send"));
    });
  });
});

onBothBackends("txn.send", (backend) => {
  it.each([{}, { id: "mine" }])("is stored although nobody awaits it, with %o", async (options) => {
    const stub = box(backend);
    await inside(stub, (_, outbox) =>
      outbox.transaction(async (txn) => {
        void txn.put("order", 1);
        void txn.send("unawaited", options);
      }),
    );
    await handedOver(stub, 1);
    await drained(stub);
    expect(sent(stub)).toMatchObject([{ msg: "unawaited", sequence: 1, ...options }]);
  });

  it("knows an id from before, from within and after a commit, and stores one message", async () => {
    const stub = await paused(backend);
    await inside(stub, async (_, outbox) => {
      await outbox.send("before", { id: "old" });
      const receipts = await outbox.transaction(async (txn) => {
        const old = await txn.send("again", { id: "old" });
        return [old, ...(await Promise.all([txn.send("new", { id: "new" }), txn.send("twice", { id: "new" })]))];
      });
      expect(receipts).toEqual([
        { id: "old", sequence: 1, deduplicated: true },
        { id: "new", sequence: 2 },
        { id: "new", sequence: 2, deduplicated: true },
      ]);
      expect(await outbox.send("thrice", { id: "new" })).toMatchObject({ deduplicated: true });
    });
    await resumed(stub);
    expect(sent(stub).map(({ msg, id }) => [msg, id])).toEqual([
      ["before", "old"],
      ["new", "new"],
    ]);
  });

  it("takes ordering keys, headers and delays", () =>
    unhurried(300, async (ms) => {
      const stub = box(backend);
      const due = Date.now() + ms;
      await inside(stub, (_, outbox) =>
        outbox.transaction(async (txn) => {
          await txn.send("late", { key: "k", deliverAt: due, headers: { traceparent: "00-1" } });
          await txn.send("behind", { key: "k" });
          await txn.send("at once", { key: "other" });
        }),
      );
      await by(due, async () => {
        await handedOver(stub, 1);
        await stats(stub, { pending: 0, delayed: 1, blocked: 1 });
      });
      await handedOver(stub, 3);
      expect(Date.now()).toBeGreaterThanOrEqual(due);
      await drained(stub);
      expect(sent(stub)).toMatchObject([
        { msg: "at once", key: "other" },
        { msg: "late", key: "k", headers: { traceparent: "00-1" } },
        { msg: "behind", key: "k" },
      ]);
    }));

  const REFUSED: [string, string, (txn: OutboxTransaction) => Promise<unknown>][] = [
    ["no message", "TypeError", (txn) => txn.send(undefined)],
    ["a message that can't be cloned", "TypeError", (txn) => txn.send(() => {})],
    ["a message that is too large", "OutboxError", (txn) => txn.send("x".repeat(3_000_000))],
    ["a bad option", "TypeError", (txn) => txn.send("message", { delaySeconds: -1 })],
  ];

  it.each(REFUSED)("refuses %s, and what else the transaction does is committed if it goes on", async (_, name, refused) => {
    const stub = box(backend);
    await inside(stub, async (_, outbox, { storage }) => {
      await outbox.transaction(async (txn) => {
        await txn.put("order", 1);
        await expect(refused(txn)).rejects.toMatchObject({ name });
        await txn.send("good");
      });
      await expect(outbox.transaction(async (txn) => [await txn.put("order", 2), await refused(txn)])).rejects.toMatchObject({ name });
      expect(await storage.get("order")).toBe(1);
    });
    await drained(stub);
    expect(sent(stub)).toMatchObject([{ msg: "good", sequence: 1 }]);
  });

  it("counts towards maxPending, and makes room again when it is rolled back", async () => {
    const stub = boxWith(backend, { maxPending: 2 });
    await inside(stub, async (_, outbox) => {
      await outbox.pause();
      for (const end of ENDS) {
        const done = outbox.transaction(async (txn) => {
          await txn.send(1);
          await txn.send(2);
          await expect(txn.send(3)).rejects.toMatchObject({ code: "outbox_full" });
          undo(end, txn);
        });
        await done.catch(isRollback);
      }
      await outbox.transaction(async (txn) => [await txn.send(1), await txn.send(2)]);
    });
    await resumed(stub);
    expect(sent(stub).map(({ sequence, msg }) => [sequence, msg])).toEqual([
      [1, 1],
      [2, 2],
    ]);
  });

  it("fills row after row, and what is rolled back leaves the rows as they were", async () => {
    const stub = await paused(backend);
    await inside(stub, async (_, outbox, state) => {
      const rows = () => native(state).list({ prefix: "\u{10FFFF}" });
      await Promise.all(numbers(15).map((n) => outbox.send(n)));
      const before = await rows();
      for (const end of ENDS) {
        const done = outbox.transaction(async (txn) => {
          await Promise.all(numbers(40).map((n) => txn.send(-n)));
          undo(end, txn);
        });
        await done.catch(isRollback);
        expect(await rows()).toEqual(before);
      }
      await outbox.transaction((txn) => Promise.all(numbers(40, 16).map((n) => txn.send(n))));
    });
    const next = await crashAfter(stub, (_, state) => state.storage.sync());
    await resumed(next);
    expect(sent(next).map(({ msg, sequence }) => [msg, sequence])).toEqual(numbers(55).map((n) => [n, n]));
  });
});
