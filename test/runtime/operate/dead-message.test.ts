/** `deadMessage`: what it writes and sends commits with the dead letter, and whatever it does, the message becomes one. */
import { expect, it, vi } from "vitest";
import type { OutboxDeadLetter, OutboxTransaction } from "../../../src/index.ts";
import { again, declared, eventually, inside, onEitherBackend, outboxRows, redeclared, until } from "../support/harness.ts";
import { classWith, got, objectWith, type Receiver, receivers, told } from "../support/named.ts";
import type { Form } from "../support/worker.ts";

type Handle = (message: OutboxDeadLetter, destination: string, txn: OutboxTransaction) => unknown;

/** What a test sees of `deadMessage`, and says what it does. */
interface Handled {
  readonly calls: { readonly message: OutboxDeadLetter; readonly destination: string }[];
  rest: Handle;
}

const handled = (rest: Handle = () => {}): Handled => ({ calls: [], rest });

/** The class with a `deadMessage`. */
function handling(Base: Form, dead: Handled): Form {
  return class extends (Base as unknown as new (ctx: DurableObjectState, env: never) => { ctx: DurableObjectState }) {
    deadMessage(message: OutboxDeadLetter, destination: string, txn: OutboxTransaction): unknown {
      dead.calls.push(structuredClone({ message, destination }));
      return dead.rest(message, destination, txn);
    }
  } as unknown as Form;
}

