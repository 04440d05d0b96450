/** `dispatch: "immediate"`: the first attempt starts as soon as the write is durable, and an alarm ten seconds later is its safety net. */
import { describe, expect, it } from "vitest";
import { boxWith, callsOf, down, numbers, putMany } from "../support/batches.ts";
import {
  type Backend,
  by,
  crash,
  crashAfter,
  eventually,
  gate,
  handedOver,
  inside,
  native,
  onBothBackends,
  type Stub,
  sent,
  unhurried,
  until,
} from "../support/harness.ts";
import { ledgered, retrying, ringAt, sendNamed, stats, watched } from "../support/lanes.ts";
import { idle, patient, statsOf } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";
import { expectFired, expectNoOther, getAlarm, setIn } from "../support/worlds.ts";

const SAFETY_MS = 10_000;

const immediate = (backend: Backend, retry = {}): Stub => boxWith(backend, { dispatch: "immediate", ...retry });
const nativeAlarm = (stub: Stub) => inside(stub, (_, __, state) => native(state).getAlarm());
/** Runs a test whose beginning must be over before the safety net rings. */
const unrung = (test: (rings: number) => Promise<void>) => unhurried(SAFETY_MS, () => test(Date.now() + SAFETY_MS));

/** Waits until nothing is armed any more, which takes until the safety net has rung. */
const unarmed = (stub: Stub) => until(stub, async (_, state) => (await native(state).getAlarm()) === null);

onBothBackends("immediate dispatch", (backend) => {
  it("hands a message over at once, while the alarm stands about ten seconds ahead", () =>
    unrung(async (rings) => {
      const stub = immediate(backend);
      await by(rings, async () => {
        await inside(stub, async (_, outbox, state) => {
          const begun = Date.now();
          await outbox.put("key", 1, "message");
          const alarm = await native(state).getAlarm();
          expect(alarm).toBeGreaterThan(begun + SAFETY_MS - 1000);
          expect(alarm).toBeLessThan(Date.now() + SAFETY_MS + 1000);
        });
        await handedOver(stub, 1);
      });
      expect(sent(stub)).toMatchObject([{ msg: "message", attempts: 1 }]);
      await idle(stub);
      expect(stageOf(stub).alarms).toEqual([]);
    }));

  it("reuses the alarm that stands for messages sent one after the other", () =>
    unrung(async (rings) => {
      const stub = ledgered(backend, { dispatch: "immediate" });
      await by(rings, async () => {
        for (let n = 1; n <= 50; n++) {
          await inside(stub, (_, outbox) => outbox.put("key", n, n));
          await handedOver(stub, n);
          await idle(stub);
        }
      });
      expect(callsOf(stub)).toEqual(numbers(50).map((n) => [n]));
      const { rows, alarms, disarmed } = await inside(stub, ({ ledger }) => ledger);
      expect({ rows, alarms, disarmed }).toEqual({ rows: 100, alarms: 1, disarmed: 0 });
    }));

  it("keeps order, and never runs twice at a time, when messages are put during sends", async () => {
    const stub = immediate(backend);
    const seen = watched(stub, () => scheduler.wait(2));
    for (let from = 1; from <= 96; from += 5) {
      await putMany(stub, 5, from);
      await scheduler.wait(1);
    }
    await idle(stub);
    expect(callsOf(stub).flat()).toEqual(numbers(100));
    expect(callsOf(stub).length).toBeGreaterThan(1);
    expect(seen.most).toBe(1);
  });

  it("delivers what was put during a send in flight after it, once", async () => {
    const stub = immediate(backend);
    const held = gate();
    stageOf(stub).script.push(held.passed);
    await putMany(stub, 2);
    await handedOver(stub, 2);
    await putMany(stub, 20, 3);
    await inside(stub, (_, outbox) => void outbox.flush());
    held.open();
    await idle(stub);
    expect(callsOf(stub)).toEqual([numbers(2), numbers(20, 3)]);
  });

  it("hands over what is stored in one turn in one call", async () => {
    const stub = immediate(backend);
    await putMany(stub, 30);
    await idle(stub);
    expect(callsOf(stub)).toEqual([numbers(30)]);
  });

  it("hands nothing over of a put that is refused or rolled back", async () => {
    const stub = immediate(backend);
    await inside(stub, async (_, outbox) => {
      await expect(outbox.put("key", () => {}, "ghost")).rejects.toThrow();
      await expect(outbox.send(() => {})).rejects.toThrow(TypeError);
    });
    const next = await crash(stub, (outbox) => outbox.put("key", 1, "ghost"));
    await inside(next, (_, outbox) => outbox.send("real"));
    await idle(next);
    expect(callsOf(stub)).toEqual([["real"]]);
  });

  it("waits with a delayed message until its time", () =>
    unhurried(400, async (ms) => {
      const stub = immediate(backend);
      const due = Date.now() + ms;
      await by(due, async () => {
        await inside(stub, (_, outbox) => outbox.send("later", { deliverAt: due }));
        await inside(stub, (_, outbox) => outbox.send("now"));
        await handedOver(stub, 1);
        expect(await statsOf(stub)).toMatchObject({ delayed: 1, nextAttemptAt: due });
      });
      await handedOver(stub, 2);
      expect(Date.now()).toBeGreaterThanOrEqual(due);
      expect(callsOf(stub)).toEqual([["now"], ["later"]]);
    }));

  it("keeps the order of a key while its head waits for a retry", () =>
    unhurried(300, async (ms) => {
      const stub = immediate(backend);
      stageOf(stub).script.push(retrying("a1", ms / 1000));
      await by(Date.now() + ms, async () => {
        await sendNamed(stub, "a1 b1 a2");
        await stats(stub, { pending: 0, delayed: 1, blocked: 1 });
        await sendNamed(stub, "a3 b2");
      });
      await idle(stub);
      const names = callsOf(stub).flat() as string[];
      expect(names.filter((name) => name.startsWith("a"))).toEqual(["a1", "a1", "a2", "a3"]);
      expect(names.filter((name) => name.startsWith("b"))).toEqual(["b1", "b2"]);
    }));
});

