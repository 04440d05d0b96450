/** Destinations that are pulled: leases, verdicts, order per key, and what the object's end means. */
import { DurableObject } from "cloudflare:workers";
import { expect, it } from "vitest";
import { type OutboxManager, type OutboxOptions, type OutboxReceived, withTransactionalOutbox } from "../../../src/index.ts";
import { forward } from "../support/clock.ts";
import { again, type Backend, crash, declared, inside, native, onEitherBackend, type Stub } from "../support/harness.ts";
import { counted, type Ledger } from "../support/ledger.ts";
import { type BoxEnv, type Form, options as quick } from "../support/worker.ts";

const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, n) => first + n);

function jobsOf(backend: Backend, chosen: object = {}, options: OutboxOptions<"OUTBOX_MANAGER"> = {}): Stub {
  class Jobs extends DurableObject<BoxEnv> {
    ledger?: Ledger;
    destinations = { jobs: { pull: true as const, ...chosen } };
    get outbox() {
      return this.env.OUTBOX_MANAGER;
    }
  }
  const wrapped = withTransactionalOutbox(Jobs, { ...quick, ...options });
  const cls = class extends wrapped {
    constructor(ctx: DurableObjectState, env: BoxEnv) {
      const ledger = counted(ctx.storage);
      super(ctx, env);
      this.ledger = ledger;
    }
  };
  return declared(backend, cls as unknown as Form);
}

const send = (stub: Stub, ...messages: [msg: unknown, key?: string][]) =>
  inside(stub, (_, outbox) => Promise.all(messages.map(([msg, key]) => outbox.send(msg, key ? { key } : {}))));
const receive = (stub: Stub, maxMessages = 10): Promise<OutboxReceived> =>
  inside(stub, (_, outbox) => outbox.receive("jobs", { maxMessages }));
const msgs = ({ messages }: OutboxReceived): unknown[] => messages.map(({ msg }) => msg);
const ids = ({ messages }: OutboxReceived): string[] => messages.map(({ id }) => id);
const settle = (stub: Stub, { lease }: OutboxReceived, outcomes: object) => inside(stub, (_, outbox) => outbox.settle(lease, outcomes));
const statsOf = (stub: Stub) => inside(stub, async (_, outbox) => (await outbox.stats()).destinations.jobs);

