/** A destination that does whatever a program can do: nothing is lost, and nothing comes twice without a reason. Replay with VITE_SEED. */
import { afterAll, beforeEach, expect, it, vi } from "vitest";
import { PROOF, SEED, size } from "../../support/random.ts";
import { CALLS_PER_STORY, sendStory, type Told } from "../support/fuzz-sends.ts";
import { onEitherBackend } from "../support/harness.ts";

/** On each backend. */
const CASES = Number((import.meta as unknown as { env: Record<string, string | undefined> }).env.VITE_CASES ?? size(300, 7500));
const STORIES = Math.ceil(CASES / CALLS_PER_STORY);
/** Stories that run side by side. */
const TOGETHER = 16;

console.log(`fuzz-sends: VITE_SEED=${SEED}`);

const told: Told = { calls: 0, delivered: 0, dead: 0, duplicates: 0, timeouts: 0, lives: 0, aborted: 0 };
// Every breaker that opens says so, and what is printed takes longer than what is tested.
beforeEach(() => {
  vi.spyOn(console, "warn").mockImplementation(() => {});
});
let stray = 0;
globalThis.addEventListener("unhandledrejection", () => void stray++);

onEitherBackend("a malicious destination", (backend) => {
  it(`loses nothing and repeats nothing without a reason, in ${CASES} calls`, async () => {
    const before = told.calls;
    const stories = Array.from({ length: STORIES }, (_, n) => SEED + n * 7919);
    await Promise.all(
      Array.from({ length: TOGETHER }, async () => {
        for (let seed = stories.shift(); seed !== undefined; seed = stories.shift()) {
          const wrong = await sendStory(backend, seed, told);
          if (wrong.length > 0) expect.fail(`VITE_SEED=${SEED}, story ${seed}:\n${wrong.join("\n")}`);
        }
      }),
    );
    expect(told.calls - before).toBeGreaterThanOrEqual(CASES);
  });
});

afterAll(() => {
  console.log(`fuzz-sends: VITE_SEED=${SEED}`, JSON.stringify(told));
  expect(stray).toBe(0);
  // What a call does is drawn when it comes, and when it comes depends on the machine: only thousands hold each way out for certain.
  expect(told.delivered).toBeGreaterThan(0);
  if (PROOF) expect(Math.min(told.dead, told.timeouts, told.aborted, told.duplicates)).toBeGreaterThan(0);
});
