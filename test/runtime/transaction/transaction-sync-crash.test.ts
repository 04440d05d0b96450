/** G1, a crash at every point of a `transactionSync()`: row, key, message and alarm are all there, or none of them is. */
import { expect, it } from "vitest";
import type { OutboxTransactionSync } from "../../../src/index.ts";
import { numbers } from "../support/batches.ts";
import { atEveryPoint, type Operation, type Point, step, turns, type Whole } from "../support/crashpoints.ts";
import { onBothBackends } from "../support/harness.ts";

/** Writes one of everything, with a point behind each. */
function write({ sql, kv, send }: OutboxTransactionSync, storage: DurableObjectStorage, point: Point): void {
  const calls = [
    () => sql.exec("CREATE TABLE orders (id INTEGER)"),
    () => send("one"),
    () => kv.put("a", 1),
    () => send("two", { id: "two", key: "k" }),
    () => storage.setAlarm(Date.now() + 600_000),
    () => sql.exec("INSERT INTO orders VALUES (7)"),
    () => send("three"),
  ];
  for (const call of calls) {
    void call();
    point();
  }
}

const ALL: Whole = { own: ["a", 7], messages: ["one", "two", "three"], alarm: true };

const fail = (): never => {
  throw new Error("the test wants it");
};

/** The end of an operation: every turn until nothing is left to run. */
async function end(point: Point): Promise<void> {
  point();
  await turns(point);
}

const SYNC: [string, Operation, Whole[]][] = [
  [
    "one",
    (outbox, { storage }, point) => {
      outbox.transactionSync((txn) => write(txn, storage, point));
      return end(point);
    },
    [ALL],
  ],
  [
    "one that throws",
    (outbox, { storage }, point) => {
      expect(() => outbox.transactionSync((txn) => [write(txn, storage, point), fail()])).toThrow("the test wants it");
      return end(point);
    },
    [],
  ],
  [
    "one within another, which goes on after it has thrown",
    (outbox, { storage }, point) => {
      outbox.transactionSync((outer) => {
        outer.send("outer");
        point();
        expect(() => outbox.transactionSync((txn) => [write(txn, storage, point), fail()])).toThrow("the test wants it");
        point();
        outbox.transactionSync((txn) => write(txn, storage, point));
        outer.kv.put("b", 1);
        point();
      });
      return end(point);
    },
    [{ own: ["a", "b", 7], messages: ["outer", ...ALL.messages], alarm: true }],
  ],
  [
    "one in a transaction",
    (outbox, { storage }, point) =>
      step(point, () =>
        outbox.transaction(async (outer) => {
          await step(point, () => outer.send("outer"));
          outbox.transactionSync((txn) => write(txn, storage, point));
          await step(point, () => outer.put("b", 1));
          void turns(point);
        }),
      ),
    [{ own: ["a", "b", 7], messages: ["outer", ...ALL.messages], alarm: true }],
  ],
  [
    "one that fills rows",
    (outbox, _, point) => {
      outbox.transactionSync(({ kv, send }) => {
        kv.put("a", 1);
        for (const n of numbers(20)) {
          send(n);
          if (n % 4 === 0) point();
        }
      });
      return end(point);
    },
    [{ own: ["a"], messages: numbers(20) }],
  ],
  [
    "one beside puts of the same turn",
    async (outbox, { storage }, point) => {
      const puts = [outbox.put("b", 1, "before")];
      point();
      outbox.transactionSync((txn) => write(txn, storage, point));
      puts.push(outbox.put("c", 1, "after"));
      await end(point);
      await Promise.all(puts);
      point();
    },
    [{ own: ["a", "b", "c", 7], messages: ["before", ...ALL.messages, "after"], alarm: true }],
  ],
];

onBothBackends("a crash at every point of transactionSync()", (backend) => {
  const runs = [...SYNC.map((run) => [0, ...run] as const), ...SYNC.slice(4).map((run) => [15, ...run] as const)];

  it.runIf(backend.name === "sqlite").each(runs)("beside %i messages, %s, leaves all or nothing", async (before, _, operation, wholes) => {
    const outcomes = await atEveryPoint(backend, before, operation, wholes);
    expect(outcomes.map((count) => count > 0)).toEqual(outcomes.map(() => true));
  });
});
