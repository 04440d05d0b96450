/** Limits of the platform that a run meets: it ends without a failure, and the next invocation goes on. And destinations that want less. */
import { describe, expect, it } from "vitest";
import { type OutboxEvent, type OutboxManager, type OutboxMessage, type OutboxOptions, withTransactionalOutbox } from "../../src/index.ts";
import { size } from "../support/random.ts";
import { type Choice, type ObjectClass, World } from "./world.ts";

interface Delivery {
  ack(id: string): void;
}
type Send = (messages: OutboxMessage<number>[], delivery: Delivery) => unknown;
interface Box {
  readonly outbox: OutboxManager<number>;
}

/** The platform's words. */
const TOO_MANY =
  "Too many subrequests by single Worker invocation. To configure this limit, refer to https://developers.cloudflare.com/workers/wrangler/configuration/#limits";
const DAY = 86_400_000;
/** So many requests wait for their answers at a time. */
const CONNECTIONS = 6;

/** An object with these destinations, in a platform that lets each invocation make so many subrequests. */
class Limited {
  readonly world: World<Box>;
  readonly events: OutboxEvent[] = [];
  readonly taken: number[] = [];
  /** When calls of handlers began, by the clock, and how many messages they had. */
  readonly calls: { readonly at: number; readonly count: number }[] = [];
  #invocation = -1;
  #used = 0;

  constructor(
    readonly limit: number,
    destinations: (limited: Limited) => Record<string, unknown>,
    options: OutboxOptions<"OUTBOX_MANAGER"> = {},
    choice: Partial<Choice> = {},
  ) {
    const made = destinations(this);
    const Plain = class {
      readonly outbox: OutboxManager<number>;
      readonly destinations = made;
      constructor(_: DurableObjectState, env: { OUTBOX_MANAGER: OutboxManager<number> }) {
        this.outbox = env.OUTBOX_MANAGER;
      }
      alarm(): void {}
    };
    const retry = { minDelaySeconds: 2, maxDelaySeconds: 60, jitter: 0 };
    const cls = withTransactionalOutbox(Plain as never, { retry, onEvent: (event) => void this.events.push(event), ...options });
    this.world = new World<Box>({ backend: "sqlite", tempo: "joined", seed: 1, ...choice }, () => cls as unknown as ObjectClass<Box>);
  }

