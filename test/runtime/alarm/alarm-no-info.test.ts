/** A call of `alarm()` without info, as tracing wrappers and runDurableObjectAlarm make it: the object's own alarm runs only when it is due. */
import { runDurableObjectAlarm } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { type OutboxOptions, withTransactionalOutbox } from "../../../src/index.ts";
import {
  again,
  type Backend,
  crash,
  declared,
  drained,
  eventually,
  inside,
  native,
  onBothBackends,
  type Stub,
  sent,
  until,
} from "../support/harness.ts";
import { Box, options, stageOf } from "../support/worker.ts";
import { alarmsOf } from "../support/worlds.ts";

/** An object whose alarm is wrapped from outside, by something that drops the info. */
function traced(backend: Backend, chosen: OutboxOptions<"OUTBOX_MANAGER"> = {}): Stub {
  const Wrapped = withTransactionalOutbox(class extends Box {}, { ...options, ...chosen });
  return declared(
    backend,
    class extends Wrapped {
      constructor(...args: ConstructorParameters<typeof Wrapped>) {
        super(...args);
        const { alarm } = this;
        Object.defineProperty(this, "alarm", { value: () => alarm.call(this), writable: true, configurable: true });
      }
    },
  );
}

const inAnHour = (): number => Date.now() + 3_600_000;

onBothBackends("alarm() without info", (backend) => {
  describe.concurrent("by a wrapper that drops it", () => {
    it("delivers at the outbox's alarm, and leaves the object's own to its time", async () => {
      const stub = traced(backend);
      const time = await inside(stub, async (_, outbox, { storage }) => {
        const time = Date.now() + 3000;
        await storage.setAlarm(time);
        await outbox.send("at once");
        return time;
      });
      await drained(stub);
      await eventually(() => alarmsOf(stub).length > 0);
      expect(alarmsOf(stub)).toHaveLength(1);
      expect(alarmsOf(stub)[0]?.at).toBeGreaterThanOrEqual(time);
      expect(sent(stub)).toHaveLength(1);
    });

    it("leaves it to its time also when the outbox's alarm starts the object", async () => {
      const stub = traced(backend);
      await inside(stub, async (_, outbox, { storage }) => {
        await storage.setAlarm(inAnHour());
        await outbox.send("later", { delaySeconds: 1 });
      });
      await crash(stub);
      await eventually(() => sent(stub).length === 1);
      expect(alarmsOf(stub)).toEqual([]);
      expect(await inside(again(stub), (_, __, { storage }) => storage.getAlarm())).toBeGreaterThan(Date.now());
    });

    it("calls the object's own when nothing waits", async () => {
      const stub = traced(backend);
      await inside(stub, (_, __, { storage }) => storage.setAlarm(Date.now() + 50));
      await eventually(() => alarmsOf(stub).length > 0);
      expect(alarmsOf(stub)).toHaveLength(1);
      expect(await inside(stub, (_, __, { storage }) => storage.getAlarm())).toBeNull();
    });
  });

  it.each([0, 1])("by runDurableObjectAlarm calls the object's own before its time, with %i messages delayed", async (delayed) => {
    const stub = traced(backend);
    await inside(stub, async (_, outbox, { storage }) => {
      if (delayed > 0) await outbox.send("later", { delaySeconds: 600 });
      await storage.setAlarm(inAnHour());
    });
    expect(await runDurableObjectAlarm(stub)).toBe(true);
    expect(alarmsOf(stub)).toHaveLength(1);
    expect(await inside(stub, (_, __, { storage }) => storage.getAlarm())).toBeNull();
    expect(await inside(stub, async (_, outbox) => (await outbox.stats()).delayed)).toBe(delayed);
    expect(sent(stub)).toEqual([]);
    // What is left is the outbox's.
    expect(await runDurableObjectAlarm(stub)).toBe(delayed > 0);
    expect(sent(stub)).toHaveLength(delayed);
    expect(alarmsOf(stub)).toHaveLength(1);
  });

  it("by runDurableObjectAlarm runs the outbox's alarm, as if its time had come, and none where none is set", async () => {
    const stub = traced(backend);
    expect(await runDurableObjectAlarm(stub)).toBe(false);
    await inside(stub, (_, outbox) =>
      Promise.all([outbox.send("later", { delaySeconds: 600 }), outbox.send("last", { delaySeconds: 3600 })]),
    );
    expect(await inside(stub, (_, __, { storage }) => storage.getAlarm())).toBeNull();
    expect(await runDurableObjectAlarm(stub)).toBe(true);
    expect(sent(stub).map(({ msg }) => msg)).toEqual(["later"]);
    // The alarm for what is left is not put off by the one that came early.
    const left = (await inside(stub, (_, __, state) => native(state).getAlarm())) ?? Number.POSITIVE_INFINITY;
    expect(left).toBeLessThanOrEqual(Date.now() + 3_600_000);
    await inside(stub, (_, outbox) => outbox.send("now"));
    await eventually(() => sent(stub).length === 2);
    expect(await runDurableObjectAlarm(stub)).toBe(true);
    expect(sent(stub).map(({ msg }) => msg)).toEqual(["later", "now", "last"]);
    expect(await runDurableObjectAlarm(stub)).toBe(false);
    // Nobody set an alarm of the object's own.
    expect(alarmsOf(stub)).toEqual([]);
  });

  it("by runDurableObjectAlarm runs the next attempt of a failed delivery", async () => {
    const stub = traced(backend, { retry: { minDelaySeconds: 3600 } });
    stageOf(stub).script.push(() => Promise.reject(new Error("down")));
    await inside(stub, (_, outbox) => outbox.send("kept"));
    await until(stub, async (box) => (await box.outbox.stats()).failures === 1);
    expect(await runDurableObjectAlarm(stub)).toBe(true);
    expect(sent(stub).map(({ attempts }) => attempts)).toEqual([1, 2]);
    expect(await inside(stub, async (_, outbox) => (await outbox.stats()).pending)).toBe(0);
  });

  it("by runDurableObjectAlarm leaves an alarm for what still waits", async () => {
    const stub = traced(backend);
    await inside(stub, async (_, outbox, { storage }) => {
      await outbox.send("later", { delaySeconds: 1 });
      await storage.setAlarm(inAnHour());
    });
    await runDurableObjectAlarm(stub);
    await eventually(() => sent(stub).length === 1);
  });
});
