/** What each step of the delivery policy costs, in billed rows, alarms set and reads: the table in docs/delivery.md. */
import { expect, it } from "vitest";
import type { OutboxManager, OutboxOptions } from "../../../src/index.ts";
import { type Backend, inside, onBothBackends } from "../support/harness.ts";
import { ledgered } from "../support/lanes.ts";
import { patient } from "../support/standing.ts";
import { type Stage, stageOf } from "../support/worker.ts";

type Cost = [rows: number, alarms: number, reads: number];
/** Does one step and counts what it costs. Reads do not count the steps before. */
type Count = (step: (outbox: OutboxManager) => Promise<unknown>) => Promise<Cost>;

/** Runs a story in which no alarm fires by itself: deliveries are those that the story asks for by `flush`. */
function story(backend: Backend, body: (count: Count, stage: Stage) => Promise<void>, chosen: OutboxOptions<"OUTBOX_MANAGER"> = {}) {
  const stub = ledgered(backend, { retry: patient, ...chosen });
  return inside(stub, ({ ledger }, outbox, state) =>
    state.blockConcurrencyWhile(() =>
      body(async (step) => {
        const { rows, alarms, reads } = ledger;
        await step(outbox);
        return [ledger.rows - rows, ledger.alarms - alarms, ledger.reads - reads];
      }, stageOf(stub)),
    ),
  );
}

const flush = (outbox: OutboxManager) => outbox.flush();

onBothBackends("it costs", (backend) => {
  it("two rows and an alarm to set a message aside, two rows to deliver it later", () =>
    story(backend, async (count, stage) => {
      stage.script.push(([message], delivery) => delivery.retry(message?.id ?? "", { delaySeconds: 0 }));
      expect(await count((outbox) => outbox.send("unkeyed"))).toEqual([1, 1, 0]);
      // The header without it, the row in which it waits; and once it is due, both again.
      expect((await count(flush)).slice(0, 2)).toEqual([2 + 2, 0]);
    }));

  it("one row more when the message has an ordering key", () =>
    story(backend, async (count, stage) => {
      stage.script.push(([message], delivery) => delivery.retry(message?.id ?? "", { delaySeconds: 600 }));
      await count((outbox) => outbox.send("first", { key: "k" }));
      // The alarm that stood for the put stays: it comes too early once, and that is cheaper than to move it.
      expect((await count(flush)).slice(0, 2)).toEqual([3, 0]);
      // Each batch of those that arrive behind it costs a row for every sixteen, and the header.
      await count((outbox) => Promise.all(Array.from({ length: 32 }, (_, n) => outbox.send(n, { key: "k" }))));
      expect((await count(flush)).slice(0, 2)).toEqual([2 + 1 + 1, 0]);
    }));

  it("two rows to make a dead letter, three to redrive it, two to discard it", () =>
    story(backend, async (count, stage) => {
      const reject: Stage["rest"] = ([message], delivery) => delivery.reject(message?.id ?? "");
      stage.script.push(reject, reject);
      let id = "";
      await count(async (outbox) => {
        id = (await outbox.send("message")).id;
      });
      expect((await count(flush)).slice(0, 2)).toEqual([2, 0]);
      expect((await count((outbox) => outbox.redrive())).slice(0, 2)).toEqual([3, 1]);
      expect((await count(flush)).slice(0, 2)).toEqual([3, 0]);
      expect((await count((outbox) => outbox.discard([id]))).slice(0, 2)).toEqual([2, 0]);
    }));

  it("nothing to delay a message that is alone", () =>
    story(backend, async (count) => {
      expect(await count((outbox) => outbox.send("later", { delaySeconds: 0.001 }))).toEqual([1, 1, 0]);
      await scheduler.wait(5);
      expect((await count(flush)).slice(0, 2)).toEqual([1, 0]);
    }));
});