onBothBackends("immediate dispatch that fails", (backend) => {
  it("backs off by the alarm, and what is put meanwhile changes nothing", async () => {
    const stub = immediate(backend, { retry: patient });
    stageOf(stub).script.push(down);
    await putMany(stub, 1);
    await stats(stub, { failures: 1, breaker: "open" });
    const { nextAttemptAt } = await statsOf(stub);
    expect(nextAttemptAt).toBeGreaterThan(Date.now() + 500_000);
    for (let n = 2; n <= 5; n++) await putMany(stub, 1, n);
    // The safety net may ring before: it calls nobody, and the next alarm is the one of the attempt.
    await ringAt(stub, (await nativeAlarm(stub)) ?? expect.fail("no alarm stands"));
    expect(await nativeAlarm(stub)).toBeGreaterThanOrEqual((nextAttemptAt ?? 0) - 1000);
    expect(await statsOf(stub)).toMatchObject({ pending: 5, failures: 1, nextAttemptAt });
    expect(callsOf(stub)).toEqual([[1]]);
    await inside(stub, (_, outbox) => outbox.flush());
    expect(callsOf(stub).flat()).toEqual([1, ...numbers(5)]);
  });

  it("is tried again after its delays, in order", async () => {
    const stub = immediate(backend);
    const failedAt: number[] = [];
    stageOf(stub).rest = (messages) => {
      // From the third failure on another message is tried as well.
      if (failedAt.push(Date.now()) <= 4) throw new Error(`down for ${messages.length}`);
    };
    await putMany(stub, 3);
    await idle(stub);
    const [first = 0, second = 0, third = 0, control = 0, last = 0] = failedAt;
    expect(second - first).toBeGreaterThanOrEqual(100);
    expect(third - second).toBeGreaterThanOrEqual(200);
    expect(last - control).toBeGreaterThanOrEqual(400);
    expect(callsOf(stub).slice(4).flat()).toEqual(numbers(3));
  });

  it.each(["once the write is durable", "during the attempt"])("by a crash %s is repaired by the alarm", async (when) => {
    const stub = immediate(backend);
    const held = gate();
    stageOf(stub).script.push(held.passed);
    let next: Stub;
    if (when === "during the attempt") {
      await putMany(stub, 3);
      await handedOver(stub, 3);
      next = await crash(stub);
    } else {
      next = await crashAfter(stub, async (outbox, { storage }) => {
        await outbox.put("key", 1, 1);
        await storage.sync();
      });
    }
    held.open();
    stageOf(stub).script.length = 0;
    const handed = sent(stub).length;
    // The next life begins with its alarm: nobody else touches the object.
    await ringAt(next, (await nativeAlarm(next)) ?? expect.fail("no alarm stands"));
    await handedOver(stub, handed + 1);
    await idle(next);
    // Whether an attempt was under way nobody has told: the first batch of the next life is half as large, as after any death.
    if (when === "during the attempt") expect(callsOf(stub)).toEqual([numbers(3), [1, 2], [3]]);
    else expect(callsOf(stub).at(-1)).toEqual([1]);
  });
});

