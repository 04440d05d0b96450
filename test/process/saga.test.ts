/** The choreography of the example, in plain words: what becomes of a booking, also when guests and tables change their minds. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { until } from "./harness.ts";
import { expectFolded, expectSound, message, Restaurant } from "./saga.ts";

const restaurant = new Restaurant();
beforeAll(async () => void (await restaurant.open()));
afterAll(() => restaurant.close());
afterEach(() => {
  restaurant.order = () => ({});
});

/** Waits for the end of a booking and gives its state. */
async function end(id: string): Promise<string> {
  const booking = await until(async () => {
    const found = await restaurant.booking(id);
    return found.state !== "initiated" && found.waiting.length === 0 ? found : null;
  });
  return booking.reason ? `${booking.state}: ${booking.reason}` : booking.state;
}

const holders = async (table: number) => (await restaurant.table(table)).locks.map(({ bookingId }) => bookingId);

describe("a booking", () => {
  it("of a free slot is confirmed", async () => {
    const table = restaurant.newTable();
    const id = await restaurant.book(table);
    expect(await end(id)).toBe("confirmed");
    expect(await holders(table)).toEqual([id]);
  });

  it("of another slot at the same table is confirmed as well", async () => {
    const table = restaurant.newTable();
    const ids = [await restaurant.book(table, "19:00"), await restaurant.book(table, "20:00")];
    expect(await Promise.all(ids.map(end))).toEqual(["confirmed", "confirmed"]);
  });

  it("of a slot that is locked is refused as taken", async () => {
    const table = restaurant.newTable();
    const first = await restaurant.book(table);
    expect(await end(first)).toBe("confirmed");
    expect(await end(await restaurant.book(table))).toBe("refused: taken");
    expect(await holders(table)).toEqual([first]);
  });

  it("at a closed table is refused, and confirmed when the table is open again", async () => {
    const table = restaurant.newTable();
    await restaurant.change(table, "close");
    expect(await end(await restaurant.book(table))).toBe("refused: closed");
    await restaurant.change(table, "open");
    expect(await end(await restaurant.book(table))).toBe("confirmed");
  });

  it("at a table that does not exist is refused", async () => {
    expect(await end(await restaurant.book(9999))).toBe("refused: no such table");
  });

  it("at a table that was removed is refused, and confirmed when the table is back", async () => {
    const table = restaurant.newTable();
    await restaurant.change(table, "remove");
    expect(await end(await restaurant.book(table))).toBe("refused: no such table");
    await restaurant.change(table, "add");
    expect(await end(await restaurant.book(table))).toBe("confirmed");
  });

  it("that is asked for again under the same id is one booking", async () => {
    const table = restaurant.newTable();
    const id = await restaurant.book(table);
    expect(await end(id)).toBe("confirmed");
    await Promise.all([restaurant.book(table, "19:00", id), restaurant.book(table, "20:00", id)]);
    await restaurant.settled();
    expect(restaurant.heardOf(id).filter(({ msg }) => msg.type === "lock_slot")).toHaveLength(1);
    expect((await restaurant.booking(id)).slot).toBe("19:00");
  });
});

