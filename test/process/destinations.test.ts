/** `toQueue`, `toDurableObject` and `byType` against what they are made for: the runtime's own queue, objects that die, wrapped objects. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { all, message, messages } from "../support/destinations/recorder.ts";
import { start, type World } from "./destinations-world.ts";
import { range, until } from "./harness.ts";

let world: World;
beforeAll(async () => {
  world = await start();
});
afterAll(() => world.stop());

interface Enveloped {
  readonly v: number;
  readonly key?: string;
  readonly msg: { readonly type: string; readonly n: number };
}

/** The numbers of the messages with this type that the queue's consumer got. */
async function consumed(type: string): Promise<number[]> {
  const all = await world.look<Enveloped[]>("consumed");
  return all.filter((body) => body.msg?.type === type).map(({ msg }) => msg.n);
}

async function taken(inbox: string): Promise<number[]> {
  const all = await world.look<{ inbox: string; envelope: Enveloped }[]>("taken");
  return all.filter((one) => one.inbox === `inbox ${inbox}`).map(({ envelope }) => envelope.msg.n);
}

describe("toQueue on a real queue", () => {
  const texts = (...bytes: number[]) => messages(bytes.length, (n) => ({ msg: "x".repeat(bytes[n - 1] ?? 0) }));

  it.each([
    ["text", 127_900],
    ["json", 127_898],
    ["v8", 127_894],
  ] as const)("has the largest %s body that it sends accepted, and rejects the next", async (contentType, bytes) => {
    const { outcomes, error } = await world.run({
      queue: { contentType },
      messages: texts(bytes, bytes + 1 + (contentType === "v8" ? 6 : 0), 1),
    });
    expect(error).toBeUndefined();
    expect(outcomes).toEqual({ 1: "ack", 2: expect.stringMatching("^reject The message takes 12800[1-7] bytes .* 128000\\.$"), 3: "ack" });
    await until(async () => (await world.look<unknown[]>("consumed")).includes(bytes));
  });

  it("has 201 messages accepted, in order, and 250 of 10,000 bytes", async () => {
    const numbered = messages(201, (n) => ({ msg: { type: "many", n } }));
    expect((await world.run({ queue: {}, messages: numbered })).outcomes).toEqual(all("ack", 1, 201));
    await until(async () => (await consumed("many")).length === 201);
    expect(await consumed("many")).toEqual(range(1, 201));
    const large = messages(250, (n) => ({ msg: { type: "large", n, text: "x".repeat(10_000) } }));
    expect((await world.run({ queue: {}, messages: large })).outcomes).toEqual(all("ack", 1, 250));
    await until(async () => (await consumed("large")).length === 250);
    expect(await consumed("large")).toEqual(range(1, 250));
  });

  it("sends a Map, which JSON does not hold, whole", async () => {
    const { outcomes } = await world.run({ queue: {}, messages: [message(1, { msg: { order: "map", n: 7 } })] });
    expect(outcomes).toEqual({ 1: "ack" });
    await until(async () => (await world.look<{ map?: unknown }[]>("consumed")).some(({ map }) => JSON.stringify(map) === '[["n",7]]'));
  });
});

describe("toDurableObject on real objects", () => {
  const to = (inbox: string, n: number, order?: string) => message(n, { msg: { type: "inbox", n, text: inbox, ...(order && { order }) } });

  it("calls an object that has aborted again, with a new stub, and others are not affected", async () => {
    const batch = [to("inbox dying", 101, "abort once"), to("inbox well", 102)];
    const first = await world.run({ inbox: true, messages: batch });
    expect([first.outcomes, first.error]).toEqual([{ 101: "wait", 102: "ack" }, undefined]);
    const second = await world.run({ inbox: true, messages: batch.slice(0, 1) });
    expect([second.outcomes, second.error]).toEqual([{ 101: "ack" }, undefined]);
    expect(await taken("dying")).toEqual([101]);
  });

  it("throws what the only target throws", async () => {
    const { outcomes, error } = await world.run({ inbox: true, messages: [to("inbox refusing", 103, "throw")] });
    expect([outcomes, error?.message]).toEqual([{}, "the inbox refuses"]);
  });
});