describe.concurrent("the safety net", () => {
  onBothBackends("of immediate dispatch", (backend) => {
    it("rings by itself after a crash, and delivers what the crash interrupted", () =>
      unrung(async (rings) => {
        const stub = immediate(backend);
        const held = gate();
        stageOf(stub).script.push(held.passed);
        await by(rings, async () => {
          await putMany(stub, 3);
          await handedOver(stub, 3);
          await crash(stub);
        });
        held.open();
        await eventually(() => callsOf(stub).length > 1);
        expect(Date.now()).toBeGreaterThanOrEqual(rings);
        // After a death half of them are tried first.
        await eventually(() => callsOf(stub).length > 2);
        expect(callsOf(stub)).toEqual([numbers(3), [1, 2], [3]]);
      }));

    it("that rings with nothing pending calls nobody, and leaves nothing armed", async () => {
      const stub = immediate(backend);
      await putMany(stub, 3);
      await handedOver(stub, 3);
      await idle(stub);
      expect(await getAlarm(stub)).toBeNull();
      await unarmed(stub);
      expect(callsOf(stub)).toEqual([numbers(3)]);
      expect(stageOf(stub).alarms).toEqual([]);
      expect(await statsOf(stub)).toMatchObject({ pending: 0, nextAttemptAt: null });
      // The slot is the object's own again.
      await expectFired(stub, 1, await setIn(stub, 100));
      await expectNoOther(stub, 1);
    });

    it.each([
      ["before", 300],
      ["after", SAFETY_MS + 1500],
    ])("is not the object's own alarm, which comes once, at its time, %s it", (_, far) =>
      unhurried(far, async (ms) => {
        const stub = immediate(backend);
        await putMany(stub, 1);
        await handedOver(stub, 1);
        await idle(stub);
        expect(await getAlarm(stub)).toBeNull();
        const time = await setIn(stub, ms);
        await by(time, async () => {
          await putMany(stub, 1, 2);
          await handedOver(stub, 2);
          expect(await getAlarm(stub)).toBe(time);
        });
        await expectFired(stub, 1, time);
        await expectNoOther(stub, 1);
        await unarmed(stub);
        expect(stageOf(stub).alarms).toHaveLength(2);
        expect(callsOf(stub)).toEqual([[1], [2]]);
      }),
    );

    it("leaves an own alarm alone that was set before the first message, and one that is deleted away", () =>
      unhurried(600, async (ms) => {
        const stub = immediate(backend);
        const time = await setIn(stub, ms);
        await by(time, async () => {
          await putMany(stub, 1);
          await handedOver(stub, 1);
          expect(await getAlarm(stub)).toBe(time);
        });
        await expectFired(stub, 1, time);
        expect(await getAlarm(stub)).toBeNull();
        const deleted = await setIn(stub, ms);
        await by(deleted, async () => {
          await putMany(stub, 1, 2);
          await inside(stub, (_, __, { storage }) => storage.deleteAlarm());
        });
        expect(await getAlarm(stub)).toBeNull();
        await handedOver(stub, 2);
        await unarmed(stub);
        expect(stageOf(stub).alarms).toHaveLength(1);
      }));
  });
});
