/** A pulled destination on the model: consumers that die, leases that expire, an object that crashes, and still each message is settled in order. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { type OutboxManager, withTransactionalOutbox } from "../../src/index.ts";
import { SEED, size } from "../support/random.ts";
import { Died, type ObjectClass, World } from "./world.ts";

interface Box {
  readonly outbox: OutboxManager<number>;
}

const PATH = (import.meta as unknown as { env: Record<string, string | undefined> }).env.VITE_PATH;

/** What a consumer says of its messages, each by its number. */
const VERDICTS = ["ack", "ack", "ack", "retry", "reject", "later"] as const;

type Step =
  | { readonly do: "put"; readonly count: number; readonly key: number; readonly delay: number }
  | { readonly do: "receive"; readonly consumer: number; readonly most: number }
  | { readonly do: "settle"; readonly consumer: number; readonly verdicts: readonly (typeof VERDICTS)[number][] }
  | { readonly do: "die"; readonly consumer: number }
  | { readonly do: "crash"; readonly steps: number }
  | { readonly do: "wait"; readonly seconds: number }
  | { readonly do: "undo"; readonly count: number }
  | { readonly do: "redrive" | "evict" | "cancel" | "extend" };

const consumer = fc.nat(2);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("put" as const),
      count: fc.oneof(fc.nat(4), fc.integer({ min: 15, max: 60 })),
      key: fc.nat(5),
      delay: fc.constantFrom(0, 0, 0, 5),
    }),
  },
  { weight: 8, arbitrary: fc.record({ do: fc.constant("receive" as const), consumer, most: fc.constantFrom(1, 3, 10, 100) }) },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant("settle" as const),
      consumer,
      verdicts: fc.array(fc.constantFrom(...VERDICTS), { minLength: 1, maxLength: 5 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("die" as const), consumer }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("crash" as const), steps: fc.integer({ min: 1, max: 30 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("wait" as const), seconds: fc.constantFrom(0.1, 3, 31) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("undo" as const), count: fc.nat(20) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom("redrive" as const, "evict" as const, "cancel" as const, "extend" as const),
    }),
  },
) as fc.Arbitrary<Step>;

const story = fc.record({
  backend: fc.constantFrom("sqlite" as const, "kv" as const),
  tempo: fc.constantFrom("joined" as const, "split" as const),
  steps: fc.array(step, { minLength: 1, maxLength: 40 }),
});

interface Held {
  readonly lease: string;
  readonly messages: Map<string, number>;
}

console.log(`pull: VITE_SEED=${SEED}`);

