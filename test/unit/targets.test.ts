/** Targets of one destination: one that hangs, is down, or recovers neither delays nor duplicates what others get. */
import { describe, expect, it } from "vitest";
import type { Clock as TargetClock } from "../../src/destinations/clock.ts";
import { shardsOf } from "../../src/destinations/shards.ts";
import { type TargetRequest, targetsOf } from "../../src/destinations/targets.ts";
import { urlsOf } from "../../src/destinations/urls.ts";
import type { OutboxDelivery, OutboxMessage, OutboxRetryOptions } from "../../src/index.ts";

/** A clock that a test moves. */
class Clock implements TargetClock {
  time = 1_000_000;
  #timers = new Set<{ at: number; work: () => void }>();
  now = (): number => this.time;
  random = (): number => 0;
  after = (ms: number, work: () => void): (() => void) => {
    const timer = { at: this.time + ms, work };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  };

  /** Lets time pass, timer by timer. */
  async pass(ms: number): Promise<void> {
    const end = this.time + ms;
    for (;;) {
      await settled();
      const [next] = [...this.#timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
      if (!next) break;
      this.#timers.delete(next);
      this.time = Math.max(this.time, next.at);
      next.work();
    }
    this.time = end;
    await settled();
  }
}

/** Lets every promise that can settle do so. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

type Outcome = "ack" | "reject" | ({ retry: true } & OutboxRetryOptions);

/** A destination of targets that a test scripts: how long each takes, and whether it fails or hangs. */
class World {
  readonly clock = new Clock();
  readonly sent: { id: string; target: string; at: number }[] = [];
  readonly takesMs = new Map<string, number>();
  readonly hanging = new Set<string>();
  readonly failing = new Map<string, Error>();
  readonly poison = new Set<string>();
  readonly targets: ReturnType<typeof targetsOf>;
  under = 0;
  most = 0;

  constructor(concurrency = 6, timeoutSeconds = 10) {
    this.targets = targetsOf(concurrency, timeoutSeconds, this.clock);
  }

  #request(target: string, message: OutboxMessage): TargetRequest {
    return {
      messages: [message],
      send: async (delivery) => {
        this.sent.push({ id: message.id, target, at: this.clock.time });
        this.most = Math.max(this.most, ++this.under);
        try {
          await new Promise<void>((resolve, reject) => {
            delivery.signal.addEventListener("abort", () => reject(delivery.signal.reason));
            if (!this.hanging.has(target)) this.clock.after(this.takesMs.get(target) ?? 50, resolve);
          });
        } finally {
          this.under--;
        }
        const error = this.failing.get(target) ?? (this.poison.has(message.id) ? new Error("poison") : undefined);
        if (error) throw error;
        delivery.ack(message.id);
      },
    };
  }

