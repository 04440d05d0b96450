/** Delivery on demand: `flush()`, and the alarm that runDurableObjectAlarm runs. */
import { runDurableObjectAlarm } from "cloudflare:test";
import { describe, expect, it, vi } from "vitest";
import { boxWith, callsOf, down, numbers, putMany } from "../support/batches.ts";
import { drained, eventually, fresh, gate, handedOver, inside, onBothBackends, onEitherBackend, until } from "../support/harness.ts";
import { got, objectWith, receivers } from "../support/named.ts";
import { stageOf } from "../support/worker.ts";

const patient = { retry: { minDelaySeconds: 600, maxDelaySeconds: 600 } };

onBothBackends("flush", (backend) => {
  it("delivers now, in the middle of a backoff", async () => {
    const stub = boxWith(backend, patient);
    stageOf(stub).script.push(down);
    await putMany(stub, 3);
    await until(stub, async (box) => (await box.outbox.stats()).failures === 1);
    await inside(stub, async (_, outbox) => {
      await outbox.flush();
      expect((await outbox.stats()).pending).toBe(0);
    });
    expect(callsOf(stub)).toEqual([numbers(3), numbers(3)]);
  });

  it("resolves when the attempt fails, and leaves the messages for the next", async () => {
    const stub = boxWith(backend, patient);
    stageOf(stub).rest = down;
    await putMany(stub, 3);
    await until(stub, async (box) => (await box.outbox.stats()).failures === 1);
    await inside(stub, async (_, outbox) => {
      expect(await outbox.flush()).toBeUndefined();
      expect(await outbox.stats()).toMatchObject({ pending: 3, failures: 2 });
    });
  });

  it("joins the run under way and resolves when that has ended", async () => {
    const stub = fresh(backend);
    const held = gate();
    stageOf(stub).script.push(held.passed);
    await putMany(stub, 2);
    await handedOver(stub, 2);
    let ended = 0;
    await inside(stub, (_, outbox) => {
      for (let n = 0; n < 2; n++) void outbox.flush().then(() => ended++);
    });
    await putMany(stub, 1, 3);
    expect(ended).toBe(0);
    held.open();
    await eventually(() => ended === 2);
    await drained(stub);
    expect(callsOf(stub)).toEqual([numbers(2), [3]]);
  });

  it("does not wait in blockConcurrencyWhile() for a run outside, whose answer can't come in", async () => {
    const stub = fresh(backend);
    const held = gate();
    stageOf(stub).script.push(held.passed);
    await putMany(stub, 2);
    await handedOver(stub, 2);
    await inside(stub, (_, outbox, state) => state.blockConcurrencyWhile(() => outbox.flush()));
    held.open();
    await drained(stub);
    expect(callsOf(stub)).toEqual([numbers(2)]);
  });
});

type Flush = () => Promise<void>;

/** The ways in which a handler comes to call it: none may wait for the end of the run of which it is a part. */
const INSIDE: [string, (flush: Flush, storage: DurableObjectStorage) => unknown][] = [
  ["at once", (flush) => flush()],
  [
    "after a read",
    async (flush, storage) => {
      await storage.get("key");
      await flush();
    },
  ],
  [
    "after a wait",
    async (flush) => {
      await scheduler.wait(5);
      await flush();
    },
  ],
  ["in a chain of promises", (flush) => scheduler.wait(5).then(() => flush().then(() => {}))],
  ["beside other work", (flush) => Promise.all([1, 2].map(() => scheduler.wait(5).then(flush)))],
  [
    "without waiting for it",
    async (flush) => {
      void flush();
      await scheduler.wait(5);
      void flush();
    },
  ],
];

onBothBackends("flush in sendMessages", (backend) => {
  it.each(INSIDE)("%s does nothing and returns at once, so that the batch is sent once and what follows it as well", async (_, step) => {
    const stub = boxWith(backend, { ...patient, timeoutSeconds: 600, batchSize: 2 });
    const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
    await inside(stub, (_, outbox, { storage }) => {
      stageOf(stub).rest = () => step(() => outbox.flush(), storage);
    });
    await putMany(stub, 5);
    await drained(stub);
    expect(callsOf(stub).flat()).toEqual(numbers(5));
    const warnings = warn.mock.calls.filter(([text]) => `${text}`.includes("flush() in sendMessages()"));
    warn.mockRestore();
    expect(warnings).toHaveLength(1);
  });
});

onBothBackends("flush in the object's own alarm", (backend) => {
  it("delivers what is due, and waits for it", async () => {
    const stub = boxWith(backend, patient);
    stageOf(stub).script.push(down);
    await putMany(stub, 2);
    await until(stub, async (box) => (await box.outbox.stats()).failures === 1);
    const left: number[] = [];
    stageOf(stub).onAlarm = async (_, outbox) => {
      await outbox.flush();
      left.push((await outbox.stats()).pending);
    };
    await inside(stub, (_, __, { storage }) => storage.setAlarm(Date.now()));
    await eventually(() => left.length === 1);
    expect(left).toEqual([0]);
    expect(callsOf(stub)).toEqual([numbers(2), numbers(2)]);
  });
});

onBothBackends("runDurableObjectAlarm, which calls alarm() without info", (backend) => {
  describe.each([0, 2])("with %i messages that wait out a backoff", (pending) => {
    it("runs the object's own alarm once", async () => {
      const stub = boxWith(backend, patient);
      stageOf(stub).rest = down;
      if (pending > 0) {
        await putMany(stub, pending);
        await until(stub, async (box) => (await box.outbox.stats()).failures === 1);
      }
      await inside(stub, (_, __, state) => state.storage.setAlarm(Date.now() + 600_000));
      expect(await runDurableObjectAlarm(stub)).toBe(true);
      expect(stageOf(stub).alarms).toHaveLength(1);
      expect(await inside(stub, (_, __, state) => state.storage.getAlarm())).toBeNull();
      expect(await inside(stub, async (_, outbox) => (await outbox.stats()).pending)).toBe(pending);
      // What is left is the outbox's.
      expect(await runDurableObjectAlarm(stub)).toBe(pending > 0);
      expect(stageOf(stub).alarms).toHaveLength(1);
      expect(callsOf(stub)).toHaveLength(pending > 0 ? 2 : 0);
    });
  });
});

onEitherBackend("flush, where a destination hangs", (backend) => {
  it.each([{}, { destination: "a" }])("delays no other, and waits for no other: %j", async (options) => {
    const all = receivers("a", "b");
    const [a, b] = [gate(), gate()];
    all.a.rest = () => a.passed();
    all.b.rest = () => (all.b.calls.length > 1 ? b.passed() : undefined);
    const stub = objectWith(backend, all, { a: { types: ["a"] }, b: { types: ["b"] } });
    let isFlushed = false;
    await inside(stub, async (_, outbox) => {
      await outbox.pause({ destination: "a" });
      await outbox.send({ type: "a" });
      await outbox.resume({ destination: "a" });
      void outbox.flush(options).then(() => {
        isFlushed = true;
      });
    });
    await eventually(() => all.a.calls.length > 0);
    for (const n of [1, 2]) {
      await inside(stub, (_, outbox) => outbox.send({ type: "b", n }));
      await eventually(() => all.b.calls.length >= n);
    }
    expect([all.a.calls.length, isFlushed]).toEqual([1, false]);
    a.open();
    await eventually(() => isFlushed);
    expect(all.b.calls).toHaveLength(2);
    b.open();
    await drained(stub);
    expect([all.a, all.b].map((each) => got(each).length)).toEqual([1, 2]);
  });
});
