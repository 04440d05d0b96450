/** What is committed outlives the process, on the platform's own scheduler: alarms fire by themselves after a restart. */
import { describe, expect, it } from "vitest";
import { BACKENDS, folder, onBoth, Receiver, range, receivers, start, until, type World } from "./harness.ts";

/** The two ways in which workerd goes away here. */
const ENDS: [string, (world: World) => Promise<void>][] = [
  ["a stop", (world) => world.stop()],
  [
    "a SIGKILL",
    async (world) => {
      world.kill();
      await world.stop();
    },
  ],
];

describe.concurrent("restart, on both backends", () => {
  it.each(ENDS)("delivers by itself after %s what was pending, and goes on numbering", async (_, end) => {
    const path = folder();
    const takers = receivers();
    for (const backend of BACKENDS) takers[backend].order = () => "throw";
    const first = await start(path, takers);
    await onBoth(async (backend) => {
      await first.call(backend, "a", "put", 1, 40);
      await until(() => takers[backend].calls.length > 0);
    });
    await end(first);

    for (const backend of BACKENDS) takers[backend].order = () => "deliver";
    const second = await start(path, takers);
    await onBoth(async (backend) => {
      const receiver = takers[backend];
      await until(() => receiver.delivered.length >= 40);
      expect([backend, receiver.delivered]).toEqual([backend, range(1, 40)]);

      await second.call(backend, "a", "put", 41, 1);
      await until(() => receiver.delivered.length >= 41);
      const last = receiver.calls.at(-1)?.[0];
      expect([backend, last]).toMatchObject([backend, { sequence: 41, msg: { n: 41 } }]);
      expect([backend, new Set(receiver.calls.flat().map(({ source }) => source)).size]).toEqual([backend, 1]);
      await until(async () => (await second.call(backend, "a", "nativeAlarm")) === null);
    });
    await second.stop();
  });

  it("goes on numbering when the process ends with nothing pending", async () => {
    const path = folder();
    const takers = receivers();
    const first = await start(path, takers);
    await onBoth(async (backend) => {
      await first.call(backend, "a", "put", 1, 20);
      await until(async () => (await first.call<{ pending: number }>(backend, "a", "stats")).pending === 0);
    });
    await first.stop();

    const second = await start(path, takers);
    await onBoth(async (backend) => {
      const receiver = takers[backend];
      await second.call(backend, "a", "put", 21, 2);
      await until(() => receiver.delivered.length >= 22);
      expect([backend, receiver.delivered]).toEqual([backend, range(1, 22)]);
      expect([backend, receiver.calls.flat().map(({ sequence }) => sequence)]).toEqual([backend, range(1, 22)]);
      expect([backend, new Set(receiver.calls.flat().map(({ id }) => id)).size]).toEqual([backend, 22]);
    });
    await second.stop();
  });
});

describe.concurrent.each(BACKENDS)("a SIGKILL during a send (%s)", (backend) => {
  it("delivers again what workerd was killed with in the middle of a send, under the same ids", async () => {
    const path = folder();
    const receiver = new Receiver();
    receiver.order = () => "die";
    const first = await start(path, receiver);
    await first.call(backend, "a", "put", 1, 3);
    await until(() => receiver.calls.length > 0);
    receiver.order = () => "deliver";
    await first.stop();

    const second = await start(path, receiver);
    await until(() => receiver.delivered.length >= 3);
    expect(receiver.delivered).toEqual([1, 2, 3]);
    const [killed = []] = receiver.calls;
    const again = receiver.calls.slice(1).flat();
    expect(again.slice(0, killed.length).map(({ id }) => id)).toEqual(killed.map(({ id }) => id));
    await second.stop();
  });
});
