/** The reserved range: the object's own code can neither read nor write a row of the outbox, through `storage`, `kv` or a transaction. */
import { describe, expect, it } from "vitest";
import { crowded } from "../support/crowded.ts";
import { type Backend, declared, inside, native, onBothBackends, outboxRows, type Stub } from "../support/harness.ts";
import { Box } from "../support/worker.ts";

type Store = Record<"get" | "put" | "delete" | "list", (...args: unknown[]) => unknown>;

/** Through what the object's own code reaches its keys. */
const WAYS: [string, (state: DurableObjectState, body: (store: Store) => Promise<unknown>) => Promise<unknown>][] = [
  ["storage", ({ storage }, body) => body(storage as unknown as Store)],
  ["txn", ({ storage }, body) => storage.transaction((txn) => body(txn as unknown as Store))],
  ["kv", ({ storage }, body) => body(storage.kv as unknown as Store)],
];

const HEADER = "\u{10FFFF}outbox/h";
const RESERVED = ["\u{10FFFF}", HEADER, "\u{10FFFF}outbox/s000000000000001", "\u{10FFFF}own", "\u{10FFFF}\u{10FFFF}"];

/** What a call gave, or the error with which it was refused, at once or later. */
async function outcome(call: () => unknown): Promise<unknown> {
  try {
    const result = await call();
    const entries = Object(result) === result && Symbol.iterator in (result as object) ? [...(result as Iterable<unknown>)] : result;
    return { result: entries };
  } catch (error) {
    const { name, message, code } = error as Error & { code?: unknown };
    return { name, message, code };
  }
}

const waysOf = (backend: Backend) => WAYS.filter(([way]) => way !== "kv" || backend.name === "sqlite");

onBothBackends("a reserved key", (backend) => {
  /** Each call, and whether `storage.kv` has it. */
  const CALLS: [string, boolean, (store: Store, key: unknown) => unknown][] = [
    ["get", true, (store, key) => store.get(key)],
    ["get of several", false, (store, key) => store.get(["held", key])],
    ["put", true, (store, key) => store.put(key, "overwritten")],
    ["put of undefined", true, (store, key) => store.put(key, undefined)],
    ["put of entries", false, (store, key) => store.put({ fresh: 1, [String(key)]: 1, held: 2 })],
    ["delete", true, (store, key) => store.delete(key)],
    ["delete of several", false, (store, key) => store.delete(["held", key, "none"])],
  ];

  describe.each(waysOf(backend))("through %s", (way, through) => {
    it.each(CALLS.filter(([, sync]) => way !== "kv" || sync))("is refused by %s, and nothing is done", async (_, __, call) => {
      await inside(await crowded(backend), async (_, outbox, state) => {
        await state.storage.put("held", 1);
        const before = await native(state).list();
        for (const key of RESERVED) {
          await through(state, async (store) => {
            const refused = expect.objectContaining({ name: "OutboxError", code: "reserved_key" });
            if (way === "kv") return expect(() => call(store, key)).toThrow(refused);
            // A promise that rejects, as those of the platform do: the call itself does not throw.
            const done = call(store, key);
            expect(done).toBeInstanceOf(Promise);
            await expect(done).rejects.toEqual(refused);
          });
        }
        expect(await native(state).list()).toEqual(before);
        expect(await outbox.stats()).toMatchObject({ pending: 40, delayed: 3, blocked: 1, dead: 1 });
      });
    });

    it("is refused also where a text is made of it, as the platform makes one of anything", async () => {
      await inside(await crowded(backend), async (_, __, state) => {
        const before = await native(state).list();
        const texts = () => [new String(HEADER), [HEADER], { toString: () => HEADER }];
        await through(state, async (store) => {
          for (const key of texts()) {
            const calls = [() => store.get(key), () => store.delete(key)];
            if (way !== "kv")
              calls.push(
                () => store.get([key]),
                () => store.delete(["held", key]),
              );
            else calls.push(() => store.put(key, 1));
            for (const call of calls) expect(await outcome(call)).toMatchObject({ code: "reserved_key" });
          }
        });
        expect(await native(state).list()).toEqual(before);
      });
    });

    it("does not keep others out: its neighbours are the object's own", async () => {
      const keys = ["a\u{10FFFF}", "\u{10FFFE}", "\u{10FFFE}\u{10FFFF}", "\udbff", "\udfff", "\udfff\udbff", ""];
      await inside(await crowded(backend), async (_, __, state) => {
        await through(state, async (store) => {
          for (const [n, key] of keys.entries()) {
            await store.put(key, n);
            expect(await store.get(key)).toBe(n);
            expect(await store.delete(key)).toBe(true);
          }
        });
      });
    });
  });
});

