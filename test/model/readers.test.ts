/** Several destinations on the model: whatever becomes of some of them, of the object and of its deployments, each gets what is its own. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { SEED, size } from "../support/random.ts";
import { type Destination, played, type ReadersStory, type Step, story } from "./readers.ts";

const PATH = (import.meta as unknown as { env: Record<string, string | undefined> }).env.VITE_PATH;

console.log(`readers: VITE_SEED=${SEED}`);

it("each destination gets every message that it takes, or has it as a dead letter, and none that was rolled back", async () => {
  const property = fc.asyncProperty(story, async (each) => void (await played(each)));
  await fc.assert(property, { seed: SEED, numRuns: size(80, 800), ...(PATH && { path: PATH }) });
});

const all: Destination = { types: undefined, batchSize: 1, ordering: "strict" };
const some: Destination = { ...all, types: ["x", "y"] };
const xOnly: Destination = { ...all, types: ["x"] };
it("an alarm that finds nothing due, while deliveries are to be recorded later, is not set again and again", async () => {
  const put = (count: number): Step => ({ do: "put", count, type: 0, key: 0, delay: 0 });
  const without: Step = { do: "deploy", without: 1, version: 1, isFaulty: false };
  const steps: Step[] = [put(5), without, put(40), { do: "wait", seconds: 3 }];
  const story = { ...told, backend: "kv", immediate: true, settleWithinSeconds: 60, count: 3, steps } as const;
  expect(await played(story)).toBeLessThan(1000);
});

/** What chance has found: told again, whatever the seed. */
const FOUND: Readonly<Record<string, Pick<ReadersStory, "count" | "steps"> & Partial<ReadersStory>>> = {
  "a message that a missing destination does not take is replaced, and not counted for another one": {
    count: 1,
    destinations: [xOnly, all, all, all, all],
    steps: [
      { do: "replace", type: 1, id: 1, delay: 0, waits: true },
      { do: "deploy", without: 0, version: 1, isFaulty: false },
      { do: "replace", type: 0, id: 1, delay: 0, waits: false },
      { do: "wait", seconds: 0.01 },
    ],
  },
  "a message whose upcaster fails is not overtaken by one of its key in a call that a crash cuts off": {
    count: 1,
    destinations: [{ ...all, batchSize: 100, ordering: "batch" }, all, all, all, all],
    steps: [
      { do: "put", count: 20, type: 0, key: 3, delay: 0 },
      { do: "crash", steps: 16 },
      { do: "deploy", without: 1, version: 2, isFaulty: true },
      { do: "wait", seconds: 0.01 },
    ],
  },
  "what waits for a time, and was counted for a destination that turned out not to take it, is not counted any more": {
    count: 2,
    steps: [
      { do: "deploy", without: 1, version: 1, isFaulty: false },
      { do: "put", count: 20, type: 2, key: 0, delay: 60 },
      { do: "crash", steps: 30 },
      { do: "crash", steps: 1 },
    ],
  },
};

const told: Omit<ReadersStory, "count" | "steps"> = {
  ...({ backend: "sqlite", tempo: "joined", immediate: false, settleWithinSeconds: 0 } as const),
  ...({ destinations: [all, some, all, all, all], deadMessage: false, onDead: "continue" } as const),
};

it.each(Object.entries(FOUND))("%s", async (_, each) => void (await played({ ...told, ...each })));
