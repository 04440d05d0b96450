/** What is stored is what was given at the call, whatever the call has to wait for and whatever its caller does meanwhile. */
import { expect, it } from "vitest";
import type { OutboxManager } from "../../../src/index.ts";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { declared, drained, eventually, fresh, inside, onBothBackends, sent } from "../support/harness.ts";
import { inboxOf, numbered, within } from "../support/inbox.ts";
import { Box, type BoxEnv, options, stageOf } from "../support/worker.ts";

/** Puts in every form, and changes everything that it gave in the same turn. */
function putAndChange(outbox: OutboxManager, id?: string): Promise<unknown> {
  const state = { n: 1, list: [1], map: new Map([["n", 1]]), bytes: new Uint8Array([1]) };
  const entries: Record<string, unknown> = { a: state, b: [1] };
  const msg = { n: 1, list: [1] };
  const headers = { n: "1" };
  const keys = ["gone"];
  const puts = [
    outbox.put("state", state, msg, id === undefined ? { headers } : { headers, id: `${id} 1` }),
    outbox.put(entries, msg, id === undefined ? {} : { id: `${id} 2` }),
    outbox.delete(keys, msg, id === undefined ? {} : { id: `${id} 3` }),
  ];
  Object.assign(state, { n: 2 });
  state.list.push(2);
  state.map.set("n", 2);
  state.bytes[0] = 2;
  (entries.b as number[]).push(2);
  delete entries.b;
  entries.c = 3;
  Object.assign(msg, { n: 2 });
  msg.list.push(2);
  headers.n = "2";
  keys[0] = "kept";
  return Promise.all(puts);
}

const given = { n: 1, list: [1], map: new Map([["n", 1]]), bytes: new Uint8Array([1]) };

async function expectGiven(stub: Parameters<typeof inside>[0]): Promise<void> {
  const stored = await inside(stub, (_, __, { storage }) => storage.get(["state", "a", "b", "c", "gone", "kept"]));
  expect(Object.fromEntries(stored)).toEqual({ state: given, a: given, b: [1], kept: true });
  await drained(stub);
  expect(sent(stub).map(({ msg }) => msg)).toEqual(Array.from({ length: 3 }, () => ({ n: 1, list: [1] })));
  expect(sent(stub)[0]?.headers).toEqual({ n: "1" });
}

onBothBackends("a put", (backend) => {
  for (const id of [undefined, "id"]) {
    const which = id === undefined ? "" : ", with an id of the caller's";

    it(`in a running object stores what it was given${which}`, async () => {
      const stub = fresh(backend);
      await inside(stub, async (_, outbox, { storage }) => {
        await storage.put({ gone: true, kept: true });
        await putAndChange(outbox, id);
      });
      await expectGiven(stub);
    });

    it(`in a constructor stores what it was given${which}`, async () => {
      class Eager extends Box {
        constructor(ctx: DurableObjectState, env: BoxEnv) {
          super(ctx, env);
          void ctx.storage.put({ gone: true, kept: true });
          void putAndChange(this.outbox, id);
        }
      }
      const stub = declared(backend, withTransactionalOutbox(Eager, options));
      await expectGiven(stub);
    });

    it(`beside a deleteAll under way stores what it was given${which}`, async () => {
      const stub = fresh(backend);
      await inside(stub, async (_, outbox, { storage }) => {
        await storage.put("old", 1);
        const erased = outbox.deleteAll({ n: 1, list: [1] });
        const beside = storage.put({ kept: true });
        await Promise.all([erased, beside, putAndChange(outbox, id)]);
      });
      const stored = await inside(stub, (_, __, { storage }) => storage.list());
      expect(Object.fromEntries(stored)).toEqual({ state: given, a: given, b: [1], kept: true });
      await drained(stub);
      expect(sent(stub).map(({ msg }) => msg)).toEqual(Array.from({ length: 4 }, () => ({ n: 1, list: [1] })));
    });

    it(`beside a transaction that commits stores what it was given${which}`, async () => {
      const stub = fresh(backend);
      await inside(stub, async (_, outbox, { storage }) => {
        await storage.put({ gone: true, kept: true });
        let closed = () => {};
        const closing = new Promise<void>((resolve) => {
          closed = resolve;
        });
        const committed = outbox.transaction(async (txn) => {
          await txn.put("in", 1);
          closed();
        });
        await closing;
        // From here on the closure has ended, and at each step the commit may be under way.
        for (let step = 0; step < 3; step++) await null;
        await Promise.all([committed, putAndChange(outbox, id)]);
      });
      await expectGiven(stub);
    });
  }
});

