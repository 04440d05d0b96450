/** A log that grows by hundreds of messages while a call, a cancellation or a list is under way: nothing is lost, and nothing is left over. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { type OutboxDelivery, type OutboxManager, type OutboxMessage, withTransactionalOutbox } from "../../src/index.ts";
import { SEED, size } from "../support/random.ts";
import { readDisk } from "./durable.ts";
import { type ObjectClass, World } from "./world.ts";

interface Box {
  readonly outbox: OutboxManager<{ n: number }>;
}

/** What happens in one call of the handler. */
interface Round {
  /** So many are put while it lasts. */
  readonly puts: number;
  /** Every so many-th message is settled by itself, before the call ends in this way. */
  readonly every: number;
  readonly outcome: "ack" | "retry" | "reject";
  readonly end: "return" | "throw";
  /** The object dies when it is over, or so many messages are cancelled meanwhile. */
  readonly dies: boolean;
  readonly cancels: number;
}

const round: fc.Arbitrary<Round> = fc.record({
  puts: fc.oneof(fc.nat(40), fc.integer({ min: 150, max: 400 })),
  every: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 40 })),
  outcome: fc.constantFrom("ack" as const, "retry" as const, "reject" as const),
  end: fc.constantFrom("return" as const, "return" as const, "throw" as const),
  dies: fc.boolean(),
  cancels: fc.nat(4),
});
const story = fc.record({
  backend: fc.constantFrom("sqlite" as const, "kv" as const),
  // Where the end of a batch is often that of a segment which may still grow.
  batchSize: fc.constantFrom(1, 8, 16, 32, 100),
  first: fc.oneof(fc.integer({ min: 17, max: 24 }), fc.integer({ min: 1, max: 60 })),
  rounds: fc.array(round, { minLength: 1, maxLength: 6 }),
});

console.log(`growth: VITE_SEED=${SEED}`);

it("a log that grows while it is delivered gives every message once to the destination, the dead letters or a cancellation", async () => {
  const property = fc.asyncProperty(story, async ({ backend, batchSize, first, rounds }) => {
    const left = [...rounds];
    let count = 0;
    const delivered: number[] = [];
    const cancelled = new Set<number>();
    const maybe = new Set<number>();
    const ids = new Map<number, string>();
    const put = (outbox: Box["outbox"], puts: number): Promise<unknown> =>
      Promise.all(
        Array.from({ length: puts }, async () => {
          const n = ++count;
          maybe.add(n);
          const { id } = await outbox.send({ n });
          ids.set(n, id);
          maybe.delete(n);
        }),
      );
    const Plain = class {
      readonly outbox: OutboxManager<{ n: number }>;
      constructor(
        readonly ctx: DurableObjectState,
        env: { OUTBOX_MANAGER: OutboxManager<{ n: number }> },
      ) {
        this.outbox = env.OUTBOX_MANAGER;
      }
      async sendMessages(messages: OutboxMessage<{ n: number }>[], delivery: OutboxDelivery): Promise<void> {
        const round = left.shift();
        const numbers = messages.map(({ msg }) => msg.n);
        if (!round) return world.outside(() => void delivered.push(...numbers));
        const { puts, every, outcome, end, dies, cancels } = round;
        const settled = messages.filter((_, i) => i % every === 0);
        const gone = new Set<number>();
        for (const { id, msg } of settled) {
          delivery[outcome](id);
          if (outcome !== "retry") gone.add(msg.n);
        }
        const putting = put(this.outbox, puts);
        for (let i = 0; i < cancels; i++) {
          const n = count - i * 7;
          const id = ids.get(n);
          if (id !== undefined && !numbers.includes(n) && (await this.outbox.cancel(id))) cancelled.add(n);
        }
        await putting;
        await this.outbox.list({ limit: 1000 });
        if (dies) world.crashIn(2);
        await world.outside(() => {
          if (outcome === "ack") delivered.push(...numbers.filter((n) => gone.has(n)));
          if (end === "return") delivered.push(...numbers.filter((n) => !gone.has(n) && outcome !== "retry"));
          if (end === "return" && outcome === "retry") delivered.push(...numbers.filter((_, i) => i % every !== 0));
        });
        if (end === "throw") throw new Error("the test wants a failure");
      }
    };
    const cls = withTransactionalOutbox(Plain as never, { batchSize, retry: { minDelaySeconds: 1, maxDelaySeconds: 2, jitter: 0 } });
    const world = new World<Box>({ backend, tempo: "joined", seed: 1 }, () => cls as unknown as ObjectClass<Box>);
    await world.act(({ outbox }) => put(outbox, first));
    await world.rest();
    const { pending, dead, rows } = readDisk(world.disk);
    expect(pending).toEqual([]);
    const seen = new Set([...delivered, ...dead.map(({ label }) => label), ...cancelled]);
    const all = Array.from({ length: count }, (_, n) => n + 1).filter((n) => !maybe.has(n));
    expect(all.filter((n) => !seen.has(n))).toEqual([]);
    expect(rows - dead.length).toBe(1);
    // Without a failure nothing comes twice.
    if (world.crashes === 0 && rounds.every(({ end }) => end === "return")) expect(new Set(delivered).size).toBe(delivered.length);
  });
  await fc.assert(property, { seed: SEED, numRuns: size(60, 500) });
});
