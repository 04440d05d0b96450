/** Poison on the model, where hours pass at once: with the default policy the good messages among bad ones arrive within minutes. */
import { describe, expect, it } from "vitest";
import { type OutboxManager, type OutboxMessage, withTransactionalOutbox } from "../../src/index.ts";
import { type ObjectClass, World } from "./world.ts";

interface Box {
  readonly outbox: OutboxManager<number>;
}

const MINUTE = 60_000;
const COUNT = 100;
const numbers = Array.from({ length: COUNT }, (_, n) => n);

/** Where so many bad messages are among a hundred. */
const PLACES: readonly (readonly [name: string, isBad: (n: number) => boolean])[] = [
  ["one at the head", (n) => n === 0],
  ["one in the middle", (n) => n === 50],
  ["five at the head", (n) => n < 5],
  ["five spread", (n) => n % 20 === 7],
  ["twenty at the head", (n) => n < 20],
  ["twenty in the middle", (n) => n >= 40 && n < 60],
  ["twenty spread", (n) => n % 5 === 0],
  ["twenty spread, the last among them", (n) => n % 5 === 4],
];

interface Outcome {
  /** When each was taken, in milliseconds since they were put. */
  readonly takenAt: ReadonlyMap<number, number>;
  readonly world: World<Box>;
}

async function delivered(
  backend: "sqlite" | "kv",
  isBad: (n: number) => boolean,
  key: (n: number) => string | undefined,
): Promise<Outcome> {
  const takenAt = new Map<number, number>();
  let begun = 0;
  const Plain = class {
    readonly outbox: OutboxManager<number>;
    constructor(
      readonly ctx: DurableObjectState,
      env: { OUTBOX_MANAGER: OutboxManager<number> },
    ) {
      this.outbox = env.OUTBOX_MANAGER;
    }
    sendMessages(messages: OutboxMessage<number>[]): void {
      const bad = messages.find(({ msg }) => isBad(msg));
      if (bad) throw new Error(`cannot read ${bad.msg}`);
      for (const { msg } of messages) takenAt.set(msg, world.loop.clock - begun);
    }
  };
  const cls = withTransactionalOutbox(Plain as never);
  const world = new World<Box>({ backend, tempo: "joined", seed: 1 }, () => cls as unknown as ObjectClass<Box>);
  begun = world.loop.clock;
  await world.act(({ outbox }) =>
    Promise.all(
      numbers.map((n) => {
        const name = key(n);
        return outbox.send(n, name === undefined ? {} : { key: name });
      }),
    ),
  );
  return { takenAt, world };
}

describe.each(["sqlite", "kv"] as const)("a hundred messages, some of which break every call (%s)", (backend) => {
  it.each(PLACES)("arrive within ten minutes but for those: %s", async (_, isBad) => {
    const good = numbers.filter((n) => !isBad(n));
    for (const key of [() => undefined, (n: number) => `key ${n}`]) {
      const { takenAt, world } = await delivered(backend, isBad, key);
      await world.advance(10 * MINUTE);
      expect([...takenAt.keys()].sort((a, b) => a - b)).toEqual(good);
    }
  });

  it("arrive within ten minutes where no earlier one of their key is bad", async () => {
    const isBad = (n: number): boolean => n % 20 === 7;
    const { takenAt, world } = await delivered(backend, isBad, (n) => `key ${n % 10}`);
    await world.advance(10 * MINUTE);
    const free = numbers.filter((n) => !numbers.some((other) => isBad(other) && other <= n && other % 10 === n % 10));
    expect([...takenAt.keys()].filter((n) => free.includes(n)).sort((a, b) => a - b)).toEqual(free);
  });

  it("cost fewer than two hundred alarms a week where the destination refuses everything, and none is given up", async () => {
    const { world } = await delivered(
      backend,
      () => true,
      () => undefined,
    );
    const { calls } = world.alarms;
    await world.advance(7 * 24 * 60 * MINUTE);
    expect(world.alarms.calls - calls).toBeLessThan(200);
    expect(await world.act(({ outbox }) => outbox.stats())).toMatchObject({ pending: COUNT, dead: 0, breaker: "open" });
  });
});
