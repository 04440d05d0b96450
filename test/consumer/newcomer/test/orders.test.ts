/** What a newcomer tests first: the worker of README. */
import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { advance, drain, failing, sent } from "do-transactional-outbox/testing";
import { expect, it, vi } from "vitest";

const order = () => env.ORDERS.get(env.ORDERS.newUniqueId());

it("sends what was created", async () => {
  const stub = order();
  const { id } = await stub.create("1007");

  await drain(stub);

  expect(await sent(stub)).toMatchObject([{ id, msg: { type: "order_created", order: "1007" }, attempts: 1 }]);
});

it("tries again when the queue is down", async () => {
  const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
  const stub = order();
  await runInDurableObject(stub, (instance) => {
    instance.sendMessages = failing(instance.sendMessages, { throws: 1 });
  });
  await stub.create("1008");

  await drain(stub);
  expect(await sent(stub)).toEqual([]);

  await advance(stub, 60);
  expect(await sent(stub)).toMatchObject([{ attempts: 2 }]);
  expect(warn).toHaveBeenCalledOnce();
});
