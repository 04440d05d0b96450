/** G1, what a crash leaves: state, message and wake-up are committed together or not at all. */
import { describe, expect, it } from "vitest";
import {
  type Backend,
  crash,
  crashAfter,
  drained,
  expectFirst,
  expectUntouched,
  fresh,
  handedOver,
  inside,
  native,
  numbered,
  onBothBackends,
  type Stub,
  sent,
} from "../support/harness.ts";
import { stageOf } from "../support/worker.ts";

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

onBothBackends("the alarm", (backend) => {
  it.each(["put", "delete", "send"] as const)("is armed in the turn of a %s", async (method) => {
    await inside(fresh(backend), async (_, outbox, state) => {
      const WRITES = {
        put: () => outbox.put("a", 1, "message"),
        delete: () => outbox.delete("a", "message"),
        send: () => outbox.send("message"),
      };
      const written = WRITES[method]();
      const alarm = native(state).getAlarm();
      expect(await alarm).not.toBeNull();
      await written;
    });
  });
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
