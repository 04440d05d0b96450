/** Malicious arguments: what is refused is refused before anything is written, and what is taken arrives. Replay with VITE_SEED. */
import { afterAll, beforeEach, expect, it, vi } from "vitest";
import { SEED, size } from "../../support/random.ts";
import { argumentStory, CASES_PER_STORY, type Told } from "../support/fuzz-arguments.ts";
import { onEitherBackend } from "../support/harness.ts";

/** On each backend. */
const CASES = Number((import.meta as unknown as { env: Record<string, string | undefined> }).env.VITE_CASES ?? size(600, 10_000));
const STORIES = Math.ceil(CASES / CASES_PER_STORY);
/** Stories that run side by side. */
const TOGETHER = 24;

console.log(`fuzz-arguments: VITE_SEED=${SEED}`);

const told: Told = { cases: 0, refused: 0, stored: 0, aborted: 0, foreign: new Map() };
// Every breaker that opens says so, and what is printed takes longer than what is tested.
beforeEach(() => {
  vi.spyOn(console, "warn").mockImplementation(() => {});
});
let stray = 0;
globalThis.addEventListener("unhandledrejection", () => void stray++);

onEitherBackend("malicious arguments", (backend) => {
  it(`change nothing where they are refused, and lose nothing where they are not, in ${CASES} cases`, async () => {
    const before = told.cases;
    const stories = Array.from({ length: STORIES }, (_, n) => SEED + n * 7919);
    await Promise.all(
      Array.from({ length: TOGETHER }, async () => {
        for (let seed = stories.shift(); seed !== undefined; seed = stories.shift()) {
          const wrong = await argumentStory(backend, seed, told);
          if (wrong.length > 0) expect.fail(`VITE_SEED=${SEED}, story ${seed}:\n${wrong.join("\n")}`);
        }
      }),
    );
    expect(told.cases - before).toBeGreaterThanOrEqual(CASES);
  });
});

afterAll(() => {
  const { foreign, ...counts } = told;
  console.log(`fuzz-arguments: VITE_SEED=${SEED}`, JSON.stringify(counts));
  for (const [text, count] of foreign) console.log(`not in our words, ${count} times: ${text}`);
  expect(stray).toBe(0);
  expect(told.refused).toBeGreaterThan(told.cases / 10);
  expect(told.stored).toBeGreaterThan(told.cases / 10);
});
