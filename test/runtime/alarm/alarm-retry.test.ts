/** The object's own alarm that throws or dies is called again as the platform would, whatever the outbox does meanwhile. */
import { describe, expect, it } from "vitest";
import {
  again,
  by,
  crash,
  drained,
  eventually,
  fresh,
  gate,
  handedOver,
  inside,
  onBothBackends,
  type Stub,
  sent,
  unhurried,
} from "../support/harness.ts";
import { type Stage, stageOf } from "../support/worker.ts";
import { alarmsOf, backlogged, expectFired, expectNoOther, getAlarm, setIn, WORLDS } from "../support/worlds.ts";

/** Makes the object's own handler do this once, and succeed from then on. */
function once(stub: Stub, step: Stage["onAlarm"]): void {
  stageOf(stub).onAlarm = (state, outbox) => {
    stageOf(stub).onAlarm = () => {};
    return step(state, outbox);
  };
}

/**
 * Asserts how long after the alarm with this number the next one came, at least. The platform adds some jitter, and on a busy machine a
 * worker's clock is some hundred milliseconds behind: still less than half a step of the backoff.
 */
function expectDelay(stub: Stub, number: number, ms: number): void {
  const [first = 0, second = 0] = alarmsOf(stub)
    .slice(number - 1)
    .map(({ at }) => at);
  expect(second - first).toBeGreaterThanOrEqual(ms * 0.6);
}

/** Runs a test that must do something before the platform, or the outbox in its stead, repeats the first alarm. */
const beforeRetry = (test: () => Promise<void>) => unhurried(RETRY_MS, test, 1.4);
/** When what is to come before the retry must be over: well before it, because a busy platform begins it before others see that. */
const retryOf = (stub: Stub): number => (alarmsOf(stub)[0]?.at ?? 0) + RETRY_MS;
const RETRY_MS = 1000;

async function die(state: DurableObjectState): Promise<void> {
  await scheduler.wait(20);
  state.abort("the crash that the test wants");
}

function fail(): never {
  throw new Error("the alarm that the test wants to fail");
}

onBothBackends("the object's own alarm", (backend) => {
  describe.concurrent.each(WORLDS)("$world", ({ object }) => {
    it("that throws comes again after 2 and after 4 seconds, and is told so", async () => {
      const stub = await object(backend);
      let failures = 2;
      stageOf(stub).onAlarm = () => {
        if (failures-- > 0) throw new Error("the alarm that the test wants to fail");
      };
      const time = await setIn(stub, 100);
      await expectFired(stub, 1, time);
      await expectFired(stub, 2, time, 1);
      await expectFired(stub, 3, time, 2);
      expectDelay(stub, 1, 2000);
      expectDelay(stub, 2, 4000);
      await expectNoOther(stub, 3);
    });

    it("that throws after it has set another is that other", async () => {
      const stub = await object(backend);
      let next = 0;
      stageOf(stub).onAlarm = async ({ storage }) => {
        if (next > 0) return;
        next = Date.now() + 200;
        await storage.setAlarm(next);
        throw new Error("the alarm that the test wants to fail");
      };
      await expectFired(stub, 1, await setIn(stub, 100));
      await expectFired(stub, 2, next);
      await expectNoOther(stub, 2);
    });

    it("set after a throw replaces the retries", () =>
      beforeRetry(async () => {
        const stub = await object(backend);
        once(stub, fail);
        await expectFired(stub, 1, await setIn(stub, 100));
        const time = await by(retryOf(stub), () => setIn(stub, 2800)); // After the retry would have come.
        await expectFired(stub, 2, time);
        await expectNoOther(stub, 2);
      }));

    it("deleted while it runs does not come again when it throws", async () => {
      const stub = await object(backend);
      once(stub, async ({ storage }) => {
        await storage.deleteAlarm();
        fail();
      });
      await expectFired(stub, 1, await setIn(stub, 100));
      await expectFired(stub, 2, await setIn(stub, 2800)); // After the retry would have come.
      await expectNoOther(stub, 2);
    });

    it("between a throw and its retry, getAlarm still answers its time, and a crash changes nothing", () =>
      beforeRetry(async () => {
        const stub = await object(backend);
        once(stub, fail);
        const time = await setIn(stub, 100);
        await expectFired(stub, 1, time);
        const next = await by(retryOf(stub), async () => {
          expect(await getAlarm(stub)).toBe(time);
          return crash(stub);
        });
        await expectFired(next, 2, time, 1);
        expectDelay(next, 1, 2000);
        await expectNoOther(next, 2);
      }));

    it("that dies while it runs comes again, and is told so", async () => {
      const stub = await object(backend);
      once(stub, die);
      const time = await setIn(stub, 200); // Between two attempts of the outbox.
      await expectFired(stub, 1, time);
      await expectFired(stub, 2, time, 1);
      await expectNoOther(again(stub), 2);
    });
  });
});

