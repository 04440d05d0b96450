/** `transactionSync()` of the manager: `sql`, `kv` and a synchronous `send`, all of which commit, or nothing. */
import { describe, expect, it } from "vitest";
import type { OutboxTransactionSync } from "../../../src/index.ts";
import { boxWith, numbers } from "../support/batches.ts";
import {
  by,
  crashAfter,
  drained,
  expectFirst,
  expectUntouched,
  handedOver,
  inside,
  onBothBackends,
  outboxRows,
  type Stub,
  sent,
  unhurried,
} from "../support/harness.ts";
import { stats, telling } from "../support/lanes.ts";
import { paused, resumed } from "../support/standing.ts";

class Rollback extends Error {}

const fail = (): never => {
  throw new Rollback();
};

const messages = (stub: Stub) => sent(stub).map(({ sequence, msg }) => [sequence, msg]);

/** Makes a table whose rows `ids` gives. */
function table({ storage }: DurableObjectState): { ids: () => unknown[] } {
  storage.sql.exec("CREATE TABLE IF NOT EXISTS orders (id INTEGER)");
  return { ids: () => [...storage.sql.exec<{ id: number }>("SELECT id FROM orders ORDER BY id")].map(({ id }) => id) };
}

/** Writes a row, a key and a message. */
function write({ sql, kv, send }: OutboxTransactionSync, id: number): number {
  sql.exec("INSERT INTO orders VALUES (?)", id);
  kv.put(`order:${id}`, id);
  return send({ order: id }).sequence;
}