describe("a cancelled booking", () => {
  it("frees its slot for the next guest", async () => {
    const table = restaurant.newTable();
    const first = await restaurant.book(table);
    expect(await end(first)).toBe("confirmed");
    expect((await restaurant.cancel(first)).status).toBe(200);
    await restaurant.settled();
    expect(await holders(table)).toEqual([]);
    const second = await restaurant.book(table);
    expect(await end(second)).toBe("confirmed");
    expect(await end(first)).toBe("cancelled");
  });

  it("stays cancelled when it is cancelled again, and its slot stays with the next guest", async () => {
    const table = restaurant.newTable();
    const first = await restaurant.book(table);
    await restaurant.cancel(first);
    await restaurant.settled();
    const second = await restaurant.book(table);
    expect(await end(second)).toBe("confirmed");
    expect((await restaurant.cancel(first)).status).toBe(200);
    // A copy that an inbox could not recognise, because it has an id of its own.
    await restaurant.inject(`table/${table}`, message("unlock_slot", first, table));
    await restaurant.settled();
    expect(await holders(table)).toEqual([second]);
  });

  it("that is cancelled before the table answers ends cancelled and leaves the slot free", async () => {
    const table = restaurant.newTable();
    restaurant.order = ({ by }) => ({ fail: by === `table ${table}` });
    const id = await restaurant.book(table);
    const asked = () => restaurant.calls.filter(({ by }) => by === `table ${table}`);
    await until(() => asked().length > 0);
    expect((await restaurant.cancel(id)).status).toBe(200);
    await until(() => asked().length > 1);
    // The cancellation has the same ordering key, so it waits until the request is through.
    expect(new Set(asked().flatMap(({ envelopes }) => envelopes.map(({ msg, key }) => `${msg.type} ${key}`)))).toEqual(
      new Set([`lock_slot ${id}`]),
    );
    restaurant.order = () => ({});
    await restaurant.settled();
    expect(await end(id)).toBe("cancelled");
    expect(await holders(table)).toEqual([]);
    expect(restaurant.heardOf(id).map(({ msg }) => msg.type)).toContain("slot_unlocked");
  });

  it("that is cancelled while the table's answer is on its way ends cancelled and leaves the slot free", async () => {
    const table = restaurant.newTable();
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    restaurant.order = async ({ by }) => {
      if (by.startsWith("booking")) await held;
      return {};
    };
    const id = await restaurant.book(table);
    await until(() => restaurant.calls.some(({ by }) => by === `booking ${id}`));
    expect(await holders(table)).toEqual([id]);
    expect((await restaurant.cancel(id)).status).toBe(200);
    release();
    await restaurant.settled();
    expect(await end(id)).toBe("cancelled");
    expect(await holders(table)).toEqual([]);
  });

  it("whose cancellation comes to the table before the request leaves the slot free", async () => {
    const table = restaurant.newTable();
    const id = await restaurant.book(table);
    await restaurant.cancel(id);
    await restaurant.settled();
    const from = restaurant.calls.length;
    // The outbox keeps the order of one booking's messages, so this has to be made by hand, under ids that no inbox knows.
    await restaurant.inject(`table/${table}`, message("unlock_slot", id, table), message("lock_slot", id, table));
    await restaurant.settled();
    expect(await end(id)).toBe("cancelled");
    expect(await holders(table)).toEqual([]);
    const heard = restaurant.calls.slice(from).flatMap(({ envelopes }) => envelopes.map(({ msg }) => msg.type));
    expect(heard.filter((type) => type.endsWith("_slot") || type === "slot_locked")).toEqual([
      "unlock_slot",
      "lock_slot",
      "slot_locked",
      "unlock_slot",
    ]);
  });

  it("can't be a refused one: that stays refused", async () => {
    const table = restaurant.newTable();
    const first = await restaurant.book(table);
    expect(await end(first)).toBe("confirmed");
    const second = await restaurant.book(table);
    expect(await end(second)).toBe("refused: taken");
    expect(await restaurant.cancel(second)).toEqual({ status: 409, body: { error: "This booking is refused." } });
    await restaurant.settled();
    expect(await end(second)).toBe("refused: taken");
    expect(await holders(table)).toEqual([first]);
  });

  it("that is refused too late stays cancelled", async () => {
    const table = restaurant.newTable();
    const id = await restaurant.book(table);
    await restaurant.cancel(id);
    await restaurant.inject(`booking/${id}`, message("slot_refused", id, table, { reason: "taken" }));
    expect(await end(id)).toBe("cancelled");
  });
});

