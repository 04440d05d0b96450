/** Delivery: batches in order, one run at a time, and a backoff that begins again at the same head. */
import { expect, it } from "vitest";
import type { OutboxEvent } from "../../../src/index.ts";
import { boxWith, callsOf, down, eventsOf, type Failed, numbers, putMany } from "../support/batches.ts";
import { drained, eventually, fresh, gate, handedOver, inside, onBothBackends, type Stub } from "../support/harness.ts";
import { stageOf } from "../support/worker.ts";

/** Asserts that no message was told of fewer attempts than it had, that the head's count is exact, and that an untried one's is 1. */
function expectAttemptsCounted(stub: Stub): void {
  const handed = new Map<string, number>();
  for (const call of stageOf(stub).calls) {
    for (const { id } of call) handed.set(id, (handed.get(id) ?? 0) + 1);
    expect(call[0]?.attempts).toBe(handed.get(call[0]?.id ?? ""));
    for (const { id, attempts } of call) expect(attempts).toBeGreaterThanOrEqual(handed.get(id) ?? 0);
  }
}

onBothBackends("delivery", (backend) => {
  it("hands 200 messages over in two calls of 100, in order", async () => {
    const stub = fresh(backend);
    await putMany(stub, 200);
    await drained(stub);
    expect(callsOf(stub)).toEqual([numbers(100), numbers(100, 101)]);
    expect(eventsOf(stub, "delivered").map(({ ids }) => ids)).toEqual(stageOf(stub).calls.map((call) => call.map(({ id }) => id)));
  });

  it.each([1, 7, 16, 40])("gives one call at most a batchSize of %i", async (batchSize) => {
    const stub = boxWith(backend, { batchSize });
    await putMany(stub, 45);
    await drained(stub);
    expect(callsOf(stub).flat()).toEqual(numbers(45));
    expect(callsOf(stub).map(({ length }) => length)).toEqual(
      numbers(Math.ceil(45 / batchSize)).map((n) => Math.min(batchSize, 45 - (n - 1) * batchSize)),
    );
  });

  it("delivers what was put during a send in flight once, and never runs twice at a time", async () => {
    const stub = fresh(backend);
    const held = gate();
    let active = 0;
    let most = 0;
    stageOf(stub).rest = async () => {
      most = Math.max(most, ++active);
      await held.passed();
      active--;
    };
    await putMany(stub, 3);
    await handedOver(stub, 3);
    await putMany(stub, 20, 4);
    await inside(stub, (box, outbox) => {
      void outbox.flush();
      void box.alarm();
      void box.alarm({ retryCount: 0, isRetry: false, scheduledTime: Date.now() });
    });
    held.open();
    await drained(stub);
    expect(callsOf(stub)).toEqual([numbers(3), numbers(20, 4)]);
    expect(most).toBe(1);
  });

  it("overlaps with its own retries, and only with them, after a timeout: nothing can stop a call that hangs", async () => {
    const stub = boxWith(backend, { timeoutSeconds: 0.1 });
    const held = gate();
    let active = 0;
    const activeAt: number[] = [];
    const call = (hangs: boolean) => async () => {
      activeAt.push(++active);
      if (hangs) await held.passed();
      active--;
    };
    stageOf(stub).script.push(call(true), call(true));
    stageOf(stub).rest = call(false);
    await putMany(stub, 1);
    await drained(stub);
    expect(activeAt).toEqual([1, 2, 3]);
    held.open();
    await eventually(() => active === 0);
    await putMany(stub, 1, 2);
    await drained(stub);
    expect(activeAt).toEqual([1, 2, 3, 1]);
    expect(callsOf(stub)).toEqual([[1], [1], [1], [2]]);
  });

  it("is never begun with nothing to hand over", async () => {
    const stub = fresh(backend);
    await inside(stub, async (box, outbox, state) => {
      await outbox.flush();
      await box.alarm();
      await state.storage.setAlarm(Date.now() + 20);
    });
    await eventually(() => stageOf(stub).alarms.length >= 2);
    await putMany(stub, 1);
    await drained(stub);
    await inside(stub, async (box, outbox) => {
      await outbox.flush();
      await box.alarm();
    });
    expect(callsOf(stub)).toEqual([[1]]);
  });
});

