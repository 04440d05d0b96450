/** Poison: a message that breaks every call that holds it is found, and ends alone; a destination that is down is never mistaken for it. */
import { describe, expect, it, vi } from "vitest";
import { PROOF, SEED, size } from "../../support/random.ts";
import { boxWith, callsOf, down, numbers, putMany } from "../support/batches.ts";
import { crash, eventually, inside, onEitherBackend, type Stub } from "../support/harness.ts";
import { flush, namesOf, ring, sendNamed, simple, stats, telling } from "../support/lanes.ts";
import { eventsAbout, idle, listed, patient, statsOf } from "../support/standing.ts";
import { type Sent, stageOf } from "../support/worker.ts";

const QUICK = { minDelaySeconds: 0.002, maxDelaySeconds: 0.01, jitter: 0, maxAttempts: 3 };
/** Of 100 messages: how many more calls a search may take, once the first has failed. */
const MOST_CALLS = 15;

/** Makes every call throw that holds one of these, and notes what was taken from the others. */
function poisoned(stub: Stub, ...bad: unknown[]): { taken: unknown[] } {
  const seen: { taken: unknown[] } = { taken: [] };
  stageOf(stub).rest = (messages) => {
    const broken = messages.find(({ msg }) => bad.includes(msg));
    if (broken !== undefined) throw new Error(`cannot read ${broken.msg}`);
    seen.taken.push(...messages.map(({ msg }) => msg));
  };
  return seen;
}

const except = (...bad: number[]): number[] => numbers(100).filter((n) => !bad.includes(n));

/** Each of these was taken once, and in order but for those few that were tried to see whether the destination is well. */
function tookInOrder(taken: readonly unknown[], wanted: readonly number[], controls = 4): void {
  const got = taken as number[];
  expect([...got].sort((a, b) => a - b)).toEqual(wanted);
  // A number that comes before a smaller one was a control.
  const early = got.filter((n, i) => got.slice(i + 1).some((later) => later < n));
  expect(early.length).toBeLessThanOrEqual(controls);
}

/** Fixed places where a search may go wrong, and some others. */
console.log(`poison: VITE_SEED=${SEED}`);
const POSITIONS = [
  1,
  2,
  50,
  100,
  ...(PROOF ? [3, 25, 26, 51, 75, 98, 99] : []),
  ...numbers(size(1, 4)).map((n) => 1 + ((SEED * n + n * 37) % 100)),
];

