/** `consumeQueue`: each message goes to the inbox of its object, and is acked or retried by itself. Batches of the test's own, objects over RPC. */
import { createExecutionContext, createMessageBatch, getQueueResult } from "cloudflare:test";
import { afterEach, describe, expect, it, vi } from "vitest";
import { type ConsumeFailure, type ConsumeOptions, consumeQueue, type OutboxEnvelope } from "../../../src/inbox/index.ts";
import { env } from "../support/harness.ts";
import { foreign, numbered, once } from "../support/inbox.ts";
import type { RpcInbox } from "../support/inbox-worker.ts";

type Namespace = DurableObjectNamespace<RpcInbox>;
const { INBOX_SQLITE, INBOX_KV } = env as unknown as { INBOX_SQLITE: Namespace; INBOX_KV: Namespace };

/** Numbers the batches, so that each test has objects of its own. */
let tests = 0;
/** By how much the clock of a test is ahead. */
let hours = 0;

const byKey =
  (namespace: Namespace, prefix = `test ${++tests} `): ConsumeOptions<unknown>["route"] =>
  ({ key = "none" }) =>
    namespace.getByName(prefix + key);

/** What the platform was told of a batch. */
interface Result {
  readonly explicitAcks: string[];
  readonly retryMessages: { readonly msgId: string }[];
  readonly retryBatch: { readonly retry: boolean };
  readonly ackAll: boolean;
}

/** Consumes these bodies, and gives the numbers of those acked and of those retried, from 0. */
async function consume(
  bodies: unknown[],
  options: ConsumeOptions<unknown>,
  attempts = 1,
): Promise<{ acked: number[]; retried: number[]; all: boolean }> {
  const batch = createMessageBatch(
    "queue",
    bodies.map((body, n) => ({ id: String(n), timestamp: new Date(), attempts, body })),
  );
  await consumeQueue(batch, env, options);
  const { explicitAcks, retryMessages, retryBatch, ackAll } = (await getQueueResult(batch, createExecutionContext())) as Result;
  return {
    acked: explicitAcks.map(Number).sort((a, b) => a - b),
    retried: retryMessages.map(({ msgId }) => Number(msgId)).sort((a, b) => a - b),
    all: retryBatch.retry || ackAll,
  };
}

const keyed = (key: string, sequence: number, msg: unknown = {}): OutboxEnvelope => numbered(sequence, `s ${key}`, { key, msg });

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

