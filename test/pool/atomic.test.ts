/** G1: state, message and wake-up are committed together or not at all. */
import { describe, expect, it } from "vitest";
import type { OutboxManager } from "../../src/index.ts";
import { type Backend, crash, crashAfter, drained, fresh, handedOver, inside, native, onBothBackends, type Stub, sent } from "./harness.ts";
import { stageOf } from "./worker.ts";

/** Asserts that the object holds exactly these rows of its own, no row of the outbox and no alarm. */
async function expectUntouched(state: DurableObjectState, own: Record<string, unknown> = {}): Promise<void> {
  expect(Object.fromEntries(await native(state).list())).toEqual(own);
  expect(await native(state).getAlarm()).toBeNull();
}

/** Asserts that the next message is the object's first, and the only one that arrives. */
async function expectFirst(stub: Stub): Promise<void> {
  const { sequence } = await inside(stub, (_, outbox) => outbox.send("the first"));
  expect(sequence).toBe(1);
  await drained(stub);
  expect(sent(stub).map(({ msg }) => msg)).toEqual(["the first"]);
}

function numbered(count: number): Record<string, number> {
  return Object.fromEntries(Array.from({ length: count }, (_, n) => [`key:${String(n).padStart(4, "0")}`, n]));
}

const UNCLONEABLE: [string, () => unknown][] = [
  ["a function", () => () => {}],
  ["a symbol", () => Symbol("no")],
  ["undefined", () => undefined],
  ["a promise", () => Promise.resolve()],
  [
    "a cyclic structure with a function in it",
    () => {
      const cycle: Record<string, unknown> = { deep: [{ call() {} }] };
      cycle.self = cycle;
      return cycle;
    },
  ],
];

/** Every form of a write, on an object that has the key `held` and no other. */
const WRITES: [string, (outbox: OutboxManager, msg: unknown) => Promise<unknown>][] = [
  ["put of a key", (outbox, msg) => outbox.put("fresh", 1, msg)],
  ["put of entries", (outbox, msg) => outbox.put({ held: 1, fresh: 1 }, msg)],
  ["put of 129 entries", (outbox, msg) => outbox.put(numbered(129), msg)],
  ["delete of a key", (outbox, msg) => outbox.delete("held", msg)],
  ["delete of 129 keys", (outbox, msg) => outbox.delete(["held", ...Object.keys(numbered(128))], msg)],
  ["send", (outbox, msg) => outbox.send(msg)],
];

onBothBackends("a message that can't be stored", (backend) => {
  describe.each(WRITES)("%s", (_, write) => {
    it.each(UNCLONEABLE)("refuses %s before anything is written", async (_, message) => {
      const stub = fresh(backend);
      await inside(stub, async (_, outbox, state) => {
        await state.storage.put("held", 0);
        await expect(write(outbox, message())).rejects.toThrow(TypeError);
        await expectUntouched(state, { held: 0 });
      });
      await expectFirst(stub);
    });
  });

  const limit = backend.name === "sqlite" ? 2 * 1024 * 1024 : 128 * 1024;
  const SIZED: [string, (bytes: number) => unknown][] = [
    ["text", (bytes) => "x".repeat(bytes)],
    ["text outside Latin-1", (bytes) => "\u2713".repeat(bytes / 2)],
    ["binary data", (bytes) => new Uint8Array(bytes)],
    ["a list of numbers", (bytes) => Array.from({ length: Math.ceil(bytes / 9) }, () => Math.PI)],
    ["an object with many keys", (bytes) => numbered(Math.ceil(bytes / 10))],
  ];

  it.each(SIZED)("refuses %s over the limit before anything is written", async (_, sized) => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox, state) => {
      await expect(outbox.put("a", 1, sized(limit))).rejects.toMatchObject({ name: "OutboxError", code: "too_large" });
      await expectUntouched(state);
    });
    await expectFirst(stub);
  });

  it.each(SIZED.slice(0, 3))("delivers %s just under the limit", async (_, sized) => {
    const stub = fresh(backend);
    const msg = sized(limit - 4096);
    const receipt = await inside(stub, (_, outbox) => outbox.put("a", 1, msg));
    await handedOver(stub, 1);
    await drained(stub);
    expect(sent(stub)).toHaveLength(1);
    expect(sent(stub)[0]?.id).toBe(receipt.id);
    expect(same(sent(stub)[0]?.msg, msg)).toBe(true);
  });

  it.each(SIZED)("stores %s near the limit or refuses it by name, and never leaves that to storage", async (_, sized) => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox) => {
      const stored: boolean[] = [];
      for (const part of [4, 8, 12, 14, 15, 16]) {
        const result = await outbox.send(sized(Math.floor((limit * part) / 32) * 2)).catch((error) => error.code ?? error);
        expect(result === "too_large" || result.sequence, String(result)).toBeTruthy();
        stored.push(result !== "too_large");
      }
      expect(stored[0]).toBe(true);
      expect(stored.at(-1)).toBe(false);
    });
  });

  /** Equality of big values, which the matchers take seconds for. */
  function same(one: unknown, other: unknown): boolean {
    if (!(one instanceof Uint8Array && other instanceof Uint8Array)) return one === other;
    return one.length === other.length && one.every((byte, n) => byte === other[n]);
  }
});

