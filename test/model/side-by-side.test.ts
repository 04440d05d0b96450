/** Several destinations and one alarm: how long a call of it takes, and when it is set. */
import { describe, expect, it } from "vitest";
import { type OutboxManager, type OutboxMessage, type OutboxOptions, withTransactionalOutbox } from "../../src/index.ts";
import { type ObjectClass, World } from "./world.ts";

interface Box {
  readonly outbox: OutboxManager<number>;
}

/** What each destination takes, and after how many milliseconds it answers. */
function worldOf(
  backend: "sqlite" | "kv",
  answersAfterMs: readonly number[],
  options: OutboxOptions<"OUTBOX_MANAGER"> = {},
  took: (n: number, i: number) => unknown = () => {},
): { world: World<Box>; taken: number[][] } {
  const taken: number[][] = answersAfterMs.map(() => []);
  const Plain = class {
    readonly outbox: OutboxManager<number>;
    readonly destinations = Object.fromEntries(
      answersAfterMs.map((ms, i) => [
        `d${i}`,
        (messages: OutboxMessage<number>[]) => {
          for (const { msg } of messages) took(msg, i);
          return world.outside(() => void taken[i]?.push(...messages.map(({ msg }) => msg)), ms);
        },
      ]),
    );
    constructor(
      readonly ctx: DurableObjectState,
      env: { OUTBOX_MANAGER: OutboxManager<number> },
    ) {
      this.outbox = env.OUTBOX_MANAGER;
    }
  };
  const cls = withTransactionalOutbox(Plain as never, { batchSize: 1, ...options }) as unknown as ObjectClass<Box>;
  const world: World<Box> = new World<Box>({ backend, tempo: "joined", seed: 1 }, () => cls);
  return { world, taken };
}

describe.each(["sqlite", "kv"] as const)("an alarm (%s)", (backend) => {
  it.each([1, 2, 3])("ends after about a minute, however long %i destinations stay busy", async (count) => {
    const { world, taken } = worldOf(backend, [2000, 2700, 3100].slice(0, count));
    const calls: number[] = [];
    world.alarmed = ({ scheduledTime }) => void calls.push((world.loop.clock - scheduledTime) / 1000);
    await world.act(({ outbox }) => Promise.all(Array.from({ length: 100 }, (_, n) => outbox.send(n))));
    await world.rest();
    for (const each of taken) expect(each).toEqual(Array.from({ length: 100 }, (_, n) => n));
    expect(Math.max(...calls)).toBeLessThanOrEqual(67);
    expect(calls.length).toBeGreaterThan(2);
  });

  it("gives a destination what becomes due while another one hangs for minutes", async () => {
    const at: number[] = [];
    const { world } = worldOf(backend, [590_000, 0], { timeoutSeconds: 600 }, (n, i) => i === 1 && at.push(world.loop.clock - begun - n));
    const calls: number[] = [];
    world.alarmed = ({ scheduledTime }) => void calls.push((world.loop.clock - scheduledTime) / 1000);
    const begun = world.loop.clock;
    await world.act(({ outbox }) => outbox.send(0));
    for (const second of [30, 70, 100, 150]) {
      await world.advance(begun + second * 1000 - world.loop.clock);
      await world.act(({ outbox }) => outbox.send(second * 1000));
    }
    await world.rest();
    expect(at).toHaveLength(5);
    expect(Math.max(...at)).toBeLessThanOrEqual(1000);
    expect(Math.max(...calls)).toBeLessThanOrEqual(840);
  });

  it("is set for the time of a fresh object's first message, and not before", async () => {
    const { world, taken } = worldOf(backend, [0, 0]);
    const now = world.loop.clock;
    await world.act(({ outbox }) => outbox.send(1, { delaySeconds: 600 }));
    expect(world.disk.alarm).toBeGreaterThanOrEqual(now + 600_000);
    await world.rest();
    expect(taken).toEqual([[1], [1]]);
  });
});
