/** Runs that die with their object or their process: nothing is lost, batches shrink, and an alarm always stands. */
import { describe, expect, it } from "vitest";
import { size } from "../support/random.ts";
import { BACKENDS, by, folder, Receiver, range, sleep, start, unhurried, until } from "./harness.ts";

describe.concurrent.each(BACKENDS)("runs that die (%s)", (backend) => {
  it("halves the batch after each death, never stands without an alarm, and delivers everything in the end", async () => {
    const DEATHS = 9; // The platform itself gives up after seven.
    const receiver = new Receiver();
    const world = await start(folder(), receiver);
    receiver.order = (_, call) => (call <= DEATHS ? "abort" : "deliver");
    await world.call(backend, "a", "store", 1, 100);

    // The first death is found by the platform's own retry, two seconds later. From then on the outbox wakes itself.
    await until(() => receiver.delivered.length >= 100);
    const sizes = receiver.calls.filter((_, i) => receiver.orders[i] === "abort").map((call) => call.length);
    expect(sizes).toHaveLength(DEATHS);
    expect(sizes.slice(0, 8)).toEqual([100, 50, 25, 13, 7, 4, 2, 1]);
    // Once the head has died alone it is set aside, and all others are tried: after the head once more, where its own pause is over by then.
    expect([1, 99]).toContain(sizes[8]);
    expect(receiver.delivered.toSorted((a, b) => a - b)).toEqual(range(1, 100));
    expect(receiver.delivered.filter((n) => n > 1)).toEqual(range(2, 100));

    const told = (await world.events()).filter(({ type }) => type === "died");
    expect(told).toHaveLength(DEATHS);

    // Nothing is left of the trouble.
    await until(async () => (await world.call(backend, "a", "nativeAlarm")) === null);
    await world.call(backend, "a", "put", 101, 1);
    await until(() => receiver.delivered.length >= 101);
    expect(receiver.calls.at(-1)?.[0]).toMatchObject({ sequence: 101, attempts: 1 });
    await world.stop();
  });

  it("has an alarm armed before user code runs again, once a run has died", async () => {
    const receiver = new Receiver();
    const world = await start(folder(), receiver);
    receiver.order = (_, call) => (call === 1 ? "abort" : "hang");
    await world.call(backend, "a", "put", 1, 1);
    await until(() => receiver.calls.length === 2);
    expect(await world.call<number | null>(backend, "a", "nativeAlarm")).toBeGreaterThan(0);
    await world.stop();
  });

  it("repairs the wake-up at the next start when the platform has given up on the alarm", () =>
    unhurried(1000, async () => {
      const receiver = new Receiver();
      receiver.order = () => "throw";
      const world = await start(folder(), receiver);
      await world.call(backend, "a", "put", 1, 5);
      // From here on the outbox waits half a second after each failure, and the alarm is lost in one of these pauses.
      const next = await until(async () => {
        const { failures, nextAttemptAt } = await world.call<{ failures: number; nextAttemptAt: number }>(backend, "a", "stats");
        return failures >= 4 && nextAttemptAt > Date.now() + 200 && nextAttemptAt;
      });
      await by(next, () => expect(world.call(backend, "a", "loseAlarmAndCrash")).rejects.toThrow("crash"));
      receiver.order = () => "deliver";
      const before = receiver.calls.length;
      await sleep(1500);
      expect(receiver.calls).toHaveLength(before);

      expect(await world.call(backend, "a", "committed")).toEqual(range(1, 5));
      await until(() => receiver.delivered.length >= 5);
      expect(receiver.delivered).toEqual(range(1, 5));
      expect((await world.events()).map(({ type }) => type)).toContain("repaired");
      await world.stop();
    }));

  it("loses nothing to a destination at which the process itself dies, again and again", async () => {
    const path = folder();
    const receiver = new Receiver();
    const DEATHS = size(2, 4);
    receiver.order = (_, call) => (call <= DEATHS ? "die" : "deliver");
    let world = await start(path, receiver);
    await world.call(backend, "a", "put", 1, 30).catch(() => {});
    for (let death = 1; death <= DEATHS; death++) {
      await until(() => receiver.calls.length >= death);
      await world.stop();
      world = await start(path, receiver);
    }
    const committed = await world.call<number[]>(backend, "a", "committed");
    await until(() => receiver.delivered.length >= committed.length);
    expect(receiver.delivered).toEqual(committed);
    await world.stop();
  });
});
