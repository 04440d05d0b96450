/** A destination of targets that are all down costs no more than any other that is: the breaker opens once, and its backoff grows. */
import { expect, it } from "vitest";
import { toDurableObject } from "../../src/destinations/index.ts";
import { type OutboxEvent, type OutboxManager, withTransactionalOutbox } from "../../src/index.ts";
import { type ObjectClass, World } from "./world.ts";

interface Box {
  readonly outbox: OutboxManager<number>;
}

it("the only target that is down is asked ever more rarely, and gets everything when it is back", async () => {
  let calls = 0;
  let isDown = true;
  const got: number[] = [];
  const events: OutboxEvent[] = [];
  const receiveMessages = (envelopes: { id: string; msg: number }[]) =>
    world.outside(() => {
      calls++;
      if (isDown) throw new Error("down");
      got.push(...envelopes.map(({ msg }) => msg));
      return envelopes.map(({ id }) => ({ id, status: "processed" }));
    }, 5);
  const namespace = { idFromName: (name: string) => ({ toString: () => name }), get: () => ({ receiveMessages }) };
  const send = toDurableObject(namespace as never, () => "target");
  const Plain = class {
    readonly outbox: OutboxManager<number>;
    readonly sendMessages = send;
    constructor(_: DurableObjectState, env: { OUTBOX_MANAGER: OutboxManager<number> }) {
      this.outbox = env.OUTBOX_MANAGER;
    }
  };
  const cls = withTransactionalOutbox(Plain as never, { onEvent: (event: OutboxEvent) => void events.push(event) });
  const world = new World<Box>({ backend: "sqlite", tempo: "joined", seed: 1 }, () => cls as unknown as ObjectClass<Box>);
  const told = (type: OutboxEvent["type"]): number => events.filter((event) => event.type === type).length;

  await world.act(({ outbox }) => Promise.all([1, 2, 3].map((n) => outbox.send(n))));
  await world.advance(3_600_000);
  const first = calls;
  await world.advance(4 * 3_600_000);
  // At most one an hour by then, tried twice at most.
  expect([first <= 30, calls - first <= 10]).toEqual([true, true]);
  expect([told("breaker_opened"), told("breaker_closed"), told("retried"), told("dead")]).toEqual([1, 0, 0, 0]);
  isDown = false;
  await world.advance(2 * 3_600_000);
  expect(got).toEqual([1, 2, 3]);
  expect(told("breaker_closed")).toBe(1);
});
