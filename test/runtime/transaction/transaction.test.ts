/** Transactions: what is written in one, messages and alarms included, commits with it or rolls back with it. */
import { describe, expect, it } from "vitest";
import type { OutboxManager } from "../../../src/index.ts";
import {
  by,
  crash,
  drained,
  fresh,
  gate,
  handedOver,
  inside,
  native,
  onBothBackends,
  outboxRows,
  type Stub,
  sent,
  unhurried,
} from "../support/harness.ts";
import { stageOf } from "../support/worker.ts";
import { backlogged, expectFired, expectNoOther, getAlarm, setIn, WORLDS } from "../support/worlds.ts";

class Rollback extends Error {}

type Ending = "commits" | "throws" | "is rolled back";

/** Runs `body` in a transaction that ends so. */
async function transact(
  storage: DurableObjectStorage,
  ending: Ending,
  body: (txn: DurableObjectTransaction) => Promise<unknown>,
): Promise<void> {
  const done = storage.transaction(async (txn) => {
    await body(txn);
    if (ending === "throws") throw new Rollback();
    if (ending === "is rolled back") txn.rollback();
  });
  if (ending === "throws") await expect(done).rejects.toThrow(Rollback);
  else await done;
}

const ROLLED_BACK: Ending[] = ["throws", "is rolled back"];

onBothBackends("the object's own alarm in a transaction", (backend) => {
  describe.concurrent.each(WORLDS)("$world", ({ object }) => {
    it.each(ROLLED_BACK)("is what it was before when the transaction %s", (ending) =>
      unhurried(700, async (ms) => {
        const stub = await object(backend);
        const time = await setIn(stub, ms);
        await by(time, async () => {
          for (const change of [
            (txn: DurableObjectTransaction) => txn.setAlarm(Date.now() + ms / 7),
            (txn: DurableObjectTransaction) => txn.deleteAlarm(),
          ]) {
            await inside(stub, (_, __, { storage }) => transact(storage, ending, change));
            expect(await getAlarm(stub)).toBe(time);
          }
        });
        await expectFired(stub, 1, time);
        await expectNoOther(stub, 1);
      }),
    );

    it.each(ROLLED_BACK)("is none when there was none and the transaction %s", async (ending) => {
      const stub = await object(backend);
      await inside(stub, (_, __, { storage }) => transact(storage, ending, (txn) => txn.setAlarm(Date.now() + 50)));
      expect(await getAlarm(stub)).toBeNull();
      await expectFired(stub, 1, await setIn(stub, 200));
      await expectNoOther(stub, 1);
    });

    it("is the new one when the transaction commits, and known inside", () =>
      unhurried(300, async (ms) => {
        const stub = await object(backend);
        await setIn(stub, 600_000);
        const time = Date.now() + ms;
        await by(time, async () => {
          await inside(stub, (_, __, { storage }) =>
            transact(storage, "commits", async (txn) => {
              await txn.setAlarm(time);
              expect(await txn.getAlarm()).toBe(time);
            }),
          );
          expect(await getAlarm(stub)).toBe(time);
        });
        await expectFired(stub, 1, time);
        await expectNoOther(stub, 1);
      }));

    it("is gone when the transaction that deletes it commits", () =>
      unhurried(300, async (ms) => {
        const stub = await object(backend);
        const time = await setIn(stub, ms);
        await by(time, () => inside(stub, (_, __, { storage }) => transact(storage, "commits", (txn) => txn.deleteAlarm())));
        expect(await getAlarm(stub)).toBeNull();
        await expectFired(stub, 1, await setIn(stub, ms + 200));
        await expectNoOther(stub, 1);
      }));

    it.runIf(backend.name === "sqlite")("is what it was before when transactionSync throws, and the new one when it does not", () =>
      unhurried(400, async (ms) => {
        const stub = await object(backend);
        const time = await setIn(stub, 600_000);
        const soon = Date.now() + ms;
        await by(soon, async () => {
          await inside(stub, async (_, __, { storage }) => {
            const sync = (end: () => void) =>
              storage.transactionSync(() => {
                void storage.setAlarm(soon);
                end();
              });
            expect(() =>
              sync(() => {
                throw new Rollback();
              }),
            ).toThrow(Rollback);
            expect(await storage.getAlarm()).toBe(time);
            sync(() => {});
          });
          expect(await getAlarm(stub)).toBe(soon);
        });
        await expectFired(stub, 1, soon);
        await expectNoOther(stub, 1);
      }),
    );
  });
});

