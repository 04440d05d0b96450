/** `deleteAll()` where it leaves the alarm, as before the compatibility date that changed it, and under SIGKILL. */
import { describe, expect, it } from "vitest";
import { some } from "../support/random.ts";
import { BACKENDS, type Backend, by, folder, onBoth, Receiver, range, receivers, sleep, unhurried, until } from "./harness.ts";
import { type Standing, standing } from "./standing.ts";

/** What makes `deleteAll()` leave the alarm, and what makes it delete it. */
const DATES = [
  { alarm: "stays", compatibilityDate: "2026-02-23" },
  { alarm: "stays", compatibilityDate: "2026-07-01", compatibilityFlags: ["delete_all_preserves_alarm"] },
  { alarm: "goes", compatibilityDate: "2026-02-24" },
];

/** Deletes all in an object that has state and an alarm, and asserts what becomes of both. Gives how often the alarm rings. */
async function rings(
  world: Standing,
  backend: Backend,
  name: string,
  ms: number,
  stays: boolean,
  ...how: [string, ...number[]]
): Promise<number> {
  await by(Date.now() + ms, async () => {
    await world.call(backend, name, "setOwnAlarm", ms);
    const time = await world.call<number>(backend, name, "getAlarm");
    await world.call(backend, name, ...how);
    expect(await world.call(backend, name, "keys")).toEqual([]);
    expect(await world.call(backend, name, "getAlarm")).toBe(stays ? time : null);
  });
  // One that is deleted would have come before the one that is set now.
  const rung = () => world.call<number | undefined>(backend, name, "ownAlarms");
  if (stays) await until(async () => (await rung()) !== undefined);
  await world.call(backend, name, "setOwnAlarm", ms + 200);
  await until(async () => (await rung()) === (stays ? 2 : 1));
  await until(async () => (await world.call(backend, name, "nativeAlarm")) === null);
  return (await rung()) ?? 0;
}

describe.concurrent.each(DATES)(
  "the own alarm $alarm with deleteAll() at $compatibilityDate and $compatibilityFlags",
  ({ alarm, ...date }) => {
    it("with messages pending and with none, and with a last message", () =>
      unhurried(800, async (ms) => {
        const takers = receivers();
        await using world = await standing(folder(), takers, date);
        const stays = alarm === "stays";
        await onBoth(async (backend) => {
          const receiver = takers[backend];
          await world.call(backend, "waits", "pause");
          await world.call(backend, "waits", "put", 1, 20);
          await world.call(backend, "idle", "put", 21, 1);
          await until(() => receiver.delivered.length === 1);
          const rung = await Promise.all([
            rings(world, backend, "waits", ms, stays, "deleteAll"),
            rings(world, backend, "idle", ms, stays, "deleteAll"),
            rings(world, backend, "last", ms, stays, "last", 22),
          ]);
          expect([backend, ...rung]).toEqual([backend, ...Array(3).fill(stays ? 2 : 1)]);
          await world.call(backend, "waits", "resume");
          await until(() => receiver.delivered.length >= 22);
          expect([...receiver.delivered].sort((a, b) => a - b)).toEqual(range(1, 22));
        });
      }));
  },
);

describe.concurrent.each(BACKENDS)("SIGKILL while an object deletes all again and again (%s)", (backend) => {
  /** Milliseconds from the first deletions to the kill. */
  const MOMENTS = some(2, [1, 5, 12, 25, 50]);
  const PENDING = 500;

  it(`loses none of ${PENDING} messages, and no state is half gone`, async () => {
    const path = folder();
    const receiver = new Receiver();
    /** Last messages whose deletion was confirmed to the outside. */
    const confirmed: number[] = [];
    const killed = async (world: Standing, moment: number, first: number): Promise<void> => {
      let begun = () => {};
      const going = new Promise<void>((resolve) => {
        begun = resolve;
      });
      const looping = (async () => {
        for (let n = first; ; n += 4) {
          await world.call(backend, "a", "fillAndDelete", n, 4);
          confirmed.push(n, n + 2);
          begun();
        }
      })().catch(() => {});
      await going;
      await sleep(moment);
      world.kill();
      await looping;
    };
    {
      await using world = await standing(path, receiver);
      await world.call(backend, "a", "pause");
      await world.call(backend, "a", "store", 1, PENDING);
      expect(await world.call(backend, "a", "committed")).toHaveLength(PENDING);
    }
    const left: number[] = [];
    for (const [i, moment] of MOMENTS.entries()) {
      await using world = await standing(path, receiver);
      left.push((await world.call<string[]>(backend, "a", "keys")).filter((key) => key.startsWith("own:")).length);
      await killed(world, moment, 10_001 + i * 1000);
    }
    await using world = await standing(path, receiver);
    left.push((await world.call<string[]>(backend, "a", "keys")).filter((key) => key.startsWith("own:")).length);
    expect(left.filter((count) => count !== 0 && count !== 128)).toEqual([]);
    await world.call(backend, "a", "resume");
    await until(async () => (await world.call<{ pending: number }>(backend, "a", "stats")).pending === 0);
    const stored = receiver.delivered.filter((n) => n <= PENDING);
    expect(stored).toEqual(range(1, PENDING));

    // Every last message is there whose successor's is: they are sent one after the other, and each once.
    const last = receiver.delivered.filter((n) => n > PENDING);
    expect(confirmed.length).toBeGreaterThanOrEqual(2 * MOMENTS.length);
    expect(confirmed.filter((n) => !last.includes(n))).toEqual([]);
    expect(new Set(last).size).toBe(last.length);
    for (const [i] of MOMENTS.entries()) {
      const mine = last.filter((n) => n > 10_000 + i * 1000 && n <= 11_000 + i * 1000);
      expect(mine).toEqual(mine.map((_, nth) => 10_001 + i * 1000 + 2 * nth));
    }
    const sequences = receiver.calls.flat().map(({ sequence }) => sequence);
    expect(sequences).toEqual(range(1, PENDING + last.length));
    console.log(`${backend}: ${last.length} last messages, keys left by each kill: ${left.join(", ")}`);
  });
});