it("each message is settled once or is a dead letter, and none before an earlier one of its key", async () => {
  const property = fc.asyncProperty(story, async ({ backend, tempo, steps }) => {
    let last = 0;
    const keys = new Map<number, number>();
    const stored = new Set<number>();
    const maybe = new Set<number>();
    const undone = new Set<number>();
    /** What a consumer has been told is done; and what may be, because the object died meanwhile. */
    const acked: number[] = [];
    const perhaps = new Set<number>();
    const dead = new Set<number>();
    const cancelled = new Set<number>();
    let isRedriven = false;
    const held = new Map<number, Held>();

    const Plain = class {
      readonly outbox: OutboxManager<number>;
      readonly destinations = { jobs: { pull: true as const } };
      constructor(
        readonly ctx: DurableObjectState,
        env: { OUTBOX_MANAGER: OutboxManager<number> },
      ) {
        this.outbox = env.OUTBOX_MANAGER;
      }
    };
    const retry = { minDelaySeconds: 1, maxDelaySeconds: 2, jitter: 0, maxAttempts: 1000 };
    const cls = withTransactionalOutbox(Plain as never, { retry }) as unknown as ObjectClass<Box>;
    const world = new World<Box>({ backend, tempo, seed: 1 }, () => cls);
    const act = async <R>(body: (outbox: Box["outbox"]) => Promise<R>): Promise<R | undefined> => {
      try {
        return await world.act(({ outbox }) => body(outbox));
      } catch (error) {
        if (error instanceof Died) return undefined;
        throw error;
      }
    };
    /** What is known of a message says that it can be in nobody's hands. */
    const isOver = (n: number): boolean => acked.includes(n) || perhaps.has(n) || dead.has(n) || cancelled.has(n);

    const receive = async (who: number, most: number): Promise<number> => {
      const received = await act((outbox) => outbox.receive("jobs", { maxMessages: most }));
      if (!received) return -1;
      const numbers = received.messages.map(({ msg }) => msg);
      expect(numbers.filter((n) => undone.has(n) || acked.includes(n))).toEqual([]);
      for (const n of numbers) {
        const earlier = [...stored].filter((other) => other < n && keys.get(other) === keys.get(n) && (keys.get(n) ?? 0) > 2);
        if (!isRedriven) expect([n, earlier.filter((other) => !isOver(other))]).toEqual([n, []]);
      }
      held.set(who, { lease: received.lease, messages: new Map(received.messages.map(({ id, msg }) => [id, msg])) });
      return numbers.length;
    };
    const settle = async (who: number, verdictOf: (i: number) => (typeof VERDICTS)[number]): Promise<void> => {
      const mine = held.get(who);
      if (!mine || mine.messages.size === 0) return;
      const verdicts = [...mine.messages].map(([id, n], i) => ({ id, n, verdict: verdictOf(i) }));
      const of = (wanted: string) => verdicts.filter(({ verdict }) => verdict === wanted);
      const outcomes = {
        acks: of("ack").map(({ id }) => id),
        retries: of("retry").map(({ id }) => ({ id, delaySeconds: 1 })),
        rejects: of("reject").map(({ id }) => id),
      };
      const outcome = await act((outbox) =>
        outbox.settle(mine.lease, outcomes).then(
          () => "done" as const,
          (error: { code?: string }) => {
            expect(error.code).toBe("lease_expired");
            return "expired" as const;
          },
        ),
      );
      if (outcome === "expired") held.delete(who);
      if (outcome === "done") {
        acked.push(...of("ack").map(({ n }) => n));
        for (const { n } of of("reject")) dead.add(n);
        for (const { id, verdict } of verdicts) if (verdict !== "later") mine.messages.delete(id);
      }
      if (outcome === undefined) {
        for (const { n, verdict } of verdicts) if (verdict === "ack" || verdict === "reject") perhaps.add(n);
        held.delete(who);
      }
    };

    for (const step of steps) {
      if (step.do === "put") {
        const mine = Array.from({ length: step.count }, () => ++last);
        for (const n of mine) {
          keys.set(n, step.key);
          maybe.add(n);
        }
        // Some of those without a key expire, leased or not.
        const options = {
          ...(step.key === 1 && { expiresInSeconds: 5 }),
          ...(step.key > 2 && { key: `k${step.key}` }),
          ...(step.delay > 0 && { delaySeconds: step.delay }),
        };
        const receipts = await act((outbox) => Promise.all(mine.map((n) => outbox.put(`n:${n}`, n, n, options))));
        if (receipts) for (const n of mine) stored.add(n);
      } else if (step.do === "receive") await receive(step.consumer, step.most);
      else if (step.do === "settle") await settle(step.consumer, (i) => step.verdicts[i % step.verdicts.length] ?? "ack");
      else if (step.do === "die") held.delete(step.consumer);
      else if (step.do === "crash") world.crashIn(step.steps);
      else if (step.do === "wait") await world.advance(step.seconds * 1000);
      else if (step.do === "evict") world.evict();
      else if (step.do === "undo") {
        const mine = Array.from({ length: step.count }, () => ++last);
        for (const n of mine) undone.add(n);
        await act((outbox) =>
          outbox
            .transaction(async (txn) => {
              await Promise.all(mine.map((n) => txn.send(n)));
              throw new Error("undone");
            })
            .catch(() => {}),
        );
      } else if (step.do === "redrive") {
        isRedriven = true;
        await act((outbox) => outbox.redrive());
        dead.clear();
      } else if (step.do === "cancel") {
        const [waiting] = (await act((outbox) => outbox.list({ limit: 1 }))) ?? [];
        if (waiting && (await act((outbox) => outbox.cancel(waiting.id))) !== false) cancelled.add(waiting.msg);
      } else {
        for (const { lease } of held.values()) {
          await act((outbox) => outbox.extendLease(lease).catch((error: { code: string }) => expect(error.code).toBe("lease_expired")));
        }
      }
    }

    // A consumer that takes everything, until there is no more.
    held.clear();
    for (let empty = 0; empty < 3; ) {
      const count = await receive(9, 100);
      if (count === 0) {
        empty++;
        await world.advance(40_000);
      } else if (count > 0) {
        empty = 0;
        await settle(9, () => "ack");
      }
    }
    // A crash that was ordered may come as late as here.
    const surely = async <R>(body: (outbox: Box["outbox"]) => Promise<R>): Promise<R> => (await act(body)) ?? (await surely(body));
    const letters = await surely((outbox) => outbox.list({ state: "dead", limit: 1000 }));
    for (const { msg } of letters) dead.add(msg);
    expect(acked.filter((n, i) => acked.indexOf(n) !== i)).toEqual([]);
    const known = new Set([...stored, ...maybe]);
    expect(acked.filter((n) => !known.has(n))).toEqual([]);
    expect([...stored].filter((n) => !isOver(n))).toEqual([]);
    expect((await surely((outbox) => outbox.stats())).destinations.jobs).toMatchObject({ pending: 0, delayed: 0, blocked: 0, leased: 0 });
    expect(world.disk.alarm).toBeNull();
    const rows = [...world.disk.rows.keys()].filter((key) => key.startsWith("\u{10FFFF}") && !/^.{1,2}outbox\/[ir]/su.test(key));
    expect(rows.length - letters.length).toBeLessThanOrEqual(1);
  });
  await fc.assert(property, { seed: SEED, numRuns: size(80, 800), ...(PATH && { path: PATH }) });
});
