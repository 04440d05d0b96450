/** `transaction()` beside others: nested, concurrent, opened by a delivery, and after its end. */
import { expect, it } from "vitest";
import { type OutboxDelivery, type OutboxTransaction, withTransactionalOutbox } from "../../../src/index.ts";
import { boxWith } from "../support/batches.ts";
import {
  crashAfter,
  declared,
  drained,
  expectFirst,
  expectUntouched,
  handedOver,
  inside,
  onBothBackends,
  type Stub,
  sent,
} from "../support/harness.ts";
import { telling } from "../support/lanes.ts";
import { idle, paused, resumed } from "../support/standing.ts";
import { Box, options, type Sent } from "../support/worker.ts";

class Rollback extends Error {}

const isRollback = (error: unknown): void => expect(error).toBeInstanceOf(Rollback);
const messages = (stub: Stub) => sent(stub).map(({ sequence, msg }) => [sequence, msg]);
const own = async ({ storage }: DurableObjectState) => [...(await storage.list()).keys()];

type End = "commits" | "throws" | "is rolled back";

/** Ends a transaction so. */
function finish(end: End, txn: DurableObjectTransaction): void {
  if (end === "throws") throw new Rollback();
  if (end === "is rolled back") txn.rollback();
}

const ENDS: End[] = ["commits", "throws", "is rolled back"];

onBothBackends("a transaction within a transaction", (backend) => {
  const BOTH = ENDS.flatMap((outer) => ENDS.map((inner): [End, End] => [outer, inner]));

  it.each(BOTH)("that %s, where the inner one %s, keeps what both of them keep", async (outer, inner) => {
    const { stub, told } = telling(backend);
    const kept = outer === "commits" ? ["first", ...(inner === "commits" ? ["inner", "inner too"] : []), "last"] : [];
    await inside(stub, async (_, outbox, state) => {
      const done = outbox.transaction(async (txn) => {
        await txn.put("first", 1);
        await txn.send("first");
        const nested = outbox.transaction(async (within) => {
          await within.put("inner", 1);
          await within.send("inner", { id: "inner" });
          await outbox.put("inner too", 1, "inner too");
          finish(inner, within);
        });
        await nested.catch(isRollback);
        expect(told).toEqual([]);
        await txn.put("last", 1);
        await txn.send("last");
        finish(outer, txn);
      });
      await done.catch(isRollback);
      if (kept.length === 0) await expectUntouched(state);
      expect(await own(state)).toEqual(kept);
    });
    await drained(stub);
    expect(messages(stub)).toEqual(kept.map((msg, n) => [n + 1, msg]));
    expect(told.filter(({ type }) => type === "stored")).toMatchObject(kept.map((_, n) => ({ sequence: n + 1 })));
    expect(await inside(stub, (_, outbox) => outbox.send("after"))).toMatchObject({ sequence: kept.length + 1 });
  });

  it("goes on when the platform refuses rollback(), because the inner one is still open", async () => {
    const stub = boxWith(backend, {});
    await inside(stub, async (_, outbox, state) => {
      await outbox.transaction(async (txn) => {
        await outbox.transaction(async (within) => {
          expect(() => txn.rollback()).toThrow("nested");
          await within.put("inner", 1);
          await within.send("inner");
        });
        await txn.put("outer", 1);
        await txn.send("outer");
      });
      expect(await own(state)).toEqual(["inner", "outer"]);
    });
    await drained(stub);
    expect(messages(stub)).toEqual([
      [1, "inner"],
      [2, "outer"],
    ]);
  });

  it("that the object's own code opened takes part in it", async () => {
    const stub = boxWith(backend, {});
    await inside(stub, async (_, outbox, state) => {
      await state.storage.transaction(async (txn) => {
        await txn.put("outer", 1);
        const nested = outbox.transaction(async (within) => {
          await within.send("lost");
          throw new Rollback();
        });
        await nested.catch(isRollback);
        await outbox.transaction((within) => within.send("kept"));
      });
      expect(await own(state)).toEqual(["outer"]);
    });
    await drained(stub);
    expect(messages(stub)).toEqual([[1, "kept"]]);
  });
});

