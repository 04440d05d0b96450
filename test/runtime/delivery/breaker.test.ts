/** The breaker: a throw backs the whole outbox off, with one probe at a time, for as long as it takes. */
import { expect, it, vi } from "vitest";
import type { OutboxEvent } from "../../../src/index.ts";
import { boxWith, callsOf, down, numbers, putMany } from "../support/batches.ts";
import { crash, eventually, gate, handedOver, inside, native, onEitherBackend, type Stub } from "../support/harness.ts";
import { flush, forward, forwardTo, ledgered, namesOf, ring, sendNamed, stats, type Told, telling, watched } from "../support/lanes.ts";
import { ageless, idle, listed, patient, statsOf } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

/** Backoffs that only a test comes through that sets the clock forward. */
const HOURS = { minDelaySeconds: 60, maxDelaySeconds: 7200, factor: 3, jitter: 0.5 };

const nativeAlarm = (stub: Stub) => inside(stub, (_, __, state) => native(state).getAlarm());
/** A call of the alarm handler at a time at which no alarm was meant to ring. */
const tooEarly = (stub: Stub) => inside(stub, (box) => box.alarm({ scheduledTime: Date.now(), retryCount: 0, isRetry: false }));
const types = (told: Told[], ...wanted: OutboxEvent["type"][]) => told.map(({ type }) => type).filter((type) => wanted.includes(type));

onEitherBackend("a throw", (backend) => {
  it("backs the whole outbox off: what has another key, too, and what is put meanwhile", async () => {
    const stub = ledgered(backend, { retry: HOURS });
    stageOf(stub).rest = down;
    await sendNamed(stub, "a1 b1 .1 a2");
    await stats(stub, { breaker: "open", failures: 1, pending: 4 });
    const { nextAttemptAt } = await statsOf(stub);
    const alarms = await inside(stub, ({ ledger }) => ledger.alarms);
    await sendNamed(stub, "a3 c1 .2");
    await sendNamed(stub, "d1");
    expect(await statsOf(stub)).toMatchObject({ pending: 8, breaker: "open", failures: 1, nextAttemptAt });
    expect(await inside(stub, ({ ledger }) => ledger.alarms)).toBe(alarms);
    expect(await nativeAlarm(stub)).toBeGreaterThanOrEqual(nextAttemptAt ?? 0);
    // An alarm that comes early, for whatever reason, finds the breaker open and calls nobody.
    forwardTo((nextAttemptAt ?? 0) - 30_000);
    await tooEarly(stub);
    expect(await nativeAlarm(stub)).toBeGreaterThanOrEqual(nextAttemptAt ?? 0);
    expect(namesOf(stub)).toEqual(["a1 b1 .1"]);
    stageOf(stub).rest = () => {};
    await ring(stub);
    await idle(stub);
    expect((callsOf(stub).slice(1).flat() as string[]).sort()).toEqual([".1", ".2", "a1", "a2", "a3", "b1", "c1", "d1"]);
  });

  it("makes the delays grow, which never undercut the policy and stay at its cap", async () => {
    const stub = boxWith(backend, { retry: HOURS });
    const failedAt: number[] = [];
    stageOf(stub).rest = () => {
      failedAt.push(Date.now());
      throw new Error("the destination is down");
    };
    await putMany(stub, 1);
    const delays: number[] = [];
    for (let failures = 1; failures <= 10; failures++) {
      await stats(stub, { failures });
      expect(failedAt).toHaveLength(failures);
      const { nextAttemptAt } = await statsOf(stub);
      delays.push((nextAttemptAt ?? 0) - (failedAt.at(-1) ?? 0));
      const least = Math.min(HOURS.maxDelaySeconds, HOURS.minDelaySeconds * HOURS.factor ** (failures - 1)) * 1000;
      expect(delays.at(-1)).toBeGreaterThanOrEqual(least);
      expect(nextAttemptAt).toBeLessThanOrEqual(Date.now() + Math.min(HOURS.maxDelaySeconds * 1000, least * 1.5));
      await ring(stub);
    }
    // At most half as much again: so each is longer than the one before, up to the cap. And jitter there is.
    expect(delays.some((delay, n) => delay > HOURS.minDelaySeconds * HOURS.factor ** n * 1000 + 100)).toBe(true);
    expect(failedAt).toHaveLength(11);
  });

  it("is followed by one probe at a time, whoever asks for one", async () => {
    const stub = boxWith(backend, { retry: patient });
    const held = gate();
    const seen = watched(stub, async () => {
      await held.passed();
      throw new Error("the destination is down");
    });
    await sendNamed(stub, "a1 b1");
    await handedOver(stub, 2);
    await inside(stub, (box, outbox) => {
      void outbox.flush();
      void outbox.flush();
      void box.alarm();
    });
    await sendNamed(stub, "c1 .1");
    held.open();
    await stats(stub, { breaker: "open", failures: 1 });
    await inside(stub, (_, outbox) => Promise.all([outbox.flush(), outbox.flush()]));
    expect(await statsOf(stub)).toMatchObject({ failures: 2, pending: 4 });
    expect(seen.most).toBe(1);
    expect(namesOf(stub)).toHaveLength(2);
  });
});

