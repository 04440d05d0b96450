/** Every list that the outbox makes has a limit, whatever waits: what grows is read a page at a time. */
import { expect, it } from "vitest";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { putMany } from "../support/batches.ts";
import { declared, inside, onEitherBackend, type Stub } from "../support/harness.ts";
import { idle, resumed } from "../support/standing.ts";
import { Box, options } from "../support/worker.ts";

/** The largest answer of a list so far, by object. */
const largest = new Map<string, number>();

/** A box below whose outbox every list is watched. */
class Watched extends withTransactionalOutbox(class extends Box {}, options) {
  constructor(ctx: DurableObjectState, env: never) {
    const list = ctx.storage.list.bind(ctx.storage);
    const watched = async (range?: DurableObjectListOptions) => {
      const rows = await list(range);
      const name = ctx.id.toString();
      largest.set(name, Math.max(largest.get(name) ?? 0, rows.size));
      return rows;
    };
    Object.defineProperty(ctx.storage, "list", { value: watched, configurable: true, writable: true });
    super(ctx, env);
  }
}

const largestOf = (stub: Stub): number => largest.get(stub.id.toString()) ?? 0;

onEitherBackend("a list of the outbox", (backend) => {
  it("gives eight rows at most, with 600 messages in the queue and 100 that wait for a time", async () => {
    const stub = declared(backend, Watched);
    await inside(stub, async (_, outbox) => {
      await outbox.pause();
      await Promise.all(Array.from({ length: 100 }, (__, n) => outbox.send(n, { delaySeconds: 0.2 })));
    });
    await putMany(stub, 600);
    await inside(stub, async (_, outbox) => {
      await outbox.list({ limit: 1000 });
      await outbox.list({ state: "delayed" });
      await outbox.stats();
    });
    await resumed(stub);
    await idle(stub);
    expect(largestOf(stub)).toBeGreaterThan(0);
    expect(largestOf(stub)).toBeLessThanOrEqual(8);
  });
});
