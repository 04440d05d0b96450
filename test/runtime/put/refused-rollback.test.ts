/** A put that storage refuses, of which nobody has waited for the answer when its transaction is rolled back: no other message goes with it. */
import { describe, expect, it } from "vitest";
import type { OutboxManager } from "../../../src/index.ts";
import { callsOf } from "../support/batches.ts";
import { fresh, inside, onBothBackends } from "../support/harness.ts";
import { idle } from "../support/standing.ts";

const refuse = (outbox: OutboxManager): void => void outbox.put("bad", () => {}, "refused").catch(() => {});
const ticked = async (count: number): Promise<void> => {
  for (let tick = 0; tick < count; tick++) await null;
};

type Act = (outbox: OutboxManager, ticks: number) => unknown;

const ASYNC: [string, Act][] = [
  [
    "by rollback()",
    (outbox, ticks) =>
      outbox.transaction(async (txn) => {
        refuse(outbox);
        await ticked(ticks);
        txn.rollback();
      }),
  ],
  [
    "by rollback(), and another message gets its place at once",
    (outbox, ticks) =>
      outbox.transaction(async (txn) => {
        refuse(outbox);
        await ticked(ticks);
        txn.rollback();
        await outbox.send("in its place");
      }),
  ],
  [
    "with the transaction around it",
    (outbox, ticks) =>
      outbox.transaction(async (txn) => {
        await outbox.transaction(async () => refuse(outbox));
        await ticked(ticks);
        txn.rollback();
      }),
  ],
  [
    "by a throw, in a nested one that came after it",
    (outbox, ticks) =>
      outbox.transaction(async () => {
        refuse(outbox);
        await ticked(ticks);
        const nested = outbox.transaction(async () => {
          await ticked(8);
          throw new Error("no");
        });
        await expect(nested).rejects.toThrow("no");
      }),
  ],
];

const SYNC: [string, Act][] = [
  [
    "by a throw in transactionSync()",
    (outbox) =>
      expect(() =>
        outbox.transactionSync(() => {
          refuse(outbox);
          throw new Error("no");
        }),
      ).toThrow("no"),
  ],
  [
    "by a throw in the transactionSync() around its own",
    (outbox) =>
      expect(() =>
        outbox.transactionSync(() => {
          outbox.transactionSync(() => refuse(outbox));
          throw new Error("no");
        }),
      ).toThrow("no"),
  ],
  [
    "not at all, after thousands of transactions that went well",
    (outbox) => {
      for (let n = 0; n < 20_000; n++) outbox.transactionSync(() => {});
      refuse(outbox);
    },
  ],
  [
    "by a throw in a transactionSync() that came after it",
    (outbox) => {
      refuse(outbox);
      expect(() =>
        outbox.transactionSync(() => {
          throw new Error("no");
        }),
      ).toThrow("no");
    },
  ],
];

onBothBackends("a put that storage refuses, and that is rolled back", (backend) => {
  describe.each(backend.name === "sqlite" ? [...ASYNC, ...SYNC] : ASYNC)("%s", (name, act) => {
    it("takes no message with it, and leaves none, at whatever microtask", async () => {
      const playAt = async (ticks: number): Promise<void> => {
        const stub = fresh(backend);
        await inside(stub, async (_, outbox) => {
          await outbox.pause();
          await outbox.send(1);
          await act(outbox, ticks);
          await Promise.all([outbox.send(2), outbox.send(3)]);
          expect(await outbox.stats()).toMatchObject({ pending: name.endsWith("at once") ? 4 : 3 });
          await outbox.resume();
        });
        await idle(stub);
        const between = name.endsWith("at once") ? ["in its place"] : [];
        expect([ticks, callsOf(stub).flat()]).toEqual([ticks, [1, ...between, 2, 3]]);
      };
      await Promise.all((SYNC.some(([each]) => each === name) ? [0] : [0, 1, 2, 3, 5]).map(playAt));
    });
  });
});
