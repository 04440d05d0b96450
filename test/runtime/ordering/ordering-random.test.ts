/** Ordering keys, at random: whatever fails, dies or restarts, every key's messages succeed in put order, and every message ends as its script says. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SEED, size } from "../../support/random.ts";
import { boxWith } from "../support/batches.ts";
import { crash, inside, onBothBackends, type Stub, until } from "../support/harness.ts";
import { alive } from "../support/lanes.ts";
import { idle, statsOf, waiting } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

console.log(`ordering-random: VITE_SEED=${SEED}`);

const MAX_ATTEMPTS = 5;

/** What becomes of a message: it fails so often, by `delivery.retry`, and then ends so. One that is exhausted fails for ever. */
interface Fate {
  readonly key?: string;
  readonly failures: number;
  readonly end: "delivered" | "rejected" | "exhausted";
  /** The delays of its failures, in seconds; undefined: the backoff of the policy. */
  readonly delaySeconds?: number;
  /** How long after its put it is due. */
  readonly laterSeconds?: number;
}

/** Sends messages with these fates in one turn, the first with this number. */
function send(stub: Stub, fates: readonly Fate[], from: number): Promise<unknown> {
  return inside(stub, (_, outbox) =>
    Promise.all(
      fates.map(({ key, laterSeconds }, n) =>
        outbox.send(from + n, {
          ...(key === undefined ? {} : { key }),
          ...(laterSeconds === undefined ? {} : { delaySeconds: laterSeconds }),
        }),
      ),
    ),
  );
}

/** Plays the destination: settles each message as its fate says, and notes what succeeded, what was wrong and how often it was called. */
function play(stub: Stub, fates: readonly Fate[], throwing: ReadonlySet<number> = new Set()) {
  const seen = { delivered: [] as number[], wrong: [] as string[], calls: 0, active: 0 };
  stageOf(stub).rest = async (messages, delivery) => {
    stageOf(stub).calls.length = 0; // Not kept: ten thousand messages are many.
    if (++seen.active > 1) seen.wrong.push("two calls at a time");
    try {
      const keys = messages.flatMap(({ key }) => key ?? []);
      if (new Set(keys).size < keys.length) seen.wrong.push(`two messages of a key in one call: ${keys}`);
      if (messages.some(({ sequence }, n) => sequence <= (messages[n - 1]?.sequence ?? 0))) seen.wrong.push("a call out of put order");
      const taken: number[] = [];
      for (const { id, msg, key, attempts } of messages) {
        const fate = fates[msg as number];
        if (key !== fate?.key) seen.wrong.push(`message ${msg} came with key ${key}`);
        const options = fate?.delaySeconds === undefined ? undefined : { delaySeconds: fate.delaySeconds };
        // By what the outbox tells: a crash takes back outcomes that were not yet written down.
        if (attempts <= (fate?.failures ?? 0) || fate?.end === "exhausted") delivery.retry(id, options);
        else if (fate?.end === "rejected") delivery.reject(id, "as its fate says");
        else taken.push(msg as number);
      }
      if (seen.calls++ % 3 === 0) await scheduler.wait(0);
      if (throwing.has(seen.calls)) throw new Error("this call fails as a whole");
      seen.delivered.push(...taken);
    } finally {
      seen.active--;
    }
  };
  return seen;
}

/** The first of each number, in order. */
const first = (numbers: readonly number[]): number[] => [...new Set(numbers)];

const ascending = (numbers: readonly number[]): number[] => [...numbers].sort((a, b) => a - b);

/** Asserts that everything ended as it should. `repeats` tells that a crash may have repeated what had succeeded. */
async function expectEnd(stub: Stub, fates: readonly Fate[], seen: ReturnType<typeof play>, repeats: boolean): Promise<void> {
  expect(seen.wrong).toEqual([]);
  const delivered = first(seen.delivered);
  if (!repeats) expect(seen.delivered).toHaveLength(delivered.length);
  const ending = (end: Fate["end"]) => fates.flatMap((fate, n) => (fate.end === end ? n : []));
  expect(ascending(delivered)).toEqual(ending("delivered"));
  for (const key of new Set(fates.map((fate) => fate.key))) {
    if (key === undefined) continue;
    const lane = delivered.filter((n) => fates[n]?.key === key);
    expect([key, lane]).toEqual([key, ascending(lane)]);
  }
  const dead: [number, string][] = [];
  for (let after: string | undefined; ; ) {
    const page = await inside(stub, (_, outbox) => outbox.list({ state: "dead", limit: 1000, ...(after === undefined ? {} : { after }) }));
    dead.push(...page.map(({ msg, reason }): [number, string] => [msg as number, reason ?? ""]));
    after = page.at(-1)?.id;
    if (page.length === 0) break;
  }
  expect(dead).toEqual(fates.flatMap(({ end }, n) => (end === "delivered" ? [] : [[n, end === "rejected" ? "rejected" : "max_attempts"]])));
  expect(await statsOf(stub)).toMatchObject({
    pending: 0,
    delayed: 0,
    blocked: 0,
    dead: dead.length,
    nextAttemptAt: null,
  });
}

