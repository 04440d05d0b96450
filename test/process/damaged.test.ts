/** Storage that is not as it should be: rows that no longer deserialise, and a deploy without `sendMessages`. On both backends at a time. */
import { describe, expect, it } from "vitest";
import { size, some } from "../support/random.ts";
import {
  BACKENDS,
  type Backend,
  by,
  damage,
  folder,
  GARBAGE,
  numbersIn,
  type Order,
  onBoth,
  outboxRows,
  type Receivers,
  range,
  receivers,
  sleep,
  start,
  unhurried,
  until,
  type World,
} from "./harness.ts";

/** Enough messages for several rows. */
const STORED = 150;

/** What becomes of every call from now on, on both backends. */
function ordered(takers: Receivers, order: Order): void {
  for (const backend of BACKENDS) takers[backend].order = () => order;
}

/** Stores messages that can't be delivered yet, and stops. */
async function stored(path: string): Promise<Receivers> {
  const takers = receivers();
  ordered(takers, "throw");
  const world = await start(path, takers);
  await onBoth(async (backend) => {
    await world.call(backend, "a", "store", 1, STORED);
    await until(() => takers[backend].calls.length > 0);
  });
  await world.stop();
  return takers;
}

/** Nothing fires any more on either backend: no call, no event, no alarm, and nobody sets one. */
async function quiet(world: World, takers: Receivers): Promise<void> {
  await onBoth(async (backend) => void (await until(async () => (await world.call(backend, "a", "nativeAlarm")) === null)));
  const state = async (backend: Backend): Promise<unknown[]> => [
    backend,
    takers[backend].calls.length,
    (await world.events()).length,
    await world.call(backend, "a", "alarmsSet"),
    await world.call(backend, "a", "nativeAlarm"),
  ];
  const before = await Promise.all(BACKENDS.map(state));
  await sleep(1000);
  expect(await Promise.all(BACKENDS.map(state))).toEqual(before);
  for (const [, , , set] of before) expect(set).toBeLessThan(20);
}

/** What the objects of a backend said of rows that they could not read. */
async function unreadableIn(world: World, backend: Backend): Promise<(string | undefined)[]> {
  return (await world.events()).filter((event) => event.backend === backend && event.type === "unreadable").map(({ row }) => row);
}

const PLACES: [string, (rows: number) => number[]][] = [
  ["the first row", () => [0]],
  ["a row in the middle", () => [2]],
  ["the last row, which holds the header", (rows) => [rows - 1]],
  ["two rows that follow each other", () => [1, 2]],
  ["the two last rows", (rows) => [rows - 2, rows - 1]],
  ["every row", (rows) => range(0, rows - 1)],
];

