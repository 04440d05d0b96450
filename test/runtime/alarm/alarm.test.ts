/** The object's own alarm is kept exactly, whatever the outbox does. */
import { evictDurableObject } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { by, crash, drained, eventually, fresh, gate, handedOver, inside, onBothBackends, sent, unhurried } from "../support/harness.ts";
import { stageOf } from "../support/worker.ts";
import { alarmsOf, backlogged, expectFired, expectNoOther, getAlarm, setIn, WORLDS } from "../support/worlds.ts";

onBothBackends("the object's own alarm", (backend) => {
  describe.concurrent.each(WORLDS)("$world", ({ object }) => {
    it("fires once at its time, and is told that time", async () => {
      const stub = await object(backend);
      await expectFired(stub, 1, await setIn(stub, 300));
      await expectNoOther(stub, 1);
    });

    it("answers getAlarm: null, the time, null while it runs and null after it", async () => {
      const stub = await object(backend);
      const answers: unknown[] = [];
      stageOf(stub).onAlarm = async ({ storage }) => answers.push(await storage.getAlarm());
      expect(await getAlarm(stub)).toBeNull();
      await setIn(stub, 100);
      await eventually(() => answers.length === 1);
      expect(answers).toEqual([null]);
      expect(await getAlarm(stub)).toBeNull();
    });

    it("is gone after deleteAlarm", () =>
      unhurried(500, async (ms) => {
        const stub = await object(backend);
        const time = await setIn(stub, ms);
        await by(time, () => inside(stub, (_, __, { storage }) => storage.deleteAlarm()));
        expect(await getAlarm(stub)).toBeNull();
        await expectFired(stub, 1, await setIn(stub, ms + 200));
        await expectNoOther(stub, 1);
      }));

    it("fires now when its time has passed", async () => {
      const stub = await object(backend);
      const [before, time] = await inside(stub, async (_, __, { storage }) => {
        const now = Date.now();
        void storage.setAlarm(1000);
        return [now, await storage.getAlarm()];
      });
      expect(time).toBeGreaterThanOrEqual(before);
      // The platform reads the clock once for getAlarm and once for the call: a millisecond may lie between.
      await eventually(() => alarmsOf(stub).length === 1);
      const scheduled = alarmsOf(stub)[0]?.info?.scheduledTime ?? 0;
      expect(scheduled).toBeGreaterThanOrEqual(before);
      await expectFired(stub, 1, scheduled);
      expect(Math.abs(scheduled - (time ?? 0))).toBeLessThanOrEqual(1);
      await expectNoOther(stub, 1);
    });

    it.each([
      [600, 200],
      [600, 700],
    ])("set for %i ms and then for %i ms fires at the second time only", (first, second) =>
      unhurried(first, async (ms) => {
        const stub = await object(backend);
        const early = await setIn(stub, ms);
        const time = await by(early, () => setIn(stub, (ms * second) / first));
        await expectFired(stub, 1, time);
        await expectNoOther(stub, 1);
      }),
    );

    it("takes a Date as it takes a number, and the fractions of neither", async () => {
      const stub = await object(backend);
      const times = await inside(stub, async (_, __, { storage }) => {
        const far = Date.now() + 600_000;
        await storage.setAlarm(new Date(far));
        const first = await storage.getAlarm();
        await storage.setAlarm(far + 0.75);
        return [far, first, await storage.getAlarm()];
      });
      expect(times).toEqual([times[0], times[0], times[0]]);
    });

    it("set again while it runs fires again, at the new time and as a new one", async () => {
      const stub = await object(backend);
      let next = 0;
      stageOf(stub).onAlarm = async ({ storage }) => {
        if (next > 0) return;
        next = Date.now() + 200;
        await storage.setAlarm(next);
        expect(await storage.getAlarm()).toBe(next);
        await scheduler.wait(50);
      };
      await expectFired(stub, 1, await setIn(stub, 100));
      await expectFired(stub, 2, next);
      await expectNoOther(stub, 2);
    });

    it("set and deleted while it runs does not fire again", async () => {
      const stub = await object(backend);
      stageOf(stub).onAlarm = async ({ storage }) => {
        stageOf(stub).onAlarm = () => {};
        await storage.setAlarm(Date.now() + 50);
        await storage.deleteAlarm();
      };
      await expectFired(stub, 1, await setIn(stub, 100));
      await expectFired(stub, 2, await setIn(stub, 300));
      await expectNoOther(stub, 2);
    });

    it("is gone after deleteAll", () =>
      unhurried(500, async (ms) => {
        const stub = await object(backend);
        const time = await setIn(stub, ms);
        await by(time, () => inside(stub, (_, __, { storage }) => storage.deleteAll()));
        expect(await getAlarm(stub)).toBeNull();
        await expectFired(stub, 1, await setIn(stub, ms + 200));
        await expectNoOther(stub, 1);
      }));

    it("survives a crash", () =>
      unhurried(400, async (ms) => {
        const stub = await object(backend);
        const time = await setIn(stub, ms);
        const next = await by(time, () => crash(stub));
        await expectFired(next, 1, time);
        await expectNoOther(next, 1);
      }));
  });
});

