/** Messages that kill the isolate that hands them over: each ends as a dead letter of its own, and its neighbours are delivered. */
import type { MiniflareOptions, Request as MiniflareRequest } from "miniflare";
import { describe, expect, it } from "vitest";
import { BACKENDS, type Backend, bundled, folder, launch, Receiver, range, until } from "./harness.ts";

interface Dead {
  readonly msg: { readonly n: number };
  readonly reason: string;
}

type World = Awaited<ReturnType<typeof world>>;

/** A workerd in which every call of `sendMessages` dies that hands over one of the killers. */
async function world(receiver: Receiver, killers: readonly number[]) {
  receiver.order = (messages) => (messages.some(({ msg }) => killers.includes(msg.n)) ? "abort" : "deliver");
  const { miniflare, url } = await launch({
    name: "deaths",
    modules: true,
    script: await bundled("deaths.ts"),
    compatibilityDate: "2026-07-01",
    durableObjectsPersist: folder(),
    durableObjects: { SQLITE: { className: "SqliteBox", useSQLite: true }, KV: { className: "KvBox", useSQLite: false } },
    bindings: { WITHOUT_SEND: false },
    serviceBindings: { RECEIVER: (request: MiniflareRequest) => receiver.take(request) },
  } as MiniflareOptions);
  return {
    async call<R>(backend: Backend, name: string, method: string, ...args: unknown[]): Promise<R> {
      const response = await fetch(new URL(`${backend}/${name}/${method}`, url), { method: "POST", body: JSON.stringify(args) });
      const text = await response.text();
      if (!response.ok) throw new Error(text);
      return (text === "" ? undefined : JSON.parse(text)) as R;
    },
    [Symbol.asyncDispose]: () => miniflare.dispose(),
  };
}

describe.concurrent.each(BACKENDS)("a message that kills the isolate (%s)", (backend) => {
  it("ends as a dead letter wherever it stands, and its 99 neighbours are delivered once, in order", async () => {
    const receiver = new Receiver();
    const killers = [1, 150, 300];
    await using outbox = await world(receiver, killers);
    const objects = ["first", "middle", "last"].map((name, n) => ({ name, from: 1 + 100 * n, killer: killers[n] ?? 0 }));
    for (const { name, from } of objects) await outbox.call(backend, name, "store", from, 100);
    await until(() => receiver.delivered.length >= 297);

    for (const { name, from, killer } of objects) {
      const mine = (call: { msg: { n: number } }[]) => call.some(({ msg }) => msg.n >= from && msg.n < from + 100);
      await until(async () => (await dead(outbox, backend, name)).length > 0);
      expect(await dead(outbox, backend, name)).toMatchObject([{ msg: { n: killer }, reason: "killed" }]);
      expect(await outbox.call(backend, name, "stats")).toMatchObject({ pending: 0, delayed: 0, blocked: 0, dead: 1, breaker: "closed" });
      expect(receiver.delivered.filter((n) => n >= from && n < from + 100)).toEqual(range(from, from + 99).filter((n) => n !== killer));
      // Halved until it stood alone. A death in a run that no other died before leaves no trace of whom to blame: three
      // are counted, and one before them may not be.
      const deadly = receiver.calls.filter((call) => mine(call) && call.some(({ msg }) => msg.n === killer)).map((call) => call.length);
      expect(deadly[0]).toBe(100);
      const alone = deadly.filter((size) => size === 1).length;
      expect(alone).toBeGreaterThanOrEqual(3);
      expect(alone).toBeLessThanOrEqual(4);
      expect(deadly.length).toBeLessThanOrEqual(7 + 4);
    }
    // Nothing is left of the trouble: no alarm, and the next message is the first attempt of its own.
    await until(async () => (await outbox.call(backend, "first", "nativeAlarm")) === null);
    await outbox.call(backend, "first", "put", 1001, 1);
    await until(() => receiver.delivered.includes(1001));
    expect(receiver.calls.at(-1)).toMatchObject([{ msg: { n: 1001 }, attempts: 1 }]);
  });

  it("with an ordering key, and beside another that kills, holds up nobody for ever", async () => {
    const receiver = new Receiver();
    const killers = [6, 7];
    await using outbox = await world(receiver, killers);
    await outbox.call(backend, "keyed", "putKeyed", 1, 20, 4);
    await until(() => receiver.delivered.length >= 18);
    await until(async () => (await dead(outbox, backend, "keyed")).length === 2);
    expect(await dead(outbox, backend, "keyed")).toMatchObject(killers.map((n) => ({ msg: { n }, reason: "killed" })));
    expect([...receiver.delivered].sort((a, b) => a - b)).toEqual(range(1, 20).filter((n) => !killers.includes(n)));
    for (const lane of [0, 1, 2, 3]) {
      const inOrder = range(1, 20).filter((n) => n % 4 === lane && !killers.includes(n));
      expect(receiver.delivered.filter((n) => n % 4 === lane)).toEqual(inOrder);
    }
  });

  it("ends so too when there is no other, and is delivered when it is mended and redriven", async () => {
    const receiver = new Receiver();
    await using outbox = await world(receiver, [1]);
    await outbox.call(backend, "lone", "put", 1, 1).catch(() => {});
    await until(async () => (await dead(outbox, backend, "lone")).length === 1);
    expect(await dead(outbox, backend, "lone")).toMatchObject([{ msg: { n: 1 }, reason: "killed" }]);
    // The first death is found by the platform's retry only: from then on they are counted.
    expect(receiver.calls.length).toBeGreaterThanOrEqual(3);
    expect(receiver.calls.length).toBeLessThanOrEqual(4);

    receiver.order = () => "deliver";
    expect(await outbox.call(backend, "lone", "redrive")).toBe(1);
    await until(() => receiver.delivered.length === 1);
    expect(receiver.calls.at(-1)).toMatchObject([{ msg: { n: 1 }, sequence: 1, attempts: 1 }]);
    await until(async () => (await outbox.call<{ dead: number }>(backend, "lone", "stats")).dead === 0);
  });
});

/** The dead letters. While the object dies its calls fail, and are made again. */
async function dead(outbox: World, backend: Backend, name: string): Promise<Dead[]> {
  return until(() => outbox.call<Dead[]>(backend, name, "dead").catch(() => undefined));
}
