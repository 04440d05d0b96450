/** The same choreography while messages come twice, reversed or not at all, objects are aborted, and workerd is killed. */
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { SEED, size, some } from "../support/random.ts";
import { sleep } from "./harness.ts";
import { type Call, expectFolded, expectSound, type Order, Restaurant } from "./saga.ts";

const TABLES = size(20, 80);
const restaurant = new Restaurant(TABLES);
beforeAll(async () => void (await restaurant.open()));
afterAll(() => restaurant.close());
afterEach(() => {
  restaurant.order = () => ({});
});

/** An order for each of the next calls in turn, and then nothing unusual. */
const inTurn = (orders: readonly Order[], mostKills = 0): ((call: Call) => Order) => {
  let next = 0;
  const last = restaurant.kills + mostKills;
  return () => {
    const order = orders[next++] ?? {};
    return order.end === "kill" && restaurant.kills >= last ? {} : order;
  };
};
/** The same order for every `n`th of the next 120 calls. */
const each = (n: number, order: Order): Order[] => Array.from({ length: 120 }, (_, i) => (i % n === n - 1 ? order : {}));

const FAULTS: [string, Order[], number][] = [
  ["when every message comes twice", each(1, { twice: true }), 0],
  ["when every batch comes in reverse", each(1, { reversed: true }), 0],
  ["when every batch comes in reverse, and twice", each(1, { reversed: true, twice: true }), 0],
  ["when workerd is killed up to three times, each after an object has listened", each(6, { end: "kill" }), 3],
  ["when every fourth call fails", each(4, { fail: true }), 0],
  ["when every fourth call aborts the object after it has listened", each(4, { end: "abort" }), 0],
  ["when all of it comes together", each(7, { end: "abort" }).map((order, i) => ({ ...order, twice: i % 2 === 0, fail: i % 9 === 8 })), 0],
];

describe.each(some(2, FAULTS))("%s", (_, orders, kills) => {
  it("of twenty simultaneous bookings of one slot exactly one is confirmed", async () => {
    const table = restaurant.newTable();
    const killed = restaurant.kills;
    restaurant.order = inTurn(orders, kills);
    const ids = await Promise.all(Array.from({ length: 20 }, () => restaurant.book(table)));
    const settled = await restaurant.settled(ids);
    const ends = settled.bookings.filter((booking) => booking.table === table);
    expect(ends.map(({ state }) => state).sort()).toEqual(["confirmed", ...Array(19).fill("refused")]);
    expectSound(settled);
    // How often depends on how the messages fall into batches.
    expect(restaurant.kills > killed).toBe(kills > 0);
  });

  it("cancelled bookings free their slots, and the others keep theirs", async () => {
    const tables = [restaurant.newTable(), restaurant.newTable(), restaurant.newTable()];
    restaurant.order = inTurn(orders, kills);
    const guests = await Promise.all(
      tables.flatMap((table) =>
        ["18:00", "19:00"].map(async (slot) => {
          const id = await restaurant.book(table, slot);
          const cancelled = slot === "18:00";
          if (cancelled) expect((await restaurant.cancel(id)).status).toBe(200);
          return { id, cancelled };
        }),
      ),
    );
    const settled = await restaurant.settled(guests.map(({ id }) => id));
    const states = new Map(settled.bookings.map(({ bookingId, state }) => [bookingId, state]));
    for (const { id, cancelled } of guests) expect(states.get(id)).toBe(cancelled ? "cancelled" : "confirmed");
    expectSound(settled);
  });
});

describe("a random evening", () => {
  type Step =
    | { readonly do: "book"; readonly table: number; readonly slot: string }
    | { readonly do: "cancel"; readonly which: number }
    | { readonly do: "add" | "open" | "close" | "remove"; readonly table: number }
    | { readonly do: "wait"; readonly ms: number }
    | { readonly do: "kill" };

  const table = fc.nat(1);
  const step: fc.Arbitrary<Step> = fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: fc.constant("book" as const), table, slot: fc.constantFrom("18:00", "19:00") }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant("cancel" as const), which: fc.nat(20) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("add", "open", "close", "remove"), table }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.nat(60) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("kill" as const) }) },
  );
  const order: fc.Arbitrary<Order> = fc.record(
    {
      fail: fc.constantFrom(true, false, false, false),
      reversed: fc.boolean(),
      twice: fc.boolean(),
      end: fc.constantFrom("abort" as const),
    },
    { requiredKeys: [] },
  );
  /** Steps of one group happen at the same time. */
  const evening = fc.record({
    groups: fc.array(fc.array(step, { minLength: 1, maxLength: 6 }), { minLength: 2, maxLength: 6 }),
    orders: fc.array(order, { maxLength: 40 }),
  });

  it("ends with bookings and tables in agreement, no slot given twice, none refused for nothing, and every cancellation kept", async () => {
    await fc.assert(
      fc.asyncProperty(evening, async ({ groups, orders }) => {
        const tables = [restaurant.newTable(), restaurant.newTable()];
        const booked: { readonly id: string; readonly place: string }[] = [];
        const cancelled = new Set<string>();
        const changed = new Set<number>();
        restaurant.order = inTurn(orders);

        async function take(step: Step): Promise<void> {
          if (step.do === "wait") return sleep(step.ms);
          if (step.do === "kill") return restaurant.killAndRestart();
          if (step.do === "cancel") {
            const booking = booked[step.which % Math.max(1, booked.length)];
            if (booking && (await restaurant.cancel(booking.id)).status === 200) cancelled.add(booking.id);
            return;
          }
          const table = tables[step.table] ?? 0;
          if (step.do === "book") {
            const id = await restaurant.book(table, step.slot);
            booked.push({ id, place: `${table} ${step.slot}` });
          } else {
            changed.add(table);
            await restaurant.change(table, step.do);
          }
        }
        for (const group of groups) await Promise.all(group.map(take));

        const settled = await restaurant.settled(booked.map(({ id }) => id));
        expectSound(settled);
        await expectFolded(restaurant, tables);
        const states = new Map(settled.bookings.map(({ bookingId, state }) => [bookingId, state]));
        for (const { id } of booked) expect(states.get(id)).toSatisfy((state) => (state === "cancelled") === cancelled.has(id));
        for (const [place, guests] of groupBy(booked, ({ place }) => place)) {
          const quiet = !changed.has(Number.parseInt(place, 10)) && guests.every(({ id }) => !cancelled.has(id));
          if (quiet) expect(guests.filter(({ id }) => states.get(id) === "confirmed")).toHaveLength(1);
        }
      }),
      { seed: SEED, numRuns: size(1, 12), endOnFailure: true },
    );
  });
});

function groupBy<T>(items: readonly T[], by: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) groups.set(by(item), [...(groups.get(by(item)) ?? []), item]);
  return groups;
}
