/** `byType`: which message goes where, and what one route's trouble means for the others. */
import { describe, expect, it } from "vitest";
import { byType, type Destination } from "../../../src/destinations/index.ts";
import { type OutboxDelivery, type OutboxManager, type OutboxMessage, withTransactionalOutbox } from "../../../src/index.ts";
import { all, messages, record } from "../../support/destinations/recorder.ts";
import { declared, eventually, inside, onEitherBackend } from "../support/harness.ts";

/** A route that keeps what it gets, and acks it. */
function route(
  then: (messages: OutboxMessage[], delivery: OutboxDelivery) => unknown = (given, { ack }) => {
    for (const { id } of given) ack(id);
  },
): { send: Destination; sequences: number[][] } {
  const sequences: number[][] = [];
  const send: Destination = async (given, delivery) => {
    sequences.push(given.map(({ sequence }) => sequence));
    await then(given, delivery);
  };
  return { send, sequences };
}

const broken = (text = "the route is down", more: object = {}) =>
  route(() => {
    throw Object.assign(new Error(text), more);
  });

/** Messages of these types, in order. */
const typed = (...types: unknown[]) => messages(types.length, (n) => ({ msg: { type: types[n - 1] } }));

describe("byType", () => {
  it("sends each message by its type, in order, and what has no route of its own to default", async () => {
    const [a, b, other] = [route(), route(), route()];
    const send = byType({ a: a.send, b: b.send, default: other.send });
    const batch = [...typed("a", "b", "a", "c", "b", 7, undefined), ...messages(9).slice(7)];
    expect(await record(send, batch)).toEqual({ outcomes: all("ack", 1, 9) });
    expect([a.sequences, b.sequences, other.sequences]).toEqual([[[1, 3]], [[2, 5]], [[4, 6, 7, 8, 9]]]);
  });

  it("leaves the ordering strict, because it sets messages aside", () => {
    expect(byType({ default: route().send }).ordering).toBeUndefined();
  });

  it.each([null, "a", 7, ["a"]])("takes %j for a message without type", async (msg) => {
    const [a, other] = [route(), route()];
    await record(
      byType({ a: a.send, default: other.send }),
      messages(1, () => ({ msg })),
    );
    expect([a.sequences, other.sequences]).toEqual([[], [[1]]]);
  });

  it("sends types that share a destination there in one call, in order", async () => {
    const one = route();
    await record(byType({ a: one.send, b: one.send }), typed("a", "b", "a"));
    expect(one.sequences).toEqual([[1, 2, 3]]);
  });

  it("rejects a type without a route alone, by its name", async () => {
    const a = route();
    const { outcomes, error } = await record(byType({ a: a.send }), typed("a", "b", undefined, "x".repeat(1000), "a"));
    expect(error).toBeUndefined();
    expect(outcomes).toEqual({
      1: "ack",
      2: 'reject No route for type "b".',
      3: "reject No route for a message without a type.",
      4: `reject No route for type "${"x".repeat(60)}".`,
      5: "ack",
    });
  });

  it("knows types such as __proto__ and constructor as names like any other", async () => {
    const odd = ["__proto__", "constructor", "toString", "hasOwnProperty"];
    const { outcomes } = await record(byType({ a: route().send }), typed(...odd));
    expect(outcomes).toEqual(Object.fromEntries(odd.map((type, i) => [i + 1, `reject No route for type "${type}".`])));
    const own = route();
    await record(byType(Object.fromEntries(odd.map((type) => [type, own.send]))), typed(...odd));
    expect(own.sequences).toEqual([[1, 2, 3, 4]]);
  });

  it("keeps to the routes that it was given, whatever becomes of the object", async () => {
    const a = route();
    const routes: Record<string, Destination> = { a: a.send };
    const send = byType(routes);
    delete routes.a;
    expect((await record(send, typed("a"))).outcomes).toEqual({ 1: "ack" });
  });

  it("passes the outcomes of a route through", async () => {
    const mixed = route((given, delivery) => {
      delivery.retry(given[0]?.id ?? "", { delaySeconds: 9 });
      delivery.reject(given[1]?.id ?? "", "no");
    });
    const { outcomes } = await record(byType({ a: mixed.send, b: route().send }), typed("a", "b", "a", "a"));
    // The third is neither: returning delivers it, as from any sendMessages.
    expect(outcomes).toEqual({ 1: "retry 9", 2: "ack", 3: "reject no" });
  });

  it("retries what is unsettled of a route that threw, when another one came through", async () => {
    const half = route((given, delivery) => {
      delivery.ack(given[0]?.id ?? "");
      throw new Error("in the middle");
    });
    const { outcomes, error } = await record(byType({ a: half.send, b: route().send }), typed("a", "b", "a", "a"));
    expect([outcomes, error]).toEqual([{ 1: "ack", 2: "ack", 3: "retry", 4: "retry" }, undefined]);
  });

  it("keeps a route that asks to pause from pausing the others: its messages wait for an hour, uncounted", async () => {
    const gone = broken("HTTP 410", { pause: true });
    const [down, well] = [broken(), route()];
    const send = byType({ gone: gone.send, down: down.send, well: well.send });
    expect(await record(send, typed("gone", "well"))).toEqual({ outcomes: { 1: "wait", 2: "ack" } });
    expect(await record(send, typed("gone", "gone"))).toEqual({ outcomes: { 1: "wait", 2: "wait" } });
    const { outcomes, error } = await record(send, typed("gone", "down"));
    expect([outcomes, error?.message]).toEqual([{ 1: "wait" }, "the route is down"]);
  });

  it("throws the first error when all routes of the call threw, and sets nothing aside", async () => {
    const routes = byType({ a: broken("first").send, b: broken("second").send, c: route().send });
    const { outcomes, error } = await record(routes, typed("a", "b", "a"));
    expect([outcomes, error?.message]).toEqual([{}, "first"]);
    expect((await record(routes, typed("b"))).error?.message).toBe("second");
  });

  it("passes retryAfterSeconds on: with the error, or as a delay that is never shorter and grows with the attempts", async () => {
    const patient = broken("busy", { retryAfterSeconds: 60 }).send;
    expect((await record(byType({ a: patient }), typed("a"))).error).toMatchObject({ message: "busy", retryAfterSeconds: 60 });
    const attempts = [1, 5, 6, 7, 11, 12, 13, 100];
    const batch = messages(attempts.length + 1, (n) => ({
      msg: { type: n > attempts.length ? "b" : "a" },
      attempts: attempts[n - 1] ?? 1,
    }));
    const { outcomes } = await record(byType({ a: patient, b: route().send }), batch);
    expect(Object.values(outcomes)).toEqual([...[60, 60, 64, 128, 2048, 3600, 3600, 3600].map((delay) => `retry ${delay}`), "ack"]);
  });

  it.each([
    [86_401, "retry 86400"],
    [Number.POSITIVE_INFINITY, "retry 86400"],
    [0, "retry"],
    [-1, "retry"],
    [Number.NaN, "retry"],
    ["soon", "retry"],
  ])("takes a retryAfterSeconds of %s for %s", async (retryAfterSeconds, outcome) => {
    const routes = byType({ a: broken("busy", { retryAfterSeconds }).send, b: route().send });
    expect((await record(routes, typed("a", "b"))).outcomes).toEqual({ 1: outcome, 2: "ack" });
  });

  it("has all routes under way at once", async () => {
    let resolve = (): void => {};
    const begun = new Promise<void>((done) => {
      resolve = done;
    });
    const slow = route(() => begun);
    const quick = route(() => resolve());
    await record(byType({ a: slow.send, b: quick.send }), typed("a", "b"));
    expect(quick.sequences).toEqual([[2]]);
  });

  it("calls its routes with its own this", async () => {
    const seen: unknown[] = [];
    const send = byType({
      async default(this: unknown) {
        seen.push(this);
      },
    });
    const instance = {};
    await record((given, delivery) => send.call(instance, given, delivery), typed("a"));
    expect(seen).toEqual([instance]);
  });

  it.each([
    ["routes", () => byType(undefined as never), "Expected `routes` to be an object, got undefined."],
    ["route", () => byType({ a: 1 } as never), "Expected `routes.a` to be a function, got 1."],
    ["default", () => byType({ default: undefined } as never), "Expected `routes.default` to be a function, got undefined."],
  ])("refuses a wrong %s at once", (_, make, text) => {
    expect(make).toThrow(TypeError);
    expect(make).toThrow(text);
  });
});

