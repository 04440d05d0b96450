/** Storage that is not as it should be: rows that no longer deserialise, and a deploy without `sendMessages`. */
import { describe, expect, it } from "vitest";
import { some } from "../support/random.ts";
import {
  BACKENDS,
  type Backend,
  by,
  damage,
  folder,
  GARBAGE,
  numbersIn,
  outboxRows,
  Receiver,
  range,
  sleep,
  start,
  unhurried,
  until,
  type World,
} from "./harness.ts";

/** Enough messages for several rows. */
const STORED = 150;

/** Stores messages that can't be delivered yet, and stops. */
async function stored(backend: Backend, path: string): Promise<Receiver> {
  const receiver = new Receiver();
  receiver.order = () => "throw";
  const world = await start(path, receiver);
  await world.call(backend, "a", "store", 1, STORED);
  await until(() => receiver.calls.length > 0);
  await world.stop();
  return receiver;
}

/** Nothing fires any more: no call, no event, no alarm, and nobody sets one. */
async function quiet(world: World, backend: Backend, receiver: Receiver): Promise<void> {
  await until(async () => (await world.call(backend, "a", "nativeAlarm")) === null);
  const state = async (): Promise<unknown[]> => [
    receiver.calls.length,
    (await world.events()).length,
    await world.call(backend, "a", "alarmsSet"),
    await world.call(backend, "a", "nativeAlarm"),
  ];
  const before = await state();
  await sleep(1000);
  expect(await state()).toEqual(before);
  expect(before[2]).toBeLessThan(20);
}

const PLACES: [string, (rows: number) => number[]][] = [
  ["the first row", () => [0]],
  ["a row in the middle", () => [2]],
  ["the last row, which holds the header", (rows) => [rows - 1]],
  ["two rows that follow each other", () => [1, 2]],
  ["the two last rows", (rows) => [rows - 2, rows - 1]],
  ["every row", (rows) => range(0, rows - 1)],
];

