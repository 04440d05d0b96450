/** What is made of the tables' events, in another object and in D1: each event counts once, whatever is killed, dropped and rebuilt meanwhile. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { size } from "../support/random.ts";
import { sleep, until } from "./harness.ts";
import { expectFolded, expectSound, Restaurant } from "./saga.ts";

const TABLES = 4;
const SLOTS = ["18:00", "19:00"];
const KILLS = size(2, 50);
const ROUNDS = size(2, 4);

const restaurant = new Restaurant(2 * TABLES + 2);
beforeAll(async () => void (await restaurant.open()));
afterAll(() => restaurant.close());
afterEach(() => {
  restaurant.order = () => ({});
});

/** Guests, one for each slot, who book and cancel until `isOver`, and keep their last booking. */
async function evening(tables: readonly number[], isOver: () => boolean, ids: string[] = []): Promise<string[]> {
  const guest = async (table: number, slot: string): Promise<void> => {
    for (;;) {
      const id = await restaurant.book(table, slot);
      ids.push(id);
      // Some cancel before they have an answer.
      if (ids.length % 4 > 0) await until(async () => (await restaurant.booking(id)).state !== "initiated");
      if (isOver()) return;
      await restaurant.cancel(id);
    }
  };
  await Promise.all(tables.flatMap((table) => SLOTS.map((slot) => guest(table, slot))));
  return ids;
}

describe("the statistics in D1", () => {
  it(`count each event once, through ${KILLS} kills: while they are written, and before the table knows that they are`, async () => {
    const tables = Array.from({ length: TABLES }, () => restaurant.newTable());
    const ids: string[] = [];
    let batches = 0;
    let lost = 0;
    const isKilled = () => restaurant.kills >= KILLS;
    /** However the kills come to lie, some answer has been lost as well. */
    const isOver = () => isKilled() && lost > 0;
    /** After some more bookings each time, so that every kill finds something new to count. */
    const isDue = () => !isKilled() && ids.length >= 4 * (restaurant.kills + 1);
    restaurant.order = ({ by }) => {
      if (!by.startsWith("statistics")) return {};
      // Every second kill comes when D1 has committed and before the table knows, the others as they come. And some answers are lost.
      if (isDue() && restaurant.kills % 2 === 0) return { end: "kill" };
      const fail = ++batches % 4 === 1;
      if (fail) lost++;
      return { fail };
    };
    const killing = (async () => {
      while (!isKilled()) {
        await until(() => isDue() || isKilled());
        if (restaurant.kills % 2 === 1) await restaurant.killAndRestart();
        else await sleep(5);
      }
    })();
    await Promise.all([evening(tables, isOver, ids), killing]);
    restaurant.order = () => ({});
    const settled = await restaurant.settled(ids);
    expectSound(settled);
    await expectFolded(restaurant, tables);
    expect(restaurant.kills).toBe(KILLS);
    const counted = settled.statistics.reduce((sum, { locked, cancelled }) => sum + locked + cancelled, 0);
    expect(counted).toBeGreaterThan(KILLS);
  });
});

describe("the catalogue and the calendar", () => {
  it("that were dropped and rebuilt while guests book are those that were never dropped", async () => {
    const tables = Array.from({ length: TABLES }, () => restaurant.newTable());
    restaurant.order = ({ by }) => ({ twice: by.startsWith("projections") });
    let rebuilt = 0;
    const rebuilding = (async () => {
      for (; rebuilt < ROUNDS; rebuilt++) {
        if (rebuilt % 2 === 0) await restaurant.projections("drop");
        const { catalogue } = await restaurant.projections("rebuild");
        expect(catalogue.map(({ table }) => table)).toEqual(expect.arrayContaining(tables));
      }
    })();
    const [ids] = await Promise.all([evening(tables, () => rebuilt >= ROUNDS), rebuilding]);
    restaurant.order = () => ({});
    const settled = await restaurant.settled(ids);
    // Catalogue and calendar against what the tables say: those have never been dropped.
    expectSound(settled);
    await expectFolded(restaurant, tables);
    // And again, with nobody there.
    await restaurant.projections("drop");
    expect(await restaurant.projections("rebuild")).toEqual(settled.projected);
  });

  it("have what the inbox brings while a table's history is on its way", async () => {
    const table = restaurant.newTable();
    const old = gate();
    let isOld = false;
    restaurant.order = async ({ by }) => {
      if (by !== `history of table ${table}` || isOld) return {};
      isOld = true;
      await old.passed;
      return {};
    };
    const rebuilt = restaurant.projections("rebuild");
    await until(() => isOld);
    const id = await restaurant.book(table);
    await until(async () => (await calendarOf(table)).includes(id));
    old.open();
    await rebuilt;
    expect(await calendarOf(table)).toEqual([id]);
    expectSound(await restaurant.settled([id]));
  });

  it("do not go back to what a rebuild has left behind, when the inbox brings it later", async () => {
    const table = restaurant.newTable();
    const gates = [gate(), gate()] as const;
    let calls = 0;
    await restaurant.settled();
    restaurant.order = async ({ by, envelopes }) => {
      if (by.startsWith("projections") && envelopes.some(({ msg }) => msg.table === table && msg.type !== "table_added")) {
        await gates[Math.min(calls++, 1)]?.passed;
      }
      return {};
    };
    const id = await restaurant.book(table);
    await until(async () => (await restaurant.booking(id)).state === "confirmed");
    await restaurant.cancel(id);
    await until(async () => (await restaurant.history(table)).at(-1)?.type === "slot_unlocked");
    await restaurant.projections("rebuild");
    // The lock comes only now, and what has opened it later still.
    gates[0].open();
    await until(() => calls > 1);
    expect(await calendarOf(table)).toEqual([]);
    gates[1].open();
    expectSound(await restaurant.settled([id]));
  });
});

describe("a stream of Emmett's event store", () => {
  it("takes the commands of a worker over RPC, each on what the others have left, and keeps them through a kill", async () => {
    const { body } = await restaurant.request<object>("POST", "/carts/a", [4, 4, 4]);
    expect(body).toEqual({ ends: ["The cart is full.", "version 1", "version 2"], conflict: true, version: 2, counts: [4, 4] });
    await restaurant.killAndRestart();
    expect((await restaurant.request<object>("POST", "/carts/a", [1, 1])).body).toEqual({
      ...{ ends: ["version 3", "version 4"], conflict: true, version: 4, counts: [4, 4, 1, 1] },
    });
  });
});

async function calendarOf(number: number): Promise<string[]> {
  return (await restaurant.report()).projected.calendar.filter(({ table }) => table === number).map(({ bookingId }) => bookingId);
}

function gate(): { readonly passed: Promise<void>; open(): void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { passed: promise, open: resolve };
}