onBothBackends("a destination that is down", (backend) => {
  it("gets the same head again after growing gaps, and then everything in order", async () => {
    const failed: (Failed & { at: number })[] = [];
    const onEvent = (event: OutboxEvent) => void (event.type === "failed" && failed.push({ ...event, at: Date.now() }));
    const stub = boxWith(backend, { onEvent });
    const failedAt: number[] = [];
    stageOf(stub).rest = ([first]) => {
      // From the third failure on another message is tried as well, far from the head.
      if (first?.msg === 1) failedAt.push(Date.now());
      throw new Error("the destination is down");
    };
    await putMany(stub, 150);
    await handedOver(stub, 100);
    await putMany(stub, 100, 151);
    await eventually(() => failedAt.length >= 6);
    stageOf(stub).rest = () => {};
    await drained(stub);

    const failures = failedAt.length;
    const refused = callsOf(stub)
      .filter(([first]) => first === 1)
      .slice(0, failures);
    const taken = callsOf(stub).slice(2 * failures - 2);
    // The batch is tried again as it is, and then halved with each failure, so that a message that breaks it stands alone in the end.
    expect(refused).toEqual(numbers(failures).map((n) => numbers(Math.ceil(100 / 2 ** Math.max(0, n - 2)))));
    expect(taken.flat()).toEqual(numbers(250));
    // What is left of the suspects goes in halves, and everything else in full batches.
    expect(taken.map(({ length }) => length).filter((length) => length === 100)).toHaveLength(2);
    expectAttemptsCounted(stub);

    expect(failed.map((event) => event.failures)).toEqual(numbers(failures));
    // The delay begins between the failure and its event.
    for (const [n, delay] of [100, 200, 400, 800, 1000, 1000].entries()) {
      const { retryAt = 0, at = 0 } = failed[n] ?? {};
      expect(retryAt - delay).toBeGreaterThanOrEqual(failedAt[n] ?? Number.POSITIVE_INFINITY);
      expect(retryAt - delay).toBeLessThanOrEqual(at);
      expect(failedAt[n + 1] ?? Number.POSITIVE_INFINITY).toBeGreaterThanOrEqual(retryAt);
    }
  });

  it("keeps what was delivered before it went down", async () => {
    const stub = boxWith(backend, { batchSize: 10 });
    stageOf(stub).script.push(() => {}, down);
    await putMany(stub, 25);
    await drained(stub);
    expect(callsOf(stub)).toEqual([numbers(10), numbers(10, 11), numbers(10, 11), numbers(5, 21)]);
    expectAttemptsCounted(stub);
  });

  it("starts with the shortest gap again after a success", async () => {
    const stub = fresh(backend);
    stageOf(stub).script.push(down, down, down, () => {}, down);
    await putMany(stub, 1);
    await handedOver(stub, 4);
    await drained(stub);
    await putMany(stub, 1, 2);
    await handedOver(stub, 6);
    await drained(stub);
    expect(eventsOf(stub, "failed").map(({ failures }) => failures)).toEqual([1, 2, 3, 1]);
    expect(stageOf(stub).calls.map(([first]) => [first?.msg, first?.attempts])).toEqual([
      [1, 1],
      [1, 2],
      [1, 3],
      [1, 4],
      [2, 1],
      [2, 2],
    ]);
  });

  it("does not make alarm() throw", async () => {
    const stub = fresh(backend);
    stageOf(stub).rest = down;
    await putMany(stub, 1);
    await handedOver(stub, 2);
    await inside(stub, async (box) => {
      expect(await box.alarm()).toBeUndefined();
      expect(await box.alarm({ retryCount: 3, isRetry: true, scheduledTime: Date.now() + 1000 })).toBeUndefined();
    });
  });
});
