/** `settleWithinSeconds` on the runtime: what a delivery costs that is recorded with the next put, and what a crash before that repeats. */
import { evictDurableObject } from "cloudflare:test";
import { expect, it } from "vitest";
import { callsOf, numbers } from "../support/batches.ts";
import { again, by, crash, handedOver, inside, onBothBackends, outboxRows, type Stub, sent, unhurried, until } from "../support/harness.ts";
import { ledgered } from "../support/lanes.ts";
import { idle, statsOf } from "../support/standing.ts";

const SAFETY_MS = 10_000;

/** Puts messages one after the other, each once the one before is delivered. */
async function putInTurn(stub: Stub, count: number): Promise<void> {
  for (let n = 1; n <= count; n++) {
    await inside(stub, (_, outbox) => outbox.put("key", n, n));
    await handedOver(stub, n);
    await idle(stub);
  }
}

/** Whether a message is stored as waiting: the header alone holds what is there. */
const isStored = (state: DurableObjectState): Promise<boolean> =>
  outboxRows(state).then((rows) => [...rows.values()].some((row) => String(row).includes("\n")));

onBothBackends("deliveries that are recorded later", (backend) => {
  it("cost one row a message, and are recorded by themselves in time: an eviction repeats none", () =>
    unhurried(SAFETY_MS, async () => {
      const stub = ledgered(backend, { dispatch: "immediate", settleWithinSeconds: 3 });
      await by(Date.now() + 3000, () => putInTurn(stub, 20));
      const { rows, alarms } = await inside(stub, ({ ledger }) => ({ ...ledger }));
      expect({ rows, alarms }).toEqual({ rows: 20, alarms: 1 });
      expect(await inside(stub, (_, __, state) => isStored(state))).toBe(true);
      expect(await statsOf(stub)).toMatchObject({ pending: 0, nextAttemptAt: null });
      await until(stub, async (_, state) => !(await isStored(state)));
      expect((await inside(stub, ({ ledger }) => ({ ...ledger }))).rows).toBe(21);
      await evictDurableObject(stub);
      expect(await statsOf(again(stub))).toMatchObject({ pending: 0 });
      expect(callsOf(stub).flat()).toEqual(numbers(20));
    }));

  it("are repeated with the same id after a crash, those since the last put alone", () =>
    unhurried(SAFETY_MS, async () => {
      const stub = ledgered(backend, { dispatch: "immediate", settleWithinSeconds: 10 });
      await by(Date.now() + SAFETY_MS, async () => {
        await putInTurn(stub, 3);
        const next = await crash(stub);
        await inside(next, (_, outbox) => outbox.flush());
        await idle(next);
      });
      expect(callsOf(stub).flat()).toEqual([1, 2, 3, 3]);
      const [third, again] = sent(stub).slice(2);
      expect(again?.id).toBe(third?.id);
    }));
});
