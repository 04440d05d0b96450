/** The retained log on the model: what is read and followed is what was committed, whatever else happens. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { type OutboxManager, type OutboxMessage, type OutboxRetain, withTransactionalOutbox } from "../../src/index.ts";
import { SEED, size } from "../support/random.ts";
import { Died, type ObjectClass, World } from "./world.ts";

interface Box {
  readonly outbox: OutboxManager<number>;
}

const PATH = (import.meta as unknown as { env: Record<string, string | undefined> }).env.VITE_PATH;
const NAMES = ["a", "b", "c"] as const;

type Step =
  | { readonly do: "put"; readonly count: number; readonly refused: number; readonly delay: number }
  | { readonly do: "transact"; readonly count: number; readonly ends: boolean }
  | { readonly do: "expect"; readonly by: number }
  | { readonly do: "mode"; readonly destination: number; readonly throws: boolean }
  | { readonly do: "crash"; readonly steps: number }
  | { readonly do: "wait"; readonly seconds: number }
  | { readonly do: "trim"; readonly share: number }
  | { readonly do: "rewind"; readonly share: number; readonly destination: number }
  | { readonly do: "read"; readonly from: number; readonly limit: number; readonly backward: boolean }
  | { readonly do: "epoch" | "tail" | "evict" | "deploy" };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("put" as const),
      count: fc.oneof(fc.nat(4), fc.integer({ min: 15, max: 70 })),
      refused: fc.oneof({ weight: 3, arbitrary: fc.constant(-1) }, { weight: 1, arbitrary: fc.nat(20) }),
      delay: fc.constantFrom(0, 0, 0, 60),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("transact" as const), count: fc.nat(20), ends: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("expect" as const), by: fc.constantFrom(0, 0, -1, 1) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("mode" as const), destination: fc.nat(NAMES.length - 1), throws: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("crash" as const), steps: fc.integer({ min: 1, max: 40 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("wait" as const), seconds: fc.constantFrom(0.01, 3, 400) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("trim" as const), share: fc.double({ min: 0, max: 1, noNaN: true }) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("rewind" as const),
      share: fc.double({ min: 0, max: 1, noNaN: true }),
      destination: fc.nat(NAMES.length - 1),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("read" as const),
      from: fc.double({ min: 0, max: 1, noNaN: true }),
      limit: fc.constantFrom(1, 2, 16, 17, 100, 1000),
      backward: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constantFrom("epoch" as const, "tail" as const, "tail" as const, "evict" as const, "deploy" as const) }),
  },
) as fc.Arbitrary<Step>;

const RETAIN: readonly OutboxRetain[] = ["all", "all", { count: 40 }, { seconds: 200 }, { bytes: 2000 }, { count: 100, bytes: 3000 }];

const story = fc.record({
  backend: fc.constantFrom("sqlite" as const, "kv" as const),
  tempo: fc.constantFrom("joined" as const, "split" as const),
  retain: fc.constantFrom(...RETAIN),
  count: fc.integer({ min: 0, max: NAMES.length }),
  steps: fc.array(step, { minLength: 1, maxLength: 25 }),
});

console.log(`log: VITE_SEED=${SEED}`);

it("what is read, forwards and backwards, and what a tail yields over all lives is what was committed, as far as it is retained", async () => {
  const property = fc.asyncProperty(story, async ({ backend, tempo, retain, count, steps }) => {
    let last = 0;
    /** What was certainly stored, at which position. */
    const stored = new Map<number, number>();
    /** Nobody knows whether these were. */
    const maybe = new Set<number>();
    const never = new Set<number>();
    const taken = new Map<string, Set<number>>(NAMES.map((name) => [name, new Set()]));
    const throwing = new Set<string>();
    /** What tails have yielded, one after the other. */
    const seen: { position: number; n: number }[] = [];
    let trimmed = 0;
    const names = NAMES.slice(0, count);

    const classOf = () => {
      const Plain = class {
        readonly outbox: OutboxManager<number>;
        readonly destinations = Object.fromEntries(
          names.map((name) => [
            name,
            async (messages: OutboxMessage<number>[]) => {
              if (throwing.has(name)) throw new Error("down");
              await world.outside(() => {
                for (const { msg } of messages) taken.get(name)?.add(msg);
              });
            },
          ]),
        );
        constructor(
          readonly ctx: DurableObjectState,
          env: { OUTBOX_MANAGER: OutboxManager<number> },
        ) {
          this.outbox = env.OUTBOX_MANAGER;
        }
      };
      const options = { retry: { minDelaySeconds: 1, maxDelaySeconds: 8, jitter: 0 }, retain };
      return withTransactionalOutbox(Plain as never, options) as unknown as ObjectClass<Box>;
    };
    const cls = classOf();
    const world = new World<Box>({ backend, tempo, seed: 1 }, () => cls);
    const act = async <R>(body: (outbox: Box["outbox"]) => Promise<R>): Promise<R | undefined> => {
      try {
        return await world.act(({ outbox }) => body(outbox));
      } catch (error) {
        if (error instanceof Died) return undefined;
        throw error;
      }
    };
    const fresh = (number: number): number[] => {
      const mine = Array.from({ length: number }, () => ++last);
      for (const n of mine) maybe.add(n);
      return mine;
    };
    const known = (n: number, position: number): void => {
      maybe.delete(n);
      stored.set(n, position);
    };
    /** All pages in one direction. */
    const readAll = async (outbox: Box["outbox"], limit: number, direction: "forward" | "backward", from?: number) => {
      const all: { position: number; n: number }[] = [];
      for (let next = from; ; ) {
        const committed = limit === 17;
        const page = await outbox.read({ limit, direction, committed, ...(next !== undefined && { from: next }) });
        expect(page.messages.length).toBeLessThanOrEqual(limit);
        const epochs = page.messages.map(({ source }) => source.slice(source.lastIndexOf(":") + 1));
        if (direction === "backward") epochs.reverse();
        expect([...epochs, page.epoch]).toEqual([...epochs, page.epoch].sort());
        all.push(...page.messages.map(({ position, msg }) => ({ position, n: msg })));
        if (page.upToDate) return { all, earliest: page.earliest };
        expect(page.next).not.toBe(next);
        ({ next } = page);
      }
    };

    for (const step of steps) {
      if (step.do === "put") {
        const mine = fresh(step.count);
        const options = step.delay ? { delaySeconds: step.delay } : {};
        const outcomes = await act(async (outbox) => {
          const puts = mine.map((n, i) => {
            // Storage refuses it: a function can't be cloned.
            if (i === step.refused) never.add(n);
            return i === step.refused
              ? outbox
                  .put("bad", () => {}, n)
                  .then(
                    () => 0,
                    () => 0,
                  )
              : outbox.put(`n:${n}`, n, n, options).then(() => n);
          });
          return Promise.all(puts);
        });
        // Which position each has is read later.
        for (const n of outcomes ?? []) if (n > 0) known(n, 0);
      } else if (step.do === "transact") {
        const mine = fresh(step.count);
        if (!step.ends) for (const n of mine) never.add(n);
        const done = await act((outbox) =>
          outbox
            .transaction(async (txn) => {
              await Promise.all(mine.map((n) => txn.send(n)));
              if (!step.ends) throw new Error("undone");
            })
            .then(
              () => true,
              () => false,
            ),
        );
        if (done) for (const n of mine) known(n, 0);
      } else if (step.do === "expect") {
        const [n = 0] = fresh(1);
        const outcome = await act(async (outbox) => {
          const { messages } = await outbox.read({ direction: "backward", limit: 1 });
          const actual = (await outbox.stats()).log?.last === messages[0]?.position ? (messages[0]?.sequence ?? 0) : undefined;
          if (actual === undefined) return "unknown";
          return outbox.send(n, { expectedSequence: Math.max(0, actual + step.by) }).then(
            () => (step.by === 0 || actual + step.by < 0 ? "stored" : "wrongly stored"),
            (error: { code: string; actual?: number }) => `${error.code} ${error.actual === actual}`,
          );
        });
        if (outcome === "stored") known(n, 0);
        else if (outcome !== undefined) {
          if (outcome !== "unknown") never.add(n);
          // After newEpoch() it counts from 0 again.
          const epochs = steps.some((each) => each.do === "epoch");
          if (!epochs && outcome !== "unknown") expect([step.by, outcome]).toEqual([step.by, "sequence_conflict true"]);
        }
      } else if (step.do === "mode") {
        const name = NAMES[step.destination] as string;
        if (step.throws) throwing.add(name);
        else throwing.delete(name);
      } else if (step.do === "crash") world.crashIn(step.steps);
      else if (step.do === "wait") await world.advance(step.seconds * 1000);
      else if (step.do === "evict") world.evict();
      else if (step.do === "deploy") world.crash("a deployment");
      else if (step.do === "epoch") await act((outbox) => outbox.newEpoch());
      else if (step.do === "trim") {
        const before = Math.floor(step.share * last);
        const first = await act((outbox) => outbox.trim({ before }));
        if (first !== undefined) expect(first).toBeLessThanOrEqual(Math.max(before, first > before ? first : 0, 1));
        trimmed = Math.max(trimmed, before);
      } else if (step.do === "rewind") {
        const name = names[step.destination];
        // Where that is not kept, or lies ahead, it is refused.
        if (name)
          await act((outbox) =>
            outbox
              .rewind(name, { to: Math.max(1, Math.floor(step.share * last)) })
              .catch((error: Error) => expect(error.message).toContain("options.to")),
          );
      } else if (step.do === "read") {
        const limit = step.limit;
        await act(async (outbox) => {
          const direction = step.backward ? "backward" : "forward";
          const { all } = await readAll(outbox, limit, direction, Math.floor(step.from * last));
          const positions = all.map(({ position }) => position);
          expect(positions).toEqual([...new Set(positions)].sort((a, b) => (step.backward ? b - a : a - b)));
          expect(all.filter(({ n }) => !stored.has(n) && !maybe.has(n))).toEqual([]);
        });
      } else {
        const after = seen.at(-1)?.position ?? 0;
        const { lives } = world;
        // It ends with its life. Another one goes on behind what this one has yielded.
        world
          .begin(async ({ outbox }) => {
            const life = world.lives;
            for await (const { position, msg } of outbox.tail({ after: Math.max(after, seen.at(-1)?.position ?? 0) })) {
              if (life !== world.lives || position <= (seen.at(-1)?.position ?? 0)) return;
              seen.push({ position, n: msg });
            }
          })
          .result.catch(() => {});
        expect(world.lives).toBeGreaterThanOrEqual(lives);
        await world.advance(1);
      }
    }

    throwing.clear();
    world.crash("the last deployment");
    await world.rest();
    await act(async () => {});
    await world.rest();
    // A crash that was ordered may come as late as here.
    const surely = async <R>(body: (outbox: Box["outbox"]) => Promise<R>): Promise<R> => (await act(body)) ?? (await surely(body));
    const { all } = await surely((outbox) => readAll(outbox, 17, "forward"));
    const backward = await surely((outbox) => readAll(outbox, 5, "backward"));
    expect(backward.all.reverse()).toEqual(all);
    await world.rest();
    const positions = all.map(({ position }) => position);
    expect(positions).toEqual([...new Set(positions)].sort((a, b) => a - b));
    const readNumbers = new Set(all.map(({ n }) => n));
    expect(all.filter(({ n }) => never.has(n) || !(stored.has(n) || maybe.has(n)))).toEqual([]);
    // In put order, those of one turn.
    const numbers = all.map(({ n }) => n);
    expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
    const missing = [...stored.keys()].filter((n) => !readNumbers.has(n));
    if (retain === "all" && trimmed === 0) expect(missing).toEqual([]);
    else {
      // What is gone is at the beginning.
      const first = numbers[0] ?? Number.POSITIVE_INFINITY;
      expect(missing.filter((n) => n > first)).toEqual([]);
      if (retain !== "all" && Object.keys(retain).length === 1 && retain.count && trimmed === 0) {
        // A refused put may have left a number unused.
        expect(numbers.length).toBeGreaterThanOrEqual(Math.min(retain.count - never.size, stored.size));
      }
    }
    // Each destination got everything.
    for (const name of names) expect([name, [...stored.keys()].filter((n) => !taken.get(name)?.has(n))]).toEqual([name, []]);
    // A tail repeats and invents nothing, and leaves out nothing between what it has yielded.
    const order = seen.map(({ position }) => position);
    expect(order).toEqual([...new Set(order)].sort((a, b) => a - b));
    expect(seen.filter(({ n }) => never.has(n) || !(stored.has(n) || maybe.has(n)))).toEqual([]);
    const between = all.filter(({ position }) => position >= (order[0] ?? Number.POSITIVE_INFINITY) && position <= (order.at(-1) ?? 0));
    const yielded = new Set(order);
    expect(between.filter(({ position }) => !yielded.has(position))).toEqual([]);
    expect(world.disk.alarm).toBeNull();
  });
  await fc.assert(property, { seed: SEED, numRuns: size(80, 800), ...(PATH && { path: PATH }) });
});