onBothBackends("a message in a transaction", (backend) => {
  const write = (outbox: OutboxManager) => async (txn: DurableObjectTransaction) => {
    await txn.put("txn", 1);
    await outbox.put("outbox", 2, "in the transaction");
    await outbox.send("and another");
  };
  const state = (stub: Stub) => inside(stub, async (_, __, { storage }) => Object.fromEntries(await storage.list({ end: "\u{10FFFF}" })));

  it.each(ROLLED_BACK)("is never seen when it %s, and its number goes to the next", async (ending) => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox, ctx) => {
      await transact(ctx.storage, ending, write(outbox));
      expect((await outboxRows(ctx)).size).toBe(0);
      expect(await native(ctx).getAlarm()).toBeNull();
      expect((await outbox.stats()).pending).toBe(0);
    });
    expect(await state(stub)).toEqual({});
    expect(await inside(stub, (_, outbox) => outbox.send("after"))).toMatchObject({ sequence: 1 });
    await drained(stub);
    expect(sent(stub).map(({ msg }) => msg)).toEqual(["after"]);
  });

  it.each(ROLLED_BACK)("that %s leaves those that waited before, and their wake-up", async (ending) => {
    const stub = await backlogged(backend);
    await inside(stub, (_, outbox, { storage }) => transact(storage, ending, write(outbox)));
    stageOf(stub).rest = () => {};
    await drained(stub);
    await inside(stub, (_, outbox) => outbox.send("after"));
    await drained(stub);
    expect([...new Map(sent(stub).map(({ sequence, msg }) => [sequence, msg]))]).toEqual([
      [1, "waits"],
      [2, "after"],
    ]);
  });

  it("is delivered when it commits, with its state, also by the object's next life", async () => {
    const stub = fresh(backend);
    let up = false;
    stageOf(stub).rest = () => (up ? undefined : Promise.reject(new Error("down")));
    await inside(stub, (_, outbox, { storage }) => transact(storage, "commits", write(outbox)));
    await handedOver(stub, 1);
    const next = await crash(stub);
    up = true;
    await drained(next);
    expect(await state(next)).toEqual({ txn: 1, outbox: 2 });
    // How often it failed meanwhile is the machine's affair, and so the order.
    expect(new Set(sent(next).map(({ msg }) => msg))).toEqual(new Set(["in the transaction", "and another"]));
  });

  it("wakes the object although nobody asks", async () => {
    const stub = fresh(backend);
    await inside(stub, (_, outbox, { storage }) => transact(storage, "commits", write(outbox)));
    await handedOver(stub, 2);
    expect(sent(stub).map(({ msg }) => msg)).toEqual(["in the transaction", "and another"]);
  });

  it.each(ROLLED_BACK)("that %s during a send in flight loses nothing that is put afterwards", async (ending) => {
    const stub = fresh(backend);
    const held = gate();
    stageOf(stub).script.push(held.passed);
    await inside(stub, (_, outbox) => outbox.send("in flight"));
    await handedOver(stub, 1);
    await inside(stub, (_, outbox, { storage }) => transact(storage, ending, write(outbox)));
    held.open();
    await drained(stub);
    const numbers = Array.from({ length: 30 }, (_, n) => n);
    await inside(stub, (_, outbox) => Promise.all(numbers.map((n) => outbox.send(n))));
    await drained(stub);
    expect(sent(stub).map(({ msg }) => msg)).toEqual(["in flight", ...numbers]);
  });

  it("that is put after rollback() is delivered, or was refused", async () => {
    const stub = fresh(backend);
    let refused = false;
    await inside(stub, (_, outbox, { storage }) =>
      storage.transaction(async (txn) => {
        await txn.put("txn", 1);
        txn.rollback();
        await outbox.send("after the rollback").catch(() => {
          refused = true;
        });
      }),
    );
    await inside(stub, (_, outbox) => outbox.send("next"));
    await drained(stub);
    expect(sent(stub).map(({ msg }) => msg)).toEqual(refused ? ["next"] : ["after the rollback", "next"]);
  });

  it("of an idle object with a history rolls back to that history", async () => {
    const stub = fresh(backend);
    await inside(stub, (_, outbox) => outbox.send("one"));
    await drained(stub);
    await inside(stub, async (_, outbox, ctx) => {
      const before = await outboxRows(ctx);
      await transact(ctx.storage, "throws", write(outbox));
      expect(await outboxRows(ctx)).toEqual(before);
      expect(await native(ctx).getAlarm()).toBeNull();
    });
    expect(await inside(stub, (_, outbox) => outbox.send("two"))).toMatchObject({ sequence: 2 });
    await drained(stub);
    expect(new Set(sent(stub).map(({ source }) => source)).size).toBe(1);
  });

  it.runIf(backend.name === "sqlite")("joins transactionSync: gone when it throws, delivered when it does not", async () => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox, ctx) => {
      const { storage } = ctx;
      storage.sql.exec("CREATE TABLE orders (id INTEGER)");
      const sync = (id: number, end: () => void) =>
        storage.transactionSync(() => {
          storage.sql.exec("INSERT INTO orders VALUES (?)", id);
          outbox.send(id).catch(() => {});
          end();
        });
      expect(() =>
        sync(1, () => {
          throw new Rollback();
        }),
      ).toThrow(Rollback);
      expect(await native(ctx).getAlarm()).toBeNull();
      expect((await outboxRows(ctx)).size).toBe(0);
      sync(2, () => {});
      expect(storage.sql.exec("SELECT id FROM orders").toArray()).toEqual([{ id: 2 }]);
    });
    await handedOver(stub, 1);
    await drained(stub);
    expect(sent(stub)).toMatchObject([{ msg: 2, sequence: 1 }]);
  });
});
