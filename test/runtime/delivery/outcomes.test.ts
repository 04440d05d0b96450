/** What `sendMessages` says of each message: ack, retry, reject or nothing, in time or too late. */
import { describe, expect, it } from "vitest";
import { boxWith, callsOf, down, eventsOf, numbers, putMany } from "../support/batches.ts";
import { again, eventually, fresh, gate, handedOver, inside, onEitherBackend, type Stub, sent } from "../support/harness.ts";
import { deadOf, eventsAbout, idle, listed, patient, statsOf } from "../support/standing.ts";
import { type Sent, stageOf } from "../support/worker.ts";

const OUTCOMES = ["ack", "retry", "reject"] as const;

/** The id of the message with this content. */
const idOf = (messages: Sent, msg: unknown): string => messages.find((message) => message.msg === msg)?.id ?? "not in this call";

/** The contents of all messages that were handed over after so many calls. */
const handedAfter = (stub: Stub, calls: number): unknown[] => callsOf(stub).slice(calls).flat();

onEitherBackend("an outcome", (backend) => {
  it("is the message's own, and what has none is delivered when the call returns", async () => {
    const stub = fresh(backend);
    stageOf(stub).script.push((messages, { ack, retry, reject }) => {
      reject(idOf(messages, 5), "not wanted");
      retry(idOf(messages, 2));
      ack(idOf(messages, 4));
    });
    await putMany(stub, 6);
    await idle(stub);
    expect(callsOf(stub)).toEqual([numbers(6), [2]]);
    expect(sent(stub).at(-1)?.attempts).toBe(2);
    expect(await deadOf(stub)).toEqual([5]);
    expect(eventsOf(stub, "delivered").map(({ ids }) => ids)).toEqual([
      [1, 3, 4, 6].map((n) => idOf(sent(stub), n)),
      [idOf(sent(stub), 2)],
    ]);
  });

  it("ack with a reason skips a message: it is done, and an event tells why", async () => {
    const stub = fresh(backend);
    stageOf(stub).script.push((messages, { ack }) => {
      ack(idOf(messages, 2), new Error("not for us"));
      ack(idOf(messages, 3));
      throw new Error("the rest comes again");
    });
    await putMany(stub, 4);
    await idle(stub);
    expect(callsOf(stub)[1]).not.toContain(2);
    expect(
      callsOf(stub)
        .flat()
        .filter((n) => n === 2 || n === 3),
    ).toEqual([2, 3]);
    const id = idOf(sent(stub), 2);
    expect(eventsAbout(id, "skipped")).toMatchObject([{ type: "skipped", destination: "default", id, error: "not for us" }]);
    expect(eventsAbout(id, "delivered")).toEqual([]);
    expect(eventsAbout(idOf(sent(stub), 3), "skipped")).toEqual([]);
    expect(await deadOf(stub)).toEqual([]);
  });

  it.each(OUTCOMES)("%s for every message of several calls needs nothing else", async (outcome) => {
    const stub = boxWith(backend, { batchSize: 20 });
    const once = new Set<string>();
    stageOf(stub).rest = (messages, delivery) => {
      for (const { id } of messages.filter((message) => !once.has(message.id))) delivery[outcome](id);
      for (const { id } of messages) once.add(id);
    };
    await putMany(stub, 50);
    await idle(stub);
    expect(callsOf(stub).flat().sort()).toEqual((outcome === "retry" ? [...numbers(50), ...numbers(50)] : numbers(50)).sort());
    expect(await deadOf(stub)).toEqual(outcome === "reject" ? numbers(50) : []);
  });

  const PAIRS = OUTCOMES.flatMap((first) => OUTCOMES.map((second) => [first, second] as const));

  it.each(PAIRS)("%s is not changed by a later %s", async (first, second) => {
    const stub = fresh(backend);
    stageOf(stub).script.push((messages, delivery) => {
      delivery[first](idOf(messages, 2));
      delivery[second](idOf(messages, 2));
    });
    await putMany(stub, 3);
    await idle(stub);
    expect(callsOf(stub).flat()).toEqual(first === "retry" ? [1, 2, 3, 2] : [1, 2, 3]);
    expect(await deadOf(stub)).toEqual(first === "reject" ? [2] : []);
  });

  describe.each(OUTCOMES)("%s of an id that is not in the call", (outcome) => {
    it("is a TypeError, and loses nothing when that is not caught", async () => {
      const stub = fresh(backend);
      stageOf(stub).script.push((_, delivery) => delivery[outcome]("unknown"));
      await putMany(stub, 3);
      await idle(stub);
      expect(handedAfter(stub, 1)).toEqual(numbers(3));
      const [failed] = eventsOf(stub, "failed");
      expect(failed?.cause).toBeInstanceOf(TypeError);
      expect(await deadOf(stub)).toEqual([]);
    });

    it("is a TypeError whatever stands in its place, and changes nothing when that is caught", async () => {
      const stub = boxWith(backend, { batchSize: 2 });
      const unknown: unknown[] = ["unknown", "", "__proto__", "constructor", undefined, null, 5, {}];
      const held = gate();
      const errors: unknown[] = [];
      stageOf(stub).script.push(
        () => {},
        async (_, delivery) => {
          await held.passed();
          for (const id of unknown) {
            try {
              errors.push(delivery[outcome](id as never));
            } catch (error) {
              errors.push(error);
            }
          }
        },
      );
      const receipts = (await putMany(stub, 6)) as { id: string }[];
      await handedOver(stub, 4);
      unknown.push(receipts[0]?.id, receipts[5]?.id); // One is delivered, and one waits for the next call.
      held.open();
      await idle(stub);
      expect(errors).toEqual(unknown.map(() => expect.any(TypeError)));
      expect(callsOf(stub)).toEqual([numbers(2), numbers(2, 3), numbers(2, 5)]);
      expect(await deadOf(stub)).toEqual([]);
    });
  });
});

