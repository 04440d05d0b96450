/** G7, counted: what an outbox costs, in rows and alarms, and that it costs nothing when nothing waits. */
import { evictDurableObject } from "cloudflare:test";
import { expect, it } from "vitest";
import { by, unhurried } from "../../support/patience.ts";
import { again, drained, fresh, inside, native, onBothBackends, outboxRows, type Stub, sent, until } from "../support/harness.ts";
import { ledgered, ring } from "../support/lanes.ts";
import { patient } from "../support/standing.ts";
import { type Sent, stageOf } from "../support/worker.ts";
import { expectFired, getAlarm, setIn } from "../support/worlds.ts";

/** The ledger since `before`, or since the object started. */
function counted(stub: Stub, before = { rows: 0, alarms: 0, disarmed: 0, reads: 0 }) {
  return inside(stub, ({ ledger: { rows, alarms, disarmed, reads } }) => ({
    rows: rows - before.rows,
    alarms: alarms - before.alarms,
    disarmed: disarmed - before.disarmed,
    reads: reads - before.reads,
  }));
}

const rowsOf = (stub: Stub) => inside(stub, async (_, __, state) => [...(await outboxRows(state)).keys()]);
const nativeAlarm = (stub: Stub) => inside(stub, (_, __, state) => native(state).getAlarm());

/** Keeps the alarm from firing until `body` has ended. */
function beforeAnyAlarm(stub: Stub, body: (put: (n: number) => Promise<unknown>) => Promise<void>): Promise<void> {
  return inside(stub, (_, outbox, state) => state.blockConcurrencyWhile(() => body((n) => outbox.put(`key:${n}`, n, { n }))));
}

/** An alarm that is overdue by this many milliseconds is late. */
const LATE_MS = 1000;

onBothBackends("an idle object", (backend) => {
  it("pays one row to store, one alarm and one row to clear for a message, the first and the next", () =>
    unhurried(
      LATE_MS,
      async () => {
        const stub = fresh(backend);
        for (const message of ["first", "second", "third"]) {
          const before = await counted(stub);
          // An alarm that is late costs another one.
          await by(Date.now() + LATE_MS, async () => {
            await inside(stub, (_, outbox) => outbox.put("key", 1, message));
            await drained(stub);
          });
          expect(await counted(stub, before)).toMatchObject({ rows: 2, alarms: 1, disarmed: 0 });
        }
        expect(sent(stub).map(({ msg }) => msg)).toEqual(["first", "second", "third"]);
        // It is always the same row: overwritten as the marker, and by the next message.
        expect(await inside(stub, ({ ledger }) => new Set(ledger.keys).size)).toBe(1);
      },
      1.4,
    ));

  it("reads once when it starts, and writes nothing", async () => {
    const stub = fresh(backend);
    const start = await counted(stub);
    expect(start).toMatchObject({ rows: 0, alarms: 0, disarmed: 0 });
    // One that has never held a message also looks for what version 0.1.0 may have left.
    expect(start.reads).toBe(3);

    await inside(stub, (_, outbox) => outbox.send("message"));
    await drained(stub);
    await evictDurableObject(stub);
    const next = await counted(again(stub));
    expect(next).toMatchObject({ rows: 0, alarms: 0, disarmed: 0, reads: 1 });
  });

  it("holds one row and no alarm after delivery", async () => {
    const stub = fresh(backend);
    await beforeAnyAlarm(stub, async (put) => {
      for (let n = 0; n < 50; n++) await put(n);
    });
    await drained(stub);
    expect(await rowsOf(stub)).toHaveLength(1);
    expect(await nativeAlarm(stub)).toBeNull();
  });

  it("holds no row once its own code has deleted all, and begins a new epoch", async () => {
    const stub = fresh(backend);
    await inside(stub, (_, outbox) => outbox.put("key", 1, "before"));
    await drained(stub);
    await inside(stub, async (_, __, { storage }) => {
      await storage.deleteAll();
      expect((await storage.list()).size).toBe(0);
    });
    expect(await inside(stub, (_, outbox) => outbox.send("after"))).toMatchObject({ sequence: 1 });
    await drained(stub);
    const [before, after] = sent(stub);
    expect(after?.msg).toBe("after");
    expect(after?.source).not.toBe(before?.source);
    expect(after?.id).not.toBe(before?.id);
  });

  it("begins a new epoch in its next life, too, after deleting all", async () => {
    const stub = fresh(backend);
    await inside(stub, (_, outbox) => outbox.send("before"));
    await drained(stub);
    await inside(stub, (_, __, { storage }) => storage.deleteAll());
    await evictDurableObject(stub);
    expect(await inside(again(stub), (_, outbox) => outbox.send("after"))).toMatchObject({ sequence: 1 });
    await drained(stub);
    expect(new Set(sent(stub).map(({ source }) => source)).size).toBe(2);
  });
});

