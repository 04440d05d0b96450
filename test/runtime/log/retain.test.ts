/** What is kept of a log, by count, age, size and trim: bounded steps, and nothing that a destination has yet to get. */
import { expect, it } from "vitest";
import { type OutboxRetain, withTransactionalOutbox } from "../../../src/index.ts";
import { boxWith, down } from "../support/batches.ts";
import { forward } from "../support/clock.ts";
import { again, crash, drained, inside, onBothBackends, outboxRows, redeclared, type Stub, until } from "../support/harness.ts";
import { got, objectWith, receivers } from "../support/named.ts";
import { Box, options, stageOf } from "../support/worker.ts";

const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, n) => first + n);

async function putNumbers(stub: Stub, first: number, last: number): Promise<void> {
  await inside(stub, (_, outbox) => Promise.all(range(first, last).map((n) => outbox.send(n))));
  await drained(stub);
}

const numbersIn = (stub: Stub) =>
  inside(stub, async (_, outbox) => (await outbox.read({ limit: 1000 })).messages.map(({ msg }) => msg as number));
const rowsOf = (stub: Stub) => inside(stub, async (_, __, state) => (await outboxRows(state)).size);

onBothBackends("a log that is retained", (backend) => {
  it("by count keeps the newest, and at most two rows of them more", async () => {
    const stub = boxWith(backend, { retain: { count: 50 } });
    for (let first = 1; first < 400; first += 40) await putNumbers(stub, first, first + 39);
    const kept = await numbersIn(stub);
    expect(kept.length).toBeGreaterThanOrEqual(50);
    expect(kept.length).toBeLessThanOrEqual(50 + 2 * 32);
    expect(kept).toEqual(range(401 - kept.length, 400));
    // The header, and a row for every 16 messages at most.
    expect(await rowsOf(stub)).toBeLessThanOrEqual(1 + Math.ceil(kept.length / 16));
    await crash(stub);
    expect(await numbersIn(again(stub))).toEqual(kept);
  });

  it("by age keeps what is younger", async () => {
    const stub = boxWith(backend, { retain: { seconds: 600 } });
    await putNumbers(stub, 1, 64);
    forward(601);
    await putNumbers(stub, 65, 128);
    await putNumbers(stub, 129, 200);
    const kept = await numbersIn(stub);
    expect(kept.slice(-136)).toEqual(range(65, 200));
    expect(kept.length).toBeLessThanOrEqual(136 + 32);
  });

  it("by size keeps the newest of so many bytes", async () => {
    const stub = boxWith(backend, { retain: { bytes: 3000 } });
    for (let first = 1; first < 400; first += 40) await putNumbers(stub, first, first + 39);
    const kept = await numbersIn(stub);
    expect(kept).toEqual(range(401 - kept.length, 400));
    const { log } = await inside(stub, (_, outbox) => outbox.stats());
    expect(log?.bytes).toBeGreaterThanOrEqual(3000);
    expect(log?.bytes).toBeLessThan(3000 + 3 * 32 * 30);
  });

  it("keeps what a destination has yet to get, whatever the limit says", async () => {
    const all = receivers("behind", "well");
    all.behind.rest = down;
    const stub = objectWith(backend, all, { behind: {}, well: {} }, { retain: { count: 10 } });
    await inside(stub, (_, outbox) => Promise.all(range(1, 200).map((n) => outbox.send(n))));
    await inside(stub, (_, outbox) => outbox.trim({ before: 100 }));
    expect(await numbersIn(stub)).toEqual(range(1, 200));
    all.behind.rest = () => {};
    await inside(stub, (_, outbox) => outbox.flush());
    await drained(stub);
    expect(new Set(got(all.behind))).toEqual(new Set(range(1, 200)));
    const kept = await numbersIn(stub);
    expect(kept.at(-1)).toBe(200);
    expect(kept[0]).toBeGreaterThanOrEqual(100);
  });

  it("gives a new destination what it still has, and no more", async () => {
    const stub = boxWith(backend, { retain: "all" });
    await putNumbers(stub, 1, 50);
    expect(stageOf(stub).calls.flat()).toHaveLength(50);
    expect((await inside(stub, (_, outbox) => outbox.stats())).pending).toBe(0);
  });

  it("trim deletes what is before a position, in this life and the next", async () => {
    const stub = boxWith(backend, { retain: "all" });
    await putNumbers(stub, 1, 300);
    const rows = await rowsOf(stub);
    expect(await inside(stub, (_, outbox) => outbox.trim({ before: 201 }))).toBe(201);
    expect(await numbersIn(stub)).toEqual(range(201, 300));
    expect(await rowsOf(stub)).toBeLessThan(rows / 2);
    await crash(stub);
    expect(await numbersIn(again(stub))).toEqual(range(201, 300));
    expect(await inside(again(stub), (_, outbox) => outbox.read({ from: 1, limit: 1 }))).toMatchObject({ earliest: 201, next: 202 });
    // Of what is not there yet nothing is deleted.
    expect(await inside(again(stub), (_, outbox) => outbox.trim({ before: 10_000 }))).toBe(301);
    await putNumbers(again(stub), 301, 310);
    expect(await numbersIn(again(stub))).toEqual(range(301, 310));
  });

  it("is deleted once the option is gone, with the next delivery", async () => {
    const stub = boxWith(backend, { retain: "all" });
    await putNumbers(stub, 1, 200);
    await inside(stub, (_, outbox) => outbox.trim({ before: 50 }));
    expect(await rowsOf(stub)).toBeGreaterThan(3);
    await crash(stub);
    redeclared(stub, withTransactionalOutbox(class extends Box {}, options));
    await putNumbers(again(stub), 201, 201);
    await until(again(stub), async (_, state) => (await outboxRows(state)).size === 1);
    expect(
      stageOf(stub)
        .calls.flat()
        .map(({ msg }) => msg),
    ).toEqual(range(1, 201));
  });

  it("goes with deleteAll()", async () => {
    const stub = boxWith(backend, { retain: "all" });
    await putNumbers(stub, 1, 100);
    await inside(stub, (_, __, { storage }) => storage.deleteAll());
    expect(await rowsOf(stub)).toBe(0);
    expect(await numbersIn(stub)).toEqual([]);
    await putNumbers(stub, 101, 120);
    expect(await numbersIn(stub)).toEqual(range(101, 120));
    await crash(stub);
    expect(await numbersIn(again(stub))).toEqual(range(101, 120));
  });

  it.each([
    ["none", '"all", or an object'],
    [{}, "with count, seconds or bytes"],
    [{ count: 0 }, "options.retain.count"],
    [{ count: 1.5 }, "options.retain.count"],
    [{ seconds: -1 }, "options.retain.seconds"],
    [{ bytes: "1" }, "options.retain.bytes"],
    [{ day: 1 }, "unknown options"],
  ])("is not configured with %o", (retain, text) => {
    expect(() => boxWith(backend, { retain: retain as OutboxRetain })).toThrow(text);
  });
});
