/** `pause()` and `resume()`: nothing is handed over in between, in whatever life, and no alarm stands for it. */
import { evictDurableObject } from "cloudflare:test";
import { expect, it } from "vitest";
import { boxWith, callsOf, down, numbers, putMany } from "./batches.ts";
import { again, crash, eventually, fresh, gate, handedOver, inside, native, onBothBackends, type Stub, sent } from "./harness.ts";
import { flush, stats } from "./lanes.ts";
import { crashDurably, idle, paused, resumed, statsOf, withDead } from "./standing.ts";
import { stageOf } from "./worker.ts";
import { expectFired, getAlarm, setIn } from "./worlds.ts";

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

  it("during a backoff takes the alarm away, and resume brings it back", async () => {
    const stub = boxWith(backend, { retry: { minDelaySeconds: 0.3, maxDelaySeconds: 0.3, jitter: 0 } });
    stageOf(stub).script.push(down);
    await putMany(stub, 3);
    await stats(stub, { failures: 1 });
    await pause(stub);
    expect(await nativeAlarm(stub)).toBeNull();
    const end = Date.now() + 350;
    await eventually(() => Date.now() > end);
    expect(callsOf(stub)).toEqual([numbers(3)]);
    await resumed(stub);
    expect(callsOf(stub).slice(1).flat()).toEqual(numbers(3));
  });

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

  it("leaves the object's own alarm alone, over a restart, too", async () => {
    const stub = await paused(backend);
    await putMany(stub, 3);
    const time = await setIn(stub, 200);
    const next = await crash(stub);
    expect(await getAlarm(next)).toBe(time);
    await expectFired(next, 1, time, 0, 3500);
    expect(sent(stub)).toEqual([]);
    await resumed(next);
    expect(callsOf(stub)).toEqual([numbers(3)]);
  });

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
