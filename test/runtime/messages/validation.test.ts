/** The option `messages`: every way of writing checks a message before anything is written, and what passes arrives equal. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type OutboxEnvelope, withTransactionalInbox } from "../../../src/inbox/index.ts";
import { type OutboxManager, type OutboxTransaction, withTransactionalOutbox } from "../../../src/index.ts";
import { SEED, size } from "../../support/random.ts";
import { accepting, schemaOf } from "../../support/schema.ts";
import { drawn, LIBRARIES } from "../../support/schemas.ts";
import {
  type Backend,
  declared,
  drained,
  eventually,
  inside,
  native,
  onEitherBackend,
  outboxRows,
  type Stub,
  sent,
} from "../support/harness.ts";
import { got, objectWith, receivers } from "../support/named.ts";
import { Box, options } from "../support/worker.ts";

const good = { type: "order_created", order: 1, items: [] };
const bad = { type: "order_created", order: 1, items: [{ price: "free" }] };

/** An object whose messages have these schemas. */
const boxOf = (backend: Backend, messages: object): Stub =>
  declared(backend, withTransactionalOutbox(class extends Box {}, { ...options, messages: messages as typeof LIBRARIES.zod }));

/** Every way of writing a message. */
const WAYS: Record<string, (outbox: OutboxManager, msg: unknown) => unknown> = {
  put: (outbox, msg) => outbox.put("key", 2, msg),
  "put of entries": (outbox, msg) => outbox.put({ key: 2, other: 2 }, msg),
  "put of many entries": (outbox, msg) => outbox.put(Object.fromEntries(Array.from({ length: 200 }, (_, n) => [`many:${n}`, n])), msg),
  "put with an id": (outbox, msg) => outbox.put("key", 2, msg, { id: "id" }),
  "put that replaces": (outbox, msg) => outbox.put("key", 2, msg, { id: "id", replace: true }),
  delete: (outbox, msg) => outbox.delete("key", msg),
  "delete of several": (outbox, msg) => outbox.delete(["key", "other"], msg),
  deleteAll: (outbox, msg) => outbox.deleteAll(msg),
  send: (outbox, msg) => outbox.send(msg),
  "txn.send": (outbox, msg) =>
    outbox.transaction(async (txn) => {
      await txn.put("key", 2);
      await txn.send(msg);
    }),
  "txn.send in transactionSync": (outbox, msg) =>
    outbox.transactionSync((txn) => {
      txn.kv.put("key", 2);
      txn.send(msg);
    }),
};

