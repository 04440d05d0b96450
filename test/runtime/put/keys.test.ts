/** Keys and options: what reaches storage is what `storage.put` would have been given. */
import { describe, expect, it } from "vitest";
import type { OutboxManager } from "../../../src/index.ts";
import { drained, fresh, inside, native, onBothBackends, type Stub, sent } from "../support/harness.ts";

const many = Object.fromEntries(Array.from({ length: 200 }, (_, n) => [`key:${n}`, n]));

/** Entries that are easily got wrong, each made anew. */
const ENTRIES: [string, () => object][] = [
  ["an own __proto__", () => JSON.parse('{"__proto__": 1, "plain": 2}')],
  ["an own __proto__ among 200", () => JSON.parse(`{"__proto__": {"deep": 1}, ${JSON.stringify(many).slice(1)}`)],
  ["names of Object.prototype", () => ({ constructor: 1, toString: 2, hasOwnProperty: 3, valueOf: 4 })],
  ["an empty key", () => ({ "": 1 })],
  ["lone surrogates", () => ({ "\ud800": 1, "a\udc00b": 2, "\ud83d\ude00": 3 })],
  ["keys that look like numbers", () => ({ 2: "two", 1: "one", b: "b", "-1": "minus" })],
  ["inherited entries", () => Object.create({ inherited: 1 }, { own: { value: 2, enumerable: true } })],
  ["entries that are not enumerable", () => Object.defineProperty({ seen: 1 }, "unseen", { value: 2 })],
  ["symbols", () => ({ [Symbol("symbol")]: 1, plain: 2 })],
  [
    "a getter",
    () => ({
      get computed() {
        return { value: 1 };
      },
    }),
  ],
  ["undefined values", () => ({ gone: undefined, kept: null })],
  ["undefined values among 200", () => ({ gone: undefined, ...many })],
  [
    "values of every kind among 200",
    () => ({ date: new Date(1), map: new Map([[1, -0]]), holes: Object.assign([1], { 2: 3 }), nan: Number.NaN, ...many }),
  ],
  ["an array", () => ["zero", "one"]],
  ["nothing", () => ({})],
  [
    "a class's instance",
    () =>
      new (class {
        field = 1;
        method() {}
      })(),
  ],
];

/** What a put left behind, or the name of the error with which it was refused. */
async function outcome(stub: Stub, put: (outbox: OutboxManager, storage: DurableObjectStorage) => Promise<unknown>): Promise<unknown> {
  return inside(stub, async (_, outbox, { storage }) => {
    const refused = await Promise.resolve(put(outbox, storage)).then(
      () => undefined,
      (error: Error) => error.name,
    );
    return { refused, entries: [...(await storage.list({ end: "\u{10FFFF}" }))] };
  });
}

onBothBackends("put", (backend) => {
  it.each(ENTRIES)("stores %s as storage.put does", async (_, entries) => {
    const [stub, twin] = [fresh(backend), fresh(backend)];
    const expected = await outcome(twin, (_, storage) => {
      const all = Object.entries(entries());
      if (all.length <= 128) return storage.put(entries() as Record<string, unknown>);
      return Promise.all([0, 128].map((n) => storage.put(Object.fromEntries(all.slice(n, n + 128)))));
    });
    expect(await outcome(stub, (outbox) => outbox.put(entries() as Record<string, unknown>, "message"))).toEqual(expected);
    await drained(stub);
    expect(sent(stub).map(({ msg }) => msg)).toEqual((expected as { refused?: string }).refused ? [] : ["message"]);
  });

  it.each(["__proto__", "constructor", "", "\ud800", "a\0b"])("stores under the key %j as storage.put does", async (key) => {
    const [stub, twin] = [fresh(backend), fresh(backend)];
    const expected = await outcome(twin, (_, storage) => storage.put(key, { value: 1 }));
    expect(await outcome(stub, (outbox) => outbox.put(key, { value: 1 }, "message"))).toEqual(expected);
    await drained(stub);
    const gone = await outcome(twin, (_, storage) => storage.delete(key));
    expect(await outcome(stub, (outbox) => outbox.delete(key, "deleted"))).toEqual(gone);
    await drained(stub);
    expect(sent(stub).map(({ msg }) => msg)).toEqual(["message", "deleted"]);
  });

  it.each([undefined, null, 5, true, Symbol("key")])("refuses %o in the place of a key or of entries", async (first) => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox, state) => {
      await expect(outbox.put(first as never, 1, "message")).rejects.toThrow(TypeError);
      await expect(outbox.put(first as never, "message")).rejects.toThrow(TypeError);
      await expect(outbox.delete(first as never, "message")).rejects.toThrow(TypeError);
      await expect(outbox.delete(["key", first as never], "message")).rejects.toThrow(TypeError);
      expect((await native(state).list()).size).toBe(0);
      expect(await native(state).getAlarm()).toBeNull();
    });
  });
});

onBothBackends("a key in the outbox's range", (backend) => {
  const RESERVED = ["\u{10FFFF}", "\u{10FFFF}outbox/s0000000000000001", "\u{10FFFF}anything"];
  const WRITES: [string, (outbox: OutboxManager, key: string) => Promise<unknown>][] = [
    ["put", (outbox, key) => outbox.put(key, 1, "message")],
    ["put of entries", (outbox, key) => outbox.put({ good: 1, [key]: 1 }, "message")],
    ["put of 201 entries", (outbox, key) => outbox.put({ ...many, [key]: 1 }, "message")],
    ["delete", (outbox, key) => outbox.delete(key, "message")],
    ["delete of keys", (outbox, key) => outbox.delete([...Object.keys(many), key], "message")],
  ];

  describe.each(WRITES)("is refused by %s", (_, write) => {
    it("before anything is written", async () => {
      await inside(fresh(backend), async (_, outbox, state) => {
        for (const key of RESERVED) {
          await expect(write(outbox, key)).rejects.toMatchObject({ name: "OutboxError", code: "reserved_key" });
        }
        expect((await native(state).list()).size).toBe(0);
        expect(await native(state).getAlarm()).toBeNull();
        expect(await outbox.send("the first")).toMatchObject({ sequence: 1 });
      });
    });
  });

  it("begins after every other key, so that a bounded list shows the object's own", async () => {
    await inside(fresh(backend), async (_, outbox, { storage }) => {
      await outbox.put("\u{10FFFE}", 1, "message");
      expect([...(await storage.list({ end: "\u{10FFFF}" })).keys()]).toEqual(["\u{10FFFE}"]);
    });
  });
});

onBothBackends("options of the storage call", (backend) => {
  const given = { allowConcurrency: true, allowUnconfirmed: true, noCache: true };
  const WRITES: [string, number, (outbox: OutboxManager, options: object) => Promise<unknown>][] = [
    ["put", 1, (outbox, options) => outbox.put("key", 1, "message", options)],
    ["put of entries", 1, (outbox, options) => outbox.put({ a: 1, b: 2 }, "message", options)],
    ["put of 200 entries", 2, (outbox, options) => outbox.put(many, "message", options)],
    ["delete", 2, (outbox, options) => outbox.delete("key", "message", options)],
    ["delete of 200 keys", 3, (outbox, options) => outbox.delete(Object.keys(many), "message", options)],
    ["send", 1, (outbox, options) => outbox.send("message", options)],
  ];

  it.each(WRITES)("reach each call that %s makes", async (_, calls, write) => {
    await inside(fresh(backend), async ({ ledger }, outbox) => {
      const written = write(outbox, given);
      expect(ledger.options).toEqual(Array(calls).fill(expect.objectContaining(given)));
      await written;
    });
  });
});
