/** What an inbox costs: rows written and alarms set, counted below it on the runtime. docs/inbox.md has these numbers. */
import { expect, it } from "vitest";
import { type InboxOptions, withTransactionalInbox } from "../../../src/inbox/index.ts";
import { type Backend, declared, onBothBackends, type Stub } from "../support/harness.ts";
import { foreign, InboxBox, nativeAlarm, numbered, receive, within } from "../support/inbox.ts";
import { forward, ringAt } from "../support/lanes.ts";
import { counted, type Ledger } from "../support/ledger.ts";
import type { BoxEnv } from "../support/worker.ts";

/** An inbox, and what has been written in and outside of its transactions since the last look. */
function ledgered(backend: Backend, chosen: InboxOptions = {}): { stub: Stub; cost: () => [rows: number, alarms: number] } {
  const ledgers: Ledger[] = [];
  const cls = class extends withTransactionalInbox(class extends InboxBox {}, chosen) {
    constructor(ctx: DurableObjectState, env: BoxEnv) {
      ledgers.push(counted(ctx.storage));
      const transaction = ctx.storage.transaction.bind(ctx.storage);
      const value = (closure: (txn: DurableObjectTransaction) => Promise<unknown>) =>
        transaction((txn) => {
          ledgers.push(counted(txn as unknown as DurableObjectStorage));
          return closure(txn);
        });
      Object.defineProperty(ctx.storage, "transaction", { value, configurable: true, writable: true });
      super(ctx, env);
    }
  };
  const cost = (): [number, number] => {
    const sum = (of: (ledger: Ledger) => number) => ledgers.reduce((sum, ledger) => sum + of(ledger), 0);
    const seen: [number, number] = [sum(({ rows }) => rows), sum(({ alarms }) => alarms)];
    for (const ledger of ledgers) Object.assign(ledger, { rows: 0, alarms: 0 });
    return seen;
  };
  return { stub: declared(backend, cls), cost };
}

const nothing = () => {};

onBothBackends("the cost of an inbox", (backend) => {
  it("is one row for a numbered message, and none for its duplicate", async () => {
    const { stub, cost } = ledgered(backend);
    for (const n of [1, 2, 3, 9, 5, 4]) {
      await receive(stub, numbered(n), nothing);
      expect([n, ...cost()]).toEqual([n, 1, 0]);
    }
    await receive(stub, numbered(3), nothing);
    expect(cost()).toEqual([0, 0]);
  });

  it("is one more row for every sixty-four gaps", async () => {
    const { stub, cost } = ledgered(backend);
    await within(stub, async (inbox) => {
      for (let n = 1; n <= 320; n++) await inbox.receive(numbered(n * 10), nothing);
    });
    // 320 gaps: the last 128 stand beside the number.
    expect(cost()).toEqual([320 + (320 - 128) / 64, 0]);
  });

  it("is three rows for an id, one alarm for all of a step of the retention, and two rows more when it is forgotten", async () => {
    const { stub, cost } = ledgered(backend);
    await receive(stub, foreign("a"), nothing);
    expect(cost()).toEqual([3, 1]);
    for (let n = 1; n < 64; n++) await receive(stub, foreign(`${n}`), nothing);
    expect(cost()).toEqual([3 * 63, 0]);
    await receive(stub, foreign("a"), nothing);
    expect(cost()).toEqual([0, 0]);
    forward(30 * 86_400);
    await ringAt(stub, (await nativeAlarm(stub)) ?? 0);
    // A full step looks once more whether that was all. With the clock a month ahead, the look at the alarm after a second may set it again.
    const [rows, alarms] = cost();
    expect(rows).toBe(2 * 64 + 1);
    expect([1, 2]).toContain(alarms);
    await ringAt(stub, (await nativeAlarm(stub)) ?? 0);
    const [last, again] = cost();
    expect(last).toBe(1);
    expect([0, 1]).toContain(again);
    expect(await nativeAlarm(stub)).toBeNull();
  });

  it("is two rows for one that waits, and two more when it is processed", async () => {
    const { stub, cost } = ledgered(backend, { ordered: true });
    const handler = (_: unknown, __: unknown) => {};
    await receive(stub, numbered(2), handler);
    expect(cost()).toEqual([2, 0]);
    await receive(stub, numbered(3), handler);
    expect(cost()).toEqual([2, 0]);
    await receive(stub, numbered(1), handler);
    // The first has the header and an alarm with it, in case of a crash before the others are through.
    expect(cost()).toEqual([1 + 1 + 2 + 2, 1]);
  });
});