onBothBackends("a burst", (backend) => {
  it("of 100 messages put one by one costs at most 1.11 rows a message, alarms included", async () => {
    const stub = fresh(backend);
    await inside(stub, (_, outbox) => outbox.send("so that the marker exists"));
    await drained(stub);
    const before = await counted(stub);
    await beforeAnyAlarm(stub, async (put) => {
      for (let n = 0; n < 100; n++) await put(n);
    });
    await drained(stub);
    const { rows, alarms, disarmed } = await counted(stub, before);
    console.log(`${backend.name}: ${rows} rows and ${alarms} alarms for 100 messages: ${(rows + alarms) / 100} a message`);
    expect(rows + alarms).toBeLessThanOrEqual(111);
    expect(alarms).toBe(1);
    expect(disarmed).toBe(0);
    expect(sent(stub)).toHaveLength(101);
  });

  it("in one turn costs no more", async () => {
    const stub = fresh(backend);
    const before = await counted(stub);
    await inside(stub, (_, outbox) => Promise.all(Array.from({ length: 100 }, (_, n) => outbox.send(n))));
    await drained(stub);
    const { rows, alarms } = await counted(stub, before);
    expect(rows + alarms).toBeLessThanOrEqual(115);
  });
});

onBothBackends("a destination that is down", (backend) => {
  it("costs one row and one alarm for each attempt, whatever the backlog", async () => {
    const stub = ledgered(backend, { retry: patient });
    stageOf(stub).rest = () => Promise.reject(new Error("down"));
    await beforeAnyAlarm(stub, async (put) => {
      for (let n = 0; n < 50; n++) await put(n);
    });
    const cost = (failures: number) =>
      until(stub, async ({ outbox, ledger }) => {
        const stats = await outbox.stats();
        return stats.failures === failures && { rows: ledger.rows, alarms: ledger.alarms };
      });
    const first = await cost(1);
    // By a clock that is set forward: an alarm of the platform's that came late would cost another.
    for (let n = 0; n < 3; n++) await ring(stub);
    expect(await cost(4)).toEqual({ rows: first.rows + 3, alarms: first.alarms + 3 });
  });

  it("costs one row and at most one alarm for each change of the object's own alarm", async () => {
    const stub = ledgered(backend, { retry: patient });
    stageOf(stub).rest = () => Promise.reject(new Error("down"));
    await inside(stub, (_, outbox) => outbox.send("waits"));
    await until(stub, async ({ outbox }) => (await outbox.stats()).failures === 1);
    await inside(stub, async ({ ledger }, _, { storage }) => {
      const { rows, alarms } = ledger;
      await storage.setAlarm(Date.now() + 50_000);
      await storage.setAlarm(Date.now() + 60_000);
      await storage.deleteAlarm();
      expect(ledger.rows - rows).toBe(3);
      expect(ledger.alarms - alarms).toBeLessThanOrEqual(3);
    });
  });
});

onBothBackends("deleteAll with messages pending", (backend) => {
  const sequences = (messages: Sent) => messages.map(({ sequence }) => sequence);

  it("deletes the object's own data and alarm, and keeps the messages, in this life and the next", async () => {
    const stub = fresh(backend);
    let down = true;
    stageOf(stub).rest = () => (down ? Promise.reject(new Error("down")) : undefined);
    await beforeAnyAlarm(stub, async (put) => {
      for (let n = 0; n < 40; n++) await put(n);
    });
    await setIn(stub, 600_000);
    await inside(stub, async (_, outbox, { storage }) => {
      await storage.deleteAll();
      expect([...(await storage.list({ end: "\u{10FFFF}" })).keys()]).toEqual([]);
      expect((await outbox.stats()).pending).toBe(40);
    });
    expect(await getAlarm(stub)).toBeNull();
    await evictDurableObject(stub);
    await inside(again(stub), (_, outbox) => outbox.send("after"));
    down = false;
    await drained(again(stub));
    const delivered = [...new Map(sent(stub).map((message) => [message.id, message])).values()];
    // How often it failed meanwhile is the machine's affair, and so the order.
    expect(sequences(delivered).sort((a, b) => a - b)).toEqual(Array.from({ length: 41 }, (_, n) => n + 1));
    expect(new Set(delivered.map(({ source }) => source)).size).toBe(1);
    await expectFired(again(stub), 1, await setIn(again(stub), 100));
    expect(stageOf(stub).alarms).toHaveLength(1);
  });

  it("keeps what is put in the same turn, before it and after it", async () => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox, { storage }) => {
      const before = outbox.put("before", 1, "before");
      const deleted = storage.deleteAll();
      const after = outbox.put("after", 1, "after");
      await Promise.all([before, deleted, after]);
    });
    await drained(stub);
    expect(sent(stub).map(({ msg }) => msg)).toEqual(["before", "after"]);
    expect(await rowsOf(stub)).toHaveLength(1);
  });
});