onEitherBackend("a destination that is pulled", (backend) => {
  it("hands out messages in order, to several consumers, each to one", async () => {
    const stub = jobsOf(backend);
    await send(stub, ...range(1, 50).map((n) => [n] as [number]));
    const [first, second] = await inside(stub, (_, outbox) =>
      Promise.all([outbox.receive("jobs", { maxMessages: 20 }), outbox.receive("jobs", { maxMessages: 20 })]),
    );
    expect([msgs(first), msgs(second)]).toEqual([range(1, 20), range(21, 40)]);
    expect(first.messages[0]).toMatchObject({ msg: 1, attempts: 1, sequence: 1 });
    expect(await statsOf(stub)).toMatchObject({ pending: 50, leased: 40, nextAttemptAt: null });
    await settle(stub, second, { acks: ids(second) });
    await settle(stub, first, { acks: ids(first) });
    expect(msgs(await receive(stub, 20))).toEqual(range(41, 50));
    expect(msgs(await receive(stub, 20))).toEqual([]);
    expect(await statsOf(stub)).toMatchObject({ pending: 10, leased: 10, dead: 0 });
  });

  it("sets no alarm, writes nothing to hand out, and one row to settle", async () => {
    const stub = jobsOf(backend);
    await send(stub, [1], [2], [3]);
    const before = await inside(stub, ({ ledger }) => ledger.rows);
    const received = await receive(stub);
    expect(await inside(stub, ({ ledger }) => ledger.rows)).toBe(before);
    await settle(stub, received, { acks: ids(received) });
    expect(await inside(stub, ({ ledger }) => [ledger.rows - before, ledger.alarms])).toEqual([1, 0]);
    expect(await inside(stub, (_, __, state) => native(state).getAlarm())).toBeNull();
  });

  it("hands out a message again when its lease has expired, with its attempts, and settles nothing of that lease any more", async () => {
    const stub = jobsOf(backend, { visibilityTimeoutSeconds: 60 });
    await send(stub, [1], [2]);
    const first = await receive(stub);
    expect(msgs(await receive(stub))).toEqual([]);
    forward(61);
    const isRefused = (outbox: OutboxManager) =>
      expect(outbox.settle(first.lease, { acks: ids(first) })).rejects.toMatchObject({ code: "lease_expired" });
    await inside(stub, (_, outbox) => isRefused(outbox));
    const second = await receive(stub);
    expect(second.messages.map(({ msg, attempts }) => [msg, attempts])).toEqual([
      [1, 2],
      [2, 2],
    ]);
    await inside(stub, async (_, outbox) => {
      await isRefused(outbox);
      await expect(outbox.extendLease(first.lease)).rejects.toMatchObject({ code: "lease_expired" });
    });
    await settle(stub, second, { acks: ids(second) });
    expect(await statsOf(stub)).toMatchObject({ pending: 0, delayed: 0, leased: 0, dead: 0 });
  });

  it("makes a dead letter of what has been received too often", async () => {
    const stub = jobsOf(backend, { visibilityTimeoutSeconds: 1, retry: { maxAttempts: 3 } });
    await send(stub, ["bad"], ["next"]);
    for (let n = 1; n <= 3; n++) {
      const received = await receive(stub, 1);
      expect(received.messages.map(({ msg, attempts }) => [msg, attempts])).toEqual([["bad", n]]);
      forward(2);
    }
    expect(msgs(await receive(stub, 1))).toEqual(["next"]);
    const dead = await inside(stub, (_, outbox) => outbox.list({ state: "dead" }));
    expect(dead).toMatchObject([{ msg: "bad", reason: "max_attempts", attempts: 3, destination: "jobs" }]);
    expect(await inside(stub, (_, outbox) => outbox.redrive())).toBe(1);
    // Replayed before newer ones.
    await send(stub, ["newer"]);
    forward(2);
    expect(msgs(await receive(stub, 3))).toEqual(["bad", "next", "newer"]);
  });

  it("keeps the order of each key across leases, retries and dead letters", async () => {
    const stub = jobsOf(backend);
    await send(stub, ["a1", "a"], ["a2", "a"], ["b1", "b"], ["c"], ["a3", "a"], ["b2", "b"]);
    const first = await receive(stub);
    expect(msgs(first)).toEqual(["a1", "b1", "c"]);
    expect(msgs(await receive(stub))).toEqual([]);
    const [a1, b1, c] = ids(first) as [string, string, string];
    await settle(stub, first, { retries: [{ id: a1, delaySeconds: 60, reason: "busy" }], rejects: [{ id: b1, reason: "no" }] });
    // What is left of the lease stays leased.
    expect(await statsOf(stub)).toMatchObject({ leased: 1, dead: 1 });
    const second = await receive(stub);
    expect(msgs(second)).toEqual(["b2"]);
    await settle(stub, first, { acks: [c] });
    await settle(stub, second, { acks: ids(second) });
    forward(61);
    for (const [msg, attempts] of [
      ["a1", 2],
      ["a2", 1],
      ["a3", 1],
    ] as const) {
      const next = await receive(stub);
      expect(next.messages.map((each) => [each.msg, each.attempts])).toEqual([[msg, attempts]]);
      await settle(stub, next, { acks: ids(next) });
    }
    expect(await statsOf(stub)).toMatchObject({ pending: 0, delayed: 0, blocked: 0, leased: 0, dead: 1 });
  });

  it("lets nothing that waits for a time go before an earlier message of its key", async () => {
    const stub = jobsOf(backend);
    await send(stub, ["a1", "a"], ["a2", "a"]);
    await inside(stub, (_, outbox) => outbox.send("a3", { key: "a", delaySeconds: 5 }));
    await send(stub, ["c"]);
    const first = await receive(stub);
    expect(msgs(first)).toEqual(["a1", "c"]);
    await settle(stub, first, { acks: ids(first) });
    forward(10);
    const second = await receive(stub);
    expect(msgs(second)).toEqual(["a2"]);
    await settle(stub, second, { acks: ids(second) });
    expect(msgs(await receive(stub))).toEqual(["a3"]);
  });

  it.each([
    ["many", 1100, 1],
    ["large", 45, 100_000],
  ])(
    "hands out what is behind %s messages that wait for a time, and settles it when all of those have come due before it",
    async (_, count, length) => {
      const stub = jobsOf(backend);
      const late = "x".repeat(length);
      const received = await inside(stub, async (_, outbox) => {
        await Promise.all(range(1, count).map(() => outbox.send(late, { delaySeconds: 30 })));
        await outbox.send("now");
        return await outbox.receive("jobs", { visibilityTimeoutSeconds: 600 });
      });
      expect(msgs(received)).toEqual(["now"]);
      expect(msgs(await receive(stub))).toEqual([]);
      forward(60);
      await settle(stub, received, { acks: ids(received) });
      expect(await statsOf(stub)).toMatchObject({ leased: 0, dead: 0 });
      expect(msgs(await receive(stub, 1))).toEqual([late]);
    },
  );

  it("keeps what is leased where it is, whatever becomes of others of its key", async () => {
    const stub = jobsOf(backend, { ordering: "batch" });
    await send(stub, ["a1", "a"], ["a2", "a"], ["b", "b"]);
    const first = await receive(stub, 2);
    const [a1, a2] = ids(first) as [string, string];
    await settle(stub, first, { retries: [{ id: a2, delaySeconds: 60 }] });
    const second = await receive(stub);
    expect(msgs(second)).toEqual(["b"]);
    await settle(stub, second, { acks: ids(second) });
    await settle(stub, first, { acks: [a1] });
    expect(msgs(await receive(stub))).toEqual([]);
    forward(61);
    expect(msgs(await receive(stub))).toEqual(["a2"]);
  });

  it("with full batches hands out several messages of a key to one consumer, and none to another", async () => {
    const stub = jobsOf(backend, { ordering: "batch" });
    await send(stub, ["a1", "a"], ["a2", "a"], ["a3", "a"], ["b1", "b"]);
    expect(msgs(await receive(stub, 2))).toEqual(["a1", "a2"]);
    expect(msgs(await receive(stub, 2))).toEqual(["b1"]);
  });

  it("forgets every lease with the object's life", async () => {
    const stub = jobsOf(backend);
    await send(stub, ["a1", "a"], ["a2", "a"]);
    const first = await receive(stub);
    await crash(stub);
    await inside(again(stub), (_, outbox) =>
      expect(outbox.settle(first.lease, { acks: ids(first) })).rejects.toMatchObject({ code: "lease_expired" }),
    );
    const second = await receive(again(stub));
    expect(msgs(second)).toEqual(["a1"]);
    await settle(again(stub), second, { acks: ids(second) });
    await crash(stub);
    expect(msgs(await receive(again(stub)))).toEqual(["a2"]);
  });

  it("is done with what a consumer skips, and tells why", async () => {
    const told: object[] = [];
    const stub = jobsOf(backend, {}, { onEvent: (event) => void told.push(event) });
    await send(stub, [1], [2]);
    const received = await receive(stub);
    const [first, second] = ids(received) as [string, string];
    await settle(stub, received, { acks: [{ id: first, reason: "old news" }, second] });
    expect(told.filter((event) => (event as { type: string }).type === "skipped")).toMatchObject([
      { destination: "jobs", id: first, error: "old news" },
    ]);
    expect(await statsOf(stub)).toMatchObject({ pending: 0, delayed: 0, leased: 0, dead: 0 });
    expect(msgs(await receive(stub))).toEqual([]);
  });

  it("extends a lease", async () => {
    const stub = jobsOf(backend, { visibilityTimeoutSeconds: 10 });
    await send(stub, [1]);
    const received = await receive(stub);
    forward(8);
    const until = await inside(stub, (_, outbox) => outbox.extendLease(received.lease));
    expect(until).toBeGreaterThanOrEqual(received.expiresAt + 7000);
    forward(8);
    await settle(stub, received, { acks: ids(received) });
    expect(await statsOf(stub)).toMatchObject({ pending: 0 });
  });

  it("takes only its types, drops what has expired, and hands out nothing while it is paused", async () => {
    const stub = jobsOf(backend, { types: ["job"], expiresInSeconds: 100 }, { retain: "all" });
    await send(stub, ...range(1, 60).map((n) => [{ type: n % 20 ? "other" : "job", n }] as [object]));
    await inside(stub, (_, outbox) => outbox.pause({ destination: "jobs" }));
    expect(msgs(await receive(stub))).toEqual([]);
    await inside(stub, (_, outbox) => outbox.resume({ destination: "jobs" }));
    expect(msgs(await receive(stub, 2))).toEqual([
      { type: "job", n: 20 },
      { type: "job", n: 40 },
    ]);
    forward(101);
    expect(msgs(await receive(stub))).toEqual([]);
    expect(await statsOf(stub)).toMatchObject({ dead: 3, pending: 0 });
  });

  it("lets nothing expire that is leased, and hands out no more of it meanwhile", async () => {
    const stub = jobsOf(backend, { visibilityTimeoutSeconds: 60 });
    await inside(stub, (_, outbox) => outbox.send(1, { expiresInSeconds: 10 }));
    const first = await receive(stub);
    forward(20);
    expect(msgs(await receive(stub))).toEqual([]);
    await settle(stub, first, { acks: ids(first) });
    expect(await statsOf(stub)).toMatchObject({ pending: 0, dead: 0, leased: 0 });
  });

  it("may have a name with colons, which another one has as its beginning", async () => {
    class Jobs extends DurableObject<BoxEnv> {
      destinations = { a: { pull: true as const }, "a:b": { pull: true as const } };
      get outbox() {
        return this.env.OUTBOX_MANAGER;
      }
    }
    const stub = declared(backend, withTransactionalOutbox(Jobs, quick) as unknown as Form);
    await inside(stub, async (_, outbox) => {
      await outbox.send(1);
      const { lease, messages } = await outbox.receive("a:b");
      await outbox.settle(lease, { acks: messages.map(({ id }) => id) });
      expect((await outbox.stats()).destinations).toMatchObject({ a: { pending: 1 }, "a:b": { pending: 0 } });
    });
  });

  it("does not cancel what is leased", async () => {
    const stub = jobsOf(backend);
    await send(stub, [1], [2]);
    const received = await receive(stub, 1);
    const [leased] = ids(received) as [string];
    const [, waiting] = await inside(stub, (_, outbox) => outbox.list());
    expect(await inside(stub, (_, outbox) => outbox.cancel(leased))).toBe(false);
    expect(await inside(stub, (_, outbox) => outbox.cancel(waiting?.id ?? ""))).toBe(true);
    await settle(stub, received, { acks: [leased] });
    expect(msgs(await receive(stub))).toEqual([]);
  });

  it("tells what is wrong with a call", async () => {
    const stub = jobsOf(backend);
    await send(stub, [1]);
    const { lease, messages } = await receive(stub);
    const id = messages[0]?.id ?? "";
    await inside(stub, async (_, outbox) => {
      await expect(outbox.receive("none")).rejects.toThrow("destination");
      await expect(outbox.receive("jobs", { maxMessages: 0 })).rejects.toThrow("maxMessages");
      await expect(outbox.receive("jobs", { visibilityTimeoutSeconds: 0 })).rejects.toThrow("visibilityTimeoutSeconds");
      await expect(outbox.settle("x", {})).rejects.toThrow("lease");
      await expect(outbox.settle(lease, { acks: ["x"] })).rejects.toThrow("of this lease");
      await expect(outbox.settle(lease, { acks: [id, id] })).rejects.toThrow("once");
      await expect(outbox.settle(lease, { acks: [id], rejects: [id] })).rejects.toThrow("once");
      await expect(outbox.settle(lease, { retries: [{ id, delaySeconds: -5 }] })).rejects.toThrow("delaySeconds");
      await expect(outbox.settle(lease, { done: [] } as object)).rejects.toThrow("unknown options");
      await outbox.settle(lease, { acks: [id] });
      await expect(outbox.settle(lease, { acks: [id] })).rejects.toThrow();
    });
    expect(await statsOf(stub)).toMatchObject({ pending: 0 });
  });

  it.each([
    [{ pull: false }, "pull"],
    [{ visibilityTimeoutSeconds: 0 }, "visibilityTimeoutSeconds"],
    [{ batchSize: 1 }, "unknown options"],
    [{ send: () => {} }, "unknown options"],
  ])("is not declared with %o", async (chosen, text) => {
    const stub = jobsOf(backend, chosen);
    await expect(send(stub, [1])).rejects.toThrow(text);
  });
});
