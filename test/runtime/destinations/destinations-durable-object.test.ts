/** `toDurableObject`: how it groups, what it does with each answer, and what a call that throws leads to. */
import { describe, expect, it } from "vitest";
import { envelopeOf, type OutboxEnvelope } from "../../../src/api/envelope.ts";
import { type Destination, type InboxNamespace, toDurableObject } from "../../../src/destinations/index.ts";
import { type OutboxManager, type OutboxMessage, withTransactionalOutbox } from "../../../src/index.ts";
import { all, messages, record } from "../../support/destinations/recorder.ts";
import { declared, env, eventually, gate, inside, onEitherBackend } from "../support/harness.ts";

type Answer = (envelopes: OutboxEnvelope[], call: number) => unknown;

interface Call {
  readonly target: string;
  readonly envelopes: OutboxEnvelope[];
  /** Which stub was called: a stub is counted when it is made. */
  readonly stub: number;
}

const processed: Answer = (envelopes) => envelopes.map(({ id }) => ({ id, status: "processed" }));
const fails =
  (properties: object = {}): Answer =>
  () => {
    throw Object.assign(new Error("the target is broken"), properties);
  };

/** Inboxes by name. `calls` is in the order in which they begin. */
function inboxes(answers: Record<string, Answer> = {}): { namespace: InboxNamespace; calls: Call[] } {
  const calls: Call[] = [];
  const counts = new Map<string, number>();
  let stubs = 0;
  const get = (id: DurableObjectId) => {
    if (!id.name) throw new TypeError("parameter 1 is not of type 'DurableObjectId'");
    const target = id.name;
    const stub = ++stubs;
    return {
      async receiveMessages(envelopes: OutboxEnvelope[]) {
        const call = (counts.get(target) ?? 0) + 1;
        counts.set(target, call);
        calls.push({ target, envelopes, stub });
        return (answers[target] ?? processed)(envelopes, call);
      },
    };
  };
  return { namespace: { idFromName: (name) => env.OTHER_SQLITE.idFromName(name), get }, calls };
}

/** Messages for these targets, in order. */
const to = (...targets: unknown[]) => messages(targets.length, (n) => ({ msg: targets[n - 1] }));
const byMsg = ({ msg }: OutboxMessage) => msg as string;

