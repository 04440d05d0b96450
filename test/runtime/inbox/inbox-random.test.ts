/** Deduplication at random: several senders, ids, failures, concurrency and crashes, against a set of what has been seen. */
import fc from "fast-check";
import { expect, it } from "vitest";
import type { OutboxEnvelope } from "../../../src/inbox/index.ts";
import { SEED, size } from "../../support/random.ts";
import type { Stub } from "../support/harness.ts";
import { counting, diesAfter, effects, foreign, numbered, once, onThreeStacks, within } from "../support/inbox.ts";

type Step =
  | { readonly kind: "receive"; readonly message: OutboxEnvelope }
  /** The handler throws when it runs. */
  | { readonly kind: "fail"; readonly message: OutboxEnvelope }
  /** Three times in one turn. */
  | { readonly kind: "at once"; readonly message: OutboxEnvelope }
  | { readonly kind: "crash" };

const message: fc.Arbitrary<OutboxEnvelope> = fc.oneof(
  fc.tuple(fc.integer({ min: 1, max: 12 }), fc.constantFrom("a", "b")).map(([n, source]) => numbered(n, source)),
  fc.tuple(fc.integer({ min: 1, max: 400 }), fc.constantFrom("a", "sparse")).map(([n, source]) => numbered(n * 3, source)),
  fc.integer({ min: 1, max: 9 }).map((n) => foreign(`id ${n}`)),
);

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 24, arbitrary: fc.record({ kind: fc.constant("receive" as const), message }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("fail" as const), message }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("at once" as const), message }) },
  { weight: 1, arbitrary: fc.constant({ kind: "crash" as const }) },
);

onThreeStacks("an inbox at random", (make) => {
  it("has each message's effect once", async () => {
    const property = fc.asyncProperty(fc.array(fc.noBias(step), { minLength: 150, maxLength: 200 }), async (steps) => {
      let stub: Stub = make();
      const seen = new Set<string>();
      const play = (part: readonly Step[]) =>
        within(stub, async (inbox) => {
          for (const step of part) {
            if (step.kind === "crash") continue;
            const { message } = step;
            const known = seen.has(message.id);
            if (step.kind === "fail") {
              const failing = inbox.receive(message, async (txn, given) => {
                await counting(txn, given);
                throw new Error("it fails");
              });
              const got = await failing.then(({ status }) => status).catch(() => "failed");
              expect([message.id, got]).toEqual([message.id, known ? "duplicate" : "failed"]);
              continue;
            }
            const times = step.kind === "at once" ? 3 : 1;
            const receipts = await Promise.all(Array.from({ length: times }, () => inbox.receive(message, counting)));
            const processed = receipts.filter(({ status }) => status === "processed").length;
            expect([message.id, processed]).toEqual([message.id, known ? 0 : 1]);
            seen.add(message.id);
          }
        });
      for (let from = 0; from < steps.length; ) {
        const crash = steps.findIndex(({ kind }, n) => n >= from && kind === "crash");
        const to = crash < 0 ? steps.length : crash;
        await play(steps.slice(from, to));
        if (crash >= 0) stub = await diesAfter(stub, () => {});
        from = to + 1;
      }
      // All of it once more, the newest first.
      const again = steps.flatMap((step) => (step.kind === "crash" || !seen.has(step.message.id) ? [] : step.message)).reverse();
      await within(stub, async (inbox) => {
        for (const message of again)
          expect([message.id, (await inbox.receive(message, counting)).status]).toEqual([message.id, "duplicate"]);
      });
      expect(await effects(stub)).toEqual(once(seen));
    });
    await fc.assert(property, { seed: SEED, numRuns: size(1, 5), endOnFailure: true });
  });

  it("keeps a sparse sender's thousands of gaps in pages, and knows every number", async () => {
    const numbers = Array.from({ length: 500 }, (_, n) => 100 * n + 3);
    const take = (stub: Stub, expected: string, given: readonly number[]) =>
      within(stub, async (inbox) => {
        const wrong: number[] = [];
        for (const n of given) if ((await inbox.receive(numbered(n), () => {})).status !== expected) wrong.push(n);
        expect(wrong).toEqual([]);
      });
    const stub = make();
    await take(stub, "processed", numbers);
    const next = await diesAfter(stub, () => {});
    await take(
      next,
      "duplicate",
      numbers.filter((_, n) => n % 5 === 0),
    );
    // In the middle of old gaps, of new ones, and of the first of all.
    await take(next, "processed", [1, 2, 150, 25_050, 49_850, 49_902]);
    await take(next, "duplicate", [1, 2, 150, 25_050, 49_850, 49_902]);
  });
});
