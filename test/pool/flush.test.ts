/** Delivery on demand: `flush()`, and the alarm that a test helper runs by hand. */
import { runDurableObjectAlarm } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { boxWith, callsOf, down, numbers, putMany } from "./batches.ts";
import { drained, eventually, fresh, gate, handedOver, inside, onBothBackends, until } from "./harness.ts";
import { stageOf } from "./worker.ts";

const patient = { retry: { minDelaySeconds: 600, maxDelaySeconds: 600 } };

onBothBackends("flush", (backend) => {
  it("delivers now, in the middle of a backoff", async () => {
    const stub = boxWith(backend, patient);
    stageOf(stub).script.push(down);
    await putMany(stub, 3);
    await until(stub, async (box) => (await box.outbox.stats()).failures === 1);
    await inside(stub, async (_, outbox) => {
      await outbox.flush();
      expect((await outbox.stats()).pending).toBe(0);
    });
    expect(callsOf(stub)).toEqual([numbers(3), numbers(3)]);
  });

  it("resolves when the attempt fails, and leaves the messages for the next", async () => {
    const stub = boxWith(backend, patient);
    stageOf(stub).rest = down;
    await putMany(stub, 3);
    await until(stub, async (box) => (await box.outbox.stats()).failures === 1);
    await inside(stub, async (_, outbox) => {
      expect(await outbox.flush()).toBeUndefined();
      expect(await outbox.stats()).toMatchObject({ pending: 3, failures: 2 });
    });
  });

  it("joins the run under way and resolves when that has ended", async () => {
    const stub = fresh(backend);
    const held = gate();
    stageOf(stub).script.push(held.passed);
    await putMany(stub, 2);
    await handedOver(stub, 2);
    let ended = 0;
    await inside(stub, (_, outbox) => {
      for (let n = 0; n < 2; n++) void outbox.flush().then(() => ended++);
    });
    await putMany(stub, 1, 3);
    expect(ended).toBe(0);
    held.open();
    await eventually(() => ended === 2);
    await drained(stub);
    expect(callsOf(stub)).toEqual([numbers(2), [3]]);
  });
});

onBothBackends("runDurableObjectAlarm, which calls alarm() without info", (backend) => {
  describe.each([0, 2])("with %i messages that wait out a backoff", (pending) => {
    it("runs the object's own alarm once", async () => {
      const stub = boxWith(backend, patient);
      stageOf(stub).rest = down;
      if (pending > 0) {
        await putMany(stub, pending);
        await until(stub, async (box) => (await box.outbox.stats()).failures === 1);
      }
      await inside(stub, (_, __, state) => state.storage.setAlarm(Date.now() + 600_000));
      expect(await runDurableObjectAlarm(stub)).toBe(true);
      expect(stageOf(stub).alarms).toHaveLength(1);
      expect(await inside(stub, (_, __, state) => state.storage.getAlarm())).toBeNull();
      expect(await runDurableObjectAlarm(stub)).toBe(false);
      expect(await inside(stub, async (_, outbox) => (await outbox.stats()).pending)).toBe(pending);
    });
  });
});
