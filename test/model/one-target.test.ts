/** A destination of targets that are all down costs no more than any other that is: it is asked ever more rarely, whether they fail or hang. */
import { expect, it } from "vitest";
import { toDurableObject } from "../../src/destinations/index.ts";
import { type OutboxEvent, type OutboxManager, withTransactionalOutbox } from "../../src/index.ts";
import { type ObjectClass, World } from "./world.ts";

interface Box {
  readonly outbox: OutboxManager<number>;
}

/** An object all of whose messages go to one target. */
class Stage {
  readonly world: World<Box>;
  readonly events: OutboxEvent[] = [];
  readonly got: number[] = [];
  calls = 0;
  target: "fails" | "hangs" | "works";

  constructor(target: "fails" | "hangs") {
    this.target = target;
    const receiveMessages = (envelopes: { id: string; msg: number }[]): Promise<unknown> => {
      this.calls++;
      if (this.target === "hangs") return new Promise(() => {});
      return this.world.outside(() => {
        if (this.target === "fails") throw new Error("down");
        this.got.push(...envelopes.map(({ msg }) => msg));
        return envelopes.map(({ id }) => ({ id, status: "processed" }));
      }, 5);
    };
    const namespace = { idFromName: (name: string) => ({ toString: () => name }), get: () => ({ receiveMessages }) };
    const send = toDurableObject(namespace as never, () => "target");
    const Plain = class {
      readonly outbox: OutboxManager<number>;
      readonly sendMessages = send;
      constructor(_: DurableObjectState, env: { OUTBOX_MANAGER: OutboxManager<number> }) {
        this.outbox = env.OUTBOX_MANAGER;
      }
    };
    const cls = withTransactionalOutbox(Plain as never, { onEvent: (event: OutboxEvent) => void this.events.push(event) });
    this.world = new World<Box>({ backend: "sqlite", tempo: "joined", seed: 1 }, () => cls as unknown as ObjectClass<Box>);
  }

  told(type: OutboxEvent["type"]): number {
    return this.events.filter((event) => event.type === type).length;
  }
}

const HOUR = 3_600_000;

it.each([
  ["fails", 0],
  ["hangs", 20],
] as const)("the only target that %s is asked ever more rarely, and gets everything when it is back", async (target, breakers) => {
  const stage = new Stage(target);
  const { world } = stage;
  await world.act(({ outbox }) => Promise.all([1, 2, 3].map((n) => outbox.send(n))));
  await world.advance(HOUR);
  const first = stage.calls;
  await world.advance(4 * HOUR);
  // At most once an hour by then, and each time repeated at most once.
  expect([first <= 30, stage.calls - first <= 10]).toEqual([true, true]);
  // A call that waits for an answer is none that failed: the breaker closes, and opens when the target is given up.
  expect(stage.told("breaker_closed")).toBeLessThanOrEqual(breakers);
  expect(stage.told("retried")).toBeLessThanOrEqual(breakers * 10);
  expect(stage.told("dead")).toBe(0);
  stage.target = "works";
  await world.advance(2 * HOUR);
  expect(stage.got).toEqual([1, 2, 3]);
});