onEitherBackend("deadMessage", (backend) => {
  function objectOf<Name extends string = never>(
    dead: Handled,
    destinations: Record<string, object> = {},
    options: object = {},
    ...names: Name[]
  ) {
    const all: Record<Name | "default", Receiver> = receivers<Name | "default">("default", ...names);
    // The message says what becomes of it.
    for (const receiver of Object.values<Receiver>(all)) {
      receiver.rest = (messages, delivery) => {
        for (const { id, msg } of messages) if (String(msg).startsWith("bad")) delivery.reject(id, `${msg} is refused`);
      };
    }
    const stub = declared(backend, handling(classWith(all, destinations, options), dead));
    return { all, stub };
  }

  it("is called with a copy of the letter, and what it writes and sends commits with that", async () => {
    const dead = handled(async (message, destination, txn) => {
      (message.msg as { id: number }).id = 99;
      expect(await txn.get("order")).toBe("open");
      await txn.put("order", `failed at ${destination}`);
      await txn.delete("doomed");
      await txn.send({ report: message.id });
    });
    const all = receivers("default");
    all.default.rest = (messages, delivery) => {
      for (const { id, key, msg } of messages) {
        if (!key) continue;
        Object.assign(msg as object, { id: 98 });
        delivery.reject(id, new Error("never"));
      }
    };
    const stub = declared(backend, handling(classWith(all, {}), dead));
    const { id } = await inside(stub, async (_, outbox, { storage }) => {
      await storage.put("doomed", 1);
      return outbox.put("order", "open", { id: 1 }, { key: "k", headers: { a: "b" } });
    });
    await eventually(() => got(all.default).length >= 2);
    expect(got(all.default)[1]).toEqual({ report: id });
    await inside(stub, async (_, outbox, { storage }) => {
      expect(await storage.get("order")).toBe("failed at default");
      expect(await storage.get("doomed")).toBeUndefined();
      const [letter, ...rest] = await outbox.list({ state: "dead" });
      expect(rest).toEqual([]);
      expect(letter).toMatchObject({ id, msg: { id: 1 }, key: "k", headers: { a: "b" }, reason: "rejected", error: "never", attempts: 1 });
      expect(dead.calls).toEqual([{ message: letter, destination: "default" }]);
    });
    expect(told(stub, "dead")).toHaveLength(1);
    expect(told(stub, "dead_message_failed")).toEqual([]);
  });

  it("is called for each of a batch, whatever becomes of the others, and one that throws leaves nothing", async () => {
    vi.spyOn(console, "error").mockImplementation(() => {});
    const dead = handled(async ({ msg }, _, txn) => {
      await txn.put(`seen:${msg}`, true);
      await txn.send(`about ${msg}`);
      if (msg === "bad 2") throw new Error("no compensation");
      if (msg === "bad 3") txn.rollback();
    });
    const { all, stub } = objectOf(dead);
    await inside(stub, (_, outbox) => Promise.all(["good 1", "bad 1", "bad 2", "good 2", "bad 3", "bad 4"].map((msg) => outbox.send(msg))));
    await eventually(() => got(all.default).length >= 8);
    expect(got(all.default)).toEqual(["good 1", "bad 1", "bad 2", "good 2", "bad 3", "bad 4", "about bad 1", "about bad 4"]);
    await inside(stub, async (_, outbox, state) => {
      expect((await outbox.list({ state: "dead" })).map(({ msg }) => msg)).toEqual(["bad 1", "bad 2", "bad 3", "bad 4"]);
      expect([...(await state.storage.list()).keys()]).toEqual(["seen:bad 1", "seen:bad 4"]);
      expect(await outbox.stats()).toMatchObject({ pending: 0, delayed: 0, dead: 4 });
      // The marker, and the letters.
      expect((await outboxRows(state)).size).toBe(5);
    });
    expect(dead.calls).toHaveLength(4);
    expect(told(stub, "dead")).toHaveLength(4);
    expect(told(stub, "dead_message_failed")).toMatchObject([
      { destination: "default", id: expect.any(String), error: "no compensation" },
      { destination: "default", error: "deadMessage() has rolled its transaction back." },
    ]);
  });

  it("is called for every kind of death, and names the destination", async () => {
    const dead = handled((message, destination, txn) => txn.put(`${destination} ${message.reason} ${message.msg}`, true));
    const options = { retry: { minDelaySeconds: 0.001, maxAttempts: 2, jitter: 0 } };
    const { all, stub } = objectOf(dead, { other: {}, short: { expiresInSeconds: 0.001 } }, options, "other", "short");
    all.other.rest = (messages, delivery) => {
      for (const { id, msg } of messages) if (msg === "fails") delivery.retry(id, { delaySeconds: 0 });
    };
    await inside(stub, async (_, outbox) => {
      await outbox.pause({ destination: "short" });
      await outbox.send("bad");
      await outbox.send("fails", { key: "k" });
    });
    await until(stub, async (box) => (await box.outbox.stats()).dead === 2);
    await inside(stub, (_, outbox) => outbox.resume({ destination: "short" }));
    await until(stub, async (box) => (await box.outbox.stats()).dead === 4);
    await inside(stub, async (_, __, { storage }) => {
      const keys = ["default rejected bad", "other max_attempts fails", "short expired bad", "short expired fails"];
      expect([...(await storage.list()).keys()]).toEqual(keys);
    });
  });

  it("is called for what dropDestination makes dead letters of, from wherever that waited", async () => {
    vi.spyOn(console, "error").mockImplementation(() => {});
    vi.spyOn(console, "warn").mockImplementation(() => {});
    const all = receivers("a", "b");
    const dead = handled(async ({ msg }, destination, txn) => {
      await txn.put(`${destination}:${msg}`, true);
      if (msg === 3) throw new Error("not this one");
    });
    const stub = objectWith(backend, all, { a: {}, b: {} });
    all.b.rest = (messages, delivery) => {
      for (const { id } of messages) delivery.retry(id, { delaySeconds: 600 });
    };
    await inside(stub, async (_, outbox) => {
      for (const n of [1, 2]) await outbox.send(n, { key: "k" });
      for (const n of [3, 4]) await outbox.send(n);
    });
    await until(stub, async (box) => {
      const { b } = (await box.outbox.stats()).destinations;
      return b?.delayed === 3 && b.blocked === 1;
    });
    await inside(stub, (_, outbox) => outbox.pause({ destination: "b" }));
    await inside(stub, (_, outbox) => Promise.all([5, 6].map((n) => outbox.send(n))));
    await eventually(() => got(all.a).length === 6);
    await inside(stub, (_, __, state) => state.abort("the deployment that the test wants")).catch(() => {});
    const last = redeclared(stub, handling(classWith(all, { a: {} }), dead));
    await inside(last, async (_, outbox, { storage }) => {
      expect(await outbox.dropDestination("b", { deadLetters: true })).toBe(6);
      expect([...(await storage.list()).keys()]).toEqual(["b:1", "b:2", "b:4", "b:5", "b:6"]);
      const letters = await outbox.list({ state: "dead", destination: "b" });
      expect(letters.map(({ msg, reason }) => [msg, reason])).toEqual([1, 2, 3, 4, 5, 6].map((n) => [n, "dropped"]));
      expect((await outbox.stats()).destinations.b).toMatchObject({ pending: 0, delayed: 0, blocked: 0, dead: 6 });
    });
    expect(dead.calls.map(({ message }) => message.msg).sort()).toEqual([1, 2, 3, 4, 5, 6]);
    expect(told(last, "dead_message_failed")).toHaveLength(1);
  });

  it("is called again after a crash, and what it had written then is gone", async () => {
    let crashes = 0;
    const dead = handled(async ({ msg }, _, txn) => {
      await txn.put(`times:${msg}`, ((await txn.get<number>(`times:${msg}`)) ?? 0) + 1);
      if (crashes++ === 0) await abort?.();
    });
    const { stub } = objectOf(dead);
    let abort: (() => Promise<unknown>) | undefined;
    await inside(stub, (_, outbox, state) => {
      abort = async () => state.abort("the crash that the test wants");
      return outbox.send("bad");
    });
    await eventually(() => dead.calls.length >= 2);
    const next = again(stub);
    await until(next, async (box) => (await box.outbox.stats()).dead === 1);
    await inside(next, async (_, __, { storage }) => expect(await storage.get("times:bad")).toBe(1));
  });

  it("is given up for a message in whose calls the isolate keeps dying, which becomes a dead letter", async () => {
    vi.spyOn(console, "error").mockImplementation(() => {});
    const dead = handled(({ msg }) => {
      if (msg === "bad") abort();
    });
    const lives: DurableObjectState[] = [];
    const abort = (): void => lives.at(-1)?.abort("dies in deadMessage");
    const all = receivers("default");
    all.default.rest = (messages, delivery) => {
      for (const { id, msg } of messages) if (msg === "bad") delivery.reject(id);
    };
    const Base = handling(classWith(all, {}), dead);
    const stub = declared(
      backend,
      class extends Base {
        constructor(ctx: DurableObjectState, env: never) {
          super(ctx, env);
          lives.push(ctx);
        }
      },
    );
    await inside(stub, (_, outbox) => outbox.send("bad"));
    await eventually(() => told(stub, "dead_message_failed").length > 0);
    const next = again(stub);
    await until(next, async (box) => (await box.outbox.stats()).dead === 1);
    expect(told(next, "dead_message_failed")).toMatchObject([{ error: "The isolate died in deadMessage() 3 times." }]);
    expect(dead.calls.length).toBeLessThanOrEqual(5);
    await inside(next, (_, outbox) => outbox.send("good"));
    await eventually(() => got(all.default).includes("good"));
  }, 240_000);

  it("is an own property, which can't be called over RPC, and is looked up when it is called", async () => {
    const dead = handled();
    const { stub } = objectOf(dead);
    const seen: unknown[] = [];
    await inside(stub, async (box, outbox) => {
      // The platform calls no own property of an instance over RPC.
      expect(Object.hasOwn(box, "deadMessage")).toBe(true);
      Object.assign(box, { deadMessage: (message: OutboxDeadLetter) => seen.push(message.msg) });
      await outbox.send("bad");
    });
    await eventually(() => seen.length > 0);
    expect([seen, dead.calls]).toEqual([["bad"], []]);
  });

  it("costs a class without it no transaction", async () => {
    const all = receivers("default");
    all.default.rest = (messages, delivery) => {
      for (const { id } of messages) delivery.reject(id);
    };
    const stub = objectWith(backend, all, {});
    const transaction = await inside(stub, async (box, outbox, { storage }) => {
      expect(Object.getOwnPropertyNames(box)).not.toContain("deadMessage");
      const spy = vi.spyOn(storage, "transaction");
      await outbox.send(1);
      return spy;
    });
    await until(stub, async (box) => (await box.outbox.stats()).dead === 1);
    expect(transaction).not.toHaveBeenCalled();
  });
});
