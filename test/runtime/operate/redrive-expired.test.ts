/** A dead letter that had expired, where its destination lets messages expire: once it is redriven its time begins anew. */
import { expect, it } from "vitest";
import { forward } from "../support/clock.ts";
import { inside, onBothBackends, until } from "../support/harness.ts";
import { got, objectWith, receivers } from "../support/named.ts";

onBothBackends("a dead letter that had expired", (backend) => {
  it("is delivered once it is redriven, and is no dead letter again at once", async () => {
    const all = receivers("late");
    all.late.rest = () => Promise.reject(new Error("down"));
    const stub = objectWith(backend, all, { late: { expiresInSeconds: 600 } });
    await inside(stub, (_, outbox) => Promise.all([outbox.send(1), outbox.send(2, { key: "k" })]));
    await until(stub, async (box) => (await box.outbox.stats()).breaker === "open");
    forward(700);
    all.late.rest = () => {};
    await inside(stub, (_, outbox) => outbox.flush());
    expect(await inside(stub, (_, outbox) => outbox.list({ state: "dead" }))).toMatchObject([{ reason: "expired" }, { reason: "expired" }]);
    all.late.calls.length = 0;
    expect(await inside(stub, (_, outbox) => outbox.redrive())).toBe(2);
    await inside(stub, (_, outbox) => outbox.flush());
    expect(got(all.late)).toEqual([1, 2]);
    expect(await inside(stub, (_, outbox) => outbox.stats())).toMatchObject({ pending: 0, delayed: 0, blocked: 0, dead: 0 });
  });
});
