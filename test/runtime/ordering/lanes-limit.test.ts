/** What can grow has a limit: so many ordering keys wait at a time, and what is one too many waits and is not lost. */
import { expect, it } from "vitest";
import { boxWith, callsOf } from "../support/batches.ts";
import { inside, onBothBackends, sent } from "../support/harness.ts";
import { stats } from "../support/lanes.ts";
import { patient, statsOf } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

const LIMIT = 10_000;

onBothBackends("an outbox in which as many keys wait as may", (backend) => {
  it("keeps a message of another key that asks for a retry, delivers its neighbours, and goes on when there is room", async () => {
    const stub = boxWith(backend, { batchSize: 1000, retry: patient });
    const waiting: string[] = [];
    await inside(stub, async (_, outbox) => {
      for (let from = 0; from < LIMIT; from += 1000) {
        const receipts = await Promise.all(
          Array.from({ length: 1000 }, (_, n) => outbox.send(from + n, { key: `key ${from + n}`, delaySeconds: 600 })),
        );
        waiting.push(...receipts.map(({ id }) => id));
      }
      // The delayed ones move aside only when something stands behind them.
      await outbox.send("behind");
    });
    await stats(stub, { pending: 0, delayed: LIMIT });
    stageOf(stub).rest = (messages, delivery) => {
      for (const { id, msg } of messages) if (msg === "fails") delivery.retry(id, { delaySeconds: 0 });
    };
    await inside(stub, (_, outbox) => Promise.all([outbox.send("fails", { key: "one more" }), outbox.send("beside", { key: "another" })]));
    await stats(stub, { pending: 1, delayed: LIMIT, breaker: "open" });
    expect(callsOf(stub)).toEqual([["behind"], ["fails", "beside"]]);

    stageOf(stub).rest = () => {};
    await inside(stub, (_, outbox) => outbox.flush());
    await stats(stub, { pending: 0, delayed: LIMIT, breaker: "closed" });
    expect(sent(stub).at(-1)).toMatchObject({ msg: "fails", attempts: 2 });

    // One more that has to wait stops the queue until a key is free.
    await inside(stub, (_, outbox) => Promise.all([outbox.send("late", { key: "late", delaySeconds: 600 }), outbox.send("last")]));
    await inside(stub, (_, outbox) => outbox.flush());
    expect(await statsOf(stub)).toMatchObject({ pending: 1, delayed: LIMIT + 1 });
    expect(sent(stub).map(({ msg }) => msg)).not.toContain("last");
    await inside(stub, async (_, outbox) => {
      expect(await outbox.cancel(waiting[0] ?? "")).toBe(true);
      await outbox.flush();
    });
    await stats(stub, { pending: 0, blocked: 0, delayed: LIMIT });
    expect(sent(stub).at(-1)).toMatchObject({ msg: "last" });
  });
});
