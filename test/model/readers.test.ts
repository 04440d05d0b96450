/** Several destinations on the model: whatever becomes of some of them, of the object and of its deployments, each gets what is its own. */
import fc from "fast-check";
import { it } from "vitest";
import { SEED, size } from "../support/random.ts";
import { played, story } from "./readers.ts";

const PATH = (import.meta as unknown as { env: Record<string, string | undefined> }).env.VITE_PATH;

console.log(`readers: VITE_SEED=${SEED}`);

it("each destination gets every message that it takes, or has it as a dead letter, and none that was rolled back", async () => {
  const property = fc.asyncProperty(story, async (each) => void (await played(each)));
  await fc.assert(property, { seed: SEED, numRuns: size(80, 800), ...(PATH && { path: PATH }) });
});