onBothBackends("the object's own storage", (backend) => {
  it("stores what it was given beside a deleteAll under way", async () => {
    const stub = fresh(backend);
    const stored = await inside(stub, async (_, outbox, { storage }) => {
      await storage.put("old", 1);
      const erased = outbox.deleteAll("last");
      const value = { n: 1 };
      const entries: Record<string, unknown> = { b: value };
      const gone = ["x"];
      const writes = [storage.put("a", value), storage.put(entries), storage.put({ x: 1, y: 1 }), storage.delete(gone)];
      value.n = 2;
      entries.c = 3;
      gone[0] = "y";
      await Promise.all([erased, ...writes]);
      return Object.fromEntries(await storage.list());
    });
    expect(stored).toEqual({ a: { n: 1 }, b: { n: 1 }, y: 1 });
  });

  it("sets its alarm in a constructor for the time that it was given", async () => {
    const at = Date.now() + 600_000;
    class Eager extends Box {
      constructor(ctx: DurableObjectState, env: BoxEnv) {
        super(ctx, env);
        const time = new Date(at);
        void ctx.storage.setAlarm(time);
        time.setTime(at + 1000);
      }
    }
    const stub = declared(backend, withTransactionalOutbox(Eager, options));
    await eventually(() => inside(stub, async (_, __, { storage }) => (await storage.getAlarm()) === at));
  });
});

onBothBackends("the inbox", (backend) => {
  it("hands over and stores the messages that it was given at the call", async () => {
    const { stub } = inboxOf(backend, "the inbox around the outbox", { ordered: true });
    const got: unknown[] = [];
    await within(stub, async (inbox) => {
      const messages = [2, 1].map((sequence) =>
        numbered(sequence, "sender", { headers: { n: "given" }, msg: { n: sequence, list: [sequence] } }),
      );
      const receipts = messages.map((message) => inbox.receive(message, (_, { msg, headers }) => void got.push(msg, headers)));
      for (const { msg, headers } of messages) {
        (msg as { list: number[] }).list.push(0);
        Object.assign(headers as object, { n: "changed" });
      }
      await Promise.all(receipts);
    });
    expect(got).toEqual([{ n: 1, list: [1] }, { n: "given" }, { n: 2, list: [2] }, { n: "given" }]);
  });
});

onBothBackends("dead letters", (backend) => {
  it("are redriven and discarded by the ids that the list held at the call", async () => {
    const stub = fresh(backend);
    stageOf(stub).rest = (messages, delivery) => {
      for (const { id } of messages) delivery.reject(id);
    };
    await inside(stub, async (_, outbox) => {
      for (const n of [1, 2, 3, 4]) await outbox.send(n);
    });
    await drained(stub);
    const counts = await inside(stub, async (_, outbox) => {
      const [first, second, third, fourth] = (await outbox.list({ state: "dead" })).map(({ id }) => id) as [string, string, string, string];
      const redriven = [first];
      const discarded = [second];
      const done = [outbox.redrive(redriven), outbox.discard(discarded)];
      redriven.push(third);
      discarded[0] = fourth;
      return Promise.all(done);
    });
    expect(counts).toEqual([1, 1]);
    await drained(stub);
    const left = await inside(stub, (_, outbox) => outbox.list({ state: "dead" }));
    expect(left.map(({ msg }) => msg)).toEqual([1, 3, 4]);
  });
});