/** Lets the outbox run, again and again, until nothing waits any more. */
async function driven(stub: Stub): Promise<void> {
  await until(stub, async ({ outbox }) => {
    await outbox.flush();
    return waiting(await outbox.stats()) === 0;
  });
}

const retry = { minDelaySeconds: 0.001, maxDelaySeconds: 0.02, maxAttempts: MAX_ATTEMPTS };

onBothBackends("ten thousand messages of a hundred keys", (backend) => {
  it("succeed in the order of their keys, or are dead letters, as their scripts say", async () => {
    const random = mulberry32(SEED);
    const fates = Array.from({ length: 10_000 }, (): Fate => {
      const luck = random();
      const end = luck < 0.02 ? "exhausted" : luck < 0.05 ? "rejected" : "delivered";
      const failures = end === "exhausted" ? MAX_ATTEMPTS : random() < 0.1 ? 1 + Math.floor(random() * 3) : 0;
      const key = `key:${Math.floor(random() * 100)}`;
      return random() < 0.5 ? { key, failures, end } : { key, failures, end, delaySeconds: random() * 0.02 };
    });
    const stub = boxWith(backend, { retry });
    const seen = play(stub, fates);
    for (let from = 0; from < fates.length; from += 1000) await send(stub, fates.slice(from, from + 1000), from);
    await idle(stub);
    await expectEnd(stub, fates, seen, false);
    console.log(`${backend.name}: 10,000 messages in ${seen.calls} calls, ${(await statsOf(stub)).dead} dead letters`);
  });
});

const fate: fc.Arbitrary<Fate> = fc
  .record({
    key: fc.option(fc.constantFrom("a", "b", "c", "a:"), { nil: undefined }),
    failures: fc.nat({ max: 2 }),
    end: fc.constantFrom("delivered", "delivered", "delivered", "rejected", "exhausted"),
    delaySeconds: fc.option(fc.constantFrom(0, 0.001, 0.015), { nil: undefined }),
    laterSeconds: fc.option(fc.constantFrom(0, 0.005, 0.03), { nil: undefined, freq: 2 }),
  })
  .map((given) => Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as unknown as Fate);

/** Groups of messages, each put in one turn, and what happens after each. */
const story = fc.record({
  batchSize: fc.constantFrom(1, 2, 3, 7, 16, 100),
  dispatch: fc.constantFrom("alarm", "immediate"),
  parts: fc.array(
    fc.record({
      fates: fc.array(fate, { minLength: 1, maxLength: 20 }),
      after: fc.constantFrom("nothing", "flush", "crash", "crash", "wait"),
    }),
    { minLength: 1, maxLength: 3 },
  ),
  throwing: fc.array(fc.integer({ min: 1, max: 20 }), { maxLength: 2 }),
});

describe("any story of puts, failures, throws and restarts", () => {
  onBothBackends("is told", (backend) => {
    it("in the order of the keys, to the end that each message's script says", async () => {
      const property = fc.asyncProperty(story, async ({ batchSize, dispatch, parts, throwing }) => {
        const fates = parts.flatMap((part) => part.fates);
        let stub = boxWith(backend, { batchSize, dispatch, retry });
        const seen = play(stub, fates, new Set(throwing));
        let from = 0;
        for (const part of parts) {
          await send(stub, part.fates, from);
          from += part.fates.length;
          if (part.after === "flush") await inside(stub, (_, outbox) => outbox.flush());
          if (part.after === "wait") await scheduler.wait(4);
          if (part.after === "crash") {
            await scheduler.wait(batchSize % 3);
            // A call that is under way ends here, before the next life begins one.
            const ends = () => {
              seen.active = 0;
            };
            stub = await alive(await crash(stub, ends));
          }
        }
        await driven(stub);
        await expectEnd(
          stub,
          fates,
          seen,
          parts.some(({ after }) => after === "crash"),
        );
      });
      await fc.assert(property, { seed: SEED, numRuns: size(3, 30) });
    });
  });
});

/** A small generator of random numbers from 0 to 1, with a seed. */
function mulberry32(state: number): () => number {
  let a = state;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}