onEitherBackend("one message of a hundred that breaks its call", (backend) => {
  it("is found with a batchSize of 1", async () => {
    const stub = boxWith(backend, { batchSize: 1, retry: QUICK });
    const seen = poisoned(stub, 1);
    await putMany(stub, 10);
    await idle(stub);
    tookInOrder(seen.taken, numbers(9, 2));
    expect(await listed(stub, "dead")).toMatchObject([{ msg: 1, reason: "max_attempts" }]);
  });

  it.each(POSITIONS)("at %i is found soon, and the other 99 are delivered once, in order", async (position) => {
    const { stub, told } = telling(backend, { retry: QUICK });
    const seen = poisoned(stub, position);
    await putMany(stub, 100);
    await idle(stub);
    expect(told.find(({ type }) => type === "retried")?.calls).toBeLessThanOrEqual(1 + MOST_CALLS);
    tookInOrder(seen.taken, except(position));

    // From then on it was tried alone, as often as the policy says, and its error is kept.
    const alone = callsOf(stub).filter((call) => call.length === 1 && call[0] === position);
    expect(alone.length).toBeGreaterThanOrEqual(QUICK.maxAttempts);
    const [dead, ...others] = await listed(stub, "dead");
    expect(others).toEqual([]);
    expect(dead).toMatchObject({ msg: position, reason: "max_attempts" });
    expect(dead?.error).toContain(`cannot read ${position}`);
    expect(dead?.firstFailedAt).toBeLessThanOrEqual(dead?.lastFailedAt ?? 0);
    const about = told.filter((event) => (event.type === "retried" || event.type === "dead") && event.id === dead?.id);
    expect(about.map(({ type }) => type)).toEqual([...Array(QUICK.maxAttempts - 1).fill("retried"), "dead"]);
    expect(await statsOf(stub)).toMatchObject({ pending: 0, delayed: 0, blocked: 0, dead: 1, breaker: "closed", failures: 0 });
  });

  it("is set aside with a backoff of its own, while everything else flows", async () => {
    const stub = boxWith(backend, { retry: { minDelaySeconds: 600, maxDelaySeconds: 3600, jitter: 0 } });
    const seen = poisoned(stub, 30);
    await putMany(stub, 100);
    await stats(stub, { failures: 1 });
    while ((await statsOf(stub)).delayed === 0) await ring(stub);
    expect(await statsOf(stub)).toMatchObject({ pending: 0, delayed: 1, dead: 0, breaker: "closed", failures: 0 });
    tookInOrder(seen.taken, except(30));
    const [waiting] = await listed(stub, "delayed");
    expect(waiting).toMatchObject({ msg: 30 });
    expect(waiting?.deliverAt).toBeGreaterThan(Date.now() + 300_000);
    // What is put now goes at once and in one call, and its calls do not hold the bad one.
    const calls = callsOf(stub).length;
    await putMany(stub, 100, 101);
    await flush(stub);
    expect(callsOf(stub).slice(calls)).toEqual([numbers(100, 101)]);
    // The next time it comes alone, its failure neither opens the breaker nor holds up anybody.
    await ring(stub);
    expect(callsOf(stub).slice(calls + 1)).toEqual([[30]]);
    expect(await statsOf(stub)).toMatchObject({ delayed: 1, breaker: "closed", failures: 0 });
    const [again] = await listed(stub, "delayed");
    expect(again?.deliverAt).toBeGreaterThan(Date.now() + 900_000);
    // Once it is mended, it is delivered like any other.
    stageOf(stub).rest = () => {};
    await ring(stub);
    expect(await idle(stub)).toMatchObject({ dead: 0 });
    expect(callsOf(stub).at(-1)).toEqual([30]);
  });

  it("is found in spite of crashes", async () => {
    let stub = boxWith(backend, { retry: { ...QUICK, minDelaySeconds: 60, maxDelaySeconds: 3600 } });
    const seen = poisoned(stub, 64);
    await putMany(stub, 100);
    await stats(stub, { failures: 1 });
    for (let calls = 1; (await statsOf(stub)).dead === 0; calls++) {
      expect(calls).toBeLessThan(20);
      stub = await crash(stub);
      await ring(stub);
    }
    tookInOrder(seen.taken, except(64));
    expect(await listed(stub, "dead")).toMatchObject([{ msg: 64, reason: "max_attempts" }]);
  });
});

onEitherBackend("two messages of a hundred that break their calls", (backend) => {
  it.each([
    [1, 2],
    [1, 100],
    [50, 51],
    [49, 50],
    [98, 99],
    [2, 100],
    [13, 77],
  ])("at %i and %i are both found, and the other 98 are delivered once, in order", async (one, other) => {
    const { stub, told } = telling(backend, { retry: QUICK });
    const seen = poisoned(stub, one, other);
    await putMany(stub, 100);
    await idle(stub);
    const foundAfter = (n: number) => told.find((event) => event.type === "retried" && event.error.includes(`cannot read ${n}`))?.calls;
    expect(foundAfter(one)).toBeLessThanOrEqual(1 + MOST_CALLS + QUICK.maxAttempts);
    expect(foundAfter(other)).toBeLessThanOrEqual(2 * (1 + MOST_CALLS) + QUICK.maxAttempts);
    tookInOrder(seen.taken, except(one, other));
    expect((await listed(stub, "dead")).map(({ msg, reason }) => [msg, reason])).toEqual([
      [one, "max_attempts"],
      [other, "max_attempts"],
    ]);
  });

  it("are both found at the end, too, as soon as there is another to try", async () => {
    const stub = boxWith(backend, { retry: QUICK });
    const seen = poisoned(stub, 99, 100);
    await putMany(stub, 100);
    await eventually(() => seen.taken.length === 98);
    await putMany(stub, 1, 101);
    await idle(stub);
    tookInOrder(seen.taken, [...except(99, 100), 101]);
    expect((await listed(stub, "dead")).map(({ msg }) => msg)).toEqual([99, 100]);
  });

  it("are found when they are three, and all at the head", async () => {
    const stub = boxWith(backend, { retry: QUICK });
    const seen = poisoned(stub, 1, 2, 3);
    await putMany(stub, 100);
    await idle(stub);
    tookInOrder(seen.taken, except(1, 2, 3), 6);
    expect((await listed(stub, "dead")).map(({ msg }) => msg)).toEqual([1, 2, 3]);
  });
});

