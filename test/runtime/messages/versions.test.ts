/** Versions of messages: what is stored, what handlers get of it, and what waits for a deployment that knows it. */
import { expect, it } from "vitest";
import type { MessageSchemas, OutboxMessage } from "../../../src/index.ts";
import { accepting, schemaOf } from "../../support/schema.ts";
import { type Backend, eventually, gate, inside, onEitherBackend, outboxRows, type Stub, until } from "../support/harness.ts";
import { deployed, got, objectWith, type Receiver, receivers, told } from "../support/named.ts";

interface Old {
  log?: string[];
  n?: number;
}

/** Says which version made which. */
const step = (from: number) => (old: Old) => ({ ...old, log: [...(old.log ?? []), `${from} to ${from + 1}`] });

/** The messages of type `a` in this version. */
const inVersion = (version: number, upcast: NonNullable<Extract<MessageSchemas[string], { upcast?: unknown }>["upcast"]> = {}) => ({
  messages: {
    a: {
      schema: accepting,
      version,
      upcast: Object.fromEntries(Array.from({ length: version - 1 }, (_, i) => [i + 1, upcast[i + 1] ?? step(i + 1)])),
    },
    b: accepting,
  },
});

const a = (n: number, more: object = {}) => ({ type: "a", n, ...more });
const send = (stub: Stub, msg: unknown, options: object = {}) => inside(stub, (_, outbox) => outbox.send(msg, options));
const pause = (stub: Stub) => inside(stub, (_, outbox) => outbox.pause());
const resume = (stub: Stub) => inside(stub, (_, outbox) => outbox.resume());
const rowsOf = (stub: Stub) => inside(stub, async (_, __, state) => Object.fromEntries(await outboxRows(state)));
const textsOf = async (stub: Stub) => JSON.stringify(await rowsOf(stub));
/** Waits until nothing is left that has yet to be delivered. */
const empty = (stub: Stub) =>
  until(stub, async (box) => {
    const { pending, delayed, blocked } = await box.outbox.stats();
    return pending + delayed + blocked === 0;
  });
const versions = ({ calls }: Receiver) => calls.flat().map(({ version }) => version);

/** Messages that are put by deployments that alternate, in a paused outbox. */
async function put(
  backend: Backend,
  all: Record<string, Receiver>,
  ...messages: [version: number, msg: unknown, options?: object][]
): Promise<Stub> {
  const destinations = Object.fromEntries(Object.keys(all).map((name) => [name, {}]));
  let stub = objectWith(backend, all, destinations, inVersion(messages[0]?.[0] ?? 1));
  await pause(stub);
  let before = messages[0]?.[0];
  for (const [version, msg, options] of messages) {
    if (version !== before) stub = await deployed(stub, all, destinations, inVersion(version));
    before = version;
    await send(stub, msg, options);
  }
  return stub;
}