describe.concurrent.each(BACKENDS)("a row that can't be read (%s)", (backend) => {
  it.each(some(2, PLACES))("delivers all others in order, keeps it as it is, and comes to rest: %s", async (_, place) => {
    const path = folder();
    const receiver = await stored(backend, path);
    const rows = outboxRows(path, backend);
    expect(rows.length).toBeGreaterThanOrEqual(5);
    expect(rows.flatMap(numbersIn)).toEqual(range(1, STORED));
    const places = place(rows.length);
    const bad = rows.filter((_, i) => places.includes(i)).map(({ key }) => key);
    const readable = rows.filter((_, i) => !places.includes(i)).flatMap(numbersIn);
    for (const key of bad) damage(path, backend, key);

    receiver.order = () => "deliver";
    const world = await start(path, receiver);
    expect(await world.call(backend, "a", "committed")).toEqual(range(1, STORED));
    await until(() => receiver.delivered.length >= readable.length);
    await world.call(backend, "a", "put", STORED + 1, 40);
    await until(() => receiver.delivered.length >= readable.length + 40);
    expect(receiver.delivered).toEqual([...readable, ...range(STORED + 1, STORED + 40)]);
    const delivered = receiver.calls.filter((_, i) => receiver.orders[i] === "deliver").flat();
    expect(new Set(delivered.map(({ id }) => id))).toHaveLength(delivered.length);

    await quiet(world, backend, receiver);
    const unreadable = (await world.events()).filter(({ type }) => type === "unreadable");
    expect(new Set(unreadable.map(({ row }) => row))).toEqual(new Set(bad));
    expect((await world.call<{ pending: number }>(backend, "a", "stats")).pending).toBe(0);
    await world.stop();

    const after = new Map(outboxRows(path, backend).map(({ key, value }) => [key, value]));
    for (const key of bad) expect(after.get(key)).toEqual(GARBAGE);
  });

  it("behind an ordering key holds up that key and nobody else", () =>
    unhurried(3000, async (ms) => {
      const path = folder();
      const receiver = new Receiver();
      await by(Date.now() + ms, async () => {
        const before = await start(path, receiver);
        await before.call(backend, "a", "lanes", ["a", "b", "a", "b", "a", "b"], ms / 1000);
        await until(async () => (await before.call<{ blocked: number }>(backend, "a", "stats")).blocked === 4);
        await before.stop();
      });
      const row = outboxRows(path, backend).find((row) => numbersIn(row).includes(1));
      expect(numbersIn(row ?? { key: "", value: new Uint8Array() })).toEqual([1, 3, 5]);
      damage(path, backend, row?.key ?? "");

      const world = await start(path, receiver);
      await world.call(backend, "a", "put", 7, 1);
      await until(() => receiver.delivered.includes(6) && receiver.delivered.includes(7));
      expect(receiver.delivered.filter((n) => n > 0 && n < 7)).toEqual([2, 4, 6]);
      const told = await until(async () => (await world.events()).filter(({ type }) => type === "unreadable"));
      expect(told.length).toBeGreaterThan(0);
      const calls = receiver.calls.length;
      await sleep(1000);
      expect(receiver.calls.length).toBe(calls);
      expect(await world.call(backend, "a", "stats")).toMatchObject({ breaker: "closed", pending: 0 });
      await world.stop();
      expect(outboxRows(path, backend).find(({ key }) => key === row?.key)?.value).toEqual(GARBAGE);
    }));

  it("is not written over by a put that comes before any delivery, and no number is given twice", async () => {
    const path = folder();
    const receiver = new Receiver();
    receiver.order = () => "throw";
    const before = await start(path, receiver);
    await before.call(backend, "a", "store", 1, STORED);
    // By now the pauses are half a second long. With the alarm lost in one of them, the put is what starts the object.
    await until(async () => (await before.call<{ failures: number }>(backend, "a", "stats")).failures >= 5);
    await before.call(backend, "a", "loseAlarm");
    await before.stop();

    const rows = outboxRows(path, backend);
    const last = rows.at(-1)?.key ?? "";
    damage(path, backend, last);
    receiver.order = () => "deliver";
    for (const n of [STORED + 1, STORED + 2, STORED + 3]) {
      const world = await start(path, receiver);
      await world.call(backend, "a", "put", n, 1);
      await until(() => receiver.delivered.includes(n));
      await quiet(world, backend, receiver);
      await world.stop();
      expect(outboxRows(path, backend).find(({ key }) => key === last)).toEqual({ key: last, value: GARBAGE });
    }
    const delivered = receiver.calls.filter((_, i) => receiver.orders[i] === "deliver").flat();
    expect(delivered.map(({ msg }) => msg.n)).toEqual([...rows.slice(0, -1).flatMap(numbersIn), STORED + 1, STORED + 2, STORED + 3]);
    expect(new Set(delivered.map(({ id }) => id))).toHaveLength(delivered.length);
    expect(new Set(delivered.map(({ source, sequence }) => `${source} ${sequence}`))).toHaveLength(delivered.length);
  });

  it("does not stop the object when it happens again, after the numbers had to begin anew", async () => {
    const path = folder();
    const receiver = new Receiver();
    for (const first of [1, 101, 201]) {
      receiver.order = () => "throw";
      const before = await start(path, receiver);
      await before.call(backend, "a", "store", first, STORED);
      await until(() => receiver.calls.some((call) => call.some(({ msg }) => msg.n === first)));
      await before.stop();
      for (const { key } of outboxRows(path, backend)) damage(path, backend, key);
    }
    receiver.order = () => "deliver";
    const world = await start(path, receiver);
    await world.call(backend, "a", "put", 301, 1);
    await until(() => receiver.delivered.length > 0);
    expect(receiver.delivered).toEqual([301]);
    await quiet(world, backend, receiver);
    await world.stop();
  });
});

describe.concurrent.each(BACKENDS)("a deploy without sendMessages (%s)", (backend) => {
  it("keeps the messages and the object's own alarm, and the next deploy delivers", async () => {
    const path = folder();
    const receiver = await stored(backend, path);
    const before = receiver.calls.length;

    const without = await start(path, receiver, { withoutSend: true });
    await without.call(backend, "a", "setOwnAlarm", 300);
    await until(async () => (await without.call(backend, "a", "ownAlarms")) === 1);
    await without.call(backend, "a", "put", STORED + 1, 1);
    expect(await without.call(backend, "a", "committed")).toEqual(range(1, STORED + 1));
    expect((await without.call<{ pending: number }>(backend, "a", "stats")).pending).toBe(STORED + 1);
    expect(receiver.calls).toHaveLength(before);
    // It goes on looking, at the pace of the backoff: not faster.
    const begun = Date.now();
    const set = await without.call<number>(backend, "a", "alarmsSet");
    await sleep(2000);
    const more = (await without.call<number>(backend, "a", "alarmsSet")) - set;
    expect(more).toBeLessThanOrEqual(1 + (Date.now() - begun) / 500);
    await without.stop();

    receiver.order = () => "deliver";
    const third = await start(path, receiver);
    await until(() => receiver.delivered.length >= STORED + 1);
    expect(receiver.delivered).toEqual(range(1, STORED + 1));
    await quiet(third, backend, receiver);
    expect(await third.call(backend, "a", "ownAlarms")).toBe(1);
    await third.stop();
  });
});