onBothBackends("the object's own alarm that throws", (backend) => {
  it.concurrent("while nothing waits comes again in time when a message is put before the retry", () =>
    beforeRetry(async () => {
      const stub = fresh(backend);
      stageOf(stub).rest = () => Promise.reject(new Error("the destination is down"));
      once(stub, fail);
      const time = await setIn(stub, 100);
      await expectFired(stub, 1, time);
      await by(retryOf(stub), async () => {
        await inside(stub, (_, outbox) => outbox.send("waits"));
        expect(await getAlarm(stub)).toBe(time);
      });
      await expectFired(stub, 2, time, 1);
      expectDelay(stub, 1, 2000);
      await expectNoOther(stub, 2);
    }));

  it.concurrent("while messages wait comes again in time when they are delivered before the retry", () =>
    beforeRetry(async () => {
      const stub = await backlogged(backend);
      once(stub, fail);
      const time = await setIn(stub, 100);
      await expectFired(stub, 1, time);
      stageOf(stub).rest = () => {};
      await by(retryOf(stub), () => drained(stub));
      await expectFired(stub, 2, time, 1);
      expectDelay(stub, 1, 2000);
      await expectNoOther(stub, 2);
    }));

  it.concurrent("or dies during a send in flight comes again, and is told so", () =>
    unhurried(200, async (ms) => {
      const stub = fresh(backend);
      const held = gate();
      stageOf(stub).script.push(held.passed);
      once(stub, die);
      const time = await setIn(stub, ms);
      await by(time, async () => {
        await inside(stub, (_, outbox) => outbox.send("slow"));
        await handedOver(stub, 1);
      });
      await expectFired(stub, 1, time);
      await expectFired(stub, 2, time, 1);
      held.open();
      await drained(again(stub));
      await expectNoOther(again(stub), 2);
    }));

  it.concurrent("while messages wait still answers getAlarm with its time when they are delivered before the retry", () =>
    beforeRetry(async () => {
      const stub = await backlogged(backend);
      once(stub, fail);
      const time = await setIn(stub, 100);
      await expectFired(stub, 1, time);
      await by(retryOf(stub), async () => {
        expect(await getAlarm(stub)).toBe(time);
        stageOf(stub).rest = () => {};
        await drained(stub);
        expect(alarmsOf(stub)).toHaveLength(1);
        expect(await getAlarm(stub)).toBe(time);
      });
    }));

  // Locally an alarm that is set while the platform waits to retry comes only after that wait (seen on the platform alone).
  it.concurrent("lets the messages go on, at the latest when it is retried", async () => {
    const stub = fresh(backend);
    stageOf(stub).onAlarm = fail;
    await setIn(stub, 50);
    await eventually(() => alarmsOf(stub).length === 1);
    for (let n = 1; n <= 3; n++) {
      await inside(stub, (_, outbox) => outbox.send(n));
      await handedOver(stub, n);
    }
    await drained(stub);
    expect(sent(stub).map(({ msg }) => msg)).toEqual([1, 2, 3]);
  });

  it.concurrent("in the turn of a put in the handler keeps the put, and comes again", async () => {
    const stub = fresh(backend);
    once(stub, async (_, outbox) => {
      await outbox.put("a", 1, "kept");
      fail();
    });
    const time = await setIn(stub, 50);
    await handedOver(stub, 1);
    await expectFired(stub, 2, time, 1);
    await drained(stub);
    await expectNoOther(stub, 2);
    expect(sent(stub)).toHaveLength(1);
  });
});
