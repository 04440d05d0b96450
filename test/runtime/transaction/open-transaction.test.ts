/** While a transaction is open nothing is delivered: what was put inside may yet be rolled back, and must not be seen (G3). */
import { expect, it } from "vitest";
import { boxWith, callsOf } from "../support/batches.ts";
import { fresh, handedOver, inside, onBothBackends } from "../support/harness.ts";
import { idle } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

onBothBackends("a message that falls due while a transaction is open", (backend) => {
  it.each(["throws", "is rolled back", "commits"])("is delivered when that has ended, and nothing of one that %s before", async (end) => {
    const stub = fresh(backend);
    await inside(stub, (_, outbox) => outbox.send("now"));
    await idle(stub);
    await inside(stub, async (_, outbox, { storage }) => {
      // In the turn in which the transaction opens: however slow the machine is, it is not due before.
      await outbox.send("late", { delaySeconds: 0.2 });
      const done = storage.transaction(async (txn) => {
        await outbox.put("key", 1, "inside");
        // Longer than the message that is due waits, and longer than it takes the outbox to look at its alarm: no timer of its
        // own may stand before this one.
        await scheduler.wait(500);
        expect(callsOf(stub)).toEqual([["now"]]);
        // It would wait for its own end.
        await outbox.flush();
        expect(callsOf(stub)).toEqual([["now"]]);
        if (end === "is rolled back") txn.rollback();
        if (end === "throws") throw new Error("the test wants it");
      });
      await done.catch((error) => expect(error).toMatchObject({ message: "the test wants it" }));
    });
    await idle(stub);
    expect(callsOf(stub).flat().sort()).toEqual(["inside", "late", "now"].slice(end === "commits" ? 0 : 1));
  });
});

onBothBackends("blockConcurrencyWhile", (backend) => {
  it("may wait for a timer beside a put and a send in flight", async () => {
    const stub = boxWith(backend, { timeoutSeconds: 0.3 });
    let open = () => {};
    // No gate: it polls, and its own timers would stand outside.
    stageOf(stub).script.push(
      () =>
        new Promise<void>((resolve) => {
          open = resolve;
        }),
    );
    await inside(stub, (_, outbox) => Promise.all([outbox.send(1), outbox.send(2)]));
    await handedOver(stub, 2);
    await inside(stub, async (_, outbox, state) => {
      await outbox.send(3);
      await state.blockConcurrencyWhile(() => scheduler.wait(600));
      open();
    });
    await idle(stub);
    expect(new Set(callsOf(stub).flat())).toEqual(new Set([1, 2, 3]));
  });
});
