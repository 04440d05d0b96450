/** Several queues behind one destination: each ordering key keeps its queue and its order, and what has no key goes where there is room. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { toQueue } from "../../src/destinations/index.ts";
import { type OutboxEvent, type OutboxManager, withTransactionalOutbox } from "../../src/index.ts";
import { SEED, size } from "../support/random.ts";
import { type ObjectClass, World } from "./world.ts";

interface Box {
  readonly outbox: OutboxManager<number>;
}

const DAY = 86_400_000;
const KEYS = ["a", "b", "c", "d", "e", "f"];

/** An object that sends to so many queues, of which some say that they get too much. */
class Sharded {
  readonly world: World<Box>;
  readonly events: OutboxEvent[] = [];
  readonly got: number[][];
  readonly throttled = new Set<number>();
  readonly hanging = new Set<number>();
  readonly tries: number[];

  constructor(count: number, immediate = false) {
    this.got = Array.from({ length: count }, () => []);
    this.tries = Array.from({ length: count }, () => 0);
    const queues = this.got.map((got, index) => ({
      sendBatch: (batch: { body: number }[]): Promise<void> => {
        this.tries[index] = (this.tries[index] ?? 0) + 1;
        if (this.hanging.has(index)) return new Promise(() => {});
        return this.world.outside(() => {
          if (this.throttled.has(index)) throw new Error("Queue sendBatch failed: Too Many Requests");
          got.push(...batch.map(({ body }) => body));
        }, 5);
      },
    }));
    const send = toQueue(queues as never, { shardBy: "key", body: ({ msg }) => msg });
    const Plain = class {
      readonly outbox: OutboxManager<number>;
      readonly sendMessages = send;
      constructor(_: DurableObjectState, env: { OUTBOX_MANAGER: OutboxManager<number> }) {
        this.outbox = env.OUTBOX_MANAGER;
      }
    };
    // An attempt that counts makes a dead letter at once.
    const retry = { minDelaySeconds: 1, maxDelaySeconds: 8, jitter: 0, maxAttempts: 1 };
    const options = {
      retry,
      onEvent: (event: OutboxEvent) => void this.events.push(event),
      ...(immediate && { dispatch: "immediate" as const }),
    };
    const cls = withTransactionalOutbox(Plain as never, options);
    this.world = new World<Box>({ backend: "sqlite", tempo: "joined", seed: 1 }, () => cls as unknown as ObjectClass<Box>);
  }

  put(messages: readonly { n: number; key: string | undefined }[]): Promise<unknown> {
    return this.world.act(({ outbox }) => Promise.all(messages.map(({ n, key }) => outbox.send(n, key === undefined ? {} : { key }))));
  }

  told(type: OutboxEvent["type"]): number {
    return this.events.filter((event) => event.type === type).length;
  }

  all(): number[] {
    return this.got.flat().sort((a, b) => a - b);
  }
}

const from = (first: number, count: number, keyOf: (n: number) => string | undefined) =>
  Array.from({ length: count }, (_, i) => ({ n: first + i, key: keyOf(first + i) }));
const upTo = (count: number): number[] => Array.from({ length: count }, (_, n) => n);
const keyed = (n: number): string | undefined => KEYS[n % KEYS.length];