describe.each([
  ["sqlite", INBOX_SQLITE],
  ["kv", INBOX_KV],
] as const)("consumeQueue (%s)", (_, namespace) => {
  it("hands each message to its object, once, in order, and acks it", async () => {
    const route = byKey(namespace);
    const bodies = [keyed("a", 1), keyed("b", 1), keyed("a", 2), keyed("a", 1), keyed("b", 2), foreign("x", { key: "b" })];
    expect(await consume(bodies, { route })).toEqual({ acked: [0, 1, 2, 3, 4, 5], retried: [], all: false });
    // The queue delivers all of it again.
    expect(await consume(bodies, { route })).toEqual({ acked: [0, 1, 2, 3, 4, 5], retried: [], all: false });
    const [a, b] = [route(keyed("a", 1), env), route(keyed("b", 1), env)] as unknown as RpcInbox[];
    expect(await a?.turns()).toEqual(["s a-1", "s a-2"]);
    expect(await b?.turns()).toEqual(["s b-1", "s b-2", "x"]);
    expect(await b?.effects()).toEqual(once(["s b-1", "s b-2", "x"]));
  });

  it("retries what fails, what is no envelope and what has no route, and acks all others", async () => {
    const failures: { id: string; error: unknown }[] = [];
    const keys = byKey(namespace);
    const route: typeof keys = (envelope, given) => {
      if (envelope.id === "s a-9") throw new Error("no route");
      return envelope.id === "s a-10" ? (undefined as never) : keys(envelope, given);
    };
    const bodies = [
      keyed("a", 1),
      "no envelope",
      keyed("b", 1, { fails: -1 }),
      null,
      keyed("b", 2),
      keyed("a", 9),
      keyed("a", 10),
      keyed("a", 2),
      keyed("c", 1),
    ];
    const onFailure = (failure: (typeof failures)[number]) => {
      failures.push(failure);
      throw new Error("a bad listener");
    };
    expect(await consume(bodies, { route, onFailure })).toEqual({ acked: [0, 7, 8], retried: [1, 2, 3, 4, 5, 6], all: false });
    expect(failures.map(({ id }) => id)).toEqual(["1", "3", "s a-9", "s a-10", "s b-1", "s b-2"]);
    expect(String(failures[4]?.error)).toContain("It refuses s b-1.");
  });

  it("acks the messages of all other objects when one is down", async () => {
    const route = byKey(namespace);
    const bodies = [keyed("a", 1), keyed("down", 1, { dies: 1 }), keyed("b", 1), keyed("down", 2), keyed("a", 2)];
    expect(await consume(bodies, { route })).toEqual({ acked: [0, 2, 4], retried: [1, 3], all: false });
    expect(await consume(bodies, { route })).toEqual({ acked: [0, 1, 2, 3, 4], retried: [], all: false });
    const down = route(keyed("down", 1), env) as unknown as RpcInbox;
    expect(await down.effects()).toEqual(once(["s down-1", "s down-2"]));
  });

  it("goes on without an object that does not answer, and retries its messages", async () => {
    vi.useFakeTimers();
    const failures: ConsumeFailure[] = [];
    const hung = { id: namespace.newUniqueId(), receiveMessages: () => new Promise<never>(() => {}) };
    const well = {
      id: namespace.newUniqueId(),
      receiveMessages: async (all: OutboxEnvelope[]) => all.map(({ id }) => ({ id, status: "processed" })),
    };
    const route = (({ key }: OutboxEnvelope) => (key === "hung" ? hung : well)) as unknown as ConsumeOptions<unknown>["route"];
    let result: unknown;
    void consume([keyed("hung", 1), keyed("well", 1)], { route, onFailure: (failure) => void failures.push(failure) }).then((each) => {
      result = each;
    });
    await vi.advanceTimersByTimeAsync(299_000);
    expect(result).toBeUndefined();
    await vi.advanceTimersByTimeAsync(2000);
    expect(result).toMatchObject({ acked: [1], retried: [0] });
    expect(failures).toMatchObject([{ id: "s hung-1", error: "The object has not answered within 300 s." }]);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("takes more messages for one object than go in one call", async () => {
    const route = byKey(namespace);
    const bodies = Array.from({ length: 250 }, (_, n) => keyed("a", n + 1));
    expect((await consume(bodies, { route })).acked).toHaveLength(250);
    expect(await (route(keyed("a", 1), env) as unknown as RpcInbox).turns()).toEqual(bodies.map(({ id }) => id));
  });
});

describe("consumeQueue", () => {
  const stub = (name: string, receiveMessages: unknown) => ({ id: INBOX_SQLITE.idFromName(name), receiveMessages }) as never;
  const two = [keyed("odd", 1), keyed("fine", 1)];

  it.each([
    ["throws at once", stub("odd", () => expect.fail("It throws."))],
    ["has no receiveMessages", stub("odd", undefined)],
    ["gives no list", stub("odd", () => ({}))],
    ["gives another list", stub("odd", () => [{ id: "another", status: "processed" }])],
    ["gives too short a list", stub("odd", () => [])],
    ["has no id", { receiveMessages: () => [{ id: "s odd-1", status: "processed" }] } as never],
    ["is a promise", Promise.resolve() as never],
  ])("retries the messages of an object whose stub %s, and acks all others", async (_, odd) => {
    const fine = stub("fine", (list: OutboxEnvelope[]) => list.map(({ id }) => ({ id, status: "waiting" })));
    const route = ({ key }: OutboxEnvelope) => (key === "odd" ? odd : fine);
    expect(await consume(two, { route })).toEqual({ acked: [1], retried: [0], all: false });
  });

  it.each([
    [
      "a route that returns nothing",
      () => undefined as never,
      "Expected `options.route()` to be a stub of the object for this message, got undefined",
    ],
    ["a route that throws", () => expect.fail("No table has this number."), "No table has this number"],
    [
      "a target without an inbox",
      () => env.BOX_SQLITE.getByName("no inbox") as never,
      'The object has no inbox: wrap its class with withTransactionalInbox(). The RPC receiver does not implement "receiveMessages"',
    ],
    ["a handler that throws", byKey(INBOX_SQLITE), "It refuses odd-1"],
    ["a target that returns no list", () => stub("odd", () => ({})), "receiveMessages() returned no list"],
    ["a target that says nothing of it", () => stub("odd", () => []), "receiveMessages() returned no outcome for this message"],
  ] as const)("says which message it retries, and why, the first time: %s", async (_, route, why) => {
    // The limit for lines is far away in time.
    hours += 2;
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + hours * 3_600_000 });
    const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
    const failures: ConsumeFailure[] = [];
    const envelope = { ...numbered(1, "odd"), key: "k", msg: { type: "booked", fails: -1 } };
    const options = { route, onFailure: (failure: ConsumeFailure) => void failures.push(failure) };
    expect(await consume([envelope], options)).toEqual({ acked: [], retried: [0], all: false });
    const about = 'queue="queue" id="odd-1" key="k" type="booked" attempts=1';
    const lines = (): string[] => warn.mock.calls.map(([line]) => line).filter((line) => line.includes(about));
    const line = `[do-transactional-outbox] consumeQueue() retries a message: ${why}. ${about}. The queue delivers it again.`;
    expect(lines()).toEqual([expect.stringContaining(line)]);
    expect(failures).toMatchObject([{ queue: "queue", id: "odd-1", key: "k", messageType: "booked", attempts: 1 }]);
    expect(failures[0]?.error).toContain(why.split(": ").at(-1));
    await consume([envelope], options, 2);
    expect(lines()).toHaveLength(1);
    expect(failures).toHaveLength(2);
  });

  it("asks the queue for the delay that it is given", async () => {
    const asked: unknown[] = [];
    const message = { id: "0", body: "no envelope", retry: (options: unknown) => void asked.push(options) };
    const batch = { messages: [message] } as unknown as MessageBatch;
    await consumeQueue(batch, env, { route: () => expect.fail("There is none."), retryDelaySeconds: 12 });
    await consumeQueue(batch, env, { route: () => expect.fail("There is none.") });
    expect(asked).toEqual([{ delaySeconds: 12 }, undefined]);
  });

  it.each([
    ["route", {}],
    ["retryDelaySeconds", { route: () => expect.fail(), retryDelaySeconds: -1 }],
    ["retryDelaySeconds", { route: () => expect.fail(), retryDelaySeconds: 43_201 }],
  ])("names a wrong option: %s", async (name, options) => {
    await expect(consumeQueue(createMessageBatch("queue", []), env, options as never)).rejects.toThrow(name);
  });
});
