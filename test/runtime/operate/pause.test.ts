/** `pause()` and `resume()`: nothing is handed over in between, in whatever life, and no alarm stands for it. */
import { evictDurableObject } from "cloudflare:test";
import { expect, it, vi } from "vitest";
import type { OutboxEvent } from "../../../src/index.ts";
import { boxWith, callsOf, down, numbers, putMany } from "../support/batches.ts";
import {
  again,
  by,
  crash,
  eventually,
  fresh,
  gate,
  handedOver,
  inside,
  native,
  onBothBackends,
  type Stub,
  sent,
  unhurried,
} from "../support/harness.ts";
import { flush, stats } from "../support/lanes.ts";
import { crashDurably, idle, paused, resumed, statsOf, withDead } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";
import { expectFired, getAlarm, setIn } from "../support/worlds.ts";

const nativeAlarm = (stub: Stub) => inside(stub, (_, __, state) => native(state).getAlarm());
const pause = (stub: Stub) => inside(stub, (_, outbox) => outbox.pause());
const resume = (stub: Stub) => inside(stub, (_, outbox) => outbox.resume());

onBothBackends("pause", (backend) => {
  const NEXT: [string, (stub: Stub) => Promise<Stub>][] = [
    ["a crash", (stub) => crash(stub)],
    ["an eviction", (stub) => evictDurableObject(stub).then(() => again(stub))],
  ];

  it.each(NEXT)("holds messages back over %s, with no alarm and no flush, until resume", async (_, next) => {
    const stub = await next(await paused(backend));
    await putMany(stub, 30);
    await inside(stub, (_, outbox) => outbox.send("delayed", { delaySeconds: 0.01 }));
    expect(await nativeAlarm(stub)).toBeNull();
    await flush(stub);
    const last = await next(stub);
    await putMany(last, 10, 31);
    await flush(last);
    expect(await nativeAlarm(last)).toBeNull();
    expect(await statsOf(last)).toMatchObject({ paused: true, nextAttemptAt: null });
    expect(sent(stub)).toEqual([]);
    expect(await resumed(last)).toMatchObject({ paused: false });
    expect(
      callsOf(stub)
        .flat()
        .filter((msg) => msg !== "delayed"),
    ).toEqual(numbers(40));
    expect(callsOf(stub).flat()).toContain("delayed");
    expect(await nativeAlarm(last)).toBeNull();
  });

  it("during a backoff takes the alarm away, and resume brings it back", () =>
    unhurried(300, async (ms) => {
      const seconds = ms / 1000;
      const stub = boxWith(backend, { retry: { minDelaySeconds: seconds, maxDelaySeconds: seconds, jitter: 0 } });
      stageOf(stub).script.push(down);
      const begun = Date.now();
      await putMany(stub, 3);
      await by(begun + ms, async () => {
        await stats(stub, { failures: 1 });
        await pause(stub);
      });
      expect(await nativeAlarm(stub)).toBeNull();
      const end = Date.now() + ms + 50;
      await eventually(() => Date.now() > end);
      expect(callsOf(stub)).toEqual([numbers(3)]);
      await resumed(stub);
      expect(callsOf(stub).slice(1).flat()).toEqual(numbers(3));
    }));

  it("lets the call in flight end, and begins no other", async () => {
    const stub = boxWith(backend, { batchSize: 10 });
    const held = gate();
    stageOf(stub).script.push(held.passed);
    await putMany(stub, 25);
    await handedOver(stub, 10);
    await pause(stub);
    held.open();
    await stats(stub, { pending: 15, paused: true });
    await flush(stub);
    expect(await nativeAlarm(stub)).toBeNull();
    expect(callsOf(stub)).toEqual([numbers(10)]);
    await resumed(stub);
    expect(callsOf(stub).flat()).toEqual(numbers(25));
  });

  it("leaves the object's own alarm alone, over a restart, too", () =>
    unhurried(300, async (ms) => {
      const stub = await paused(backend);
      await putMany(stub, 3);
      const time = await setIn(stub, ms);
      const next = await by(time, async () => {
        const next = await crash(stub);
        expect(await getAlarm(next)).toBe(time);
        return next;
      });
      await expectFired(next, 1, time);
      expect(sent(stub)).toEqual([]);
      await resumed(next);
      expect(callsOf(stub)).toEqual([numbers(3)]);
    }));

  it("twice is paused, and resume without it changes nothing", async () => {
    const stub = fresh(backend);
    await resume(stub);
    expect(await nativeAlarm(stub)).toBeNull();
    await pause(stub);
    await pause(stub);
    await putMany(stub, 1);
    await resume(stub);
    await resume(stub);
    await idle(stub);
    expect(callsOf(stub)).toEqual([[1]]);
  });

  it("and resume are committed or not: a crash in the turn leaves what was", async () => {
    const stub = await crash(fresh(backend), (outbox) => outbox.pause());
    expect(await statsOf(stub)).toMatchObject({ paused: false });
    const next = await crash(await crashDurably(stub, (outbox) => outbox.pause()), (outbox) => outbox.resume());
    expect(await statsOf(next)).toMatchObject({ paused: true });
  });

  it("keeps what is redriven until resume", async () => {
    const stub = await withDead(backend, 3);
    await pause(stub);
    expect(await inside(stub, (_, outbox) => outbox.redrive())).toBe(3);
    expect(await nativeAlarm(stub)).toBeNull();
    await flush(stub);
    expect(sent(stub)).toEqual([]);
    await resumed(stub);
    expect(callsOf(stub).flat()).toEqual(numbers(3));
  });
});

