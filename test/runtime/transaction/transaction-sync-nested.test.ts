/** `transactionSync()` beside others: within a transaction, within another, before the object has started, and during a delivery. */
import { describe, expect, it } from "vitest";
import { type OutboxManager, withTransactionalOutbox } from "../../../src/index.ts";
import { boxWith, numbers } from "../support/batches.ts";
import {
  crashAfter,
  declared,
  drained,
  expectFirst,
  expectUntouched,
  fresh,
  gate,
  handedOver,
  inside,
  onBothBackends,
  type Stub,
  sent,
} from "../support/harness.ts";
import { telling } from "../support/lanes.ts";
import { paused, resumed } from "../support/standing.ts";
import { Box, type BoxEnv, options, stageOf } from "../support/worker.ts";

class Rollback extends Error {}

type End = "commits" | "throws";
const ENDS: End[] = ["commits", "throws"];
const BOTH = ENDS.flatMap((outer) => ENDS.map((inner): [End, End] => [outer, inner]));

const finish = (end: End): void => {
  if (end === "throws") throw new Rollback();
};

const messages = (stub: Stub) => sent(stub).map(({ sequence, msg }) => [sequence, msg]);

/** Stores a state and a message of this name in a transactionSync that ends so, and catches what it throws itself. */
function sync(outbox: OutboxManager, name: string, end: End, within: () => void = () => {}): void {
  try {
    outbox.transactionSync(({ kv, send }) => {
      kv.put(name, 1);
      send(name, { id: name });
      within();
      kv.put(`${name} 2`, 1);
      send(`${name} 2`);
      finish(end);
    });
  } catch (error) {
    if (!(error instanceof Rollback)) throw error;
  }
}