  /** A subrequest. @throws where the invocation has none left. */
  async subrequest(then: () => void = () => {}, ms = 5): Promise<void> {
    const { calls } = this.world.alarms;
    if (calls !== this.#invocation) this.#used = 0;
    this.#invocation = calls;
    if (++this.#used > this.limit) throw new Error(TOO_MANY);
    await this.world.outside(then, ms);
  }

  /** Posts each message by itself, six at a time, as a webhook does. */
  readonly each: Send = async (messages, delivery) => {
    this.calls.push({ at: this.world.loop.clock, count: messages.length });
    let failed: { error: unknown } | null = null;
    const rest = [...messages];
    const lane = async (): Promise<void> => {
      for (let message = rest.shift(); message && !failed; message = rest.shift()) {
        const { id, msg } = message;
        try {
          await this.subrequest(() => void this.taken.push(msg));
          delivery.ack(id);
        } catch (error) {
          failed ??= { error };
        }
      }
    };
    await Promise.all(Array.from({ length: CONNECTIONS }, lane));
    if (failed) throw (failed as { error: unknown }).error;
  };

  put(count: number): Promise<unknown> {
    return this.world.act(({ outbox }) => Promise.all(Array.from({ length: count }, (_, n) => outbox.send(n))));
  }

  told(type: OutboxEvent["type"]): number {
    return this.events.filter((event) => event.type === type).length;
  }
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, n) => n);
const sorted = (numbers: readonly number[]): number[] => [...numbers].sort((a, b) => a - b);

describe.each([50, 1000])("with %i subrequests an invocation", (limit) => {
  it.each(["quick", "slow"] as const)(
    "a backlog drains without a failure, once, and each alarm uses them up (commits: %s)",
    async (commits) => {
      const count = size(2000, 10_000);
      const limited = new Limited(limit, ({ each }) => ({ hook: each }), {}, { commits });
      await limited.put(count);
      await limited.world.advance(DAY);
      expect(sorted(limited.taken)).toEqual(upTo(count));
      expect([limited.told("failed"), limited.told("breaker_opened"), limited.told("retried"), limited.told("dead")]).toEqual([0, 0, 0, 0]);
      expect(limited.world.alarms.calls).toBeLessThanOrEqual(Math.ceil(count / limit) + 2);
    },
  );
});

describe("an invocation that has no subrequests left", () => {
  it("is left alone by all destinations, and the next one serves them all", async () => {
    const limited = new Limited(20, ({ each }) => ({ a: each, b: each, c: each }));
    await limited.put(100);
    await limited.world.advance(DAY);
    expect(sorted(limited.taken)).toEqual(upTo(100).flatMap((n) => [n, n, n]));
    expect([limited.told("failed"), limited.told("breaker_opened")]).toEqual([0, 0]);
    // Each alarm makes a call of each destination, and not one after another that fails.
    expect(limited.calls.length).toBeLessThanOrEqual(4 * limited.world.alarms.calls);
  });

  it("is left alone while another destination takes long", async () => {
    const limited = new Limited(20, ({ each }) => ({ a: each, slow: () => limited.world.outside(() => {}, 4000) }));
    await limited.put(100);
    await limited.world.advance(DAY);
    expect(sorted(limited.taken)).toEqual(upTo(100));
    expect(limited.calls.length).toBeLessThanOrEqual(limited.world.alarms.calls + 1);
    // None is halved because of what the invocation had used up before.
    expect(limited.calls.map(({ count }) => count)).toEqual([100, 80, 60, 40, 20]);
  });

  it("is not tried again by what is put meanwhile", async () => {
    const limited = new Limited(10, ({ each }) => ({ hook: each }), { dispatch: "immediate" });
    await limited.put(40);
    for (let n = 0; n < 20; n++) {
      await limited.put(1);
      await limited.world.advance(5);
    }
    const before = limited.calls.length;
    expect(before).toBeLessThanOrEqual(5);
    await limited.world.advance(DAY);
    expect(limited.taken).toHaveLength(60);
    expect(limited.told("failed")).toBe(0);
  });

  it("halves a batch of which nothing is acknowledged, until it fits, without a failure", async () => {
    const taken: number[] = [];
    const limited = new Limited(30, (given) => ({
      async all(messages: OutboxMessage<number>[]) {
        const mine: number[] = [];
        for (const { msg } of messages) await given.subrequest(() => void mine.push(msg));
        taken.push(...mine);
      },
    }));
    await limited.put(200);
    await limited.world.advance(DAY);
    expect(sorted(taken)).toEqual(upTo(200));
    expect([limited.told("failed"), limited.told("breaker_opened")]).toEqual([0, 0]);
  });

  it("fails a message that alone needs more than there is, as any other: no alarm follows at once for ever", async () => {
    const limited = new Limited(5, (given) => ({
      async hungry() {
        for (let n = 0; n < 10; n++) await given.subrequest();
      },
    }));
    await limited.put(1);
    await limited.world.advance(3_600_000);
    expect(limited.told("failed")).toBeGreaterThan(3);
    // A backoff of a minute.
    expect(limited.world.alarms.calls).toBeLessThanOrEqual(80);
  });

  it("dies without harm: what was settled is, and the rest is delivered", async () => {
    for (let step = 1; ; step += 7) {
      const limited = new Limited(7, ({ each }) => ({ hook: each }), { batchSize: 10 }, { crashAt: [step], tempo: "split" });
      const stored = await limited.put(25).then(
        () => true,
        () => false,
      );
      await limited.world.advance(DAY);
      if (stored) expect(sorted([...new Set(limited.taken)])).toEqual(upTo(25));
      if (limited.world.crashes === 0) return;
    }
  });
});

/** The platform lets six requests of an invocation wait for their answers; a seventh waits for one of these to end. */
class Connections {
  /** Requests that had to wait for another. */
  queued = 0;
  #open = 0;
  readonly #waiting: (() => void)[] = [];

