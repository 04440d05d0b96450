/** Random stories: whatever is done to an outbox, in whatever order, every invariant stands. What fails is shrunk, printed, and runs again by its seed. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { SEED, size } from "../support/random.ts";
import type { Lateness } from "./alarms.ts";
import { type Command, commands, perform } from "./commands.ts";
import { finish } from "./ending.ts";
import { Story } from "./story.ts";

/** Set VITE_SEED (and VITE_PATH) to what a failed run has printed, and it runs again; VITE_RUNS to another number of stories. */
const given = (import.meta as unknown as { env: Record<string, string | undefined> }).env;
const path = given.VITE_PATH;
/** Where tests are meant to fail, nobody reads what is printed of the story: it is not shrunk, which can take a minute. */
const endOnFailure = given.VITE_PATIENCE !== undefined;
const runs = Number(given.VITE_RUNS ?? size(400, 5000));
console.log(`commands: VITE_SEED=${SEED} VITE_RUNS=${runs}`);

const world = fc.record({
  backend: fc.constantFrom("sqlite" as const, "kv" as const),
  tempo: fc.constantFrom("split" as const, "joined" as const),
  parameters: fc.constantFrom(1 as const, 2 as const),
  immediate: fc.boolean(),
  /** How long a delivery may go unrecorded, with `dispatch: "immediate"`. */
  settleWithinSeconds: fc.constantFrom(0, 0, 1, 30),
  /** How late the platform's alarms are: mostly not at all. */
  alarms: fc.constantFrom<Lateness[]>("punctual", "punctual", "punctual", "late", "random", "very late"),
  commits: fc.constantFrom("quick" as const, "slow" as const),
  deadMessage: fc.constantFrom(null, null, "writes" as const, "sends" as const, "throws" as const),
  deadLetters: fc.constantFrom(null, null, null, { max: 2 }, { expiresInSeconds: 10 }, { max: 3, expiresInSeconds: 60 }),
  onDead: fc.constantFrom("continue" as const, "continue" as const, "hold" as const),
  reports: fc.boolean(),
  wrapping: fc.constantFrom("none" as const, "none" as const, "super" as const, "constructor" as const),
  seed: fc.integer({ min: 1, max: 1000 }),
});

async function wrongIn(
  choice: typeof world extends fc.Arbitrary<infer W> ? W : never,
  list: readonly Command[],
): Promise<readonly string[]> {
  const { immediate, settleWithinSeconds, deadLetters, onDead, ...rest } = choice;
  const story = new Story({
    ...rest,
    options: { onDead, ...(immediate && { dispatch: "immediate", settleWithinSeconds }), ...(deadLetters && { deadLetters }) },
  });
  story.settleWithinSeconds = settleWithinSeconds;
  story.rough = true;
  try {
    for (const command of list) await perform(story, command);
    return await finish(story);
  } catch (error) {
    return [String((error as Error).stack)];
  }
}

it("leave every invariant standing, whatever the story", async () => {
  let count = 0;
  const property = fc.asyncProperty(world, commands, async (choice, list) => {
    // Lets the reporter speak.
    if (++count % 50 === 0) await new Promise((resolve) => setTimeout(resolve));
    const wrong = await wrongIn(choice, list);
    if (wrong.length > 0) throw new Error(wrong.join("\n"));
  });
  const details = await fc.check(property, { seed: SEED, numRuns: runs, endOnFailure, ...(path !== undefined && { path }) });
  if (!details.failed) return;
  const [choice, list = []] = details.counterexample ?? [];
  const steps = list.map((command) => `  ${JSON.stringify(command)}`).join("\n");
  const again = `VITE_SEED=${SEED} VITE_PATH=${details.counterexamplePath} npx vitest run --project model test/model/commands.test.ts`;
  expect.fail(
    `after ${details.numRuns} stories, shrunk ${details.numShrinks} times:\n${JSON.stringify(choice)}\n${steps}\n${String(details.errorInstance)}\nAgain: ${again}`,
  );
}, 3_600_000);
