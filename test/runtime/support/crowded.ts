/** An object whose outbox holds a row of every kind, and stands still. */
import { expect } from "vitest";
import { boxWith, numbers } from "./batches.ts";
import { type Backend, inside, outboxRows, type Stub } from "./harness.ts";
import { stats } from "./lanes.ts";
import { stageOf } from "./worker.ts";

/** One that is paused, with messages pending in several rows, delayed, blocked, dead, and known by an id. */
export async function crowded(backend: Backend): Promise<Stub> {
  const stub = boxWith(backend, {});
  stageOf(stub).rest = (messages, delivery) => {
    for (const { id, msg } of messages) {
      if (msg === "dead") delivery.reject(id, "not wanted");
      if (msg === "retried") delivery.retry(id, { delaySeconds: 600 });
    }
  };
  await inside(stub, (_, outbox) =>
    Promise.all([
      outbox.send("dead"),
      outbox.send("retried", { key: "lane" }),
      outbox.send("blocked", { key: "lane" }),
      outbox.send("retried"),
      outbox.send("late", { delaySeconds: 600 }),
    ]),
  );
  await stats(stub, { pending: 0, delayed: 3, blocked: 1, dead: 1 });
  await inside(stub, async (_, outbox, state) => {
    await outbox.pause();
    await Promise.all(numbers(40).map((n) => outbox.send(n, { id: `id:${n}` })));
    const kinds = [...(await outboxRows(state)).keys()].map((key) => key["\u{10FFFF}outbox/".length]);
    expect([...new Set(kinds)].join("")).toBe("dhiklst");
  });
  return stub;
}