onEitherBackend("the version of a message", (backend) => {
  it("is not stored where it is 1, and costs no byte", async () => {
    const bytes: string[] = [];
    for (const options of [{}, inVersion(1)]) {
      const all = receivers("one");
      const stub = objectWith(backend, all, { one: {} }, options);
      await pause(stub);
      for (const n of [1, 2, 3]) await send(stub, a(n), { key: `${n}` });
      // What differs from object to object, and from time to time.
      bytes.push((await textsOf(stub)).replaceAll(/[0-9a-f]{64}|[0-9a-f-]{36}|\b1\d{12}\b/g, "x"));
    }
    expect(bytes[1]).toBe(bytes[0]);
    expect(bytes[1]).not.toContain("version");
  });

  it("is stored where it is not 1, with whatever else goes with the message", async () => {
    const all = receivers("one");
    const stub = await put(
      backend,
      all,
      [3, a(1)],
      [3, a(2), { key: "k", headers: { h: "1" }, delaySeconds: 1, id: "mine" }],
      [3, { type: "b" }],
      [3, "text"],
    );
    expect((await textsOf(stub)).match(/version\W+:3/g)).toHaveLength(2);
    await resume(stub);
    await eventually(() => all.one.calls.flat().length >= 4);
    const seen = all.one.calls.flat().sort((x, y) => x.sequence - y.sequence);
    expect(seen.map(({ version }) => version)).toEqual([3, 3, undefined, undefined]);
    expect(seen[1]).toMatchObject({ id: "mine", key: "k", headers: { h: "1" }, msg: a(2) });
  });

  it("is brought to that of the deployment by one upcaster after the other: for handlers and in list, and in no stored byte", async () => {
    const all = receivers("one", "other");
    let stub = await put(backend, all, [1, a(1)], [2, a(2)], [3, a(3)], [1, { type: "b" }]);
    stub = await deployed(stub, all, { one: {}, other: {} }, inVersion(3));
    const before = await rowsOf(stub);
    const expected = [a(1, { log: ["1 to 2", "2 to 3"] }), a(2, { log: ["2 to 3"] }), a(3), { type: "b" }];
    const listed = await inside(stub, (_, outbox) => outbox.list({ destination: "one" }));
    expect(listed.map(({ msg }) => msg)).toEqual(expected);
    expect(listed.map(({ version }) => version)).toEqual([3, 3, 3, undefined]);
    expect(await rowsOf(stub)).toEqual(before);
    // Whatever a handler does with its copies, the next attempt and the other destination get their own.
    all.one.rest = (messages) => {
      for (const { msg } of messages) Object.assign(msg as object, { type: "changed", log: null });
      if (all.one.calls.length < 3) throw new Error("not yet");
    };
    await resume(stub);
    await eventually(() => all.one.calls.length >= 3 && got(all.other).length >= 4);
    for (const msg of got(all.one)) expect(expected).toContainEqual(msg);
    await empty(stub);
    expect(got(all.other)).toEqual(expected);
    expect(versions(all.other)).toEqual([3, 3, 3, undefined]);
  });

  it("may be brought up by an upcaster that changes what it is given, also where JSON does not hold the message", async () => {
    const all = receivers("one", "other");
    const old = () => ({ type: "a", map: new Map([["k", 1]]), at: new Date(5) });
    let stub = await put(backend, all, [1, old()], [1, a(1)]);
    const upcast = {
      1: (msg: { map?: Map<string, number>; n?: number }) => {
        msg.map?.set("k", (msg.map.get("k") ?? 0) + 1);
        if (msg.n) msg.n++;
        return msg;
      },
    };
    stub = await deployed(stub, all, { one: {}, other: {} }, inVersion(2, upcast));
    const before = await rowsOf(stub);
    for (const _ of [1, 2]) {
      const listed = await inside(stub, (_, outbox) => outbox.list({ destination: "one" }));
      expect(listed.map(({ msg }) => msg)).toEqual([{ ...old(), map: new Map([["k", 2]]) }, a(2)]);
    }
    expect(await rowsOf(stub)).toEqual(before);
    // While the first keeps its call from succeeding the second is delivered, and then the first is tried again in the same run.
    all.one.rest = (messages) => {
      if (all.one.calls.length < 12 && messages.some(({ msg }) => (msg as Old).n !== 2)) throw new Error("not yet");
    };
    await resume(stub);
    await eventually(() => all.one.calls.length >= 12 && got(all.other).length >= 2);
    for (const msg of [...got(all.one), ...got(all.other)] as { map?: object }[]) {
      expect(msg).toEqual(msg.map ? { ...old(), map: new Map([["k", 2]]) } : a(2));
    }
    expect(got(all.other)).toHaveLength(2);
  });

  it("makes a dead letter of what an upcaster can't make, for that destination alone, and a corrected upcaster delivers it", async () => {
    const all = receivers("one", "other");
    let stub = await put(backend, all, [1, a(1)], [1, a(2), { key: "k" }], [1, a(3), { key: "k" }], [1, { type: "b" }]);
    let broken = true;
    const faulty = {
      1: (old: Old) => {
        if (broken && old.n === 2) throw new Error("no total");
        return { ...old, log: ["fixed"] };
      },
    };
    // The other one takes none of them.
    stub = await deployed(stub, all, { one: {}, other: { types: ["b"] } }, inVersion(2, faulty));
    await resume(stub);
    await empty(stub);
    expect(got(all.one)).toEqual(
      [a(1, { log: ["fixed"] }), { type: "b" }, a(3, { log: ["fixed"] })].sort((x, y) => ("n" in x ? x.n : 9) - ("n" in y ? y.n : 9)),
    );
    expect(got(all.other)).toEqual([{ type: "b" }]);
    const [letter, ...others] = await inside(stub, (_, outbox) => outbox.list({ state: "dead" }));
    expect(others).toEqual([]);
    expect(letter).toMatchObject({ destination: "one", reason: "upcast_failed", error: "no total", attempts: 0, msg: a(2), key: "k" });
    expect(letter?.version).toBeUndefined();
    expect(told(stub, "dead")).toEqual([
      expect.objectContaining({ reason: "upcast_failed", error: "no total", messageType: "a", key: "k", cause: new Error("no total") }),
    ]);
    expect(JSON.stringify(await rowsOf(stub))).not.toContain("fixed");
    // Redriven too early it is a dead letter again.
    await inside(stub, (_, outbox) => outbox.redrive());
    await until(stub, async (box) => (await box.outbox.stats()).dead === 1);
    broken = false;
    expect((await inside(stub, (_, outbox) => outbox.list({ state: "dead" })))[0]).toMatchObject({
      version: 2,
      msg: a(2, { log: ["fixed"] }),
    });
    await inside(stub, (_, outbox) => outbox.redrive());
    await eventually(() => got(all.one).length >= 4);
    expect(got(all.one).at(-1)).toEqual(a(2, { log: ["fixed"] }));
  });

  it.each([
    ["a promise", () => Promise.resolve({})],
    ["nothing", () => undefined],
    ["another type", () => ({ type: "b" })],
    ["a list", () => []],
  ])("makes a dead letter where an upcaster returns %s", async (_, upcast) => {
    const all = receivers("one");
    let stub = await put(backend, all, [1, a(1)]);
    stub = await deployed(stub, all, { one: {} }, inVersion(2, { 1: upcast }));
    await resume(stub);
    await until(stub, async (box) => (await box.outbox.stats()).dead === 1);
    const [letter] = await inside(stub, (_, outbox) => outbox.list({ state: "dead" }));
    expect(letter?.error).toContain("upcast[1]");
    expect(all.one.calls).toEqual([]);
  });

  it("goes with a message through dead letters, retries, delays and lanes: none is upcast twice", async () => {
    const all = receivers("one");
    const once = (messages: OutboxMessage[]) => new Set(messages.map(({ id }) => id));
    const rejected = new Set<string>();
    all.one.rest = (messages, delivery) => {
      for (const id of once(messages)) {
        if (rejected.has(id)) continue;
        rejected.add(id);
        delivery.reject(id, "first");
      }
    };
    const stub = await put(backend, all, [2, a(1)], [2, a(2), { key: "k" }], [2, a(3), { key: "k" }], [2, a(4), { delaySeconds: 0.001 }]);
    await resume(stub);
    await until(stub, async (box) => (await box.outbox.stats()).dead === 4);
    await inside(stub, (_, outbox) => outbox.redrive());
    await eventually(() => all.one.calls.flat().length >= 8);
    expect(got(all.one).filter((msg) => (msg as Old).log)).toEqual([]);
    expect(new Set(versions(all.one))).toEqual(new Set([2]));
  });

  it("waits where it is newer than the deployment, and blocks its own key alone", async () => {
    const all = receivers("one");
    let stub = await put(
      backend,
      all,
      ...([
        [2, a(1)],
        [2, a(2), { key: "k" }],
        [1, a(3), { key: "k" }],
        [1, a(4), { key: "other" }],
        [1, a(5)],
      ] satisfies [number, unknown, object?][]),
    );
    const destinations = { one: {} };
    await resume(stub);
    await eventually(() => got(all.one).length >= 2);
    expect(got(all.one)).toEqual([a(4), a(5)]);
    // What is put behind it waits as well, and it is looked at again without being handed over.
    await send(stub, a(6), { key: "k" });
    await send(stub, { type: "b" });
    await eventually(() => got(all.one).length >= 3);
    await until(stub, async (box) => {
      const { pending, delayed, blocked, dead, breaker, failures } = await box.outbox.stats();
      return pending + delayed + blocked === 4 && dead === 0 && breaker === "closed" && failures === 0;
    });
    const listed = await inside(stub, async (_, outbox) => [...(await outbox.list()), ...(await outbox.list({ state: "delayed" }))]);
    expect(Object.fromEntries(listed.map(({ msg, version }) => [(msg as Old).n, version]))).toEqual({
      1: 2,
      2: 2,
      3: undefined,
      6: undefined,
    });
    const ahead = told(stub, "version_ahead");
    expect(ahead).toHaveLength(2);
    expect(ahead[0]).toMatchObject({ destination: "one", version: 2, messageType: "a", error: expect.stringContaining("version 2") });
    expect(ahead[1]).toMatchObject({ key: "k" });
    // Without the option, a deployment knows the first version of everything.
    stub = await deployed(stub, all, destinations);
    await inside(stub, (_, outbox) => outbox.flush());
    expect(got(all.one)).toEqual([a(4), a(5), { type: "b" }]);
    // Nor once it has been looked at again, a second later.
    const lookedAt = (): Promise<number> =>
      inside(stub, async (_, outbox) => {
        const waiting = await outbox.list({ state: "delayed" });
        return waiting.find(({ msg }) => (msg as Old).n === 2)?.deliverAt ?? 0;
      });
    let before = 0;
    await eventually(async () => {
      before = await lookedAt();
      return before > 0;
    });
    await eventually(async () => (await lookedAt()) > before);
    expect(got(all.one)).toEqual([a(4), a(5), { type: "b" }]);
    stub = await deployed(stub, all, destinations, inVersion(2));
    await empty(stub);
    await eventually(() => got(all.one).length >= 7);
    const log = ["1 to 2"];
    expect(got(all.one).slice(3)).toEqual(expect.arrayContaining([a(1), a(2), a(3, { log }), a(6, { log })]));
    const keyed = all.one.calls.flat().filter(({ key }) => key === "k");
    expect(keyed.map(({ msg }) => (msg as Old).n)).toEqual([2, 3, 6]);
  });

  it("waits in a lane, behind a time, and with ordering: batch as well", async () => {
    const all = receivers("one");
    const destinations = { one: { ordering: "batch" } };
    let stub = objectWith(backend, all, destinations, inVersion(2));
    const held = gate();
    all.one.rest = () => held.passed();
    // The first keeps the destination busy while the others are stored behind it.
    await send(stub, { type: "b", first: true });
    await eventually(() => all.one.calls.length >= 1);
    for (const n of [1, 2]) await send(stub, a(n), { key: "k" });
    await send(stub, a(3), { delaySeconds: 0.05 });
    stub = await deployed(stub, all, destinations, inVersion(1));
    held.open();
    all.one.rest = () => {};
    await send(stub, a(4), { key: "k" });
    await send(stub, a(5), { key: "l" });
    await eventually(() => got(all.one).some((msg) => (msg as Old).n === 5));
    await until(stub, async (box) => (await box.outbox.stats()).dead === 0);
    await eventually(() => told(stub, "version_ahead").length >= 2);
    expect(got(all.one).filter((msg) => [1, 2, 3, 4].includes((msg as Old).n ?? 0))).toEqual([]);
    stub = await deployed(stub, all, destinations, inVersion(2));
    await empty(stub);
    const numbers = got(all.one).map((msg) => (msg as Old).n ?? 0);
    expect(numbers.filter((n) => [1, 2, 4].includes(n))).toEqual([1, 2, 4]);
    expect(numbers.filter((n) => n === 3)).toEqual([3]);
  });

  it("does not keep a message that waits from expiring, from being cancelled or from being replaced", async () => {
    const all = receivers("one");
    let stub = await put(
      backend,
      all,
      ...([
        [2, { type: "b" }],
        [2, a(2), { id: "cancelled" }],
        [2, a(3), { id: "replaced" }],
        [2, a(1), { expiresInSeconds: 0.2 }],
      ] satisfies [number, unknown, object?][]),
    );
    stub = await deployed(stub, all, { one: {} }, inVersion(1));
    await resume(stub);
    await until(stub, async (box) => (await box.outbox.stats()).dead === 1);
    expect(await inside(stub, (_, outbox) => outbox.list({ state: "dead" }))).toMatchObject([{ reason: "expired", msg: a(1), version: 2 }]);
    expect(await inside(stub, (_, outbox) => outbox.cancel("cancelled"))).toBe(true);
    await send(stub, a(4), { id: "replaced", replace: true });
    await empty(stub);
    expect(got(all.one)).toEqual([{ type: "b" }, a(4)]);
    stub = await deployed(stub, all, { one: {} }, inVersion(2));
    await inside(stub, (_, outbox) => outbox.redrive());
    await eventually(() => got(all.one).length >= 3);
    expect(got(all.one).at(-1)).toEqual(a(1));
  });

  it("is that of the schema that has checked the message", async () => {
    const all = receivers("one");
    let checks = 0;
    const async = schemaOf(async (value) => {
      checks++;
      return { value };
    });
    const stub = objectWith(backend, all, { one: {} }, { messages: { a: { schema: async, version: 2, upcast: { 1: step(1) } } } });
    await inside(stub, async (_, outbox) => outbox.send(await outbox.validate(a(1))));
    await eventually(() => got(all.one).length >= 1);
    expect([got(all.one), versions(all.one), checks]).toEqual([[a(1)], [2], 1]);
  });
});