onEitherBackend("a message with an ordering key that breaks its call", (backend) => {
  /** Messages 1 to 100 with ten keys in turn. */
  const putKeyed = (stub: Stub) =>
    inside(stub, (_, outbox) => Promise.all(numbers(100).map((n) => outbox.send(n, { key: `key:${n % 10}` }))));
  const lane = (n: number) => numbers(100).filter((other) => other % 10 === n % 10);

  describe.each(["strict", "batch"])("with ordering %s", (ordering) => {
    it.each([1, 35, 92, 100])("holds up those behind it only (%i)", async (bad) => {
      const chosen = { retry: { minDelaySeconds: 60, maxDelaySeconds: 3600, jitter: 0, maxAttempts: 3 } };
      const stub = ordering === "batch" ? simple(backend, chosen) : boxWith(backend, chosen);
      const seen = poisoned(stub, bad);
      await putKeyed(stub);
      await stats(stub, { failures: 1 });
      while ((await statsOf(stub)).delayed === 0) await ring(stub);
      const behind = lane(bad).filter((n) => n > bad);
      await stats(stub, { pending: 0, delayed: 1, blocked: behind.length, breaker: "closed" });
      tookInOrder(seen.taken, except(bad, ...behind));
      await ring(stub);
      expect(await statsOf(stub)).toMatchObject({ delayed: 1, blocked: behind.length, breaker: "closed" });
      await ring(stub);
      await idle(stub);
      tookInOrder(seen.taken.slice(0, -behind.length || 100), except(bad, ...behind));
      expect(seen.taken.slice(-behind.length || 100)).toEqual(behind);
      expect(await listed(stub, "dead")).toMatchObject([{ msg: bad, reason: "max_attempts" }]);
    });
  });

  it.each([1, 2])("is found at the head with a batchSize of %i, and with many behind it that wait for it", async (batchSize) => {
    const stub = boxWith(backend, { batchSize, retry: QUICK });
    poisoned(stub, "a1");
    const behind = numbers(150, 2).map((n) => `a${n}`);
    await sendNamed(stub, `${["a1", ...behind].join(" ")} b1 b2`);
    await idle(stub);
    expect((await listed(stub, "dead")).map(({ msg }) => msg)).toEqual(["a1"]);
    const taken = (callsOf(stub).flat() as string[]).filter((name) => name !== "a1");
    expect(taken.filter((name) => name.startsWith("a"))).toEqual(behind);
    expect(taken.filter((name) => name.startsWith("b"))).toEqual(["b1", "b2"]);
  });

  it("is no poison where there is nothing else to try: its key alone waits, for ever", async () => {
    const stub = boxWith(backend, { retry: { ...QUICK, maxAttempts: 1 } });
    poisoned(stub, "a1");
    await sendNamed(stub, "a1 a2 a3");
    await eventually(() => callsOf(stub).length > 10);
    expect(await statsOf(stub)).toMatchObject({ dead: 0, breaker: "open" });
    expect(new Set(namesOf(stub))).toEqual(new Set(["a1"]));
    // As soon as there is another key to try, it is found.
    await sendNamed(stub, "b1");
    await idle(stub);
    expect((await listed(stub, "dead")).map(({ msg }) => msg)).toEqual(["a1"]);
    expect(namesOf(stub).slice(-2)).toEqual(["a2", "a3"]);
  });
});