onEitherBackend("a call that fails half way", (backend) => {
  const ENDS: [string, () => unknown][] = [
    ["throws", down],
    ["does not settle in time", () => new Promise(() => {})],
  ];

  describe.each(ENDS)("and %s", (_, end) => {
    it("keeps what it has not settled, and only that", async () => {
      const stub = boxWith(backend, { timeoutSeconds: 0.1 });
      stageOf(stub).script.push((messages, delivery) => {
        delivery.ack(idOf(messages, 1));
        delivery.reject(idOf(messages, 2), "not wanted");
        delivery.retry(idOf(messages, 3));
        return end();
      });
      await putMany(stub, 6);
      await idle(stub);
      expect(handedAfter(stub, 1).filter((n) => n !== 3)).toEqual([4, 5, 6]);
      expect(handedAfter(stub, 1).filter((n) => n === 3)).toEqual([3]);
      expect(sent(stub).flatMap(({ msg, attempts }) => (msg === 3 ? [attempts] : []))).toEqual([1, 2]);
      expect(await deadOf(stub)).toEqual([2]);
    });

    it("keeps every second of a hundred, in order, with what was put meanwhile behind them", async () => {
      const stub = boxWith(backend, { timeoutSeconds: end === down ? 600 : 0.5 });
      const held = gate();
      stageOf(stub).script.push(async (messages, delivery) => {
        for (const { id, sequence } of messages) if (sequence % 2) delivery.ack(id);
        await held.passed();
        // Awaited at once: at older compatibility dates a rejection that is only handed on counts as unhandled.
        return await end();
      });
      await putMany(stub, 100);
      await handedOver(stub, 100);
      await putMany(stub, 40, 101);
      held.open();
      await idle(stub);
      expect(handedAfter(stub, 1)).toEqual([...numbers(50).map((n) => n * 2), ...numbers(40, 101)]);
    });

    it("keeps nothing when it has settled everything", async () => {
      const stub = boxWith(backend, { timeoutSeconds: 0.1 });
      stageOf(stub).script.push((messages, delivery) => {
        for (const { id } of messages) delivery.ack(id);
        return end();
      });
      await putMany(stub, 30);
      await idle(stub);
      await putMany(stub, 1, 31);
      await idle(stub);
      expect(callsOf(stub)).toEqual([numbers(30), [31]]);
    });
  });

  it("keeps them over a crash", async () => {
    const stub = boxWith(backend, { retry: patient });
    stageOf(stub).script.push((messages, delivery) => {
      for (const { id, sequence } of messages) if (sequence % 3) delivery.ack(id);
      return down();
    });
    await putMany(stub, 60);
    await eventually(() => eventsOf(stub, "failed").length === 1);
    await expect(inside(stub, (_, __, state) => state.abort("the crash that the test wants"))).rejects.toThrow();
    await inside(again(stub), (_, outbox) => outbox.flush());
    await idle(again(stub));
    expect(handedAfter(stub, 1)).toEqual(numbers(20).map((n) => n * 3));
  });
});

