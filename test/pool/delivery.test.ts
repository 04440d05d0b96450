/** Delivery: batches in order, one run at a time, and a backoff that begins again at the same head. */
import { runDurableObjectAlarm } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { type OutboxEvent, type OutboxOptions, withTransactionalOutbox } from "../../src/index.ts";
import {
  type Backend,
  declared,
  drained,
  eventually,
  fresh,
  gate,
  handedOver,
  inside,
  onBothBackends,
  type Stub,
  sent,
  until,
} from "./harness.ts";
import { Box, type BoxEnv, events, options, stageOf } from "./worker.ts";

/** Stores this many messages in one turn, before any alarm can fire. */
function putMany(stub: Stub, count: number, from = 1): Promise<unknown> {
  return inside(stub, (_, outbox) =>
    Promise.all(Array.from({ length: count }, (_, n) => outbox.put(`key:${from + n}`, from + n, from + n))),
  );
}

const numbers = (count: number, from = 1) => Array.from({ length: count }, (_, n) => from + n);

/** The messages of each call, by their content. */
const callsOf = (stub: Stub) => stageOf(stub).calls.map((call) => call.map(({ msg }) => msg));

function boxWith(backend: Backend, chosen: OutboxOptions<"OUTBOX_MANAGER">): Stub {
  return declared(backend, withTransactionalOutbox(class extends Box {}, { ...options, ...chosen }));
}

type Failed = Extract<OutboxEvent, { failures: number }>;

/** The events of this type that name a message of the object. */
function eventsOf(stub: Stub, type: "failed"): Failed[];
function eventsOf(stub: Stub, type: "delivered"): Extract<OutboxEvent, { type: "delivered" }>[];
function eventsOf(stub: Stub, type: OutboxEvent["type"]): OutboxEvent[] {
  const known = new Set(sent(stub).map(({ id }) => id));
  return events.filter((event) => event.type === type && "ids" in event && event.ids.some((id) => known.has(id)));
}

/** Asserts that no message was told of fewer attempts than it had, that the head's count is exact, and that an untried one's is 1. */
function expectAttemptsCounted(stub: Stub): void {
  const handed = new Map<string, number>();
  for (const call of stageOf(stub).calls) {
    for (const { id } of call) handed.set(id, (handed.get(id) ?? 0) + 1);
    expect(call[0]?.attempts).toBe(handed.get(call[0]?.id ?? ""));
    for (const { id, attempts } of call) expect(attempts).toBeGreaterThanOrEqual(handed.get(id) ?? 0);
  }
}

const down = () => Promise.reject(new Error("the destination is down"));

onBothBackends("delivery", (backend) => {
  it("hands 200 messages over in two calls of 100, in order", async () => {
    const stub = fresh(backend);
    await putMany(stub, 200);
    await drained(stub);
    expect(callsOf(stub)).toEqual([numbers(100), numbers(100, 101)]);
    expect(eventsOf(stub, "delivered").map(({ ids }) => ids)).toEqual(stageOf(stub).calls.map((call) => call.map(({ id }) => id)));
  });

  it.each([1, 7, 16, 40])("gives one call at most a batchSize of %i", async (batchSize) => {
    const stub = boxWith(backend, { batchSize });
    await putMany(stub, 45);
    await drained(stub);
    expect(callsOf(stub).flat()).toEqual(numbers(45));
    expect(callsOf(stub).map(({ length }) => length)).toEqual(
      numbers(Math.ceil(45 / batchSize)).map((n) => Math.min(batchSize, 45 - (n - 1) * batchSize)),
    );
  });

  it("delivers what was put during a send in flight once, and never runs twice at a time", async () => {
    const stub = fresh(backend);
    const held = gate();
    let active = 0;
    let most = 0;
    stageOf(stub).rest = async () => {
      most = Math.max(most, ++active);
      await held.passed();
      active--;
    };
    await putMany(stub, 3);
    await handedOver(stub, 3);
    await putMany(stub, 20, 4);
    await inside(stub, (box, outbox) => {
      void outbox.flush();
      void box.alarm();
      void box.alarm({ retryCount: 0, isRetry: false, scheduledTime: Date.now() });
    });
    held.open();
    await drained(stub);
    expect(callsOf(stub)).toEqual([numbers(3), numbers(20, 4)]);
    expect(most).toBe(1);
  });

  it("is never begun with nothing to hand over", async () => {
    const stub = fresh(backend);
    await inside(stub, async (box, outbox, state) => {
      await outbox.flush();
      await box.alarm();
      await state.storage.setAlarm(Date.now() + 20);
    });
    await eventually(() => stageOf(stub).alarms.length >= 2);
    await putMany(stub, 1);
    await drained(stub);
    await inside(stub, async (box, outbox) => {
      await outbox.flush();
      await box.alarm();
    });
    expect(callsOf(stub)).toEqual([[1]]);
  });
});