onBothBackends("a list", (backend) => {
  const RANGES: [string, DurableObjectListOptions | undefined][] = [
    ["no options", undefined],
    ["no range", {}],
    ["the outbox's prefix", { prefix: "\u{10FFFF}" }],
    ["a prefix within the range", { prefix: "\u{10FFFF}outbox/s" }],
    ["a start in the range", { start: "\u{10FFFF}" }],
    ["a start within the range, backwards", { start: HEADER, reverse: true }],
    ["a start behind an outbox row", { startAfter: HEADER }],
    ["the last own key to start after", { startAfter: "\u{10FFFE}" }],
    ["an end at the range", { end: "\u{10FFFF}" }],
    ["an end within the range", { end: HEADER }],
    ["an end behind the range", { end: "\u{10FFFF}\u{10FFFF}\u{10FFFF}" }],
    ["all of the range and nothing else", { start: "\u{10FFFF}", end: "\u{10FFFF}\u{10FFFF}" }],
    ["a limit that the own keys don't fill", { limit: 100 }],
    ["a limit that they fill", { limit: 3 }],
    ["the last ones", { reverse: true, limit: 2 }],
    ["the last ones up to within the range", { end: HEADER, reverse: true, limit: 2 }],
    ["options that it inherits", Object.create({ prefix: "a", limit: 1 })],
    [
      "options that are getters of a class",
      new (class Options {
        get prefix() {
          return "b";
        }
        get reverse() {
          return true;
        }
      })(),
    ],
  ];

  /** The same for all ranges: reading changes nothing. */
  let object: Promise<Stub> | undefined;
  const own = { a: 1, a2: 2, b: 3, b2: 4, "\ufffd": 5, "\u{10FFFE}": 6 };

  it.each(RANGES)("with %s shows the object's own keys alone, as an object without an outbox does", async (_, range) => {
    const plain = await inside(declared(backend, Box), async (_, __, { storage }) => {
      await storage.put(own);
      return [...(await storage.list(range))];
    });
    object ??= crowded(backend);
    await inside(await object, async (_, outbox, state) => {
      await state.storage.put(own);
      for (const [, through] of waysOf(backend)) {
        await through(state, async (store) => expect([...((await store.list(range)) as Map<string, unknown>)]).toEqual(plain));
      }
      await outbox.transaction(async (txn) => expect([...(await txn.list(range))]).toEqual(plain));
      if (backend.name === "sqlite") outbox.transactionSync(({ kv }) => expect([...kv.list(range)]).toEqual(plain));
      expect((await outboxRows(state)).size).toBeGreaterThan(40);
    });
  });
});

onBothBackends("a bad argument", (backend) => {
  const bad = [
    undefined,
    null,
    5,
    true,
    Symbol("key"),
    {},
    [],
    [5, null],
    [Symbol("key")],
    [Object.create(null)],
    () => {},
    new Set(["a"]),
  ];
  const CALLS: [string, (store: Store) => unknown][] = [
    ...bad.flatMap((key): [string, (store: Store) => unknown][] => [
      [`get(${typeof key})`, (store) => store.get(key)],
      [`delete(${typeof key})`, (store) => store.delete(key)],
      [`put(${typeof key})`, (store) => store.put(key)],
      [`put(${typeof key}, 1)`, (store) => store.put(key, 1)],
      [`list(${typeof key})`, (store) => store.list(key)],
      [`list({ end: ${typeof key} })`, (store) => store.list({ end: key })],
      [`list({ start: ${typeof key} })`, (store) => store.list({ start: key })],
      [`list({ prefix: ${typeof key} })`, (store) => store.list({ prefix: key })],
      [`list({ limit: ${typeof key} })`, (store) => store.list({ limit: key })],
    ]),
    ["get()", (store) => store.get()],
    ["put()", (store) => store.put()],
    ["put(key)", (store) => store.put("a")],
    ["put(key, function)", (store) => store.put("a", () => {})],
    ["put(entries) with a function", (store) => store.put({ a: 1, b() {} })],
    ["put(key, value, options)", (store) => store.put("a", 1, 5)],
    ["delete()", (store) => store.delete()],
    ["list() with two starts", (store) => store.list({ start: "a", startAfter: "a" })],
    ["list() with no limit at all", (store) => store.list({ limit: 0 })],
    ["list() with a negative limit", (store) => store.list({ limit: -1 })],
    ["list() of a text", (store) => store.list("a")],
  ];

  it.each(waysOf(backend))("has the platform's own answer through %s", async (_, through) => {
    const answers = (state: DurableObjectState) =>
      Promise.all(
        CALLS.map(async ([name, call]) => {
          const answer: { it?: unknown } = {};
          await through(state, async (store) => {
            answer.it = await outcome(() => call(store));
          });
          return [name, answer.it];
        }),
      );
    const plain = await inside(declared(backend, Box), (_, __, state) => answers(state));
    const wrapped = await inside(await crowded(backend), (_, __, state) => answers(state));
    expect(wrapped).toEqual(plain);
  });
});
