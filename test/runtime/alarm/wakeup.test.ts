/** The wake-up is an invariant: whatever is pending, an alarm is due, also when somebody else has taken it away. */
import { evictDurableObject } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { type OutboxManager, withTransactionalOutbox } from "../../../src/index.ts";
import {
  again,
  type Backend,
  by,
  crash,
  declared,
  drained,
  fresh,
  handedOver,
  inside,
  native,
  onBothBackends,
  outboxRows,
  type Stub,
  sent,
  unhurried,
} from "../support/harness.ts";
import { Box, options, stageOf } from "../support/worker.ts";
import { expectFired, setIn } from "../support/worlds.ts";

/** An object whose destination has refused once and would be asked again half a second later, or after so many milliseconds. */
async function refusedOnce(backend: Backend, ms = 500): Promise<Stub> {
  const retry = { minDelaySeconds: ms / 1000, maxDelaySeconds: ms / 1000, jitter: 0 };
  const stub = declared(backend, withTransactionalOutbox(class extends Box {}, { ...options, retry }));
  stageOf(stub).script.push(() => Promise.reject(new Error("down")));
  await inside(stub, (_, outbox) => outbox.put("a", 1, "first"));
  await handedOver(stub, 1);
  return stub;
}

const SABOTAGE: [string, (storage: DurableObjectStorage) => Promise<unknown>, number | null][] = [
  ["deleted", (storage) => storage.deleteAlarm(), null],
  ["moved into the far future", (storage) => storage.setAlarm(4_000_000_000_000), 4_000_000_000_000],
];

const WRITES: [string, (outbox: OutboxManager) => Promise<unknown>][] = [
  ["put", (outbox) => outbox.put("b", 2, "second")],
  ["delete", (outbox) => outbox.delete("a", "second")],
  ["send", (outbox) => outbox.send("second")],
];

onBothBackends("the wake-up", (backend) => {
  describe.concurrent.each(SABOTAGE)("that was %s behind the outbox's back", (_, sabotage, left) => {
    /** Takes the wake-up away, and sees to it that it is away. */
    async function sabotaged(): Promise<Stub> {
      const stub = await refusedOnce(backend);
      await inside(stub, async (_, __, state) => {
        await sabotage(native(state));
        expect(await native(state).getAlarm()).toBe(left);
      });
      return stub;
    }

    it("is mended when the object starts after an eviction", async () => {
      const stub = await sabotaged();
      await evictDurableObject(stub);
      await inside(stub, () => {});
      const messages = await handedOver(stub, 2);
      expect(messages.map(({ msg }) => msg)).toEqual(["first", "first"]);
    });

    it("is mended when the object starts after a crash", async () => {
      const stub = await crash(await sabotaged());
      await inside(stub, () => {});
      const messages = await handedOver(stub, 2);
      expect(messages.map(({ msg }) => msg)).toEqual(["first", "first"]);
    });

    it.each(WRITES)("is mended by the next %s, and everything is delivered", async (_, write) => {
      const stub = await sabotaged();
      await inside(stub, (_, outbox) => write(outbox));
      const messages = await handedOver(stub, 3);
      expect(messages.map(({ msg }) => msg)).toEqual(["first", "first", "second"]);
      await drained(stub);
    });

    it("is mended for the object's own alarm, too, when that stood beside it", () =>
      unhurried(500, async (ms) => {
        // Both are still to come when their alarm is taken away: a wake-up of the outbox without messages would be the object's own.
        const begun = Date.now();
        const [stub, time] = await by(begun + ms, async () => {
          const stub = await refusedOnce(backend, ms);
          const time = await setIn(stub, ms);
          await inside(stub, async (_, __, state) => sabotage(native(state)));
          return [stub, time] as const;
        });
        await evictDurableObject(stub);
        await inside(stub, () => {});
        await expectFired(stub, 1, time);
        await handedOver(stub, 2);
        await drained(stub);
      }));
  });

  it.concurrent("that was deleted in the turn of the put is mended by itself", async () => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox, state) => {
      await outbox.send("first");
      void outbox.send("second"); // It finds the alarm standing, and looks at it a little later.
      await native(state).deleteAlarm();
    });
    await handedOver(stub, 2);
    await drained(stub);
    expect(sent(stub).map(({ msg }) => msg)).toEqual(["first", "second"]);
  });

  it.concurrent("begins at the first start of a copy, which has rows and no alarm", () =>
    unhurried(500, async (ms) => {
      const begun = Date.now();
      const rows = await by(begun + ms, async () => {
        const original = await refusedOnce(backend, ms);
        return inside(original, (_, __, state) => outboxRows(state));
      });
      const copy = fresh(backend);
      await inside(copy, async (_, __, state) => {
        await native(state).put(Object.fromEntries(rows));
        expect(await native(state).getAlarm()).toBeNull();
      });
      await evictDurableObject(copy);
      await inside(again(copy), () => {});
      const messages = await handedOver(copy, 1);
      expect(messages.map(({ msg }) => msg)).toEqual(["first"]);
    }));

  it.concurrent("stands in no object in which nothing waits", async () => {
    const stub = fresh(backend);
    const alarm = () => inside(stub, (_, __, state) => native(state).getAlarm());
    expect(await alarm()).toBeNull();
    await inside(stub, (_, outbox) => outbox.send("only"));
    await drained(stub);
    expect(await alarm()).toBeNull();
    await evictDurableObject(stub);
    expect(await alarm()).toBeNull();
  });
});