onBothBackends("a destination that is down", (backend) => {
  it("gets the same head again after growing gaps, and then everything in order", async () => {
    const stub = fresh(backend);
    const failedAt: number[] = [];
    stageOf(stub).rest = () => {
      failedAt.push(Date.now());
      throw new Error("the destination is down");
    };
    await putMany(stub, 150);
    await handedOver(stub, 100);
    await putMany(stub, 100, 151);
    await eventually(() => failedAt.length >= 6);
    stageOf(stub).rest = () => {};
    await drained(stub);

    const failures = failedAt.length;
    const [refused, taken] = [callsOf(stub).slice(0, failures), callsOf(stub).slice(failures)];
    // After n failures a batch is cut in half n times, so that a message that breaks it stands alone in the end.
    expect(refused).toEqual(numbers(failures).map((n) => numbers(Math.ceil(100 / 2 ** (n - 1)))));
    expect(taken.flat()).toEqual(numbers(250));
    expect(taken.slice(1).map(({ length }) => length)).toEqual([100, 100, 50 - Math.ceil(100 / 2 ** failures)]);
    expectAttemptsCounted(stub);

    const failed = eventsOf(stub, "failed");
    expect(failed.map((event) => event.failures)).toEqual(numbers(failures));
    const delays = failed.map(({ retryAt }, n) => retryAt - (failedAt[n] ?? 0));
    const promised = [100, 200, 400, 800, 1000, 1000].slice(0, failures);
    for (const [n, delay] of promised.entries()) {
      expect(delays[n]).toBeGreaterThanOrEqual(delay);
      expect(delays[n]).toBeLessThan(delay + 50);
      expect(failedAt[n + 1] ?? Number.POSITIVE_INFINITY).toBeGreaterThanOrEqual(failed[n]?.retryAt ?? 0);
    }
  }, 15_000);

  it("keeps what was delivered before it went down", async () => {
    const stub = boxWith(backend, { batchSize: 10 });
    stageOf(stub).script.push(() => {}, down);
    await putMany(stub, 25);
    await drained(stub);
    expect(callsOf(stub)).toEqual([numbers(10), numbers(10, 11), numbers(5, 11), numbers(10, 16)]);
    expectAttemptsCounted(stub);
  });

  it("starts with the shortest gap again after a success", async () => {
    const stub = fresh(backend);
    stageOf(stub).script.push(down, down, down, () => {}, down);
    await putMany(stub, 1);
    await handedOver(stub, 4);
    await drained(stub);
    await putMany(stub, 1, 2);
    await handedOver(stub, 6);
    await drained(stub);
    expect(eventsOf(stub, "failed").map(({ failures }) => failures)).toEqual([1, 2, 3, 1]);
    expect(stageOf(stub).calls.map(([first]) => [first?.msg, first?.attempts])).toEqual([
      [1, 1],
      [1, 2],
      [1, 3],
      [1, 4],
      [2, 1],
      [2, 2],
    ]);
  });

  it("does not make alarm() throw", async () => {
    const stub = fresh(backend);
    stageOf(stub).rest = down;
    await putMany(stub, 1);
    await handedOver(stub, 2);
    await inside(stub, async (box) => {
      expect(await box.alarm()).toBeUndefined();
      expect(await box.alarm({ retryCount: 3, isRetry: true, scheduledTime: Date.now() + 1000 })).toBeUndefined();
    });
  });
});

