/** Three consumers that die at random: each message is settled once or parked, in the order of its key. 10,000 messages in the proof. */
import { DurableObject } from "cloudflare:workers";
import { expect, it } from "vitest";
import { type OutboxReceived, withTransactionalOutbox } from "../../../src/index.ts";
import { SEED, size } from "../../support/random.ts";
import { forward } from "../support/clock.ts";
import { Draw } from "../support/fuzz-draw.ts";
import { declared, inside, onEitherBackend } from "../support/harness.ts";
import { type BoxEnv, type Form, options } from "../support/worker.ts";

const KEYS = size(40, 1000);
/** A consumer takes this many at most. */
const MOST = size(20, 100);
/** So many are put at a time, while the consumers work. */
const PUT = 500;

/** What a consumer makes of one message. `later`: it says nothing of it, and the lease expires. */
const VERDICTS = ["ack", "ack", "ack", "ack", "ack", "ack", "ack", "retry", "reject", "later"] as const;

interface Settled {
  readonly n: number;
  readonly how: "ack" | "reject";
}

onEitherBackend("consumers that die", (backend) => {
  const MESSAGES = size(200, backend.name === "sqlite" ? 10_000 : 2000);

  it(`settle each of ${MESSAGES} messages once, or park it, in the order of its key`, { timeout: 600_000 }, async () => {
    /** In the order in which the object has settled them. */
    const settled: Settled[] = [];
    class JobsBase extends DurableObject<BoxEnv> {
      destinations = { jobs: { pull: true as const, visibilityTimeoutSeconds: 60, retry: { maxAttempts: 1000 } } };
      get outbox() {
        return this.env.OUTBOX_MANAGER;
      }
    }
    const stub = declared(backend, withTransactionalOutbox(JobsBase, { ...options, maxPending: MESSAGES }) as unknown as Form);
    const draw = new Draw(SEED);
    let deaths = 0;
    /** Consumers that have something in hand. */
    let busy = 0;
    const take = (most: number): Promise<OutboxReceived<number>> =>
      inside(stub, (_, outbox) => outbox.receive("jobs", { maxMessages: most }) as Promise<OutboxReceived<number>>);
    const isOver = (): boolean => settled.length >= MESSAGES;

    async function consume(): Promise<void> {
      // At the first messages that it gets, however the calls come to lie, and then at random.
      let isToDie = true;
      while (!isOver()) {
        const { messages, lease } = await take(1 + draw.below(MOST));
        if (messages.length === 0) {
          // What is left is in the hands of the dead, or of a consumer that is slow and must not be taken for dead.
          if (busy === 0) forward(61);
          continue;
        }
        if (isToDie || draw.chance(0.1)) {
          isToDie = false;
          deaths++;
          continue;
        }
        busy++;
        const verdicts = messages.map(({ id, msg: n }) => ({ id, n, how: draw.pick(VERDICTS) }));
        const of = (wanted: string) => verdicts.filter(({ how }) => how === wanted).map(({ id }) => id);
        const outcomes = { acks: of("ack"), retries: of("retry").map((id) => ({ id, delaySeconds: 0 })), rejects: of("reject") };
        await inside(stub, async (_, outbox) => {
          await outbox.settle(lease, outcomes);
          settled.push(...verdicts.flatMap(({ n, how }) => (how === "ack" || how === "reject" ? [{ n, how }] : [])));
        });
        busy--;
      }
    }
    async function produce(): Promise<void> {
      for (let first = 1; first <= MESSAGES; first += PUT) {
        const numbers = Array.from({ length: Math.min(PUT, MESSAGES - first + 1) }, (_, i) => first + i);
        await inside(stub, (_, outbox) => Promise.all(numbers.map((n) => outbox.send(n, { key: `key ${n % KEYS}` }))));
      }
    }

    await Promise.all([produce(), consume(), consume(), consume()]);
    const sorted = settled.map(({ n }) => n).sort((a, b) => a - b);
    expect(sorted).toEqual(Array.from({ length: MESSAGES }, (_, i) => i + 1));
    for (let key = 0; key < KEYS; key++) {
      const ofKey = settled.filter(({ n }) => n % KEYS === key).map(({ n }) => n);
      expect([key, ofKey]).toEqual([key, [...ofKey].sort((a, b) => a - b)]);
    }
    const parked = settled.filter(({ how }) => how === "reject").length;
    const stats = await inside(stub, async (_, outbox) => (await outbox.stats()).destinations.jobs);
    expect(stats).toMatchObject({ pending: 0, delayed: 0, blocked: 0, leased: 0, dead: parked });
    expect(parked).toBeGreaterThan(MESSAGES / 50);
    expect(deaths).toBeGreaterThan(0);
  });
});