onBothBackends("transactionSync()", (backend) => {
  describe.runIf(backend.name === "sqlite")("nested", () => {
    /** Asserts that exactly these states and messages are there, in this order, and that the next number follows. */
    async function expectKept(stub: Stub, kept: string[]): Promise<void> {
      const next = await crashAfter(stub, (_, state) => state.storage.sync());
      const keys = await inside(next, (_, __, { storage }) => [...storage.kv.list()].map(([key]) => key));
      expect(keys).toEqual([...kept].sort());
      await resumed(next);
      expect(messages(next)).toEqual(kept.map((msg, n) => [n + 1, msg]));
      expect(await inside(next, (_, outbox) => outbox.send("after"))).toMatchObject({ sequence: kept.length + 1 });
    }

    const ofBoth = (outer: End, inner: End) =>
      outer === "throws" ? [] : inner === "throws" ? ["outer", "outer 2"] : ["outer", "inner", "inner 2", "outer 2"];

    it.each(BOTH)("in one that %s: it %s", async (outer, inner) => {
      const stub = await paused(backend);
      await inside(stub, (_, outbox) => sync(outbox, "outer", outer, () => sync(outbox, "inner", inner)));
      await expectKept(stub, ofBoth(outer, inner));
    });

    it.each(BOTH)("in the object's own transactionSync that %s: it %s", async (outer, inner) => {
      const stub = await paused(backend);
      await inside(stub, (_, outbox, { storage }) => {
        const call = () =>
          storage.transactionSync(() => {
            storage.kv.put("own", 1);
            void outbox.send("own").catch(() => {});
            sync(outbox, "inner", inner);
            finish(outer);
          });
        if (outer === "throws") expect(call).toThrow(Rollback);
        else call();
      });
      await expectKept(stub, outer === "throws" ? [] : inner === "throws" ? ["own"] : ["own", "inner", "inner 2"]);
    });

    it.each(BOTH)("in a transaction that %s: it %s", async (outer, inner) => {
      const stub = await paused(backend);
      await inside(stub, async (_, outbox) => {
        const done = outbox.transaction(async (txn) => {
          await txn.put("outer", 1);
          await txn.send("outer");
          sync(outbox, "inner", inner);
          await txn.put("outer 2", 1);
          await txn.send("outer 2");
          finish(outer);
        });
        await done.catch((error) => expect(error).toBeInstanceOf(Rollback));
      });
      await expectKept(stub, ofBoth(outer, inner));
    });

    it("tells of messages once nothing can undo them any more", async () => {
      const { stub, told } = telling(backend);
      await inside(stub, async (_, outbox) => {
        sync(outbox, "one", "commits", () => {
          sync(outbox, "inner", "commits");
          sync(outbox, "lost", "throws");
          expect(told).toEqual([]);
        });
        const stored = () => told.flatMap((event) => (event.type === "stored" ? event.sequence : []));
        expect(stored()).toEqual([1, 2, 3, 4]);
        await outbox.transaction(async () => {
          sync(outbox, "two", "commits");
          expect(stored()).toHaveLength(4);
        });
        expect(stored()).toEqual(numbers(6));
      });
      await drained(stub);
    });
  });

  describe.runIf(backend.name === "sqlite")("in the object's life", () => {
    it("is unsupported while the constructor runs, and works in its blockConcurrencyWhile", async () => {
      const seen: unknown[] = [];
      class Eager extends Box {
        constructor(ctx: DurableObjectState, env: BoxEnv) {
          super(ctx, env);
          try {
            this.outbox.transactionSync(({ kv, send }) => [kv.put("early", 1), send("early")]);
          } catch (error) {
            seen.push(error);
          }
          ctx.blockConcurrencyWhile(async () => void sync(this.outbox, "started", "commits"));
        }
      }
      const stub = declared(backend, withTransactionalOutbox(Eager, options));
      await inside(stub, () => {});
      await handedOver(stub, 2);
      await drained(stub);
      expect(seen).toMatchObject([{ code: "unsupported" }]);
      expect(messages(stub)).toEqual([
        [1, "started"],
        [2, "started 2"],
      ]);
      expect(await inside(stub, (_, __, { storage }) => [...storage.kv.list()].map(([key]) => key))).toEqual(["started", "started 2"]);
    });

    it.each(ENDS)("that %s during a send in flight loses nothing and repeats nothing", async (end) => {
      const stub = fresh(backend);
      const held = gate();
      stageOf(stub).script.push(held.passed);
      await inside(stub, (_, outbox) => outbox.send("in flight"));
      await handedOver(stub, 1);
      await inside(stub, (_, outbox) => sync(outbox, "sync", end));
      held.open();
      await inside(stub, (_, outbox) => outbox.send("last"));
      await drained(stub);
      const kept = ["in flight", ...(end === "commits" ? ["sync", "sync 2"] : []), "last"];
      expect(messages(stub)).toEqual(kept.map((msg, n) => [n + 1, msg]));
    });

    it("joins what the same turn has written before and after", async () => {
      const stub = boxWith(backend, {});
      await inside(stub, (_, outbox) => Promise.all([outbox.put("a", 1, "a"), sync(outbox, "b", "commits"), outbox.put("c", 1, "c")]));
      await drained(stub);
      expect(messages(stub).map(([, msg]) => msg)).toEqual(["a", "b", "b 2", "c"]);
    });
  });
});

onBothBackends("with immediate dispatch", (backend) => {
  it("what transaction() has stored is sent once it is committed, and not before", async () => {
    const stub = boxWith(backend, { dispatch: "immediate" });
    await expectSoon(stub, (outbox) =>
      outbox.transaction(async (txn) => {
        await txn.send(1);
        await scheduler.wait(50);
        expect(sent(stub)).toEqual([]);
        await txn.send(2);
      }),
    );
  });

  it.runIf(backend.name === "sqlite")("what transactionSync() has stored is sent once it is committed", async () => {
    const stub = boxWith(backend, { dispatch: "immediate" });
    await expectSoon(stub, async (outbox) => outbox.transactionSync(({ send }) => [send(1), send(2)]));
  });

  /** Asserts that both messages come long before the alarm that stands behind the first attempt, which is ten seconds away. */
  async function expectSoon(stub: Stub, body: (outbox: OutboxManager) => Promise<unknown>): Promise<void> {
    await inside(stub, (_, outbox) => body(outbox));
    await handedOver(stub, 2);
    await drained(stub);
    expect(messages(stub)).toEqual([
      [1, 1],
      [2, 2],
    ]);
  }

  it("what is rolled back is never sent", async () => {
    const stub = boxWith(backend, { dispatch: "immediate" });
    await inside(stub, async (_, outbox, state) => {
      const done = outbox.transaction(async (txn) => {
        await txn.send("lost");
        await scheduler.wait(20);
        throw new Rollback();
      });
      await expect(done).rejects.toThrow(Rollback);
      await expectUntouched(state);
    });
    await expectFirst(stub);
  });
});