describe("toDurableObject", () => {
  it("calls each target once with the envelopes of its messages, in order", async () => {
    const { namespace, calls } = inboxes();
    const batch = to("a", "b", "a", "c", "b", "a");
    expect(await record(toDurableObject(namespace, byMsg), batch)).toEqual({ outcomes: all("ack", 1, 6) });
    const sequences = calls.map(({ target, envelopes }) => [target, envelopes.map(({ sequence }) => sequence)]);
    expect(sequences).toEqual([
      ["a", [1, 3, 6]],
      ["b", [2, 5]],
      ["c", [4]],
    ]);
    expect(calls[2]?.envelopes).toEqual(batch.slice(3, 4).map(envelopeOf));
  });

  it("leaves the ordering strict, because it sets messages aside", () => {
    expect(toDurableObject(inboxes().namespace, byMsg).ordering).toBeUndefined();
  });

  it("takes an id for a target, as well as a name, and knows them as the same", async () => {
    const { namespace, calls } = inboxes();
    const route = ({ sequence }: OutboxMessage) => (sequence % 2 ? "a" : env.OTHER_SQLITE.idFromName("a"));
    expect((await record(toDurableObject(namespace, route), messages(4))).outcomes).toEqual(all("ack", 1, 4));
    expect(calls.map(({ envelopes }) => envelopes.length)).toEqual([4]);
  });

  it.each([
    ["processed", "ack"],
    ["duplicate", "ack"],
    ["waiting", "ack"],
    ["failed", "retry"],
    ["unheard of", "retry"],
    [undefined, "retry"],
  ])("takes the status %s for %s", async (status, outcome) => {
    const { namespace } = inboxes({ a: (envelopes) => envelopes.map(({ id }) => ({ id, status, error: "why" })) });
    expect(await record(toDurableObject(namespace, byMsg), to("a", "a"))).toEqual({ outcomes: all(outcome, 1, 2) });
  });

  it("retries what the answer does not mention, and overlooks what it mentions besides", async () => {
    const answer: Answer = ([first]) => [null, { id: "another", status: "processed" }, { id: first?.id, status: "processed" }];
    const { namespace } = inboxes({ a: answer });
    expect(await record(toDurableObject(namespace, byMsg), to("a", "a"))).toEqual({ outcomes: { 1: "ack", 2: "retry" } });
  });

  it("retries the messages of a target whose call throws, and no others", async () => {
    const { namespace, calls } = inboxes({ bad: fails() });
    const { outcomes, error } = await record(toDurableObject(namespace, byMsg), to("bad", "a", "bad", "b"));
    expect([outcomes, error]).toEqual([{ 1: "wait", 2: "ack", 3: "wait", 4: "ack" }, undefined]);
    expect(calls.filter(({ target }) => target === "bad")).toHaveLength(1);
  });

  it("throws the first error when the calls of all targets throw, and sets nothing aside", async () => {
    const { namespace } = inboxes({ a: fails(), b: fails() });
    const { outcomes, error } = await record(toDurableObject(namespace, byMsg), to("a", "b"));
    expect([outcomes, error?.message]).toEqual([{}, "the target is broken"]);
  });

  it("retries, and does not throw, when every target has answered that all failed", async () => {
    const { namespace } = inboxes({ a: (envelopes) => envelopes.map(({ id }) => ({ id, status: "failed" })) });
    expect(await record(toDurableObject(namespace, byMsg), to("a", "a"))).toEqual({ outcomes: all("retry", 1, 2) });
  });

  it("takes an answer that is no list for a call that threw", async () => {
    const { namespace } = inboxes({ a: () => "fine" });
    const { outcomes, error } = await record(toDurableObject(namespace, byMsg), to("a"));
    expect([outcomes, error?.message]).toEqual([{}, "receiveMessages() returned no list."]);
  });

  it("tries a retryable error once more at once, with a new stub", async () => {
    const { namespace, calls } = inboxes({
      a: (envelopes, call) => (call === 1 ? fails({ retryable: true })([], 0) : processed(envelopes, call)),
    });
    expect(await record(toDurableObject(namespace, byMsg), to("a"))).toEqual({ outcomes: { 1: "ack" } });
    expect(calls).toHaveLength(2);
    expect(calls[0]?.stub).not.toBe(calls[1]?.stub);
  });

  it.each([
    ["twice and no more when it stays retryable", { retryable: true }, 2],
    ["once when it is retryable and overloaded", { retryable: true, overloaded: true }, 1],
    ["once when it is overloaded", { overloaded: true }, 1],
    ["once when it only looks retryable", { retryable: "true" }, 1],
    ["once when it is not retryable", {}, 1],
  ])("calls a target %s", async (_, properties, times) => {
    const { namespace, calls } = inboxes({ a: fails(properties) });
    const { outcomes } = await record(toDurableObject(namespace, byMsg), to("a", "b"));
    expect(outcomes).toEqual({ 1: "wait", 2: "ack" });
    expect(calls.filter(({ target }) => target === "a")).toHaveLength(times);
  });

  it.each([
    [99, [99]],
    [100, [100]],
    [101, [100, 1]],
  ])("gives a target %i messages in calls of %j", async (count, expected) => {
    const { namespace, calls } = inboxes();
    await record(
      toDurableObject(namespace, () => "a"),
      messages(count),
    );
    expect(calls.map(({ envelopes }) => envelopes.length)).toEqual(expected);
  });

  it("gives a target at most 16 MiB in a call", async () => {
    const { namespace, calls } = inboxes();
    const batch = messages(20, () => ({ msg: "x".repeat(2 * 1024 * 1024 - 4096) }));
    const { outcomes } = await record(
      toDurableObject(namespace, () => "a"),
      batch,
    );
    expect(outcomes).toEqual(all("ack", 1, 20));
    expect(calls.map(({ envelopes }) => envelopes.length)).toEqual([8, 8, 4]);
  });

  it("keeps what a target has taken before its next call threw, and makes no further call to it", async () => {
    const { namespace, calls } = inboxes({ a: (envelopes, call) => (call === 2 ? fails()([], 0) : processed(envelopes, call)) });
    const batch = messages(251, (n) => ({ msg: n === 251 ? "b" : "a" }));
    const { outcomes } = await record(toDurableObject(namespace, byMsg), batch);
    expect(outcomes).toEqual({ ...all("ack", 1, 100), ...all("wait", 101, 250), 251: "ack" });
    expect(calls.filter(({ target }) => target === "a")).toHaveLength(2);
    const alone = await record(
      toDurableObject(inboxes({ a: (e, call) => (call === 2 ? fails()([], 0) : processed(e, call)) }).namespace, byMsg),
      batch.slice(0, 250),
    );
    expect([alone.outcomes, alone.error?.message]).toEqual([all("ack", 1, 100), "the target is broken"]);
  });

  it.each([
    [undefined, 6],
    [1, 1],
    [3, 3],
    [100, 10],
  ])("with concurrency %s has %i of ten targets under way", async (concurrency, most) => {
    const { open, passed } = gate();
    let underWay = 0;
    let highest = 0;
    const held: Answer = async (envelopes, call) => {
      highest = Math.max(highest, ++underWay);
      await passed();
      underWay--;
      return processed(envelopes, call);
    };
    const names = Array.from("abcdefghij");
    const { namespace, calls } = inboxes(Object.fromEntries(names.map((name) => [name, held])));
    const done = record(toDurableObject(namespace, byMsg, concurrency === undefined ? {} : { concurrency }), to(...names));
    await eventually(() => calls.length === most);
    open();
    expect((await done).outcomes).toEqual(all("ack", 1, 10));
    expect(highest).toBe(most);
    expect(calls.map(({ target }) => target)).toEqual(names);
  });

  it.each([
    ["nothing", undefined, "No target: Expected `route()` to be a name or an id, got undefined."],
    ["an empty name", "", 'No target: Expected `route()` to be a name or an id, got "".'],
    ["a number", 7, "No target: Expected `route()` to be a name or an id, got 7."],
    ["what is no id", {}, "No target: parameter 1 is not of type 'DurableObjectId'"],
  ])("rejects a message alone for which route gives %s", async (_, target, reason) => {
    const { namespace } = inboxes();
    const { outcomes, error } = await record(toDurableObject(namespace, byMsg), to("a", target, "b"));
    expect([outcomes, error]).toEqual([{ 1: "ack", 2: `reject ${reason}`, 3: "ack" }, undefined]);
  });

  it("rejects a message alone for which route throws, also when the only target is down", async () => {
    const { namespace } = inboxes({ a: fails() });
    const route = ({ sequence }: OutboxMessage) => {
      if (sequence === 1) throw new Error("no such customer");
      return "a";
    };
    const { outcomes, error } = await record(toDurableObject(namespace, route), messages(2));
    expect([outcomes, error?.message]).toEqual([{ 1: "reject No target: no such customer" }, "the target is broken"]);
    expect(await record(toDurableObject(namespace, route), messages(1))).toEqual({ outcomes: { 1: "reject No target: no such customer" } });
  });

  it("calls no further target after the timeout, and what is under way then is not sent again", async () => {
    const controller = new AbortController();
    const { namespace, calls } = inboxes({
      a: (envelopes, call) => {
        controller.abort(new Error("too long"));
        return processed(envelopes, call);
      },
    });
    const send = toDurableObject(namespace, byMsg, { concurrency: 1 });
    const { outcomes, error } = await record(send, to("a", "b"), controller.signal);
    expect([outcomes, error?.message, calls.length]).toEqual([{}, "too long", 1]);
    expect(await record(send, to("a", "b"))).toEqual({ outcomes: { 1: "ack", 2: "ack" } });
    expect(calls.map(({ target }) => target)).toEqual(["a", "b"]);
  });

  it.each([
    [
      "namespace",
      () => toDurableObject(undefined as never, byMsg),
      "Expected `namespace` to be a Durable Object namespace's binding, got undefined.",
    ],
    ["route", () => toDurableObject(inboxes().namespace, "a" as never), 'Expected `route` to be a function, got "a".'],
    [
      "options",
      () => toDurableObject(inboxes().namespace, byMsg, { limit: 1 } as never),
      'Expected `options` to be free of unknown options, got "limit". Known options: concurrency, timeoutSeconds.',
    ],
    ...[0, 101, 1.5, "6"].map((concurrency) => [
      "options.concurrency",
      () => toDurableObject(inboxes().namespace, byMsg, { concurrency } as never),
      `Expected \`options.concurrency\` to be a whole number from 1 to 100, got ${JSON.stringify(concurrency)}.`,
    ]),
  ] as [string, () => unknown, string][])("refuses a wrong %s at once", (_, make, text) => {
    expect(make).toThrow(TypeError);
    expect(make).toThrow(text);
  });
});