/** An error with which a destination asks to be left alone until `resume()`. */
const gone = (pause: unknown): never => {
  throw Object.assign(new Error("the endpoint is gone"), { pause });
};

onBothBackends("an error with `pause: true`", (backend) => {
  it("pauses, over a crash, with every message kept, one event and one line that says what to do", async () => {
    const events: OutboxEvent[] = [];
    const error = vi.spyOn(console, "error").mockImplementation(() => {});
    const stub = boxWith(backend, { batchSize: 5, onEvent: (event) => void events.push(event) });
    stageOf(stub).script.push((messages, delivery) => {
      delivery.ack(messages[0]?.id ?? "");
      delivery.reject(messages[1]?.id ?? "", "never");
      gone(true);
    });
    await putMany(stub, 12);
    await stats(stub, { paused: true, pending: 10, dead: 1, breaker: "closed", nextAttemptAt: null });
    expect(await nativeAlarm(stub)).toBeNull();
    const about = sent(stub)[2];
    await eventually(() => events.some(({ type }) => type === "paused"));
    expect(events.filter(({ type }) => ["paused", "failed", "breaker_opened"].includes(type))).toEqual([
      expect.objectContaining({ type: "paused", destination: "default", id: about?.id, waiting: 10, error: "the endpoint is gone" }),
    ]);
    const lines = error.mock.calls.flat().filter((line) => String(line).includes("paused") && String(line).includes(about?.id ?? ""));
    expect(lines).toEqual([expect.stringMatching(/10 messages are waiting, none is lost\. Fix the destination, then call resume\(\)\.$/)]);
    const next = await crash(stub);
    await flush(next);
    expect(callsOf(stub)).toHaveLength(1);
    await resumed(next);
    expect(callsOf(stub).slice(1).flat()).toEqual(numbers(10, 3));
  });

  it("blames no message, however often it comes, and lets delivery go on at once when it is over", async () => {
    const stub = boxWith(backend, { retry: { minDelaySeconds: 600, maxDelaySeconds: 600, maxAttempts: 1 } });
    stageOf(stub).script.push(down, down, ...Array(6).fill(() => gone(true)));
    await putMany(stub, 3);
    await stats(stub, { failures: 1, breaker: "open" });
    await flush(stub);
    await stats(stub, { failures: 2 });
    // From the third failure on another message is tried in place of those that failed: not after this one.
    await flush(stub);
    for (let calls = 3; calls <= 8; calls++) {
      await stats(stub, { paused: true, pending: 3, dead: 0 });
      expect(callsOf(stub)).toHaveLength(calls);
      await resume(stub);
      await eventually(() => callsOf(stub).length > calls);
    }
    expect(await idle(stub)).toMatchObject({ paused: false, dead: 0, breaker: "closed" });
    expect(callsOf(stub).at(-1)).toEqual(numbers(3));
  });

  it("pauses also when every message had its outcome before", async () => {
    const stub = fresh(backend);
    stageOf(stub).script.push((messages, delivery) => {
      for (const { id } of messages) delivery.ack(id);
      gone(true);
    });
    await putMany(stub, 2);
    await stats(stub, { paused: true, pending: 0, dead: 0 });
  });

  it.each([[1], ["true"], [undefined], [{}]])("is one with `pause: %j` not: that is any failure", async (pause) => {
    const stub = boxWith(backend, { retry: { minDelaySeconds: 600, maxDelaySeconds: 600 } });
    stageOf(stub).script.push(() => gone(pause ?? null));
    await putMany(stub, 1);
    await stats(stub, { failures: 1, paused: false, breaker: "open" });
  });
});
