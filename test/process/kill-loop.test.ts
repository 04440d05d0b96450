/** SIGKILLs at random times, a hundred in the proof, under load that writes in every way there is. Replay with VITE_SEED. */
import { expect, it } from "vitest";
import { SEED, size } from "../support/random.ts";
import { killLoop } from "./kill-loop.ts";
import { lineOf } from "./kill-loop-report.ts";

const KILLS = Number(process.env.OUTBOX_KILLS ?? size(10, 100));

it(`loses and invents nothing in ${KILLS} kills at random times`, { timeout: 300_000 + KILLS * 5000 }, async () => {
  const report = await killLoop({ kills: KILLS, seed: SEED });
  console.log(`VITE_SEED=${SEED} ${lineOf(report)}`);
  for (const line of report.evidence) console.log(line);
  expect(report.wrong.slice(0, 20)).toEqual([]);
  expect(report).toMatchObject({ kills: KILLS, lost: 0, ghosts: 0 });
  // Enough happened for the test to say something.
  expect(report.committed).toBeGreaterThan(KILLS * 10);
  expect(report.starting).toBeGreaterThan(0);
  expect(report.delivered + report.dead).toBeGreaterThan(KILLS * 10);
});
