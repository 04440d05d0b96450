/** What can grow, or take long, has an end: on the model, where hours pass at once and a clock can be wrong. */
import { describe, expect, it } from "vitest";
import {
  type OutboxDeadMessageHandler,
  type OutboxDelivery,
  type OutboxManager,
  type OutboxMessage,
  type OutboxOptions,
  type OutboxPutOptions,
  withTransactionalOutbox,
} from "../../src/index.ts";
import { type ObjectClass, World } from "./world.ts";

interface Box {
  readonly outbox: OutboxManager;
}

interface Handlers {
  readonly send: (messages: OutboxMessage<never>[], delivery: OutboxDelivery) => unknown;
  readonly alarm?: () => unknown;
  readonly dead?: OutboxDeadMessageHandler;
}

const SECOND = 1000;
const HOUR = 3600 * SECOND;
const DAY = 24 * HOUR;
/** Retries without chance in them. */
const RETRY = { minDelaySeconds: 2, maxDelaySeconds: 60, jitter: 0 };

describe.each(["sqlite", "kv"] as const)("limits (%s)", (backend) => {
  /** An object with these handlers. A call may hold several messages of one key. */
  function worldWith(handlers: Handlers, options: OutboxOptions<"OUTBOX_MANAGER">): World<Box> {
    const Plain = class {
      readonly outbox: OutboxManager;
      constructor(
        readonly ctx: DurableObjectState,
        env: { OUTBOX_MANAGER: OutboxManager },
      ) {
        this.outbox = env.OUTBOX_MANAGER;
      }
      sendMessages(messages: OutboxMessage<never>[], ...[delivery]: [OutboxDelivery]): unknown {
        return handlers.send(messages, delivery);
      }
      alarm(): unknown {
        return handlers.alarm?.();
      }
    };
    if (handlers.dead) Object.assign(Plain.prototype, { deadMessage: handlers.dead });
    const cls = withTransactionalOutbox(Plain as never, { retry: RETRY, ordering: "batch", ...options });
    return new World<Box>({ backend, tempo: "joined", seed: 1 }, () => cls as unknown as ObjectClass<Box>);
  }

  const put = (world: World<Box>, msg: unknown, options?: OutboxPutOptions) => world.act(({ outbox }) => outbox.send(msg, options));

  it("a run ends after about a minute, and the next alarm goes on where it ended", async () => {
    const taken: unknown[] = [];
    const send: Handlers["send"] = (messages) => world.outside(() => void taken.push(...messages.map(({ msg }) => msg)), 2 * SECOND);
    const world = worldWith({ send }, { batchSize: 1 });
    const runs: number[] = [];
    world.alarmed = ({ scheduledTime }) => void runs.push(world.loop.clock - scheduledTime);
    const numbers = Array.from({ length: 100 }, (_, n) => n);
    await world.act(({ outbox }) => Promise.all(numbers.map((n) => outbox.send(n))));
    await world.rest();
    expect(taken).toEqual(numbers);
    expect(runs.length).toBeGreaterThan(1);
    expect(Math.max(...runs)).toBeLessThanOrEqual(70 * SECOND);
  });

  it.each(["continue", "hold"] as const)(
    "deadMessage() has a minute for a batch, and the rest have their calls in later runs: %s",
    async (onDead) => {
      const taken: unknown[] = [];
      const told: string[] = [];
      const calls: { readonly msg: unknown; readonly at: number }[] = [];
      const send: Handlers["send"] = (messages, delivery) => {
        taken.push(...messages.map(({ msg }) => msg));
        for (const { id, msg } of messages) if (String(msg).startsWith("bad")) delivery.reject(id, "never");
      };
      const dead: OutboxDeadMessageHandler = async ({ msg, reason, error, attempts }, _, txn) => {
        calls.push({ msg, at: world.loop.clock });
        expect({ reason, error, attempts }).toEqual({ reason: "rejected", error: "never", attempts: 1 });
        await txn.put(`own:${msg}`, true);
        await world.outside(() => {}, 9 * SECOND);
      };
      const world = worldWith({ send, dead }, { onDead, onEvent: ({ type }) => told.push(type) });
      // Where a dead letter holds its key, what follows has its call when that is over.
      const keyOf = (n: number): OutboxPutOptions => (n % 3 === 0 ? {} : { key: `key ${onDead === "hold" ? n : n % 3}` });
      const runs: number[] = [];
      world.alarmed = ({ scheduledTime }) => void runs.push(world.loop.clock - scheduledTime);
      const bad = Array.from({ length: 20 }, (_, n) => `bad ${n}`);
      await world.act(({ outbox }) => Promise.all(bad.map((msg, n) => outbox.send(msg, keyOf(n))).concat(outbox.send("good"))));
      const begun = world.loop.clock;
      await world.advance(65 * SECOND);
      expect(taken).toEqual([...bad, "good"]);
      // Nothing of them is handed over again, or forgotten, because the object dies meanwhile.
      await world.advance(30 * SECOND);
      world.evict();
      await world.advance(HOUR);
      expect(Math.max(...runs)).toBeLessThanOrEqual(80 * SECOND);
      expect(taken).toEqual([...bad, "good"]);
      expect([...new Set(calls.map(({ msg }) => msg))].sort()).toEqual([...bad].sort());
      expect(Math.max(...calls.map(({ at }) => at)) - begun).toBeLessThanOrEqual(300 * SECOND);
      const letters = await world.act(({ outbox }) => outbox.list({ state: "dead" }));
      expect(letters.map(({ msg, reason }) => [msg, reason])).toEqual(bad.map((msg) => [msg, "rejected"]));
      expect(await world.act(({ outbox }) => outbox.stats())).toMatchObject({ pending: 0, delayed: 0, blocked: 0, dead: 20 });
      expect(told.filter((type) => type === "dead")).toHaveLength(20);
      expect(told).not.toContain("retried");
      expect(told).not.toContain("dead_message_failed");
    },
  );

  describe("120 messages of 100 kB, with room for a thousand in a call,", () => {
    const PAD = "x".repeat(100_000);
    /** What one batch may hold in memory: an isolate has 128 MB, and several objects share it. */
    const MOST_BYTES = 6_000_000;

    async function expectParts(optionsOf: (n: number) => OutboxPutOptions): Promise<void> {
      const calls: number[][] = [];
      const send: Handlers["send"] = (messages) => void calls.push(messages.map(({ msg }) => (msg as { n: number }).n));
      const world = worldWith({ send }, { batchSize: 1000 });
      await world.act(async ({ outbox }) => {
        const pads = Array.from({ length: 120 }, (_, n) => outbox.send({ n, pad: PAD }, optionsOf(n)));
        await Promise.all([...pads, outbox.send({ n: 120 })]);
      });
      await world.rest();
      expect(calls.flat().sort((a, b) => a - b)).toEqual(Array.from({ length: 121 }, (_, n) => n));
      expect(Math.max(...calls.map((call) => call.length * PAD.length))).toBeLessThanOrEqual(MOST_BYTES);
    }

    it("come one batch after the other", () => expectParts(() => ({})));

    it("that were delayed until the same time come one batch after the other", () => expectParts(() => ({ delaySeconds: 60 })));

    it("that were delayed and have ordering keys come one batch after the other", () =>
      expectParts((n) => ({ delaySeconds: 60, key: `key ${n}` })));
  });

  it("a batch looks at 128 messages at most, however few of them can be handed over", async () => {
    const looked: number[] = [];
    const taken: unknown[] = [];
    const send: Handlers["send"] = (messages) => void taken.push(...messages.map(({ msg }) => msg));
    const world = worldWith({ send }, { onEvent: (event) => event.type === "set_aside" && looked.push(event.ids.length) });
    await world.act(({ outbox }) =>
      Promise.all([...Array.from({ length: 1000 }, (_, n) => outbox.send(n, { delaySeconds: 3600 })), outbox.send("behind")]),
    );
    await world.advance(60 * SECOND);
    expect(taken).toEqual(["behind"]);
    expect(looked.reduce((sum, count) => sum + count)).toBe(1000);
    expect(Math.max(...looked)).toBeLessThanOrEqual(128);
  });

  it("a message at which the object dies is a dead letter after a few deaths alone, and its neighbours are delivered", async () => {
    const taken: unknown[] = [];
    let alone = 0;
    const send: Handlers["send"] = (messages) => {
      const msgs: unknown[] = messages.map(({ msg }) => msg);
      if (!msgs.includes("kills")) return void taken.push(...msgs);
      if (msgs.length === 1) alone++;
      return world.outside(() => world.crash("the isolate dies"));
    };
    const world = worldWith({ send }, {});
    await world.act(({ outbox }) => Promise.all(["a", "b", "kills", "c", "d"].map((msg) => outbox.send(msg))));
    await world.rest();
    expect([...taken].sort()).toEqual(["a", "b", "c", "d"]);
    // Three that count. The one that the search for it ends with may not: nothing was written before it.
    expect(alone).toBeLessThanOrEqual(4);
    expect(await world.act(({ outbox }) => outbox.list({ state: "dead" }))).toMatchObject([{ msg: "kills", reason: "killed" }]);
  });

  it("a message that is always retried is a dead letter after as many attempts as it may have", async () => {
    const attempts: number[] = [];
    const send: Handlers["send"] = (messages, delivery) => {
      for (const { id, attempts: attempt } of messages) {
        attempts.push(attempt);
        delivery.retry(id);
      }
    };
    const world = worldWith({ send }, { retry: { ...RETRY, maxAttempts: 4 } });
    await put(world, "message");
    await world.advance(DAY);
    expect(attempts).toEqual([1, 2, 3, 4]);
    expect(await world.act(({ outbox }) => outbox.list({ state: "dead" }))).toMatchObject([{ msg: "message", reason: "max_attempts" }]);
  });

  it("a destination asks for eleven days, and is tried again after the longest delay", async () => {
    const calls: number[] = [];
    const send: Handlers["send"] = () => {
      calls.push(world.loop.clock);
      if (calls.length === 1) throw Object.assign(new Error("later"), { retryAfterSeconds: 1e6 });
    };
    const told: number[] = [];
    const world = worldWith({ send }, { onEvent: (event) => event.type === "failed" && told.push(event.retryAt) });
    await put(world, "message");
    await world.rest();
    const [first = 0, second = 0] = calls;
    expect(told).toEqual([first + 60 * SECOND]);
    expect(calls).toHaveLength(2);
    expect(second - first).toBeGreaterThanOrEqual(59 * SECOND);
    expect(second - first).toBeLessThanOrEqual(61 * SECOND);
  });

  describe("a clock that was a day ahead when a backoff began", () => {
    /** Returns when the message was delivered after the clock was right again, in milliseconds. */
    async function delayAfter(then: (world: World<Box>) => Promise<unknown>): Promise<number> {
      let down = true;
      let delivered = Number.POSITIVE_INFINITY;
      const send: Handlers["send"] = () => {
        if (down) throw new Error("down");
        delivered = Math.min(delivered, world.loop.clock);
      };
      const world = worldWith({ send }, {});
      world.loop.skew = DAY;
      await put(world, "message");
      await world.advance(10 * SECOND);
      down = false;
      world.loop.skew = 0;
      const right = world.loop.clock;
      await then(world);
      return delivered - right;
    }

    it("does not make it longer than the longest delay once the object is called", async () => {
      const delay = await delayAfter(async (world) => {
        await put(world, "another");
        await world.advance(HOUR);
      });
      expect(delay).toBeLessThanOrEqual(61 * SECOND);
    });

    it("does not make it longer under steady puts", async () => {
      const delay = await delayAfter(async (world) => {
        for (let n = 0; n < 60; n++) {
          await put(world, n);
          await world.advance(10 * SECOND);
        }
      });
      expect(delay).toBeLessThanOrEqual(61 * SECOND);
    });

    it("does not make it longer in an object that starts again and again", async () => {
      const delay = await delayAfter(async (world) => {
        for (let n = 0; n < 30; n++) {
          world.evict();
          await world.act(({ outbox }) => outbox.stats());
          await world.advance(40 * SECOND);
        }
      });
      expect(delay).toBeLessThanOrEqual(121 * SECOND);
    });
  });

  it("a message is handed over again behind one of its key that was set aside in the same call", async () => {
    const calls: unknown[][] = [];
    const send: Handlers["send"] = (messages, delivery) => {
      calls.push(messages.map(({ msg }) => msg));
      const [first] = messages;
      if (calls.length === 1 && first) delivery.retry(first.id);
    };
    const world = worldWith({ send }, {});
    await world.act(({ outbox }) =>
      Promise.all(["a1", "a2", "b1"].map((msg) => outbox.send(msg, { key: msg.slice(0, 1) })).concat(outbox.send("free"))),
    );
    await world.rest();
    expect(calls).toEqual([
      ["a1", "a2", "b1", "free"],
      ["a1", "a2"],
    ]);
  });

  it.each([
    ["while nothing waits", async () => {}],
    ["while a message waits", (world: World<Box>) => put(world, "later", { delaySeconds: 864_000 })],
  ])("an own alarm that always throws is called seven times %s, as by the platform", async (_, before) => {
    const calls: number[] = [];
    const alarm = (): void => {
      calls.push(world.loop.clock);
      throw new Error("always");
    };
    const world = worldWith({ send: () => {}, alarm }, {});
    await before(world);
    await world.act((_, ctx) => ctx.storage.setAlarm(Date.now() + SECOND));
    await world.advance(DAY);
    const [first = 0] = calls;
    expect(calls.map((time) => Math.round((time - first) / SECOND))).toEqual([0, 2, 6, 14, 30, 62, 126]);
  });
});
