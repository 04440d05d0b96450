/** While a transaction is open nothing is delivered: what was put inside may yet be rolled back, and must not be seen (G3). */
import { expect, it } from "vitest";
import { callsOf } from "./batches.ts";
import { fresh, inside, onBothBackends } from "./harness.ts";
import { stats } from "./lanes.ts";
import { idle } from "./standing.ts";

onBothBackends("a message that falls due while a transaction is open", (backend) => {
  it.each(["throws", "is rolled back", "commits"])("is delivered when that has ended, and nothing of one that %s before", async (end) => {
    const stub = fresh(backend);
    await inside(stub, (_, outbox) => Promise.all([outbox.send("late", { delaySeconds: 0.7 }), outbox.send("now")]));
    await stats(stub, { pending: 0, delayed: 1 });
    await inside(stub, async (_, outbox, { storage }) => {
      // The outbox has looked at its alarm by then: in a transaction workerd runs no timer behind an earlier one from outside (tried).
      await scheduler.wait(200);
      const done = storage.transaction(async (txn) => {
        await outbox.put("key", 1, "inside");
        // Longer than the message that is due waits, and longer than a look at the alarm.
        await scheduler.wait(500);
        expect(callsOf(stub)).toEqual([["now"]]);
        // It would wait for its own end.
        await outbox.flush();
        if (end === "is rolled back") txn.rollback();
        if (end === "throws") throw new Error("the test wants it");
      });
      await done.catch((error) => expect(error).toMatchObject({ message: "the test wants it" }));
    });
    await idle(stub);
    expect(callsOf(stub).flat().sort()).toEqual(["inside", "late", "now"].slice(end === "commits" ? 0 : 1));
  });
});