describe.concurrent("a row that can't be read", () => {
  it.each(some(2, PLACES))("delivers all others in order, keeps it as it is, and comes to rest: %s", async (_, place) => {
    const path = folder();
    const takers = await stored(path);
    const damaged = (backend: Backend): { bad: string[]; readable: number[] } => {
      const rows = outboxRows(path, backend);
      expect(rows.length).toBeGreaterThanOrEqual(5);
      expect(rows.flatMap(numbersIn)).toEqual(range(1, STORED));
      const places = place(rows.length);
      const bad = rows.filter((_, i) => places.includes(i)).map(({ key }) => key);
      for (const key of bad) damage(path, backend, key);
      return { bad, readable: rows.filter((_, i) => !places.includes(i)).flatMap(numbersIn) };
    };
    const rows = { sqlite: damaged("sqlite"), kv: damaged("kv") };

    ordered(takers, "deliver");
    const world = await start(path, takers);
    await onBoth(async (backend) => {
      const receiver = takers[backend];
      const { readable } = rows[backend];
      expect([backend, await world.call(backend, "a", "committed")]).toEqual([backend, range(1, STORED)]);
      await until(() => receiver.delivered.length >= readable.length);
      await world.call(backend, "a", "put", STORED + 1, 40);
      await until(() => receiver.delivered.length >= readable.length + 40);
      expect([backend, receiver.delivered]).toEqual([backend, [...readable, ...range(STORED + 1, STORED + 40)]]);
      const delivered = receiver.calls.filter((_, i) => receiver.orders[i] === "deliver").flat();
      expect(new Set(delivered.map(({ id }) => id))).toHaveLength(delivered.length);
    });

    await quiet(world, takers);
    await onBoth(async (backend) => {
      expect([backend, new Set(await unreadableIn(world, backend))]).toEqual([backend, new Set(rows[backend].bad)]);
      expect([backend, (await world.call<{ pending: number }>(backend, "a", "stats")).pending]).toEqual([backend, 0]);
    });
    await world.stop();

    for (const backend of BACKENDS) {
      const after = new Map(outboxRows(path, backend).map(({ key, value }) => [key, value]));
      for (const key of rows[backend].bad) expect([backend, after.get(key)]).toEqual([backend, GARBAGE]);
    }
  });

  it("behind an ordering key holds up that key and nobody else", () =>
    unhurried(3000, async (ms) => {
      const path = folder();
      const takers = receivers();
      await by(Date.now() + ms, async () => {
        const before = await start(path, takers);
        await onBoth(async (backend) => {
          await before.call(backend, "a", "lanes", ["a", "b", "a", "b", "a", "b"], ms / 1000);
          await until(async () => (await before.call<{ blocked: number }>(backend, "a", "stats")).blocked === 4);
        });
        await before.stop();
      });
      const damaged = (backend: Backend): string => {
        const row = outboxRows(path, backend).find((row) => numbersIn(row).includes(1));
        expect([backend, numbersIn(row ?? { key: "", value: new Uint8Array() })]).toEqual([backend, [1, 3, 5]]);
        damage(path, backend, row?.key ?? "");
        return row?.key ?? "";
      };
      const rows = { sqlite: damaged("sqlite"), kv: damaged("kv") };

      const world = await start(path, takers);
      await onBoth(async (backend) => {
        const receiver = takers[backend];
        await world.call(backend, "a", "put", 7, 1);
        await until(() => receiver.delivered.includes(6) && receiver.delivered.includes(7));
        expect([backend, receiver.delivered.filter((n) => n > 0 && n < 7)]).toEqual([backend, [2, 4, 6]]);
        expect([backend, new Set(await unreadableIn(world, backend))]).toEqual([backend, new Set([rows[backend]])]);
        const calls = receiver.calls.length;
        await sleep(1000);
        expect([backend, receiver.calls.length]).toEqual([backend, calls]);
        expect([backend, await world.call(backend, "a", "stats")]).toMatchObject([backend, { breaker: "closed", pending: 0 }]);
      });
      await world.stop();
      for (const backend of BACKENDS) {
        expect([backend, outboxRows(path, backend).find(({ key }) => key === rows[backend])?.value]).toEqual([backend, GARBAGE]);
      }
    }));

  it("is not written over by a put that comes before any delivery, and no number is given twice", async () => {
    const path = folder();
    const takers = receivers();
    ordered(takers, "throw");
    const before = await start(path, takers);
    await onBoth(async (backend) => {
      await before.call(backend, "a", "store", 1, STORED);
      // By now the pauses are half a second long. With the alarm lost in one of them, the put is what starts the object.
      await until(async () => (await before.call<{ failures: number }>(backend, "a", "stats")).failures >= 5);
    });
    await onBoth((backend) => before.call(backend, "a", "loseAlarm"));
    await before.stop();

    const rows = { sqlite: outboxRows(path, "sqlite"), kv: outboxRows(path, "kv") };
    const last = (backend: Backend): string => rows[backend].at(-1)?.key ?? "";
    for (const backend of BACKENDS) damage(path, backend, last(backend));
    ordered(takers, "deliver");
    const more = range(STORED + 1, STORED + size(2, 3));
    for (const n of more) {
      const world = await start(path, takers);
      await onBoth(async (backend) => {
        await world.call(backend, "a", "put", n, 1);
        await until(() => takers[backend].delivered.includes(n));
      });
      await quiet(world, takers);
      await world.stop();
      for (const backend of BACKENDS) {
        const row = outboxRows(path, backend).find(({ key }) => key === last(backend));
        expect([backend, row]).toEqual([backend, { key: last(backend), value: GARBAGE }]);
      }
    }
    for (const backend of BACKENDS) {
      const { calls, orders } = takers[backend];
      const delivered = calls.filter((_, i) => orders[i] === "deliver").flat();
      const readable = rows[backend].slice(0, -1).flatMap(numbersIn);
      expect([backend, delivered.map(({ msg }) => msg.n)]).toEqual([backend, [...readable, ...more]]);
      expect(new Set(delivered.map(({ id }) => id))).toHaveLength(delivered.length);
      expect(new Set(delivered.map(({ source, sequence }) => `${source} ${sequence}`))).toHaveLength(delivered.length);
    }
  });

  it("does not stop the object when it happens again, after the numbers had to begin anew", async () => {
    const path = folder();
    const takers = receivers();
    for (const first of some(2, [1, 101, 201])) {
      ordered(takers, "throw");
      const before = await start(path, takers);
      await onBoth(async (backend) => {
        await before.call(backend, "a", "store", first, STORED);
        await until(() => takers[backend].calls.some((call) => call.some(({ msg }) => msg.n === first)));
      });
      await before.stop();
      for (const backend of BACKENDS) for (const { key } of outboxRows(path, backend)) damage(path, backend, key);
    }
    ordered(takers, "deliver");
    const world = await start(path, takers);
    await onBoth(async (backend) => {
      await world.call(backend, "a", "put", 301, 1);
      await until(() => takers[backend].delivered.length > 0);
      expect([backend, takers[backend].delivered]).toEqual([backend, [301]]);
    });
    await quiet(world, takers);
    await world.stop();
  });
});

describe.concurrent("a deploy without sendMessages", () => {
  it("keeps the messages and the object's own alarm, and the next deploy delivers", async () => {
    const path = folder();
    const takers = await stored(path);

    const without = await start(path, takers, { withoutSend: true });
    await onBoth(async (backend) => {
      const before = takers[backend].calls.length;
      await without.call(backend, "a", "setOwnAlarm", 300);
      await until(async () => (await without.call(backend, "a", "ownAlarms")) === 1);
      await without.call(backend, "a", "put", STORED + 1, 1);
      expect([backend, await without.call(backend, "a", "committed")]).toEqual([backend, range(1, STORED + 1)]);
      expect((await without.call<{ pending: number }>(backend, "a", "stats")).pending).toBe(STORED + 1);
      expect(takers[backend].calls).toHaveLength(before);
      // It goes on looking, at the pace of the backoff: not faster.
      const begun = Date.now();
      const set = await without.call<number>(backend, "a", "alarmsSet");
      await sleep(2000);
      const more = (await without.call<number>(backend, "a", "alarmsSet")) - set;
      expect(more).toBeLessThanOrEqual(1 + (Date.now() - begun) / 500);
    });
    await without.stop();

    ordered(takers, "deliver");
    const third = await start(path, takers);
    await onBoth(async (backend) => {
      await until(() => takers[backend].delivered.length >= STORED + 1);
      expect([backend, takers[backend].delivered]).toEqual([backend, range(1, STORED + 1)]);
    });
    await quiet(third, takers);
    await onBoth(async (backend) => expect([backend, await third.call(backend, "a", "ownAlarms")]).toEqual([backend, 1]));
    await third.stop();
  });
});