onBothBackends("transactionSync() by backend", (backend) => {
  it.runIf(backend.name === "kv")("is unsupported on a KV-backed object, before the closure is called", async () => {
    const stub = boxWith(backend, {});
    await inside(stub, async (_, outbox, state) => {
      let called = false;
      const call = () =>
        outbox.transactionSync(() => {
          called = true;
        });
      expect(call).toThrow(expect.objectContaining({ name: "OutboxError", code: "unsupported" }));
      expect(() => outbox.transactionSync(undefined as never)).toThrow(expect.objectContaining({ code: "unsupported" }));
      await outbox.transaction(async () => expect(call).toThrow(expect.objectContaining({ code: "unsupported" })));
      expect(called).toBe(false);
      await expectUntouched(state);
    });
    await expectFirst(stub);
  });

  if (backend.name === "kv") return;

  it("commits row, key and message, and gives the receipt and the result at once", async () => {
    const { stub, told } = telling(backend);
    const receipts = await inside(stub, (_, outbox, state) => {
      const { ids } = table(state);
      const given = outbox.transactionSync(({ sql, kv, send }) => {
        sql.exec("INSERT INTO orders VALUES (1)");
        const first = send({ order: 1 });
        kv.put("order", "new");
        const second = send({ order: 2 });
        expect(told).toEqual([]);
        return [first, second];
      });
      expect(told).toMatchObject(given.map((receipt) => ({ type: "stored", ...receipt })));
      expect([ids(), state.storage.kv.get("order")]).toEqual([[1], "new"]);
      return given;
    });
    await handedOver(stub, 2);
    await drained(stub);
    expect(sent(stub)).toMatchObject([
      { msg: { order: 1 }, sequence: 1, id: receipts[0]?.id },
      { msg: { order: 2 }, sequence: 2, id: receipts[1]?.id },
    ]);
    expect(receipts).toEqual(sent(stub).map(({ id, sequence }) => ({ id, sequence })));
  });

  it("that throws leaves no state, no message, no alarm, no gap and no event", async () => {
    const { stub, told } = telling(backend);
    await inside(stub, async (_, outbox, state) => {
      const { ids } = table(state);
      const thrown = new Rollback();
      const call = () =>
        outbox.transactionSync((txn) => {
          for (const n of numbers(20)) write(txn, n);
          txn.send("mine", { id: "mine" });
          void state.storage.setAlarm(Date.now() + 60_000);
          throw thrown;
        });
      expect(call).toThrow(thrown);
      expect(ids()).toEqual([]);
      await expectUntouched(state);
      expect(await state.storage.getAlarm()).toBeNull();
      expect(outbox.transactionSync(({ send }) => send("first", { id: "mine" }))).toEqual({ id: "mine", sequence: 1 });
    });
    await drained(stub);
    expect(messages(stub)).toEqual([[1, "first"]]);
    expect(told.filter(({ type }) => type === "stored")).toMatchObject([{ id: "mine", sequence: 1 }]);
  });

  const REFUSED: [string, object, (txn: OutboxTransactionSync) => unknown][] = [
    ["a message that is too large", { code: "too_large" }, ({ send }) => send("x".repeat(2 ** 21))],
    ["headers that make it too large", { code: "too_large" }, ({ send }) => send("", { headers: { h: "x".repeat(2 ** 21) } })],
    ["no message", { name: "TypeError" }, ({ send }) => send(undefined)],
    ["a message that can't be cloned", { name: "TypeError" }, ({ send }) => send({ call() {} })],
    ["a bad option", { name: "TypeError" }, ({ send }) => send("message", { key: "" })],
    ["a reserved key", { code: "reserved_key" }, ({ kv }) => kv.put("\u{10FFFF}outbox/h", 1)],
    ["a value that is too large", { message: expect.stringContaining("TOOBIG") }, ({ kv }) => kv.put("big", "x".repeat(3_000_000))],
    ["bad SQL", { message: expect.stringContaining("syntax") }, ({ sql }) => sql.exec("NO SQL")],
  ];

  describe.each(REFUSED)("throws at %s", (_, error, refused) => {
    it("and all is rolled back", async () => {
      const stub = boxWith(backend, {});
      await inside(stub, async (_, outbox, state) => {
        const { ids } = table(state);
        expect(() => outbox.transactionSync((txn) => [write(txn, 1), refused(txn)])).toThrow(expect.objectContaining(error));
        expect(ids()).toEqual([]);
        await expectUntouched(state);
      });
      await expectFirst(stub);
    });

    it("and commits the rest when the closure catches it", async () => {
      const stub = boxWith(backend, {});
      await inside(stub, async (_, outbox, state) => {
        const { ids } = table(state);
        outbox.transactionSync((txn) => {
          write(txn, 1);
          expect(() => refused(txn)).toThrow(expect.objectContaining(error));
          write(txn, 2);
        });
        expect(ids()).toEqual([1, 2]);
        expect([...state.storage.kv.list()].map(([key]) => key)).toEqual(["order:1", "order:2"]);
      });
      await drained(stub);
      expect(messages(stub)).toEqual([
        [1, { order: 1 }],
        [2, { order: 2 }],
      ]);
    });
  });

  it("counts towards maxPending, and makes room again when it throws", async () => {
    const stub = boxWith(backend, { maxPending: 20 });
    await inside(stub, async (_, outbox, state) => {
      const fill = ({ send }: OutboxTransactionSync) => numbers(21).map((n) => send(n));
      const full = expect.objectContaining({ code: "outbox_full" });
      for (let time = 0; time < 2; time++) expect(() => outbox.transactionSync(fill)).toThrow(full);
      await expectUntouched(state);
      outbox.transactionSync((txn) => expect(() => fill(txn)).toThrow(full));
    });
    await drained(stub);
    expect(messages(stub)).toEqual(numbers(20).map((n) => [n, n]));
  });

  it.each([async () => {}, () => Promise.resolve(1)])("refuses a closure that is async (%o): nothing is written", async (rest) => {
    const stub = boxWith(backend, {});
    await inside(stub, async (_, outbox, state) => {
      const { ids } = table(state);
      let late: unknown;
      const call = () =>
        // @ts-expect-error It does not compile either.
        outbox.transactionSync((txn) => {
          write(txn, 1);
          return rest().then(() => {
            try {
              txn.send("late");
            } catch (error) {
              late = error;
            }
          });
        });
      expect(call).toThrow(TypeError);
      expect(ids()).toEqual([]);
      await expectUntouched(state);
      expect(late).toMatchObject({ code: "unsupported" });
    });
    await expectFirst(stub);
  });

  it.each([undefined, null, 5, {}])("refuses %o in the place of a closure", async (closure) => {
    await inside(boxWith(backend, {}), async (_, outbox, state) => {
      expect(() => outbox.transactionSync(closure as never)).toThrow(TypeError);
      expect(() => outbox.transactionSync(closure as never)).toThrow("`closure`");
      await expectUntouched(state);
    });
  });

  it.each(["returns", "throws"])("has a send that throws once the closure has ended, when that %s", async (end) => {
    const stub = boxWith(backend, {});
    await inside(stub, async (_, outbox, state) => {
      let kept: OutboxTransactionSync | undefined;
      const call = () =>
        outbox.transactionSync((txn) => {
          kept = txn;
          return end === "returns" ? "the result" : fail();
        });
      if (end === "returns") expect(call()).toBe("the result");
      else expect(call).toThrow(Rollback);
      const unsupported = expect.objectContaining({ name: "OutboxError", code: "unsupported" });
      expect(() => kept?.send("late")).toThrow(unsupported);
      // Another one that is open does not open it again.
      outbox.transactionSync(() => expect(() => kept?.send("late")).toThrow(unsupported));
      await expectUntouched(state);
    });
    await expectFirst(stub);
  });

  it.each([1, 16, 17, 40])("stores %i messages, or none, and goes on from there in a next life", async (count) => {
    const stub = await paused(backend);
    await inside(stub, async (_, outbox, state) => {
      table(state);
      await outbox.send("before");
      const before = await outboxRows(state);
      expect(() => outbox.transactionSync((txn) => [numbers(count).map((n) => write(txn, -n)), fail()])).toThrow(Rollback);
      expect(await outboxRows(state)).toEqual(before);
      expect(outbox.transactionSync((txn) => numbers(count).map((n) => write(txn, n)))).toEqual(numbers(count, 2));
    });
    const next = await crashAfter(stub, (_, state) => state.storage.sync());
    expect(await inside(next, (_, __, state) => table(state).ids())).toEqual(numbers(count));
    await inside(next, (_, outbox) => outbox.send("after"));
    await resumed(next);
    const expected = ["before", ...numbers(count).map((order) => ({ order })), "after"];
    expect(messages(next)).toEqual(expected.map((msg, n) => [n + 1, msg]));
  });

  it("knows ids, from before, from within and after a rollback", async () => {
    const stub = await paused(backend);
    await inside(stub, async (_, outbox) => {
      await outbox.send("one", { id: "one" });
      expect(() => outbox.transactionSync(({ send }) => [send("lost", { id: "two" }), fail()])).toThrow(Rollback);
      const receipts = outbox.transactionSync(({ send }) => ["one", "two", "two"].map((id) => send(id, { id })));
      expect(receipts).toEqual([
        { id: "one", sequence: 1, deduplicated: true },
        { id: "two", sequence: 2 },
        { id: "two", sequence: 2, deduplicated: true },
      ]);
      expect(await outbox.send("two", { id: "two" })).toMatchObject({ deduplicated: true });
    });
    await resumed(stub);
    expect(messages(stub)).toEqual([
      [1, "one"],
      [2, "two"],
    ]);
  });

  it("sends while the object's own code goes through a list or a cursor", async () => {
    const stub = boxWith(backend, {});
    await inside(stub, (_, outbox, state) => {
      table(state);
      for (const n of numbers(30)) state.storage.sql.exec("INSERT INTO orders VALUES (?)", n);
      for (const n of numbers(30)) state.storage.kv.put(`key:${n + 100}`, n);
      outbox.transactionSync(({ sql, kv, send }) => {
        for (const [, n] of kv.list()) send(n, { id: `key:${n}` });
        for (const { id } of sql.exec("SELECT id FROM orders ORDER BY id")) send(30 + (id as number));
      });
    });
    await drained(stub);
    expect(messages(stub)).toEqual(numbers(60).map((n) => [n, n]));
  });

  it("takes ordering keys, headers and delays, and wakes the object for them", () =>
    unhurried(200, async (ms) => {
      const stub = boxWith(backend, {});
      const due = Date.now() + ms;
      await inside(stub, (_, outbox) =>
        outbox.transactionSync(({ send }) => {
          send("late", { key: "k", deliverAt: due, headers: { traceparent: "00-1" } });
          send("behind", { key: "k" });
          send(new Map([["at", "once"]]));
        }),
      );
      await by(due, () => handedOver(stub, 1));
      await handedOver(stub, 3);
      expect(Date.now()).toBeGreaterThanOrEqual(due);
      await stats(stub, { pending: 0, blocked: 0 });
      expect(sent(stub)).toMatchObject([
        { msg: new Map([["at", "once"]]) },
        { msg: "late", key: "k", headers: { traceparent: "00-1" } },
        { msg: "behind", key: "k" },
      ]);
    }));
});