onBothBackends("setAlarm with a time that is none", (backend) => {
  const TIMES: unknown[] = [Number.NaN, Number.POSITIVE_INFINITY, -1, 0, 1e18, "soon", null, undefined, true, {}, new Date(Number.NaN)];

  it.each(TIMES)("answers for %o as the platform does, and changes nothing", async (time) => {
    const answers = await Promise.all(
      WORLDS.map(async ({ object }) => {
        const stub = await object(backend);
        const far = await setIn(stub, 600_000);
        const refusal = await inside(stub, (_, __, { storage }) => storage.setAlarm(time as number).catch((error: Error) => error.name));
        return [refusal, (await getAlarm(stub)) === far];
      }),
    );
    expect(answers[1]).toEqual(answers[0]);
    expect(answers[2]).toEqual(answers[0]);
  });
});

onBothBackends("the object's own alarm and the outbox's work", (backend) => {
  it.each(["before", "after"])("set %s the put, it fires at its own time and the message goes at once", (order) =>
    unhurried(500, async (ms) => {
      const stub = fresh(backend);
      const time = await inside(stub, async (_, outbox, { storage }) => {
        const own = Date.now() + ms;
        if (order === "before") void storage.setAlarm(own);
        void outbox.send("message");
        if (order === "after") void storage.setAlarm(own);
        return own;
      });
      await by(time, async () => {
        await handedOver(stub, 1);
        expect(alarmsOf(stub)).toHaveLength(0);
        await drained(stub);
        expect(await getAlarm(stub)).toBe(time);
      });
      await expectFired(stub, 1, time);
      await expectNoOther(stub, 1);
      expect(sent(stub)).toHaveLength(1);
    }),
  );

  it("fires at its time during a slow send, and so does the next", async () => {
    const stub = fresh(backend);
    const held = gate();
    stageOf(stub).rest = held.passed;
    const first = await setIn(stub, 200);
    await inside(stub, (_, outbox) => outbox.send("slow"));
    await expectFired(stub, 1, first);
    await expectFired(stub, 2, await setIn(stub, 150));
    await handedOver(stub, 1);
    held.open();
    await drained(stub);
    await expectNoOther(stub, 2);
    expect(sent(stub)).toHaveLength(1);
  });

  it("set during a send for a time after it fires at that time", async () => {
    const stub = fresh(backend);
    const held = gate();
    stageOf(stub).rest = held.passed;
    await inside(stub, (_, outbox) => outbox.send("slow"));
    await handedOver(stub, 1);
    const time = await setIn(stub, 400);
    held.open();
    await drained(stub);
    await expectFired(stub, 1, time);
    await expectNoOther(stub, 1);
  });

  it.each([0, 1])("delivers what the handler puts, with %i messages pending", async (pending) => {
    const stub = pending > 0 ? await backlogged(backend) : fresh(backend);
    stageOf(stub).onAlarm = async (_, outbox) => {
      stageOf(stub).onAlarm = () => {};
      stageOf(stub).rest = () => {};
      await outbox.put("a", 1, "from the alarm");
    };
    await expectFired(stub, 1, await setIn(stub, 100));
    await eventually(() => sent(stub).some(({ msg }) => msg === "from the alarm"));
    await drained(stub);
    expect(new Set(sent(stub).map(({ msg }) => msg)).size).toBe(pending + 1);
    await expectNoOther(stub, 1);
  });

  it("is not called when the outbox's wake-up starts the object", async () => {
    const stub = await backlogged(backend);
    await handedOver(stub, 3); // From here on there is nearly half a second until the next attempt.
    await evictDurableObject(stub);
    stageOf(stub).rest = () => {};
    await handedOver(stub, 4);
    await drained(stub);
    await expectNoOther(stub, 0);
  });

  it("both survive a crash", () =>
    unhurried(500, async (ms) => {
      const stub = await backlogged(backend);
      const time = await setIn(stub, ms);
      const next = await by(time, () => crash(stub));
      stageOf(stub).rest = () => {};
      await expectFired(next, 1, time);
      await drained(next);
      expect(new Set(sent(next).map(({ msg }) => msg))).toEqual(new Set(["waits"]));
      await expectNoOther(next, 1);
    }));
});