describe("a table", () => {
  it("that is locked can't be removed, and can when the booking is cancelled", async () => {
    const table = restaurant.newTable();
    const id = await restaurant.book(table);
    expect(await end(id)).toBe("confirmed");
    expect(await restaurant.change(table, "remove")).toEqual({ status: 409, body: { error: `Table ${table} is locked at 19:00.` } });
    expect((await restaurant.table(table)).status).toBe("open");
    await restaurant.cancel(id);
    await restaurant.settled();
    expect((await restaurant.change(table, "remove")).status).toBe(200);
    expect((await restaurant.table(table)).status).toBe("removed");
  });

  it("that closes keeps the slots that are locked", async () => {
    const table = restaurant.newTable();
    const id = await restaurant.book(table);
    expect(await end(id)).toBe("confirmed");
    await restaurant.change(table, "close");
    expect(await holders(table)).toEqual([id]);
    expect(await end(id)).toBe("confirmed");
  });

  it("that is asked twice by one booking, in messages with ids of their own, gives the same answer and locks once", async () => {
    const table = restaurant.newTable();
    const id = await restaurant.book(table);
    expect(await end(id)).toBe("confirmed");
    await restaurant.change(table, "close");
    expect(await restaurant.inject(`table/${table}`, message("lock_slot", id, table))).toEqual(["processed"]);
    await restaurant.settled();
    const answers = restaurant.heardOf(id).filter(({ msg }) => msg.type === "slot_locked" || msg.type === "slot_refused");
    expect(answers.map(({ msg }) => msg.type)).toEqual(["slot_locked", "slot_locked"]);
    expect(await end(id)).toBe("confirmed");
    expect(await holders(table)).toEqual([id]);
  });

  it("takes the same message once, whoever brings it again", async () => {
    const table = restaurant.newTable();
    const id = await restaurant.book(table);
    expect(await end(id)).toBe("confirmed");
    const request = restaurant.heardOf(id).find(({ msg }) => msg.type === "lock_slot");
    await restaurant.cancel(id);
    await restaurant.settled();
    expect(await restaurant.inject(`table/${table}`, request, request)).toEqual(["duplicate", "duplicate"]);
    await restaurant.settled();
    expect(await holders(table)).toEqual([]);
  });

  it.each([
    ["add", "There is already a table %d."],
    ["open", "There is no table %d."],
    ["close", "There is no table %d."],
    ["remove", "There is no table %d."],
  ] as const)("says why it can't %s", async (action, error) => {
    const table = restaurant.newTable();
    if (action !== "add") await restaurant.change(table, "remove");
    expect(await restaurant.change(table, action)).toEqual({ status: 409, body: { error: error.replace("%d", String(table)) } });
  });
});

describe("messages", () => {
  it("carry the booking's id as their correlation id, every one of them", async () => {
    const table = restaurant.newTable();
    const first = await restaurant.book(table);
    expect(await end(first)).toBe("confirmed");
    const second = await restaurant.book(table);
    expect(await end(second)).toBe("refused: taken");
    await restaurant.cancel(first);
    await restaurant.settled();
    const types = (id: string) => [...new Set(restaurant.heardOf(id).map(({ msg }) => msg.type))].sort();
    const ofFirst = [
      "booking_cancelled",
      "booking_confirmed",
      "booking_initiated",
      "lock_slot",
      "slot_locked",
      "slot_unlocked",
      "table_lock_placed",
      "unlock_slot",
    ];
    // Through the queue it takes a moment longer.
    await until(() => types(first).length === ofFirst.length && types(second).length === 4);
    expect(types(first)).toEqual(ofFirst);
    expect(types(second)).toEqual(["booking_initiated", "booking_refused", "lock_slot", "slot_refused"]);
    for (const id of [first, second]) {
      expect(new Set(restaurant.heardOf(id).map(({ headers }) => headers?.["correlation-id"]))).toEqual(new Set([id]));
    }
  });

  it("that tell of an end are announced to the ledger, once each", async () => {
    const table = restaurant.newTable();
    restaurant.order = ({ by }) => ({ twice: by === "ledger ledger" });
    const id = await restaurant.book(table);
    expect(await end(id)).toBe("confirmed");
    await restaurant.cancel(id);
    type State = { ledger: { latest: { bookingId: string; type: string; correlationId: string }[]; duplicates: number } };
    const ledger = async () => (await restaurant.request<State>("GET", "/state")).body.ledger;
    const announced = async () => (await ledger()).latest.filter(({ bookingId }) => bookingId === id);
    await until(async () => (await announced()).length >= 3);
    expect((await announced()).map(({ type }) => type).sort()).toEqual(["booking_cancelled", "booking_confirmed", "slot_unlocked"]);
    expect(new Set((await announced()).map(({ correlationId }) => correlationId))).toEqual(new Set([id]));
    await until(async () => (await ledger()).duplicates >= 3);
  });

  it("to tables and bookings go on while the queue is down, and announcements follow when it is back", async () => {
    const table = restaurant.newTable();
    await restaurant.request("POST", "/outage", { down: true });
    const id = await restaurant.book(table);
    await until(async () => (await restaurant.booking(id)).state === "confirmed");
    await until(async () => (await restaurant.booking(id)).waiting.some(({ type }) => type === "booking_confirmed"));
    await restaurant.cancel(id);
    await until(async () => (await holders(table)).length === 0);
    await restaurant.request("POST", "/outage", { down: false });
    const { verdict } = await restaurant.settled();
    expect(verdict.dead).toBe(0);
    await until(() => restaurant.heardOf(id).filter(({ msg }) => msg.type === "booking_cancelled").length === 1);
  });
});