  async during(work: () => Promise<unknown>): Promise<void> {
    if (this.#open >= CONNECTIONS) {
      this.queued++;
      await new Promise<void>((enter) => this.#waiting.push(enter));
    } else this.#open++;
    try {
      await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#open--;
    }
  }
}

describe("six connections", () => {
  it("are enough for handlers that use one each: no request waits for another, and five that hang delay no one", async () => {
    const connections = new Connections();
    const begun: number[] = [];
    const limited = new Limited(
      1e9,
      ({ taken }) => {
        const hangs = (_: unknown, { signal }: { signal: AbortSignal }) =>
          connections.during(() => new Promise<void>((end) => signal.addEventListener("abort", () => end(), { once: true })));
        const works: Send = async (messages) => {
          for (const { msg } of messages) await connections.during(() => limited.world.outside(() => void taken.push(msg), 5));
          begun.push(limited.world.loop.clock);
        };
        return Object.fromEntries(upTo(9).map((n) => [`d${n}`, n < 5 ? hangs : works]));
      },
      { timeoutSeconds: 10 },
    );
    const start = limited.world.loop.clock;
    await limited.put(3);
    await limited.world.advance(60_000);
    expect(sorted(limited.taken)).toEqual(sorted(upTo(4).flatMap(() => upTo(3))));
    expect(Math.max(...begun) - start).toBeLessThan(1000);
    expect(limited.told("failed")).toBeGreaterThanOrEqual(5);
    expect(connections.queued).toBe(0);
  });
});

describe("maxPerSecond", () => {
  it.each([
    ["alarm", 10, 100],
    ["immediate", 10, 100],
    ["alarm", 500, 100],
    ["immediate", 0.5, 100],
  ] as const)(
    "lets a backlog through at that rate, without a failure, with an alarm a second at most (%s, %s)",
    async (dispatch, rate, batchSize) => {
      const limited = new Limited(1e9, ({ each }) => ({ slow: { send: each, maxPerSecond: rate, batchSize } }), { dispatch });
      const count = Math.max(10, 20 * rate);
      const begun = limited.world.loop.clock;
      await limited.put(count);
      await limited.world.advance(DAY);
      expect(sorted(limited.taken)).toEqual(upTo(count));
      const seconds = ((limited.calls.at(-1)?.at ?? 0) - begun) / 1000;
      expect(seconds).toBeGreaterThanOrEqual((count - Math.max(1, rate)) / rate - 1);
      expect(seconds).toBeLessThanOrEqual(count / rate + 2);
      // In any second at most twice what the bucket holds.
      for (const { at } of limited.calls) {
        const within = limited.calls.filter((call) => call.at >= at && call.at < at + 1000).reduce((sum, call) => sum + call.count, 0);
        expect(within).toBeLessThanOrEqual(2 * Math.max(1, rate));
      }
      expect([limited.told("failed"), limited.told("breaker_opened")]).toEqual([0, 0]);
      expect(limited.world.alarms.sets).toBeLessThanOrEqual(seconds + 4);
    },
  );

  it("holds no other destination up", async () => {
    const times = new Map<string, number>();
    const limited = new Limited(1e9, ({ world }) => {
      const taking = (name: string) => (messages: OutboxMessage<number>[]) => {
        if (messages.length > 0) times.set(name, limited.world.loop.clock);
      };
      void world;
      return { slow: { send: taking("slow"), maxPerSecond: 1 }, fast: taking("fast") };
    });
    const begun = limited.world.loop.clock;
    await limited.put(30);
    await limited.world.advance(DAY);
    expect((times.get("fast") ?? 0) - begun).toBeLessThan(1000);
    expect((times.get("slow") ?? 0) - begun).toBeGreaterThan(27_000);
  });

  it("goes on at once after the clock was set back, within a second's worth", async () => {
    const limited = new Limited(1e9, ({ each }) => ({ slow: { send: each, maxPerSecond: 2 } }));
    await limited.put(20);
    await limited.world.advance(3000);
    limited.world.loop.skew = -3_600_000;
    await limited.put(1);
    await limited.world.advance(30_000);
    expect(limited.taken).toHaveLength(21);
  });
});

describe("a destination that is asked too often", () => {
  it("is waited out: no message is blamed, however often and however long it says so", async () => {
    let throttled = 12;
    const limited = new Limited(
      1e9,
      (given) => ({
        busy(messages: OutboxMessage<number>[]) {
          if (messages.some(({ msg }) => msg === 0) && throttled-- > 0) throw Object.assign(new Error("429"), { throttled: true });
          return given.world.outside(() => void given.taken.push(...messages.map(({ msg }) => msg)));
        },
      }),
      { retry: { minDelaySeconds: 1, maxDelaySeconds: 4, jitter: 0, maxAttempts: 2 } },
    );
    await limited.put(40);
    await limited.world.advance(DAY);
    expect(sorted(limited.taken)).toEqual(upTo(40));
    expect([limited.told("retried"), limited.told("dead")]).toEqual([0, 0]);
  });
});

describe("a spending limit that holds alarms back for an hour", () => {
  it.each(["alarm", "immediate"] as const)(
    "loses nothing, and an object that is called meanwhile delivers by itself (%s)",
    async (dispatch) => {
      const limited = new Limited(1e9, ({ each }) => ({ hook: each }), { dispatch }, { alarms: "an hour late" });
      await limited.put(5);
      await limited.world.advance(10_000);
      expect(sorted(limited.taken)).toEqual(upTo(5));
      // Nobody calls it: it leaves memory, and what waits for a time waits for the platform.
      await limited.world.act(({ outbox }) => outbox.send(5, { delaySeconds: 30 }));
      await limited.world.advance(11_000);
      limited.world.evict();
      await limited.world.advance(2 * 3_600_000);
      expect(sorted(limited.taken)).toEqual(upTo(6));
      expect(limited.told("failed")).toBe(0);
      expect(limited.world.alarms.sets).toBeLessThanOrEqual(6);
    },
  );
});

describe("an object that is overloaded", () => {
  it("is a failure of the destination: what waits is delivered in order when it answers again", async () => {
    let overloaded = 3;
    const limited = new Limited(1e9, (given) => ({
      object(messages: OutboxMessage<number>[]) {
        if (overloaded-- > 0) throw Object.assign(new Error("Durable Object is overloaded."), { overloaded: true, retryable: true });
        return given.world.outside(() => void given.taken.push(...messages.map(({ msg }) => msg)));
      },
    }));
    await limited.put(10);
    await limited.world.advance(DAY);
    expect(limited.taken).toEqual(upTo(10));
    expect([limited.told("failed"), limited.told("dead"), limited.told("breaker_closed")]).toEqual([3, 0, 1]);
  });
});

describe("maxPending", () => {
  it.each(["alarm", "immediate"] as const)("shows that it fills before it is full, once each time (%s)", async (dispatch) => {
    let down = true;
    const limited = new Limited(
      1e9,
      () => ({
        hook() {
          if (down) throw new Error("down");
        },
      }),
      { dispatch, maxPending: 10 },
    );
    const { world } = limited;
    const pressure = async (): Promise<number> => (await world.act(({ outbox }) => outbox.stats())).pressure;
    expect(await pressure()).toBe(0);
    await limited.put(7);
    expect(limited.told("filling")).toBe(0);
    await limited.put(1);
    await limited.put(1);
    expect(await pressure()).toBe(0.9);
    await limited.put(1);
    expect(await pressure()).toBe(1);
    await expect(limited.put(1)).rejects.toMatchObject({ code: "outbox_full" });
    expect(limited.events.filter(({ type }) => type === "filling")).toMatchObject([{ waiting: 8, maxPending: 10 }]);
    down = false;
    await world.advance(DAY);
    expect(await pressure()).toBe(0);
    down = true;
    await limited.put(4);
    await limited.put(5);
    expect(limited.told("filling")).toBe(2);
  });

  it("a put that is rolled back shows nothing", async () => {
    const limited = new Limited(1e9, ({ each }) => ({ hook: each }), { maxPending: 5 });
    await limited.world.act(({ outbox }) =>
      outbox
        .transaction(async (txn) => {
          for (let n = 0; n < 5; n++) await txn.send(n);
          throw new Error("undone");
        })
        .catch(() => {}),
    );
    expect(limited.told("filling")).toBe(0);
  });
});