onBothBackends("a call that does not settle", (backend) => {
  it("fails at the timeout, which aborts the signal, and what it does later changes nothing", async () => {
    const stub = fresh(backend);
    const held = gate();
    let signal: AbortSignal | undefined;
    let late = false;
    stageOf(stub).script.push(async (_, delivery) => {
      signal = delivery.signal;
      await held.passed();
      late = true;
    }, down);
    await putMany(stub, 2);
    await handedOver(stub, 2);
    // The signal belongs to the object, and can be read only there.
    expect(await inside(stub, () => signal?.aborted)).toBe(false);
    await handedOver(stub, 4);
    const [failure] = eventsOf(stub, "failed");
    expect(failure?.error).toMatchObject({ name: "OutboxError", code: "timeout" });
    expect(await inside(stub, () => signal?.aborted && signal.reason === failure?.error)).toBe(true);
    held.open();
    await eventually(() => late);
    await drained(stub);
    expect(callsOf(stub)).toEqual([numbers(2), numbers(2), numbers(2)]);
    expect(stageOf(stub).calls.map(([first]) => first?.attempts)).toEqual([1, 2, 3]);
  });

  it("does not abort the signal of a call that settles in time", async () => {
    const stub = boxWith(backend, { timeoutSeconds: 0.1 });
    const signals: AbortSignal[] = [];
    stageOf(stub).rest = (_, { signal }) => void signals.push(signal);
    await putMany(stub, 1);
    await drained(stub);
    const held = gate();
    stageOf(stub).script.push(held.passed);
    await putMany(stub, 1, 2);
    await handedOver(stub, 3); // The second message was handed over again: its timeout has passed, and so would the first one's.
    held.open();
    expect(await inside(stub, () => signals[0]?.aborted)).toBe(false);
    await drained(stub);
  });
});

onBothBackends("sendMessages", (backend) => {
  const FAILURES: [string, () => unknown, unknown][] = [
    [
      "throws at once",
      () => {
        throw new Error("at once");
      },
      new Error("at once"),
    ],
    ["rejects with text", () => Promise.reject("text"), "text"],
    ["rejects with nothing", () => Promise.reject(), undefined],
  ];

  it.each(FAILURES)("keeps the messages when it %s", async (_, fails, error) => {
    const stub = declared(
      backend,
      withTransactionalOutbox(
        class extends Box {
          override sendMessages = send;
        },
        options,
      ),
    );
    let calls = 0;
    function send(this: unknown) {
      return ++calls === 1 ? (fails() as Promise<void>) : Promise.resolve();
    }
    const { id } = await inside(stub, (_, outbox) => outbox.send("kept"));
    await drained(stub);
    expect(calls).toBe(2);
    const failed = events.filter((event) => event.type === "failed" && event.ids.includes(id));
    expect(failed).toMatchObject([{ error, failures: 1 }]);
  });

  it.each([undefined, null, 0, "text"])("delivers when it returns %o and no promise", async (result) => {
    const seen: unknown[] = [];
    class Plain {
      constructor(
        _: DurableObjectState,
        readonly env: BoxEnv,
      ) {}
      get outbox() {
        return this.env.OUTBOX_MANAGER;
      }
      sendMessages(messages: { id: string; msg: unknown }[]) {
        seen.push(...messages.map(({ msg }) => msg));
        return result;
      }
    }
    const stub = declared(backend, withTransactionalOutbox(Plain, options));
    await inside(stub, (_, outbox) => outbox.send("taken"));
    await drained(stub);
    expect(seen).toEqual(["taken"]);
  });
});

onBothBackends("flush", (backend) => {
  const patient = { retry: { minDelaySeconds: 600, maxDelaySeconds: 600 } };

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
});

onBothBackends("runDurableObjectAlarm, which calls alarm() without info", (backend) => {
  const patient = { retry: { minDelaySeconds: 600, maxDelaySeconds: 600 } };

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
      expect(await runDurableObjectAlarm(stub)).toBe(false);
      expect(await inside(stub, async (_, outbox) => (await outbox.stats()).pending)).toBe(pending);
    });
  });
});
