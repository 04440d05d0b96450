/** `send()` in the turn of the object's own writes: `sql.exec()`, `kv.put()`, `storage.put()` and the message commit together. */
import { describe, expect, it } from "vitest";
import { atEveryPoint, type Operation, turns, type Whole } from "../support/crashpoints.ts";
import {
  crash,
  crashAfter,
  drained,
  expectFirst,
  expectUntouched,
  fresh,
  inside,
  onBothBackends,
  type Stub,
  sent,
} from "../support/harness.ts";

/** One of the object's own writes, synchronous as seen by its caller. */
interface Write {
  name: string;
  write: (storage: DurableObjectStorage, n: number) => unknown;
  /** What the object finds of it, as `orders` and keys are found. */
  found: (n: number) => unknown;
}

const STORAGE: Write = { name: "storage.put()", write: (storage, n) => storage.put(`storage:${n}`, n), found: (n) => `storage:${n}` };
const SQLITE: Write[] = [
  { name: "kv.put()", write: (storage, n) => storage.kv.put(`kv:${n}`, n), found: (n) => `kv:${n}` },
  { name: "sql.exec()", write: (storage, n) => storage.sql.exec("INSERT INTO orders VALUES (?)", n), found: (n) => n },
];

class Broken extends Error {}

const messages = (stub: Stub) => sent(stub).map(({ sequence, msg }) => [sequence, msg]);

