/** G1, a crash at every point of a transaction and of a turn: state, message, row and wake-up are all there, or none of them is. */
import { expect, it } from "vitest";
import { some } from "../../support/random.ts";
import { atEveryPoint, type Operation, type Point, step, turns, type Whole } from "../support/crashpoints.ts";
import { onBothBackends } from "../support/harness.ts";

const later = () => Date.now() + 600_000;

type Sending = DurableObjectTransaction & { send(msg: unknown, options?: object): Promise<unknown> };

/** What a transaction does, step by step: each is awaited. */
const STEPS: ((txn: Sending) => unknown)[] = [
  (txn) => txn.put("a", 1),
  (txn) => txn.send("a"),
  (txn) => txn.setAlarm(later()),
  (txn) => txn.send("b", { id: "b", key: "key" }),
  (txn) => txn.put({ b: 2, c: 3 }),
];

/** The closure of a transaction, with a point around each step and in every turn behind its end. */
async function closure(txn: Sending, point: Point): Promise<void> {
  for (const one of STEPS) await step(point, () => one(txn));
  txn.send("unawaited", { id: "unawaited" }).catch(() => {});
  point();
  void turns(point);
}

const ALL: Whole = { own: ["a", "b", "c"], messages: ["a", "b", "unawaited"], alarm: true };

const ASYNC: [[string, Operation, Whole[]], ...[string, Operation, Whole[]][]] = [
  ["transaction()", (outbox, _, point) => step(point, () => outbox.transaction((txn) => closure(txn, point))), [ALL]],
  [
    "transaction() that throws",
    (outbox, _, point) => {
      const done = outbox.transaction(async (txn) => {
        await closure(txn, point);
        throw new Error("the test wants it");
      });
      return step(point, () => done.catch(() => {}));
    },
    [],
  ],
  [
    "transaction() that is rolled back",
    (outbox, _, point) =>
      step(point, () =>
        outbox.transaction(async (txn) => {
          await closure(txn, point);
          txn.rollback();
          point();
        }),
      ),
    [],
  ],
  [
    "transaction() in a transaction",
    (outbox, _, point) =>
      step(point, () =>
        outbox.transaction(async (outer) => {
          await step(point, () => outer.put("0", 1));
          await step(point, () => outer.send("outer"));
          await step(point, () => outbox.transaction((txn) => closure(txn, point)));
          await step(point, () => outer.send("outer too"));
        }),
      ),
    [{ own: ["0", ...ALL.own], messages: ["outer", ...ALL.messages, "outer too"], alarm: true }],
  ],
  [
    "the object's own transaction()",
    (outbox, { storage }, point) =>
      step(point, () =>
        storage.transaction(async (txn) => {
          await step(point, () => txn.put("a", 1));
          await step(point, () => outbox.send("sent"));
          await step(point, () => outbox.put("b", 1, "put"));
          await step(point, () => outbox.delete("a", "deleted"));
          void turns(point);
        }),
      ),
    [{ own: ["b"], messages: ["sent", "put", "deleted"] }],
  ],
  [
    "two transactions",
    (outbox, _, point) => {
      const one = (name: string) =>
        outbox.transaction(async (txn) => {
          await step(point, () => txn.put(name, 1));
          await step(point, () => txn.send(name));
          void turns(point);
        });
      const both = Promise.all([one("a"), one("b")]);
      return step(point, () => both);
    },
    [
      { own: ["a"], messages: ["a"] },
      { own: ["a", "b"], messages: ["a", "b"] },
    ],
  ],
  [
    "put with an id, before which a KV-backed object reads",
    async (outbox, _, point) => {
      const put = step(point, () => outbox.put("a", 1, "a", { id: "a" }));
      await turns(point);
      await put;
    },
    [{ own: ["a"], messages: ["a"] }],
  ],
];

onBothBackends("a crash at every point of", (backend) => {
  it.each(some(5, ASYNC))("%s leaves all or nothing", async (_, operation, wholes) => {
    const outcomes = await atEveryPoint(backend, 0, operation, wholes);
    expect(outcomes.map((count) => count > 0)).toEqual(outcomes.map(() => true));
  });

  it("a transaction whose messages fill a row beside fifteen that wait leaves those, with all or nothing", async () => {
    const [, operation, wholes] = ASYNC[0];
    const outcomes = await atEveryPoint(backend, 15, operation, wholes);
    expect(outcomes.map((count) => count > 0)).toEqual([true, true]);
  });
});