onEitherBackend("the option messages", (backend) => {
  const ways = Object.entries(WAYS).filter(([name]) => backend.name === "sqlite" || !name.endsWith("Sync"));

  it.each(ways)("refuses an invalid message in %s, and nothing is written", async (_, write) => {
    const stub = boxOf(backend, LIBRARIES.zod);
    await inside(stub, async (_, outbox, state) => {
      await state.storage.put("key", 1);
      for (const msg of [bad, { type: "order_creatd" }]) {
        const error = await (async () => await write(outbox, msg))().catch((error: unknown) => error);
        expect(error).toMatchObject({ name: "OutboxError", code: "invalid_message" });
        expect(error).toHaveProperty("issues", [expect.objectContaining({ path: msg === bad ? ["items", 0, "price"] : ["type"] })]);
        expect(String(error)).toContain(msg === bad ? "`msg.items[0].price`" : '"order_paid"');
      }
      expect(Object.fromEntries(await native(state).list())).toEqual({ key: 1 });
      expect(await native(state).getAlarm()).toBeNull();
    });
  });

  it.each(ways)("stores the schema's output in %s", async (_, write) => {
    const stub = boxOf(backend, LIBRARIES.zod);
    await inside(stub, (_, outbox) => write(outbox, good));
    await drained(stub);
    expect(sent(stub).map(({ msg }) => msg)).toEqual([{ ...good, note: "none" }]);
  });

  it.each(ways)("takes in %s what validate() has checked with an async schema, as it was then", async (_, write) => {
    let checks = 0;
    const stub = boxOf(backend, {
      a: schemaOf(async (value) => {
        checks++;
        return { value: { ...(value as object), checked: true } };
      }),
    });
    await inside(stub, async (_, outbox, state) => {
      const refused = await (async () => await write(outbox, { type: "a" }))().catch((error: unknown) => error);
      expect(refused).toBeInstanceOf(TypeError);
      expect(String(refused)).toContain("await manager.validate(msg)");
      expect((await outboxRows(state)).size).toBe(0);
      checks = 0;
      const given = { type: "a", n: 1 };
      const valid = await outbox.validate(given);
      given.n = 2;
      await write(outbox, valid);
      expect(checks).toBe(1);
    });
    await drained(stub);
    expect(sent(stub).map(({ msg }) => msg)).toEqual([{ type: "a", n: 1, checked: true }]);
  });

  it("does not check what has no type, and an object without the option checks nothing", async () => {
    const strict = boxOf(backend, { a: schemaOf(() => ({ issues: [{ message: "never" }] })) });
    const free = declared(backend, withTransactionalOutbox(class extends Box {}, options));
    const untyped = ["text", 1, null, { n: 1 }, { type: 1 }];
    await inside(strict, (_, outbox) => Promise.all(untyped.map((msg) => outbox.send(msg))));
    await inside(free, async (_, outbox) => {
      await Promise.all([...untyped, bad].map((msg) => outbox.send(msg)));
      await outbox.send(await outbox.validate(bad));
    });
    await Promise.all([drained(strict), drained(free)]);
    expect(sent(strict).map(({ msg }) => msg)).toEqual(untyped);
    expect(sent(free).map(({ msg }) => msg)).toEqual([...untyped, bad, bad]);
  });

  it("finds a message that must wait invalid at the call, before it waits", async () => {
    const stub = declared(
      backend,
      class extends withTransactionalOutbox(class extends Box {}, { ...options, messages: LIBRARIES.zod }) {
        early = this.outbox.put("key", 1, bad).then(
          () => "stored",
          (error: { code?: string }) => error.code,
        );
        late = this.outbox.put("key", 1, good);
      } as never,
    );
    expect(
      await inside(stub, (box) => Promise.all([(box as never as { early: unknown }).early, (box as never as { late: unknown }).late])),
    ).toEqual(["invalid_message", expect.objectContaining({ sequence: 1 })]);
  });

  it("checks what an inbox's handler sends: nothing of it is written, and the message is processed again", async () => {
    class Base extends Box {
      async receiveMessage({ msg }: OutboxEnvelope, txn: OutboxTransaction): Promise<void> {
        await txn.put("seen", 1);
        await txn.send(msg);
      }
    }
    const stub = declared(backend, withTransactionalInbox(withTransactionalOutbox(Base, { ...options, messages: LIBRARIES.zod })) as never);
    const receive = (msg: unknown) =>
      inside(stub, (box) =>
        (box as never as { receiveMessages(list: unknown[]): Promise<unknown[]> }).receiveMessages([{ v: 1, id: "1", msg }]),
      );
    expect(await receive(bad)).toEqual([{ id: "1", status: "failed", error: expect.stringContaining("`msg.items[0].price`") }]);
    await inside(stub, async (_, __, state) => expect(await state.storage.get("seen")).toBeUndefined());
    expect(await receive(good)).toEqual([{ id: "1", status: "processed" }]);
    await drained(stub);
    expect(sent(stub).map(({ msg }) => msg)).toEqual([{ ...good, note: "none" }]);
  });

  it("is not fooled by a message that changes while it is checked", async () => {
    const stub = boxOf(backend, {
      a: schemaOf((value) => {
        const { n } = value as { n: number };
        (value as { n: number }).n = 5;
        return { value: { n } };
      }),
    });
    await inside(stub, (_, outbox) => outbox.send({ type: "a", n: 1 }));
    await drained(stub);
    expect(sent(stub).map(({ msg }) => msg)).toEqual([{ type: "a", n: 1 }]);
  });

  describe.each(Object.entries(LIBRARIES))("with schemas of %s", (_, library) => {
    it("lets whatever passes arrive equal, and nothing else", async () => {
      const all = receivers("orders", "everything");
      const stub = objectWith(backend, all, { orders: { types: ["order_created"] }, everything: {} }, { messages: library });
      const expected: object[] = [];
      const messages = fc.sample(drawn, { seed: SEED, numRuns: size(150, 2000) });
      await inside(stub, async (_, outbox) => {
        for (const msg of messages) {
          const { "~standard": standard } = library[msg.type as "order_paid"];
          const result = standard.validate(structuredClone(msg)) as { issues?: unknown; value?: object };
          const written = await outbox.put("last", msg, msg).then(
            () => true,
            (error: { code?: string }) => expect(error.code).toBe("invalid_message"),
          );
          expect(written === true, JSON.stringify(msg)).toBe(!result.issues);
          if (!result.issues) expected.push({ ...result.value, type: msg.type });
        }
      });
      expect(expected.length).toBeGreaterThan(messages.length / 5);
      expect(expected.length).toBeLessThan(messages.length);
      await eventually(() => got(all.everything).length >= expected.length);
      expect(got(all.everything)).toEqual(expected);
      const orders = expected.filter((msg) => (msg as { type: string }).type === "order_created");
      await eventually(() => got(all.orders).length >= orders.length);
      expect(got(all.orders)).toEqual(orders);
    });
  });

  it("costs no row and no read", async () => {
    const costs: unknown[] = [];
    for (const messages of [undefined, { a: accepting }]) {
      const all = receivers("one");
      const stub = objectWith(backend, all, { one: {} }, messages ? { messages } : {});
      await inside(stub, (_, outbox) => Promise.all(Array.from({ length: 50 }, (_, n) => outbox.put("n", n, { type: "a", n }))));
      await eventually(() => got(all.one).length >= 50);
      await drained(stub);
      costs.push(await inside(stub, ({ ledger: { rows, reads, alarms } }) => ({ rows, reads, alarms })));
    }
    expect(costs[1]).toEqual(costs[0]);
  });
});