onBothBackends("send() in one turn with", (backend) => {
  const sqlite = backend.name === "sqlite";
  const WRITES = [STORAGE, ...(sqlite ? SQLITE : [])];

  /** A fresh object with an empty table, where it can have one. */
  async function object(): Promise<Stub> {
    const stub = fresh(backend);
    if (sqlite) await inside(stub, (_, __, { storage }) => void storage.sql.exec("CREATE TABLE orders (id INTEGER)"));
    return stub;
  }

  /** The rows and keys of the object's own, as `Write.found` names them. */
  const found = async ({ storage }: DurableObjectState): Promise<unknown[]> => [
    ...(await storage.list()).keys(),
    ...(sqlite ? [...storage.sql.exec("SELECT id FROM orders ORDER BY id")].map(({ id }) => id) : []),
  ];

  describe.each(WRITES)("$name", ({ write, found: rowOf }) => {
    const ORDERS: [string, (storage: DurableObjectStorage, send: () => unknown) => unknown[]][] = [
      ["before", (storage, send) => [write(storage, 1), send()]],
      ["after", (storage, send) => [send(), write(storage, 1)]],
      ["around", (storage, send) => [write(storage, 1), send(), write(storage, 2), send()]],
    ];

    it.each(ORDERS)("%s it: a crash at once leaves neither", async (_, both) => {
      const next = await crash(await object(), (outbox, { storage }) => Promise.all(both(storage, () => outbox.send("lost"))));
      await inside(next, async (_, __, state) => {
        expect(await found(state)).toEqual([]);
        await expectUntouched(state);
      });
      await expectFirst(next);
    });

    it.each(ORDERS)("%s it: a crash after sync() leaves both", async (title, both) => {
      const twice = title === "around";
      const next = await crashAfter(await object(), async (outbox, { storage }) => {
        void both(storage, () => outbox.send("kept"));
        await storage.sync();
      });
      expect(await inside(next, (_, __, state) => found(state))).toEqual(twice ? [rowOf(1), rowOf(2)] : [rowOf(1)]);
      await drained(next);
      const kept = twice ? [1, 2] : [1];
      expect([...new Map(sent(next).map(({ sequence, msg }) => [sequence, msg]))]).toEqual(kept.map((sequence) => [sequence, "kept"]));
      expect(await inside(next, (_, outbox) => outbox.send("next"))).toMatchObject({ sequence: kept.length + 1 });
    });

    it("rolls nothing back when the turn throws in between, and a crash then still leaves all or nothing", async () => {
      const throwing = (send: () => Promise<unknown>, storage: DurableObjectStorage) => {
        void write(storage, 1);
        void send();
        throw new Broken();
      };
      const stub = await object();
      await expect(inside(stub, (_, outbox, { storage }) => throwing(() => outbox.send("stays"), storage))).rejects.toThrow(Broken);
      await drained(stub);
      expect(await inside(stub, (_, __, state) => found(state))).toEqual([rowOf(1)]);
      expect(messages(stub)).toEqual([[1, "stays"]]);

      const next = await crash(await object(), (outbox, { storage }) => {
        expect(() => throwing(() => outbox.send("lost").catch(() => {}), storage)).toThrow(Broken);
      });
      await inside(next, async (_, __, state) => {
        expect(await found(state)).toEqual([]);
        await expectUntouched(state);
      });
      await expectFirst(next);
    });

    it("keeps the state when the turn throws before the message, or the message is refused", async () => {
      const stub = await object();
      await inside(stub, async (_, outbox, state) => {
        const call = () => {
          void write(state.storage, 1);
          if (sent(stub).length === 0) throw new Broken();
          void outbox.send("never");
        };
        expect(call).toThrow(Broken);
        void write(state.storage, 2);
        await expect(outbox.send(undefined)).rejects.toThrow(TypeError);
        expect(await found(state)).toEqual([rowOf(1), rowOf(2)]);
      });
      await expectFirst(stub);
    });
  });

  it("several of each commits all of it, in the order of the calls", async () => {
    const stub = await object();
    const numbers = Array.from({ length: 20 }, (_, n) => n + 1);
    const expected = WRITES.flatMap(({ name, found: rowOf }) => numbers.map((n) => ({ name, row: rowOf(n) })));
    const next = await crashAfter(stub, async (outbox, { storage }) => {
      for (const n of numbers)
        for (const { name, write } of WRITES) {
          void write(storage, n);
          void outbox.send(`${name} ${n}`);
        }
      await storage.sync();
    });
    expect(new Set(await inside(next, (_, __, state) => found(state)))).toEqual(new Set(expected.map(({ row }) => row)));
    await drained(next);
    expect([...new Map(sent(next).map(({ sequence, msg }) => [sequence, msg])).values()]).toEqual(
      numbers.flatMap((n) => WRITES.map(({ name }) => `${name} ${n}`)),
    );
  });

  it.runIf(sqlite)("joins also with an id of its own, which the object reads in the same turn", async () => {
    const lost = await crash(await object(), (outbox, { storage }) => {
      storage.sql.exec("INSERT INTO orders VALUES (1)");
      return outbox.send("lost", { id: "mine" });
    });
    expect(await inside(lost, (_, __, state) => found(state))).toEqual([]);
    expect(await inside(lost, (_, outbox) => outbox.send("first", { id: "mine" }))).toEqual({ id: "mine", sequence: 1 });
    await drained(lost);
    expect(messages(lost)).toEqual([[1, "first"]]);
  });

  const CRASHES: [string, Operation, Whole][] = [
    [
      "storage.put() and send()",
      async (outbox, { storage }, point) => {
        const first = storage.put("a", 1);
        point();
        const second = outbox.send("one");
        point();
        const third = storage.put("b", 1);
        point();
        const fourth = outbox.put("c", 1, "two", { headers: { a: "b" } });
        point();
        await turns(point);
        for (const written of [first, second, third, fourth]) {
          await written;
          point();
        }
      },
      { own: ["a", "b", "c"], messages: ["one", "two"] },
    ],
  ];
  if (sqlite)
    CRASHES.push([
      "sql.exec(), kv.put() and send()",
      async (outbox, { storage }, point) => {
        storage.sql.exec("CREATE TABLE orders (id INTEGER)");
        point();
        const first = outbox.send("one", { id: "one" });
        point();
        storage.sql.exec("INSERT INTO orders VALUES (7)");
        point();
        storage.kv.put("a", 1);
        point();
        const second = outbox.send("two");
        point();
        void storage.setAlarm(Date.now() + 600_000);
        await turns(point);
        for (const written of [first, second]) {
          await written;
          point();
        }
      },
      { own: ["a", 7], messages: ["one", "two"], alarm: true },
    ]);

  it.each(CRASHES)("%s: a crash at every point leaves all or nothing", async (_, operation, whole) => {
    for (const before of [0, 15]) {
      const [nothing, all] = await atEveryPoint(backend, before, operation, [whole]);
      expect([nothing, all].map((count = 0) => count > 0)).toEqual([true, true]);
    }
  });
});