describe("many guests", () => {
  it("of twenty simultaneous bookings of one slot exactly one is confirmed", async () => {
    const table = restaurant.newTable();
    const ids = await Promise.all(Array.from({ length: 20 }, () => restaurant.book(table)));
    const ends = (await restaurant.settled(ids)).bookings.filter((booking) => booking.table === table);
    expect(ends.filter(({ state }) => state === "confirmed")).toHaveLength(1);
    expect(ends.filter(({ state, reason }) => state === "refused" && reason === "taken")).toHaveLength(19);
  });

  it("leave bookings and tables in agreement, all of the above included", async () => {
    expectSound(await restaurant.settled());
  });
});

describe("a slot that has passed", () => {
  it("is not taken from the guest who got it after a cancellation", async () => {
    const table = restaurant.newTable();
    const first = await restaurant.book(table);
    expect(await end(first)).toBe("confirmed");
    await restaurant.cancel(first);
    await restaurant.settled();
    const second = await restaurant.book(table);
    expect(await end(second)).toBe("confirmed");
    expect(await restaurant.inject(`table/${table}`, message("slot_passed", first, table))).toEqual(["processed"]);
    expect(await holders(table)).toEqual([second]);
    expect(await restaurant.inject(`table/${table}`, message("slot_passed", second, table))).toEqual(["processed"]);
    await restaurant.settled();
    expect(await holders(table)).toEqual([]);
    expect([await end(first), await end(second)]).toEqual(["cancelled", "over"]);
  });

  const evening = new Restaurant(2, 1.5);
  beforeAll(async () => void (await evening.open()));
  afterAll(() => evening.close());

  it("is free again: the booking is over, and the next one is confirmed", async () => {
    const first = await evening.book(1);
    await until(async () => (await evening.booking(first)).state === "confirmed");
    expect((await evening.change(1, "remove")).status).toBe(409);
    await until(async () => (await evening.booking(first)).state === "over");
    expect((await evening.table(1)).locks).toEqual([]);
    expect(evening.heardOf(first).filter(({ msg }) => msg.type === "slot_passed")).toMatchObject([
      { headers: { "correlation-id": first } },
    ]);
    const second = await evening.book(1);
    await until(async () => (await evening.booking(second)).state === "confirmed");
    expect((await evening.cancel(first)).body).toEqual({ error: "This booking is over." });
  });

  it("is free again after a SIGKILL while it was locked", async () => {
    const id = await evening.book(2);
    await until(async () => (await evening.booking(id)).state === "confirmed");
    await evening.killAndRestart();
    await until(async () => (await evening.booking(id)).state === "over");
    expect((await evening.table(2)).locks).toEqual([]);
    // The others' slots pass as well, and then each table is what its events make of it.
    await until(async () => (await evening.report()).tables.every(({ locks }) => locks.length === 0));
    const settled = await evening.settled();
    expectSound(settled);
    await expectFolded(evening, [1, 2]);
    expect(settled.statistics).toMatchObject([
      { table: 1, locked: 2, cancelled: 0, passed: 2 },
      { table: 2, locked: 1, cancelled: 0, passed: 1 },
    ]);
  });
});