onEitherBackend("an outcome that comes too late", (backend) => {
  it.each(OUTCOMES)("%s after the call has returned changes nothing and is reported", async (outcome) => {
    const stub = fresh(backend);
    const held = gate();
    stageOf(stub).script.push((messages, delivery) => {
      void held.passed().then(() => delivery[outcome](idOf(messages, 2)));
    });
    await putMany(stub, 3);
    await idle(stub);
    held.open();
    const id = idOf(sent(stub), 2);
    await eventually(() => eventsAbout(id, "late_outcome").length > 0);
    expect(eventsAbout(id, "late_outcome")).toMatchObject([{ type: "late_outcome", destination: "default", id, outcome }]);
    expect(await statsOf(stub)).toMatchObject({ pending: 0, delayed: 0, blocked: 0, dead: 0 });
    expect(callsOf(stub)).toEqual([numbers(3)]);
  });

  it.each(OUTCOMES)("%s after the timeout changes nothing, also while the message is in another call", async (outcome) => {
    const stub = boxWith(backend, { timeoutSeconds: 0.1 });
    const [late, second] = [gate(), gate()];
    stageOf(stub).script.push(
      async (messages, delivery) => {
        await late.passed();
        delivery[outcome](idOf(messages, 1));
      },
      async () => {
        late.open();
        await second.passed();
      },
    );
    const [{ id } = { id: "" }] = (await putMany(stub, 1)) as { id: string }[];
    await eventually(() => eventsAbout(id, "late_outcome").length > 0);
    expect(await listed(stub, "dead")).toEqual([]);
    await idle(stub);
    expect(eventsAbout(id, "late_outcome")).toMatchObject([{ type: "late_outcome", destination: "default", id, outcome }]);
    // The second call failed as well, and the first one's word did not count for it.
    expect(sent(stub).map(({ attempts }) => attempts)).toEqual([1, 2, 3]);
    expect(await deadOf(stub)).toEqual([]);
    second.open();
  });

  it("from calls that wait for nothing corrupts nothing, however many they are", async () => {
    const stub = boxWith(backend, { batchSize: 5 });
    const [late, held] = [gate(), gate()];
    stageOf(stub).rest = (messages, delivery) => {
      void late.passed().then(() => {
        for (const [n, { id }] of messages.entries()) delivery[OUTCOMES[n % 3] ?? "ack"](id);
      });
    };
    await putMany(stub, 40);
    await idle(stub);
    stageOf(stub).rest = held.passed;
    const receipts = (await putMany(stub, 12, 41)) as { id: string }[];
    await handedOver(stub, 45);
    late.open();
    const known = sent(stub).slice(0, 40);
    await eventually(() => known.every(({ id }) => eventsAbout(id, "late_outcome").length === 1));
    held.open();
    await idle(stub);
    expect(callsOf(stub).flat()).toEqual(numbers(52));
    expect(receipts.flatMap(({ id }) => eventsAbout(id, "late_outcome"))).toEqual([]);
    expect(await deadOf(stub)).toEqual([]);
  });
});