onEitherBackend("a wrapped object that sends to other objects", (backend) => {
  it.concurrent("keeps the order of each key while a target fails message by message, and delivers each once", async () => {
    const tries = new Map<string, number>();
    const taken: number[] = [];
    // Every third message fails twice.
    const answer: Answer = (envelopes) =>
      envelopes.map(({ id, msg }) => {
        const { n } = msg as { n: number };
        const count = (tries.get(id) ?? 0) + 1;
        tries.set(id, count);
        if (n % 3 === 0 && count < 3) return { id, status: "failed", error: "not yet" };
        taken.push(n);
        return { id, status: "processed" };
      });
    const { namespace } = inboxes({ a: answer, b: answer });
    const send = toDurableObject<{ n: number }>(namespace, ({ key }) => (key === "key 0" ? "a" : "b"));
    const stub = declared(
      backend,
      withTransactionalOutbox(
        class {
          readonly outbox: OutboxManager<{ n: number }>;
          sendMessages: Destination<{ n: number }> = send;
          constructor(_: DurableObjectState, env: { OUTBOX_MANAGER: OutboxManager<{ n: number }> }) {
            this.outbox = env.OUTBOX_MANAGER;
          }
        },
        { retry: { minDelaySeconds: 0.05, maxDelaySeconds: 0.1 } },
      ),
    );
    await inside(stub, async (_, outbox) => {
      for (let n = 0; n < 24; n++) await outbox.send({ n }, { key: `key ${n % 4}` });
    });
    await eventually(() => taken.length >= 24);
    for (const key of [0, 1, 2, 3]) {
      const ofKey = taken.filter((n) => n % 4 === key);
      expect(ofKey).toEqual([...ofKey].sort((a, b) => a - b));
    }
    expect(taken).toHaveLength(24);
  });

  it.concurrent("makes no dead letter of anything while every target is down, at one attempt", async () => {
    let down = true;
    const taken: unknown[] = [];
    const answer: Answer = (envelopes, call) => {
      if (down) throw new Error("the target is broken");
      taken.push(...envelopes.map(({ msg }) => msg));
      return processed(envelopes, call);
    };
    const { namespace, calls } = inboxes({ a: answer });
    const stub = declared(
      backend,
      withTransactionalOutbox(
        class {
          readonly outbox: OutboxManager;
          constructor(_: DurableObjectState, env: { OUTBOX_MANAGER: OutboxManager }) {
            this.outbox = env.OUTBOX_MANAGER;
          }
          sendMessages = toDurableObject(namespace, () => "a");
        },
        { retry: { minDelaySeconds: 0.05, maxDelaySeconds: 0.1, maxAttempts: 1 } },
      ),
    );
    await inside(stub, async (_, outbox) => {
      for (const msg of [1, 2, 3]) await outbox.send(msg);
    });
    await eventually(() => calls.length >= 4);
    down = false;
    await eventually(() => taken.length >= 3);
    expect(taken).toEqual([1, 2, 3]);
    expect(await inside(stub, (_, outbox) => outbox.list({ state: "dead" }))).toEqual([]);
  });
});