onBothBackends("transactions at the same time", (backend) => {
  it.each(ENDS)("follow each other: one that %s leaves the numbers of the next without a gap", async (end) => {
    const stub = boxWith(backend, {});
    await inside(stub, async (_, outbox, state) => {
      const write = (name: string, how: End) =>
        outbox.transaction(async (txn) => {
          await txn.put(name, 1);
          await txn.send(`${name} 1`);
          await txn.get("none");
          await txn.send(`${name} 2`, { id: name });
          finish(how, txn);
        });
      const [first, second] = await Promise.allSettled([write("one", end), write("two", "commits"), write("three", end)]);
      expect([first.status, second.status]).toEqual([end === "throws" ? "rejected" : "fulfilled", "fulfilled"]);
      expect(await own(state)).toEqual(end === "commits" ? ["one", "three", "two"] : ["two"]);
    });
    await drained(stub);
    const kept = end === "commits" ? ["one 1", "one 2", "two 1", "two 2", "three 1", "three 2"] : ["two 1", "two 2"];
    expect(messages(stub)).toEqual(kept.map((msg, n) => [n + 1, msg]));
  });

  /** Puts around the call of a transaction, in the same turn. */
  it.each(ENDS)("leave a put of the same turn whole, whether or not the transaction %s", async (end) => {
    const stub = await paused(backend);
    await inside(stub, async (_, outbox, state) => {
      const results = await Promise.allSettled([
        outbox.put("before", 1, "before"),
        outbox.put("before with id", 1, "before with id", { id: "before" }),
        outbox.transaction(async (txn) => {
          await txn.put("inside", 1);
          await txn.send("inside");
          finish(end, txn);
        }),
        outbox.put("after", 1, "after"),
        outbox.put("after with id", 1, "after with id", { id: "after" }),
      ]);
      const refused = results.flatMap((result, n) => (result.status === "rejected" && n !== 2 ? [String(result.reason)] : []));
      expect(refused).toEqual([]);
      expect(await own(state)).toEqual(expect.arrayContaining(["before", "before with id"]));
    });
    const next = await crashAfter(stub, (_, state) => state.storage.sync());
    const keys = await inside(next, (_, __, state) => own(state));
    await resumed(next);
    expect(
      sent(next)
        .map(({ msg }) => msg)
        .sort(),
    ).toEqual(keys.sort());
    expect(sent(next).map(({ sequence }) => sequence)).toEqual(keys.map((_, n) => n + 1));
  });
});

onBothBackends("a transaction that sendMessages opens", (backend) => {
  it.each(["transaction", "transactionSync"])("stores the next message during the call (%s)", async (name) => {
    class Relay extends Box {
      override async sendMessages(batch: Sent, delivery: OutboxDelivery) {
        await super.sendMessages(batch, delivery);
        for (const { msg } of batch) {
          if ((msg as number) >= 4) return;
          if (name === "transaction" || backend.name === "kv")
            await this.outbox.transaction(async (txn) => [await txn.put(`after ${msg}`, 1), await txn.send((msg as number) + 1)]);
          else this.outbox.transactionSync(({ kv, send }) => [kv.put(`after ${msg}`, 1), send((msg as number) + 1)]);
        }
      }
    }
    const stub = declared(backend, withTransactionalOutbox(Relay, options));
    await inside(stub, (_, outbox) => outbox.send(1));
    await handedOver(stub, 4);
    await idle(stub);
    expect(messages(stub)).toEqual([1, 2, 3, 4].map((n) => [n, n]));
    expect(await inside(stub, (_, __, state) => own(state))).toEqual(["after 1", "after 2", "after 3"]);
  });
});

onBothBackends("txn.send of a transaction that is over", (backend) => {
  const unsupported = { name: "OutboxError", code: "unsupported" };

  it.each(ENDS)("rejects, when it %s, and has written nothing", async (end) => {
    const stub = boxWith(backend, {});
    await inside(stub, async (_, outbox, state) => {
      let kept: OutboxTransaction | undefined;
      const done = outbox.transaction(async (txn) => {
        kept = txn;
        finish(end, txn);
      });
      await done.catch(isRollback);
      for (const options of [{}, { id: "mine" }]) await expect(kept?.send("late", options)).rejects.toMatchObject(unsupported);
      // As the platform's own methods do.
      await expect(kept?.put("late", 1)).rejects.toThrow();
      await expectUntouched(state);
    });
    await expectFirst(stub);
  });

  it.each([{}, { id: "mine" }])("rejects after rollback(), with %o, also what had not been written by then", async (options) => {
    const stub = boxWith(backend, {});
    await inside(stub, async (_, outbox, state) => {
      await outbox.transaction(async (txn) => {
        const early = txn.send("early", options).catch((error) => error);
        txn.rollback();
        await expect(txn.send("late", options)).rejects.toMatchObject(unsupported);
        await expect(txn.put("late", 1)).rejects.toThrow("rolled back");
        // A KV-backed object has to read first where there is an id: by then the transaction was over.
        expect(await early).toMatchObject(backend.name === "kv" && "id" in options ? unsupported : { sequence: 1 });
      });
      await expectUntouched(state);
    });
    await expectFirst(stub);
  });

  it.each(["returns", "throws"])(
    "does not stop the manager: what is put after rollback() is kept or refused when the closure %s",
    async (end) => {
      const stub = await paused(backend);
      const refused = await inside(stub, async (_, outbox) => {
        let error: unknown;
        const done = outbox.transaction(async (txn) => {
          await txn.send("lost");
          txn.rollback();
          await outbox.put("after", 1, "after the rollback").catch((reason) => {
            error = reason;
          });
          if (end === "throws") throw new Rollback();
        });
        await done.catch(isRollback);
        await outbox.send("next");
        return error !== undefined;
      });
      const next = await crashAfter(stub, (_, state) => state.storage.sync());
      const keys = await inside(next, (_, __, state) => own(state));
      await resumed(next);
      expect([keys, messages(next)]).toEqual(
        refused
          ? [[], [[1, "next"]]]
          : [
              ["after"],
              [
                [1, "after the rollback"],
                [2, "next"],
              ],
            ],
      );
    },
  );
});
