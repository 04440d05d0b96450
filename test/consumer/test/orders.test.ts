// test/orders.test.ts
import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { advance, caughtUp, drain, everyCrash, expectNothing, failing, sent } from "do-transactional-outbox/testing";
import { afterEach, expect, it, vi } from "vitest";

/** A fresh object for each test. */
const order = () => env.ORDERS.get(env.ORDERS.newUniqueId());

afterEach(() => {
  vi.restoreAllMocks();
});

it("sends an order to its stock", async () => {
  const stub = order();
  await stub.create(1, "spoons", 2);

  await drain(stub);

  expect(await sent(stub)).toMatchObject([{ msg: { type: "order_created", order: 1, item: "spoons" } }]);
  expect(await env.STOCK.getByName("spoons").left()).toBe(8);
});

it("reports the reservation", async () => {
  const stub = order();
  await stub.create(1, "knives", 3);

  expect(await drain(stub, { recursive: true })).toEqual({ delivered: 2, dead: 0 });

  const stock = env.STOCK.getByName("knives");
  expect(await sent(stock, { destination: "default" })).toMatchObject([{ msg: { type: "stock_reserved", order: 1, left: 7 } }]);
});

it("sends nothing while nothing is ordered", async () => {
  const stub = order();
  await stub.has(1);
  await expectNothing(stub);
});

it("reminds after an hour", async () => {
  const stub = order();
  await stub.remind(1, "cups", 3600);

  await advance(stub, 3599);
  expect(await sent(stub)).toEqual([]);
  expect(await caughtUp(stub)).toBe(false);

  await advance(stub, 1);
  expect(await sent(stub)).toMatchObject([{ msg: { type: "order_reminder" } }]);
  expect(await caughtUp(stub)).toBe(true);
});

it("closes when its own alarm fires", async () => {
  const stub = order();
  await stub.closeAt(Date.now() + 86_400_000);

  await advance(stub, 86_400);

  expect(await stub.isClosed()).toBe(true);
});

it("tries again when the stock is down", async () => {
  const stub = order();
  await runInDurableObject(stub, (instance) => {
    instance.sendMessages = failing(instance.sendMessages, { throws: 3 });
  });
  await stub.create(1, "plates", 1);

  await drain(stub);
  expect(await sent(stub)).toEqual([]);

  await advance(stub, 60);
  expect(await sent(stub)).toMatchObject([{ attempts: 4 }]);
});

it("bills a parcel while its tracking is down", async () => {
  const stub = env.PARCELS.get(env.PARCELS.newUniqueId());
  await runInDurableObject(stub, (instance) => {
    instance.destinations.tracking = failing(instance.destinations.tracking, { throws: 1 });
  });
  await stub.ship(1);

  await drain(stub);
  expect(await sent(stub, { destination: "billing" })).toMatchObject([{ msg: { type: "shipped", parcel: 1 } }]);
  expect(await sent(stub, { destination: "tracking" })).toEqual([]);

  await advance(stub, 10);
  expect(await sent(stub, { destination: "tracking" })).toMatchObject([{ attempts: 2 }]);
});

it("times out on a stock that hangs, and tries again", async () => {
  const stub = order();
  await runInDurableObject(stub, (instance) => {
    instance.sendMessages = failing(instance.sendMessages, { hangs: 1 });
  });
  await stub.create(1, "bowls", 1);

  await advance(stub, 60);

  expect(await sent(stub)).toMatchObject([{ attempts: 2 }]);
});

it("makes a dead letter of what is rejected", async () => {
  const error = vi.spyOn(console, "error").mockImplementation(() => {});
  const stub = order();
  await runInDurableObject(stub, (instance) => {
    instance.sendMessages = failing(instance.sendMessages, { rejects: ({ msg }) => msg.order === 2 });
  });
  await stub.create(1, "jugs", 1);
  await stub.create(2, "jugs", 1);

  expect(await drain(stub)).toEqual({ delivered: 1, dead: 1 });
  expect(error).toHaveBeenCalledOnce();
});

it("hands the messages to sendMessages", async () => {
  const stub = order();
  const sendMessages = await runInDurableObject(stub, (instance) => vi.spyOn(instance, "sendMessages").mockResolvedValue());
  await stub.create(1, "pans", 1);

  await drain(stub);

  expect(sendMessages).toHaveBeenCalledOnce();
  expect(sendMessages.mock.calls[0]?.[0]).toMatchObject([{ msg: { order: 1 }, attempts: 1 }]);
});

it("delivers at its alarm", async () => {
  const stub = order();
  await stub.remind(1, "pots", 3600);

  expect(await runDurableObjectAlarm(stub)).toBe(true);

  expect(await sent(stub)).toHaveLength(1);
});

it("sends every order that it has stored to the stock, and no other, wherever it crashes", async () => {
  let runs = 0;
  const item = () => `glasses ${runs}`;
  const crashes = await everyCrash(
    () => {
      runs++;
      return order();
    },
    async (stub) => {
      await stub.create(1, item(), 2);
      await drain(stub);
      await stub.create(2, item(), 3);
      await drain(stub);
    },
    async (stub) => {
      const known = ((await stub.has(1)) ? 2 : 0) + ((await stub.has(2)) ? 3 : 0);
      expect(await env.STOCK.getByName(item()).left()).toBe(10 - known);
    },
  );
  expect(crashes).toBeGreaterThan(8);
});