  /** One call. Messages are named `target/number`. Resolves to what the call said, and how long it took. */
  async call(
    ids: readonly string[],
    inOrder = false,
    sequence = 1,
  ): Promise<{ outcomes: Record<string, Outcome>; error?: unknown; ms: number }> {
    const outcomes: Record<string, Outcome> = {};
    const give = (id: string, outcome: Outcome): void => {
      if (id in outcomes) throw new Error(`${id} has two outcomes`);
      outcomes[id] = outcome;
    };
    const delivery: OutboxDelivery = {
      signal: new AbortController().signal,
      ack: (id) => give(id, "ack"),
      reject: (id) => give(id, "reject"),
      retry: (id, options) => give(id, { retry: true, ...options }),
    };
    const groups = new Map<string, TargetRequest[]>();
    for (const id of ids) {
      const message = { id, msg: id, source: `object of ${id}`, sequence } as OutboxMessage;
      if (this.targets.settleKnown(message, delivery)) continue;
      const target = id.split("/")[0] ?? "";
      groups.set(target, [...(groups.get(target) ?? []), this.#request(target, message)]);
    }
    const began = this.clock.time;
    let over = false;
    const called = this.targets
      .send(
        Array.from(groups, ([target, requests]) => ({ target, requests, inOrder })),
        delivery,
      )
      .then(
        () => ({ outcomes }),
        (error: unknown) => ({ outcomes, error }),
      )
      .finally(() => {
        over = true;
      });
    for (let waited = 0; !over && waited < 60_000; waited += 10) await this.clock.pass(10);
    const result = await called;
    return { ...result, ms: this.clock.time - began };
  }

  timesSent(id: string): number {
    return this.sent.filter((request) => request.id === id).length;
  }
}

const uncounted = { retry: true, countAttempt: false };
const names = (prefix: string, count: number): string[] => Array.from({ length: count }, (_, n) => `${prefix}${n}`);

describe("targets", () => {
  it("that are well get everything at once, and never more than `concurrency` at a time", async () => {
    const world = new World(3);
    const ids = names("a/", 10).concat(names("b/", 10));
    const { outcomes, error } = await world.call(ids);
    expect(error).toBeUndefined();
    expect(outcomes).toEqual(Object.fromEntries(ids.map((id) => [id, "ack"])));
    expect(world.most).toBe(3);
  });

  it("get their requests one after the other where order is asked for", async () => {
    const world = new World();
    world.takesMs.set("a", 100);
    const ids = names("a/", 5);
    await world.call(ids, true);
    expect(world.sent.map(({ id }) => id)).toEqual(ids);
    expect(world.most).toBe(1);
  });

  it("that fail have their messages retried uncounted, with the error and a backoff of their own, while others go on", async () => {
    const world = new World();
    world.failing.set("bad", new Error("HTTP 503"));
    const { outcomes, error } = await world.call(["bad/1", "bad/2", "good/1"]);
    expect(error).toBeUndefined();
    expect(outcomes).toMatchObject({ "good/1": "ack", "bad/1": uncounted, "bad/2": uncounted });
    expect(outcomes["bad/1"]).toMatchObject({ reason: world.failing.get("bad") });
    const requests = world.sent.length;
    // Within its backoff nothing is sent there.
    expect((await world.call(["bad/1", "good/2"])).outcomes).toMatchObject({ "good/2": "ack", "bad/1": uncounted });
    expect(world.sent.length).toBe(requests + 1);
  });

  it("that fail while further requests wait for a place get none of those", async () => {
    const world = new World(1);
    world.failing.set("bad", new Error("HTTP 503"));
    const { outcomes } = await world.call(["good/1", "bad/1", "bad/2", "bad/3"]);
    expect(outcomes).toMatchObject({ "good/1": "ack", "bad/1": uncounted, "bad/2": uncounted, "bad/3": uncounted });
    expect(world.sent.filter(({ target }) => target === "bad")).toHaveLength(1);
  });

  it("are tried with another message each time, so that one that always fails does not keep them in trouble", async () => {
    const world = new World();
    world.poison.add("a/1");
    await world.call(["good/1"]);
    await world.call(["a/1"]);
    const seen: unknown[] = [];
    for (let n = 0; n < 2; n++) {
      await world.clock.pass(10_000);
      seen.push((await world.call(["a/1", "a/2"])).outcomes["a/2"]);
    }
    expect(seen).toContain("ack");
  });

  it("that all fail make the call throw, with the longest wait that was asked for, and are tried at the next call", async () => {
    const world = new World();
    world.failing.set("a", Object.assign(new Error("busy"), { retryAfterSeconds: 3 }));
    world.failing.set("b", Object.assign(new Error("busy"), { retryAfterSeconds: 7 }));
    const { outcomes, error } = await world.call(["a/1", "b/1"]);
    expect(outcomes).toEqual({});
    expect(error).toMatchObject({ message: "busy", retryAfterSeconds: 7 });
    world.failing.clear();
    expect((await world.call(["a/1", "b/1"])).outcomes).toEqual({ "a/1": "ack", "b/1": "ack" });
  });

  it.each([["a/1"], ["a/1", "a/2", "b/1"]])(
    "that all fail make every further call throw as well, and give no message an outcome (%#)",
    async (...ids) => {
      const world = new World();
      for (const target of ["a", "b"]) world.failing.set(target, new Error("HTTP 503"));
      for (let n = 0; n < 4; n++) {
        const { outcomes, error } = await world.call(ids);
        expect([outcomes, error]).toMatchObject([{}, { message: "HTTP 503" }]);
        await world.clock.pass(5000);
      }
    },
  );

  it("that are tried again and fail tell why of the message that was tried, and let it wait for their backoff", async () => {
    const world = new World();
    await world.call(["good/1"]);
    world.failing.set("bad", new Error("HTTP 503"));
    await world.call(["bad/1", "bad/2"]);
    await world.clock.pass(3000);
    const { outcomes } = await world.call(["bad/1", "bad/2"]);
    const waits = { ...uncounted, delaySeconds: 4, reason: world.failing.get("bad") };
    expect(outcomes).toEqual({ "bad/1": waits, "bad/2": waits });
  });

  it.each(["a", "b"])("that all fail never ask to pause the destination, although one of them does (%s)", async (asking) => {
    const world = new World();
    for (const target of ["a", "b"]) world.failing.set(target, Object.assign(new Error("HTTP 410"), { pause: target === asking }));
    const { error } = await world.call(["a/1", "b/1"]);
    expect(error).toMatchObject({ message: "HTTP 410" });
    expect((error as { pause?: unknown }).pause).not.toBe(true);
  });

  it("that fail do not make the call throw as long as another is known to be well", async () => {
    const world = new World();
    await world.call(["good/1"]);
    world.failing.set("bad", new Error("HTTP 503"));
    const { outcomes, error } = await world.call(["bad/1"]);
    expect([error, outcomes["bad/1"]]).toMatchObject([undefined, uncounted]);
  });

  it("that recover are found within their own backoff, with one request, and then get the rest in the same call", async () => {
    const world = new World();
    world.failing.set("bad", new Error("HTTP 503"));
    await world.call(["bad/1", "good/1"]);
    world.failing.clear();
    world.takesMs.set("bad", 20);
    await world.clock.pass(2000);
    const before = world.sent.length;
    const { outcomes } = await world.call(["bad/1", "bad/2", "bad/3"]);
    expect(outcomes).toEqual({ "bad/1": "ack", "bad/2": "ack", "bad/3": "ack" });
    expect(world.sent.slice(before).filter(({ at }) => at === world.sent[before]?.at).length).toBe(1);
  });

  it.each([false, true])("are not held back by a clock that was set back (by a day: %s)", async (isDay) => {
    const world = new World();
    world.clock.time = 1.7e12;
    await world.call(["good/1", "bad/0"]);
    world.failing.set("bad", new Error("HTTP 503"));
    for (let n = 0; n < 3; n++) {
      await world.call(["bad/1"]);
      await world.clock.pass(60_000);
    }
    await world.call(["bad/1"]);
    world.clock.time -= isDay ? 86_400_000 : 365 * 86_400_000;
    const waits: number[] = [];
    for (let n = 0; n < 3; n++) {
      const { outcomes } = await world.call(["bad/1"]);
      expect(outcomes["bad/1"]).toMatchObject(uncounted);
      const { delaySeconds = 0 } = outcomes["bad/1"] as OutboxRetryOptions;
      waits.push(Math.round(delaySeconds));
      await world.clock.pass(delaySeconds * 1000);
    }
    // It is tried at once, and backs off from there. A step back within the longest wait is waited out.
    expect(waits).toEqual(isDay ? [86_416, 32, 64] : [32, 64, 128]);
  });

  it("double their backoff with each failure, up to an hour", async () => {
    const world = new World();
    await world.call(["good/1"]);
    world.failing.set("bad", new Error("down"));
    const at: number[] = [];
    while (at.length < 16) {
      const before = world.sent.length;
      const { outcomes } = await world.call(["bad/1"]);
      if (world.sent.length > before) at.push(world.sent.at(-1)?.at ?? 0);
      await world.clock.pass(((outcomes["bad/1"] as OutboxRetryOptions).delaySeconds ?? 0) * 1000);
    }
    const gaps = at.slice(1).map((time, n) => Math.round((time - (at[n] ?? 0)) / 1000));
    expect(gaps).toEqual([2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600, 3600, 3600]);
  });

  it("that hang no longer hold up their call after a second; what comes of the request is told when the message comes again", async () => {
    const world = new World();
    world.takesMs.set("slow", 5000);
    const { outcomes, ms } = await world.call(["slow/1", "good/1"]);
    expect(outcomes).toMatchObject({ "good/1": "ack", "slow/1": uncounted });
    expect(ms).toBeLessThan(1300);
    // While it is under way it is not sent again.
    expect((await world.call(["slow/1"])).outcomes).toMatchObject({ "slow/1": uncounted });
    await world.clock.pass(5000);
    expect((await world.call(["slow/1"])).outcomes).toEqual({ "slow/1": "ack" });
    expect(world.timesSent("slow/1")).toBe(1);
    // It is known to be slow now, and its call waits for it.
    expect((await world.call(["slow/2", "good/2"])).outcomes).toEqual({ "slow/2": "ack", "good/2": "ack" });
  });

  it.each([500, 5000])(
    "that answer late say nothing of another message with the same id, put once that was cancelled (%i ms)",
    async (ms) => {
      const world = new World();
      world.takesMs.set("slow", 3000);
      await world.call(["slow/1"], false, 1);
      // Before its answer, or after it.
      await world.clock.pass(ms);
      world.takesMs.set("slow", 20);
      expect((await world.call(["slow/1"], false, 2)).outcomes).toEqual({ "slow/1": "ack" });
      expect(world.timesSent("slow/1")).toBe(2);
      await world.clock.pass(5000);
      expect((await world.call(["slow/1"], false, 3)).outcomes).toEqual({ "slow/1": "ack" });
      expect(world.timesSent("slow/1")).toBe(3);
    },
  );

  it("that hang are given up after the timeout, and tried again after their backoff", async () => {
    const world = new World();
    world.hanging.add("dead");
    await world.call(["dead/1", "good/1"]);
    await world.clock.pass(10_000);
    expect(world.under).toBe(0);
    const { outcomes } = await world.call(["dead/1", "good/2"]);
    expect(outcomes).toMatchObject({ "good/2": "ack", "dead/1": uncounted });
    expect(world.timesSent("dead/1")).toBe(1);
    world.hanging.clear();
    await world.clock.pass(2000);
    expect((await world.call(["dead/1"])).outcomes).toEqual({ "dead/1": "ack" });
    expect(world.timesSent("dead/1")).toBe(2);
  });

  it("one message that always fails is blamed itself, and does not close its target to others", async () => {
    const world = new World();
    world.poison.add("a/1");
    await world.call(["good/1"]);
    const counted: string[] = [];
    const delivered = new Set<string>();
    for (let n = 0; n < 10; n++) {
      const { outcomes } = await world.call(["a/1", "a/2", "a/3", "a/4"].filter((id) => !delivered.has(id)));
      for (const [id, outcome] of Object.entries(outcomes)) {
        if (outcome === "ack") delivered.add(id);
        else if (outcome !== "reject" && outcome.countAttempt !== false) counted.push(id);
      }
      await world.clock.pass(10_000);
      await world.call([`a/later ${n}`]);
      await world.clock.pass(10_000);
    }
    expect([...delivered].sort()).toEqual(["a/2", "a/3", "a/4"]);
    expect(new Set(counted)).toEqual(new Set(["a/1"]));
    expect(counted.length).toBeGreaterThan(3);
  });

  it.each([6, 1])("ten of twenty hang, and the other ten see what they would see without them (%i at a time)", async (concurrency) => {
    const latencies = async (hang: boolean): Promise<number[]> => {
      const world = new World(concurrency);
      const all: number[] = [];
      const waiting = new Map<string, number>();
      const dueAt = new Map<string, number>();
      let n = 0;
      const end = world.clock.time + 600_000;
      await world.call(
        names("bad", 10)
          .concat(names("good", 10))
          .map((target) => `${target}/first`),
      );
      if (hang) for (const target of names("bad", 10)) world.hanging.add(target);
      // A message for each target every five seconds, in calls of at most a hundred, one after the other.
      while (world.clock.time < end) {
        if (world.clock.time >= 1_000_000 + n * 5000) {
          for (const target of names("bad", 10).concat(names("good", 10))) waiting.set(`${target}/${n}`, world.clock.time);
          n++;
        }
        const batch = [...waiting.keys()].filter((id) => (dueAt.get(id) ?? 0) <= world.clock.time).slice(0, 100);
        if (batch.length === 0) {
          await world.clock.pass(50);
          continue;
        }
        const { outcomes, error } = await world.call(batch);
        expect(error).toBeUndefined();
        expect(Object.keys(outcomes).sort()).toEqual([...batch].sort());
        for (const [id, outcome] of Object.entries(outcomes)) {
          if (outcome === "ack") {
            if (id.startsWith("good")) all.push(world.clock.time - (waiting.get(id) ?? 0));
            waiting.delete(id);
          } else if (outcome !== "reject") dueAt.set(id, world.clock.time + (outcome.delaySeconds ?? 1) * 1000);
        }
      }
      for (const id of new Set(world.sent.filter(({ target }) => target.startsWith("good")).map(({ id }) => id))) {
        expect(world.timesSent(id)).toBe(1);
      }
      return all.sort((a, b) => a - b);
    };
    const without = await latencies(false);
    const beside = await latencies(true);
    const mean = (all: number[]) => all.reduce((sum, ms) => sum + ms, 0) / all.length;
    expect(beside.length).toBeGreaterThanOrEqual(without.length - 10);
    expect(mean(beside)).toBeLessThanOrEqual(2 * mean(without));
    expect(beside[Math.floor(beside.length / 2)]).toBeLessThanOrEqual(2 * (without[Math.floor(without.length / 2)] ?? 0));
  });
});

describe("a URL that fails on its own", () => {
  it("is left alone for its backoff, and not by a clock that was set back", () => {
    const clock = new Clock();
    const urls = urlsOf(clock);
    const down = new Error("HTTP 404");
    urls.failed("https://a.test/", down);
    expect(urls.held("https://a.test/")).toEqual({ seconds: 2, error: down });
    clock.time -= 365 * 86_400_000;
    expect(urls.held("https://a.test/")).toBeNull();
    urls.failed("https://a.test/", down);
    expect(urls.held("https://a.test/")).toEqual({ seconds: 4, error: down });
  });
});

describe("a shard that does not answer", () => {
  it("sends nothing more, and what it has not been seen to take goes to another if it has no key", async () => {
    const clock = new Clock();
    const outcomes: string[] = [];
    const told =
      (what: string) =>
      (id: string): void =>
        void outcomes.push(`${what} ${id}`);
    const delivery: OutboxDelivery = {
      signal: new AbortController().signal,
      ack: told("ack"),
      retry: told("retry"),
      reject: told("reject"),
    };
    const calls: { shard: number; ids: string[]; own: OutboxDelivery }[] = [];
    const all = ["1", "2", "3"].map((id) => ({ id, key: undefined }));
    const sent = shardsOf<(typeof all)[number]>(2, clock).send(all, delivery, async (shard, part, own) => {
      calls.push({ shard, ids: part.map(({ id }) => id), own });
      if (calls.length === 1) {
        own.ack("1");
        return new Promise(() => {});
      }
      for (const { id } of part) own.ack(id);
      return null;
    });
    await clock.pass(9999);
    expect(calls).toHaveLength(1);
    expect(calls[0]?.own.signal.aborted).toBe(false);
    await clock.pass(1);
    await sent;
    expect(calls[0]?.own.signal.aborted).toBe(true);
    expect(calls.map(({ shard, ids }) => [shard, ids])).toEqual([
      [0, ["1", "2", "3"]],
      [1, ["2", "3"]],
    ]);
    expect(outcomes).toEqual(["ack 1", "ack 2", "ack 3"]);
    // No timer is left.
    await clock.pass(60_000);
    expect(calls[1]?.own.signal.aborted).toBe(false);
  });
});