onEitherBackend("the first success after throws", (backend) => {
  it("closes the breaker at once, and everything else goes in the same run", async () => {
    const stub = boxWith(backend, { retry: HOURS });
    // From the third failure on another message is tried as well.
    stageOf(stub).script.push(down, down, down, down);
    await putMany(stub, 250);
    for (let failures = 1; failures <= 3; failures++) {
      await stats(stub, { failures });
      await ring(stub);
    }
    expect(await statsOf(stub)).toMatchObject({ pending: 0, delayed: 0, breaker: "closed", failures: 0, nextAttemptAt: null });
    expect(callsOf(stub).slice(4).flat()).toEqual(numbers(250));
    // The next trouble begins with the shortest delay again.
    stageOf(stub).script.push(down);
    await putMany(stub, 1, 251);
    // The clock is ahead of the platform's, whose alarm would come too late.
    await flush(stub);
    const { nextAttemptAt, failures } = await statsOf(stub);
    expect(failures).toBe(1);
    expect(nextAttemptAt).toBeLessThanOrEqual(Date.now() + HOURS.minDelaySeconds * 1500);
  });

  it("is told once, as the opening was, and each opening is warned of once", async () => {
    const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
    const { stub, told } = telling(backend, { retry: HOURS });
    stageOf(stub).rest = down;
    for (const outage of [1, 2]) {
      await sendNamed(stub, `a${outage}`);
      await flush(stub);
      for (let n = 0; n < 4; n++) await ring(stub);
      expect(types(told, "breaker_opened", "breaker_closed")).toHaveLength(2 * outage - 1);
      expect(warn).toHaveBeenCalledTimes(outage);
      stageOf(stub).rest = () => {};
      await ring(stub);
      await idle(stub);
      stageOf(stub).rest = down;
    }
    expect(types(told, "breaker_opened", "breaker_closed")).toEqual([
      "breaker_opened",
      "breaker_closed",
      "breaker_opened",
      "breaker_closed",
    ]);
    expect(warn).toHaveBeenCalledTimes(2);
    for (const [text] of warn.mock.calls) expect(text).toContain("do-transactional-outbox");
    const opened = told.filter((event) => event.type === "breaker_opened");
    for (const event of opened) {
      expect(event).toMatchObject({ error: "the destination is down", cause: new Error("the destination is down") });
      expect(event.retryAt).toBeGreaterThan(0);
    }
  });

  it("is nothing to tell of where nothing had failed", async () => {
    const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
    const { stub, told } = telling(backend);
    await sendNamed(stub, "a1 b1");
    await idle(stub);
    await eventually(() => types(told, "delivered").length > 0);
    expect(types(told, "breaker_opened", "breaker_closed")).toEqual([]);
    expect(warn).not.toHaveBeenCalled();
  });
});