onEitherBackend("two messages that break their calls at the heads of two keys", (backend) => {
  it("are both found by way of others, and none behind them is early", async () => {
    const stub = boxWith(backend, { retry: QUICK });
    poisoned(stub, "a1", "b1");
    await sendNamed(stub, "a1 b1 b2 a2 b3 c1");
    // One other message proves one of them.
    await eventually(() => callsOf(stub).flat().includes("c1"));
    await sendNamed(stub, "d1");
    await idle(stub);
    expect((await listed(stub, "dead")).map(({ msg }) => msg)).toEqual(["a1", "b1"]);
    const handed = callsOf(stub).flat() as string[];
    for (const key of ["a", "b"]) {
      const lane = handed.filter((name) => name.startsWith(key));
      expect(lane).toEqual([...lane].sort());
    }
    expect(handed.filter((name) => !name.endsWith("1")).sort()).toEqual(["a2", "b2", "b3"]);
    expect(handed.filter((name) => name === "c1")).toHaveLength(1);
  });
});

onEitherBackend("a destination that refuses everything", (backend) => {
  it("for long makes no dead letter, and then gets everything in order", async () => {
    const stub = boxWith(backend, { retry: { ...QUICK, maxAttempts: 1 } });
    stageOf(stub).rest = down;
    await putMany(stub, 150);
    await eventually(() => callsOf(stub).length >= 60);
    expect(await statsOf(stub)).toMatchObject({ pending: 150, delayed: 0, dead: 0, breaker: "open" });
    // Halved down to the head, with another message each time: neither can be told from the destination.
    const calls = callsOf(stub)
      .filter(([first]) => first === 1)
      .map((call) => call.join());
    expect([...new Set(calls)].slice(0, 8)).toEqual([100, 50, 25, 13, 7, 4, 2, 1].map((size) => numbers(size).join()));
    expect(
      new Set(
        callsOf(stub)
          .slice(-20)
          .map(({ length }) => length),
      ),
    ).toEqual(new Set([1]));
    // It comes back at a moment when the head is tried.
    let up = false;
    const taken: unknown[] = [];
    stageOf(stub).rest = (messages) => {
      up ||= messages[0]?.msg === 1;
      if (!up) throw new Error("the destination is down");
      taken.push(...messages.map(({ msg }) => msg));
    };
    expect(await idle(stub)).toMatchObject({ dead: 0 });
    expect(taken).toEqual(numbers(150));
  });

  it("until any moment of the search makes no dead letter, and loses and doubles nothing", async () => {
    for (let calls = 1; calls <= 14; calls++) {
      const stub = boxWith(backend, { retry: { ...QUICK, maxAttempts: 1 } });
      const taken: unknown[] = [];
      stageOf(stub).rest = (messages: Sent) => {
        if (callsOf(stub).length <= calls) throw new Error("the destination is down");
        taken.push(...messages.map(({ msg }) => msg));
      };
      await putMany(stub, 100);
      expect(await idle(stub)).toMatchObject({ dead: 0 });
      expect([calls, [...taken].sort((a, b) => Number(a) - Number(b))]).toEqual([calls, numbers(100)]);
    }
  });

  it("a lone message too is never a dead letter", async () => {
    vi.spyOn(console, "warn").mockImplementation(() => {});
    const stub = boxWith(backend, { retry: { ...patient, maxAttempts: 1 } });
    stageOf(stub).rest = down;
    const [receipt] = await sendNamed(stub, ".1");
    await stats(stub, { failures: 1 });
    for (let n = 0; n < 50; n++) await ring(stub);
    expect(await statsOf(stub)).toMatchObject({ pending: 1, dead: 0, failures: 51 });
    expect(eventsAbout(receipt?.id ?? "", "dead")).toEqual([]);
  });
});