describe("several queues, by key", () => {
  it("keep the order of each key, in one queue, and share the keys out", async () => {
    const sharded = new Sharded(4);
    await sharded.put(from(0, 300, keyed));
    await sharded.world.advance(DAY);
    expect(sharded.all()).toEqual(upTo(300));
    for (const key of upTo(KEYS.length)) {
      const holders = sharded.got.filter((got) => got.some((n) => n % KEYS.length === key));
      expect(holders).toHaveLength(1);
      const mine = (holders[0] ?? []).filter((n) => n % KEYS.length === key);
      expect(mine).toEqual([...mine].sort((a, b) => a - b));
    }
    expect(sharded.got.filter(({ length }) => length > 0).length).toBeGreaterThan(1);
  });

  it("send what has no key to any that works, by turns, while one is throttled", async () => {
    const sharded = new Sharded(3);
    sharded.throttled.add(1);
    for (let round = 0; round < 12; round++) {
      await sharded.put(from(round * 10, 10, () => undefined));
      await sharded.world.advance(200);
    }
    expect(sharded.all()).toEqual(upTo(120));
    expect(sharded.got[1]).toEqual([]);
    expect(Math.min(sharded.got[0]?.length ?? 0, sharded.got[2]?.length ?? 0)).toBeGreaterThanOrEqual(40);
    // It is left alone in between.
    expect(sharded.tries[1]).toBeLessThanOrEqual(2);
    expect([sharded.told("failed"), sharded.told("retried"), sharded.told("dead")]).toEqual([0, 0, 0]);
  });

  it("let the keys of one that is throttled wait for it, in order and without an attempt, while the others go on", async () => {
    const sharded = new Sharded(2);
    sharded.throttled.add(0);
    await sharded.put(from(0, 60, keyed));
    await sharded.world.advance(60_000);
    expect(sharded.got[0]).toEqual([]);
    const waiting = 60 - (sharded.got[1]?.length ?? 0);
    expect(waiting).toBeGreaterThan(0);
    expect(waiting).toBeLessThan(60);
    sharded.throttled.clear();
    await sharded.put(from(60, 60, keyed));
    await sharded.world.advance(DAY);
    expect(sharded.all()).toEqual(upTo(120));
    for (const got of sharded.got) {
      for (const key of upTo(KEYS.length)) {
        const mine = got.filter((n) => n % KEYS.length === key);
        expect(mine).toEqual([...mine].sort((a, b) => a - b));
      }
    }
    expect([sharded.told("breaker_opened"), sharded.told("dead")]).toEqual([0, 0]);
  });

  it("go on beside one that does not answer, whose keys wait for it without an attempt", async () => {
    const sharded = new Sharded(2);
    sharded.hanging.add(0);
    await sharded.put(from(0, 600, keyed));
    await sharded.put(from(600, 40, () => undefined));
    await sharded.world.advance(120_000);
    const mine = 300 + 40;
    expect([sharded.got[0]?.length, sharded.got[1]?.length]).toEqual([0, mine]);
    expect(sharded.told("failed")).toBe(0);
    sharded.hanging.clear();
    await sharded.world.advance(120_000);
    expect(sharded.all()).toEqual(upTo(640));
    expect(sharded.told("dead")).toBe(0);
    for (const got of sharded.got) {
      for (const key of upTo(KEYS.length)) {
        const ofKey = got.filter((n) => n < 600 && n % KEYS.length === key);
        expect(ofKey).toEqual([...ofKey].sort((a, b) => a - b));
      }
    }
  });

  it("are waited out together when all of them are throttled: nobody is blamed", async () => {
    const sharded = new Sharded(3);
    for (const index of [0, 1, 2]) sharded.throttled.add(index);
    await sharded.put(from(0, 30, (n) => (n % 2 ? undefined : keyed(n))));
    await sharded.world.advance(120_000);
    expect(sharded.all()).toEqual([]);
    expect(sharded.told("breaker_opened")).toBe(1);
    expect([sharded.told("retried"), sharded.told("dead")]).toEqual([0, 0]);
    sharded.throttled.clear();
    await sharded.world.advance(DAY);
    expect(sharded.all()).toEqual(upTo(30));
  });

  it("whatever is throttled when, each message arrives once, and each key in order", async () => {
    const step = fc.record({ count: fc.nat(40), throttled: fc.uniqueArray(fc.nat(2)), waitMs: fc.constantFrom(0, 20, 1500, 20_000) });
    const story = fc.record({ immediate: fc.boolean(), steps: fc.array(step, { minLength: 1, maxLength: 8 }) });
    await fc.assert(
      fc.asyncProperty(story, async ({ immediate, steps }) => {
        const sharded = new Sharded(3, immediate);
        let count = 0;
        for (const step of steps) {
          sharded.throttled.clear();
          for (const index of step.throttled) sharded.throttled.add(index);
          await sharded.put(from(count, step.count, (n) => (n % 7 === 0 ? undefined : keyed(n))));
          count += step.count;
          await sharded.world.advance(step.waitMs);
        }
        sharded.throttled.clear();
        await sharded.world.advance(DAY);
        expect(sharded.all()).toEqual(upTo(count));
        expect(sharded.told("dead")).toBe(0);
        for (const key of upTo(KEYS.length)) {
          const isMine = (n: number): boolean => n % KEYS.length === key && n % 7 !== 0;
          const holders = sharded.got.filter((got) => got.some(isMine));
          expect(holders.length).toBeLessThanOrEqual(1);
          const mine = (holders[0] ?? []).filter(isMine);
          expect(mine).toEqual([...mine].sort((a, b) => a - b));
        }
      }),
      { seed: SEED, numRuns: size(40, 400) },
    );
  });
});

describe("toQueue with a list", () => {
  const queue = { sendBatch: async () => {} } as unknown as Queue<never>;
  it.each<[string, () => unknown]>([
    ["`queue` to be 1 to 100 queues", () => toQueue([], { shardBy: "key" })],
    ["`queue` to be a queue's binding", () => toQueue([queue, undefined as never], { shardBy: "key" })],
    ['`options.shardBy` to be "key" with a list of queues', () => toQueue([queue])],
    ['`options.shardBy` to be "key" with a list of queues', () => toQueue([queue], { shardBy: "id" as never })],
    ["`options.shardBy` to be left out with one queue", () => toQueue(queue, { shardBy: "key" })],
  ])("refuses what is wrong: %s", (text, make) => {
    expect(make).toThrow(TypeError);
    expect(make).toThrow(text);
  });
});