onEitherBackend("retry", (backend) => {
  it.each([0, 0.001, 0.3])("with a delay of %d s brings the message back after that, whatever the backoff", async (delaySeconds) => {
    const stub = boxWith(backend, { retry: patient });
    const at: number[] = [];
    stageOf(stub).rest = () => void at.push(Date.now());
    stageOf(stub).script.push((messages, delivery) => {
      at.push(Date.now());
      delivery.retry(idOf(messages, 1), { delaySeconds });
    });
    await putMany(stub, 2);
    await handedOver(stub, 3);
    expect(callsOf(stub)).toEqual([[1, 2], [1]]);
    const [first = 0, second = 0] = at;
    expect(second - first).toBeGreaterThanOrEqual(delaySeconds * 1000);
  });

  it("without a delay waits out the message's own growing backoff, and lets all others pass", async () => {
    const stub = fresh(backend);
    const at: number[] = [];
    stageOf(stub).rest = (messages, delivery) => {
      if (idOf(messages, 1) === "not in this call") return;
      if (at.push(Date.now()) < 5) delivery.retry(idOf(messages, 1));
    };
    await putMany(stub, 2);
    for (let n = 3; n <= 8; n++) {
      await putMany(stub, 1, n);
      await eventually(() => sent(stub).some(({ msg }) => msg === n));
    }
    await idle(stub);
    const gaps = at.slice(1).map((time, n) => time - (at[n] ?? 0));
    for (const [n, ms] of [100, 200, 400, 800].entries()) {
      expect(gaps[n]).toBeGreaterThanOrEqual(ms);
    }
    expect(handedAfter(stub, 0).filter((n) => n !== 1)).toEqual(numbers(7, 2));
    expect(sent(stub).flatMap(({ msg, attempts }) => (msg === 1 ? [attempts] : []))).toEqual(numbers(5));
    expect(eventsAbout(idOf(sent(stub), 1), "retried").map(({ attempts }) => attempts)).toEqual(numbers(4));
    expect(eventsOf(stub, "failed")).toEqual([]);
  });

  it.each([
    ["a string", "no room", "no room"],
    ["an error", new Error("HTTP 507"), "HTTP 507"],
    ["nothing", undefined, "sendMessages asked for a retry."],
  ])("with %s as its reason keeps that with the message, and reports it", async (_, reason, kept) => {
    const stub = boxWith(backend, { retry: { minDelaySeconds: 0.01, maxDelaySeconds: 0.01, jitter: 0, maxAttempts: 2 } });
    stageOf(stub).rest = (messages, delivery) => {
      for (const { id } of messages) delivery.retry(id, { reason });
    };
    await putMany(stub, 1);
    await eventually(async () => (await statsOf(stub)).dead === 1);
    const [{ id = "", ...dead } = {}] = await listed(stub, "dead");
    expect(dead).toMatchObject({ reason: "max_attempts", error: kept });
    expect(eventsAbout(id, "retried").map(({ error }) => error)).toEqual([kept]);
    expect(eventsAbout(id, "dead").map(({ error }) => error)).toEqual([kept]);
  });

  it("that does not count makes no dead letter, a hundred times over, and a counted one afterwards does", async () => {
    const stub = boxWith(backend, { retry: { minDelaySeconds: 0.001, maxDelaySeconds: 0.01, jitter: 0, maxAttempts: 2 } });
    stageOf(stub).rest = (messages, delivery) => {
      for (const { id } of messages) delivery.retry(id, { countAttempt: sent(stub).length > 100 });
    };
    await putMany(stub, 1);
    await eventually(async () => (await statsOf(stub)).dead === 1);
    expect(sent(stub).map(({ attempts }) => attempts)).toEqual(numbers(102));
  });

  it("with options that are none is a TypeError at the call, and no outcome", async () => {
    const stub = fresh(backend);
    const delays = [-1, -0.001, Number.NaN, Number.POSITIVE_INFINITY, "5", {}, true, 315_360_001];
    const bad = [
      ...delays.map((delaySeconds) => ({ delaySeconds })),
      ...[{ countAttempt: 0 }, { countAttempt: null }, { delay: 5 }, { delaySeconds: 1, retryAfterSeconds: 5 }, "5", 5, null],
    ];
    const errors: unknown[] = [];
    stageOf(stub).script.push((messages, delivery) => {
      for (const options of bad) {
        try {
          errors.push(delivery.retry(idOf(messages, 1), options as never));
        } catch (error) {
          errors.push(error);
        }
      }
    });
    await putMany(stub, 2);
    await idle(stub);
    expect(errors).toEqual(bad.map(() => expect.any(TypeError)));
    for (const error of errors) expect(String(error)).toMatch(/Expected `options(\.delaySeconds|\.countAttempt)?` to be/);
    expect(callsOf(stub)).toEqual([[1, 2]]);
  });
});
