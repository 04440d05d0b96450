/** Alarms that the platform calls late: an object that is awake delivers on its own, on the real runtime. */
import { expect, it } from "vitest";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { type Backend, declared, drained, eventually, inside, native, onBothBackends, type Stub, sent } from "../support/harness.ts";
import { Box, type BoxEnv, options, stageOf } from "../support/worker.ts";

/** What the platform's wait for an object's alarms is made of, and how often one was set. */
interface Wait {
  lateMs: number;
  sets: number;
}

/** An object whose alarms come later than they should: `setAlarm` sets them later by so much, below the outbox. */
function lateBox(backend: Backend, wait: Wait): Stub {
  const Wrapped = withTransactionalOutbox(class extends Box {}, options);
  return declared(
    backend,
    class extends Wrapped {
      constructor(ctx: DurableObjectState, env: BoxEnv) {
        const { storage } = ctx;
        const { setAlarm } = native(ctx);
        const value = (time: number, ...rest: never[]) => {
          wait.sets++;
          return setAlarm(Math.max(time, Date.now()) + wait.lateMs, ...rest);
        };
        Object.defineProperty(storage, "setAlarm", { value, configurable: true, writable: true });
        super(ctx, env);
      }
    },
  );
}

onBothBackends("an alarm that is late", (backend) => {
  it.concurrent.each([1500, 600_000])("by %i ms does not hold up steady puts", async (lateMs) => {
    const wait = { lateMs, sets: 0 };
    const stub = lateBox(backend, wait);
    let calls = 0;
    stageOf(stub).rest = () => void calls++;
    const begun = Date.now();
    for (let n = 0; n < 60; n++) {
      await inside(stub, (_, outbox) => outbox.send(Date.now()));
      await scheduler.wait(100);
    }
    await eventually(() => sent(stub).length >= 60);
    await drained(stub);
    expect(sent(stub)).toHaveLength(60);
    // However long this machine takes for the puts: the object looks once a second, and the platform's own call may come between.
    const seconds = (Date.now() - begun) / 1000;
    expect(calls).toBeLessThanOrEqual(2 + 2 * seconds);
    // One for each delivery, and one for each alarm that has found nothing to do. One that is late by minutes is left as it is for eight seconds at least.
    expect(wait.sets).toBeLessThanOrEqual(1 + (lateMs > 10_000 ? seconds / 8 : calls + seconds / (lateMs / 1000)));
  });

  it.concurrent("that comes after all has nothing left to do, and repeats nothing", async () => {
    const wait = { lateMs: 4000, sets: 0 };
    const stub = lateBox(backend, wait);
    await inside(stub, (_, outbox) => outbox.send("once"));
    await drained(stub);
    const held = () => inside(stub, (_, __, state) => native(state).getAlarm());
    await eventually(async () => (await held()) === null);
    expect(sent(stub).map(({ attempts }) => attempts)).toEqual([1]);
    expect(stageOf(stub).alarms).toEqual([]);
    expect(wait.sets).toBe(1);
  });
});