onBothBackends("a state value that can't be stored", (backend) => {
  const BAD: [string, () => unknown][] = [["a function", () => () => {}]];
  if (backend.name === "sqlite") BAD.push(["a string of 3 MB", () => "x".repeat(3 * 1024 * 1024)]);

  describe.each(BAD)("%s", (_, bad) => {
    it("leaves no state, no message and no alarm", async () => {
      const stub = fresh(backend);
      await inside(stub, async (_, outbox, state) => {
        await expect(outbox.put("bad", bad(), "lost")).rejects.toThrow();
        await expect(outbox.put({ good: 1, bad: bad() }, "lost")).rejects.toThrow();
        await expectUntouched(state);
      });
      await expectFirst(stub);
    });

    it("leaves nothing when it is the last of 129 or of 1,000 entries", async () => {
      const stub = fresh(backend);
      await inside(stub, async (_, outbox, state) => {
        for (const count of [128, 999]) {
          await expect(outbox.put({ ...numbered(count), last: bad() }, "lost")).rejects.toThrow();
          await expectUntouched(state);
        }
      });
      await expectFirst(stub);
    });

    it("leaves the good put of the same turn alone, whichever comes first", async () => {
      const stub = fresh(backend);
      await inside(stub, async (_, outbox, state) => {
        const results = await Promise.allSettled([
          outbox.put("good:1", 1, "good 1"),
          outbox.put("bad", bad(), "lost"),
          outbox.put("good:2", 2, "good 2"),
        ]);
        expect(results.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
        expect([...(await state.storage.list({ end: "\u{10FFFF}" }))]).toEqual([
          ["good:1", 1],
          ["good:2", 2],
        ]);
      });
      await handedOver(stub, 2);
      await drained(stub);
      expect(sent(stub).map(({ msg }) => msg)).toEqual(["good 1", "good 2"]);
    });
  });
});

onBothBackends("a crash", (backend) => {
  const keys = (stub: Stub) => inside(stub, async (_, __, state) => [...(await state.storage.list({ end: "\u{10FFFF}" })).keys()]);

  describe.each([1, 128, 129, 1000])("with %i entries", (count) => {
    it("in the turn of the put leaves nothing", async () => {
      const stub = await crash(fresh(backend), (outbox) => outbox.put(numbered(count), "lost"));
      await inside(stub, (_, __, state) => expectUntouched(state));
      await expectFirst(stub);
    });

    it("after the put is durable leaves all entries and one message", async () => {
      const stub = await crashAfter(fresh(backend), async (outbox, state) => {
        void outbox.put(numbered(count), "kept");
        await state.storage.sync();
      });
      await expectKept(stub, Object.keys(numbered(count)));
    });

    it("in the turn of the delete leaves all keys", async () => {
      const stub = await holding(backend, count);
      const next = await crash(stub, (outbox) => outbox.delete(Object.keys(numbered(count)), "lost"));
      await inside(next, (_, __, state) => expectUntouched(state, numbered(count)));
      await expectFirst(next);
    });

    it("after the delete is durable leaves no key and one message", async () => {
      const stub = await crashAfter(await holding(backend, count), async (outbox, state) => {
        void outbox.delete(Object.keys(numbered(count)), "kept");
        await state.storage.sync();
      });
      await expectKept(stub, []);
    });
  });

  it("at any moment around a put leaves state and message, or neither", async () => {
    for (let turns = 0; turns < 8; turns++) {
      const stub = fresh(backend);
      stageOf(stub).rest = () => Promise.reject(new Error("down"));
      const next = await crashAfter(stub, async (outbox) => {
        outbox.put(numbered(200), "message").catch(() => {});
        for (let turn = 0; turn < turns; turn++) await scheduler.wait(0);
      });
      const { pending } = await inside(next, (_, outbox) => outbox.stats());
      expect([turns, await keys(next)]).toEqual([turns, pending === 1 ? Object.keys(numbered(200)) : []]);
    }
  });

  it("after the call was answered leaves the state and the message", async () => {
    const stub = fresh(backend);
    await inside(stub, (_, outbox) => outbox.put("a", 1, "kept"));
    await expectKept(await crash(stub), ["a"]);
  });

  /** A crash may come between a send and its clearing, so the message is counted by its id. */
  async function expectKept(stub: Stub, expected: string[]): Promise<void> {
    expect(await keys(stub)).toEqual(expected);
    await handedOver(stub, 1);
    await drained(stub);
    expect(new Set(sent(stub).map(({ id }) => id)).size).toBe(1);
    expect(sent(stub)[0]?.msg).toBe("kept");
  }

  async function holding(backend: Backend, count: number): Promise<Stub> {
    const stub = fresh(backend);
    await inside(stub, async (_, __, state) => {
      for (const [key, value] of Object.entries(numbered(count))) void state.storage.put(key, value);
    });
    return stub;
  }
});

onBothBackends("send", (backend) => {
  /** What the caller writes by itself in the turn of the send, and how it is read. */
  const JOINED: [string, (state: DurableObjectState) => unknown, (state: DurableObjectState) => unknown][] = [
    ["storage.put", (state) => state.storage.put("own", 1), (state) => state.storage.get("own")],
  ];
  if (backend.name === "sqlite") {
    const rows = (state: DurableObjectState) => state.storage.sql.exec("SELECT name FROM sqlite_master WHERE name = 'own'").toArray();
    JOINED.push(["kv.put", (state) => state.storage.kv.put("own", 1), (state) => state.storage.kv.get("own")]);
    JOINED.push(["sql.exec", (state) => state.storage.sql.exec("CREATE TABLE own (id)"), (state) => rows(state)[0]?.name]);
  }

  describe.each(JOINED)("joins what %s writes in the same turn", (_, write, read) => {
    it.each(["before", "after"])("%s it: a crash leaves neither", async (order) => {
      const stub = await crash(fresh(backend), (outbox, state) => {
        const before = order === "before" ? write(state) : undefined;
        const sending = outbox.send("lost");
        const after = order === "after" ? write(state) : undefined;
        return Promise.all([before, sending, after]);
      });
      await inside(stub, async (_, __, state) => {
        expect((await read(state)) ?? null).toBeNull();
        await expectUntouched(state);
      });
      await expectFirst(stub);
    });

    it("and both are kept once they are durable", async () => {
      const stub = await crashAfter(fresh(backend), async (outbox, state) => {
        void write(state);
        void outbox.send("kept");
        await state.storage.sync();
      });
      await inside(stub, async (_, __, state) => expect((await read(state)) ?? null).not.toBeNull());
      await handedOver(stub, 1);
      expect(sent(stub)[0]?.msg).toBe("kept");
    });
  });
});

onBothBackends("delete with a message", (backend) => {
  it("answers as storage.delete does", async () => {
    const [stub, twin] = [fresh(backend), fresh(backend)];
    const entries = numbered(300);
    const [some, held] = [["key:0000", "none", "key:0001"], Object.keys(entries).slice(2, 150)];
    await inside(stub, (_, outbox) => outbox.put(entries, "put"));
    const ours = await inside(stub, async (_, outbox) => [
      await outbox.delete("none", 1),
      await outbox.delete("key:0299", 2),
      await outbox.delete(some, 3),
      await outbox.delete([], 4),
      await outbox.delete([...held, "none", ...Object.keys(entries).slice(150, 160)], 5),
    ]);
    const natives = await inside(twin, async (_, __, { storage }) => {
      for (const [key, value] of Object.entries(entries)) void storage.put(key, value);
      const answers: unknown[] = [await storage.delete("none"), await storage.delete("key:0299")];
      answers.push(await storage.delete(some), await storage.delete([]));
      const [first, second] = [await storage.delete(held.slice(0, 100)), await storage.delete(Object.keys(entries).slice(102, 160))];
      return [...answers, first + second];
    });
    expect(ours).toEqual(natives);
    await drained(stub);
    expect(sent(stub).map(({ msg }) => msg)).toEqual(["put", 1, 2, 3, 4, 5]);
  });
});