type Parity = { type: "even" | "odd"; n: number };

onEitherBackend("a wrapped object that routes by type", (backend) => {
  it.concurrent("keeps the order of a key across types, while one route is down for a time", async () => {
    const taken: number[] = [];
    let failures = 3;
    const take: Destination<{ n: number }> = async (given) => void taken.push(...given.map(({ msg }) => msg.n));
    const shaky: Destination<{ n: number }> = async (given, delivery) => {
      if (failures-- > 0) throw new Error("the route is down");
      await take(given, delivery);
    };
    const stub = declared(
      backend,
      withTransactionalOutbox(
        class {
          readonly outbox: OutboxManager<Parity>;
          sendMessages: Destination<Parity> = byType({ even: take, odd: shaky });
          constructor(_: DurableObjectState, env: { OUTBOX_MANAGER: OutboxManager<Parity> }) {
            this.outbox = env.OUTBOX_MANAGER;
          }
        },
        { retry: { minDelaySeconds: 0.05, maxDelaySeconds: 0.1 } },
      ),
    );
    await inside(stub, (_, outbox, state) =>
      state.blockConcurrencyWhile(async () => {
        // Keys 0 to 2 have messages of both types each.
        for (let n = 0; n < 18; n++) await outbox.send({ type: n % 2 ? "odd" : "even", n }, { key: `key ${n % 3}` });
      }),
    );
    await eventually(() => taken.length >= 18);
    for (const key of [0, 1, 2]) {
      const ofKey = taken.filter((n) => n % 3 === key);
      expect(ofKey).toEqual([...ofKey].sort((a, b) => a - b));
    }
    expect(taken).toHaveLength(18);
    expect(failures).toBeLessThan(0);
  });
});