describe.each(["SQLITE", "KV"])("a wrapped object on real destinations (%s)", (backend) => {
  it.each(["SENDER", "METHOD"])("delivers to a queue in order and once, each key in order (%s)", async (form) => {
    const from = form === "SENDER" ? 1000 : 2000;
    const name = `queue ${backend}`;
    await world.call(`${form}_${backend}`, name, "put", from, 150, null, { type: "queue", text: backend });
    await world.call(`${form}_${backend}`, name, "put", from + 150, 60, "key", { type: "queue", text: backend });
    const mine = async () => {
      const all = await world.look<(Enveloped & { msg: { text?: string } })[]>("consumed");
      return all.filter(({ msg }) => msg?.text === backend && msg.n >= from && msg.n < from + 1000);
    };
    await until(async () => (await mine()).length >= 210);
    const got = await mine();
    expect(got.filter(({ key }) => key === undefined).map(({ msg }) => msg.n)).toEqual(range(from, from + 149));
    for (const key of ["key 0", "key 1", "key 2"]) {
      const numbers = got.filter((one) => one.key === key).map(({ msg }) => msg.n);
      expect(numbers).toEqual(range(from + 150, from + 209).filter((n) => key === `key ${n % 3}`));
    }
    expect(got[0]).toMatchObject({
      v: 1,
      id: expect.any(String),
      sequence: 1,
      source: expect.any(String),
      type: "queue",
      time: expect.any(String),
    });
  });

  it("keeps the order of each key while inboxes fail and die, loses nothing, and makes no dead letter", async () => {
    const name = `inboxes ${backend}`;
    const text = `ordered ${backend}`;
    for (let n = 0; n < 30; n += 3) {
      const order = n % 2 ? "fail once" : "abort once";
      await world.call(`SENDER_${backend}`, name, "put", n, 3, "key", { type: "inbox", text, ...(n % 9 === 0 && { order }) });
    }
    await until(async () => new Set(await taken(text)).size === 30);
    const numbers = await taken(text);
    for (const key of [0, 1, 2]) {
      // An abort may come after others of the call were taken: then they come twice. Their first arrivals are in order.
      const first = [...new Set(numbers.filter((n) => n % 3 === key))];
      expect(first).toEqual(range(0, 29).filter((n) => n % 3 === key));
    }
    expect(await world.call(`SENDER_${backend}`, name, "list", "dead")).toEqual([]);
  });

  it("has its effect once in the package's own inbox, each key in order, while that fails and dies", async () => {
    const text = `real-${backend}`;
    for (let n = 0; n < 30; n += 3) {
      const order = n % 2 ? "fail once" : "abort once";
      await world.call(`SENDER_${backend}`, text, "put", n, 3, "key", { type: "real", text, ...(n % 9 === 0 && { order }) });
    }
    const numbers = await until(async () => {
      const found = (await world.call<number[] | null>("REAL", text, "numbers").catch(() => null)) ?? [];
      return found.length >= 30 ? found : null;
    });
    expect([...numbers].sort((a, b) => a - b)).toEqual(range(0, 29));
    for (const key of [0, 1, 2]) expect(numbers.filter((n) => n % 3 === key)).toEqual(range(0, 29).filter((n) => n % 3 === key));
  });

  it("sends each type its own way, and makes a dead letter of one that has none", async () => {
    const name = `types ${backend}`;
    const text = `types ${backend}`;
    await world.call(`SENDER_${backend}`, name, "put", 1, 3, null, { type: "inbox", text });
    await world.call(`SENDER_${backend}`, name, "put", 4, 1, null, { type: "unheard of", text });
    await world.call(`SENDER_${backend}`, name, "put", 5, 3, null, { type: "inbox", text });
    await until(async () => (await taken(text)).length === 6);
    expect(await taken(text)).toEqual([1, 2, 3, 5, 6, 7]);
    const dead = await until(async () => {
      const found = await world.call<unknown[]>(`SENDER_${backend}`, name, "list", "dead");
      return found.length > 0 && found;
    });
    expect(dead).toMatchObject([{ reason: "rejected", error: 'No route for type "unheard of".', msg: { n: 4 } }]);
  });
});