onEitherBackend("an open breaker", (backend) => {
  it("survives a crash: its count, its time, and that it was told", async () => {
    const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
    const { stub, told } = telling(backend, { retry: { ...HOURS, jitter: 0 } });
    stageOf(stub).rest = down;
    await sendNamed(stub, "a1 b1 c1");
    await stats(stub, { failures: 1 });
    await ring(stub);
    await ring(stub);
    const before = await statsOf(stub);
    expect(before).toMatchObject({ failures: 3, breaker: "open", pending: 3 });
    const next = await crash(stub);
    expect(ageless(await statsOf(next))).toEqual(ageless(before));
    await sendNamed(next, "d1");
    forward(500);
    const { length } = stageOf(next).calls;
    await tooEarly(next);
    expect(stageOf(next).calls).toHaveLength(length);
    await ring(next);
    const after = await statsOf(next);
    expect(after).toMatchObject({ failures: 4, breaker: "open", pending: 4 });
    const failedAt = (after.nextAttemptAt ?? 0) - 60_000 * 27;
    expect(failedAt).toBeGreaterThanOrEqual(before.nextAttemptAt ?? Number.POSITIVE_INFINITY);
    expect(failedAt).toBeLessThanOrEqual(Date.now());
    expect(types(told, "breaker_opened")).toHaveLength(1);
    expect(warn).toHaveBeenCalledTimes(1);
    stageOf(next).rest = () => {};
    await ring(next);
    await idle(next);
    expect(types(told, "breaker_closed")).toHaveLength(1);
  });
});

onEitherBackend("a destination that is down for a week", (backend) => {
  const WEEK_MS = 7 * 86_400_000;

  it("costs a bounded number of alarms and no message, and then gets everything in order", async () => {
    vi.spyOn(console, "warn").mockImplementation(() => {});
    // The policy as it is by default, but for the attempts: three failures of its own would end any message.
    const stub = boxWith(backend, { retry: { maxAttempts: 3 } });
    stageOf(stub).rest = down;
    await putMany(stub, 150);
    await stats(stub, { failures: 1 });
    const begun = Date.now();
    let alarms = 0;
    let put = 150;
    while (Date.now() < begun + WEEK_MS) {
      await ring(stub);
      alarms++;
      if (alarms % 20 === 0) {
        await putMany(stub, 10, put + 1);
        put += 10;
      }
    }
    console.log(`${backend.name}: ${alarms} alarms in a week`);
    // Hourly, after an hour and a bit of shorter delays.
    expect(alarms).toBeLessThanOrEqual(7 * 24 + 12);
    expect(alarms).toBeGreaterThan(7 * 24 - 24);
    // Where the search for a poisonous message has come down to one, another is tried beside it.
    expect(stageOf(stub).calls.length).toBeLessThanOrEqual(2 * alarms + 1);
    expect(await statsOf(stub)).toMatchObject({ pending: put, delayed: 0, dead: 0, failures: alarms + 1, breaker: "open" });

    // By now single messages are tried, the head and another in turn. The destination is well when it is the head's turn.
    while (callsOf(stub).at(-1)?.[0] === 1) await ring(stub);
    // Each message still has all of its own attempts: the first may fail twice more.
    const calls = stageOf(stub).calls.length;
    let refusals = 2;
    const taken: unknown[] = [];
    stageOf(stub).rest = (messages, delivery) => {
      for (const { id, msg } of messages) {
        if (msg === 1 && refusals-- > 0) delivery.retry(id);
        else taken.push(msg);
      }
    };
    await ring(stub);
    for (let n = 0; n < 2; n++) await ring(stub);
    await idle(stub);
    expect(taken).toEqual([...numbers(put - 1, 2), 1]);
    expect(stageOf(stub).calls.length - calls).toBeLessThan(12);
    expect(await listed(stub, "dead")).toEqual([]);
  });
});
