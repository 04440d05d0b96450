/** What is billed for a message: storage rows and alarms, counted below each contestant, never timed. */
import type { EntrantName } from "../contestants.ts";
import { progress } from "../report.ts";
import type { Operations } from "../results.ts";
import type { Runtime } from "../runtime.ts";
import type { Costs } from "../words.ts";

/** Bursts whose costs are summed, so that it shows what a burst costs on average and not by chance. */
const MOST_MESSAGES = 2000;
/** Bursts of a slow contestant. */
const MOST_SLOW = 5;

/**
 * @param runtime one whose storage counts
 * @param largest the largest burst of an entrant that takes too long otherwise
 * @param most bursts of a size, at most
 */
export async function operations(
  runtime: Runtime,
  entrants: readonly EntrantName[],
  sizes: readonly number[],
  largest: Partial<Record<EntrantName, number>>,
  most: number,
): Promise<Operations[]> {
  const found: Operations[] = [];
  for (const burst of sizes) {
    for (const entrant of entrants) {
      if (burst > (largest[entrant] ?? Number.POSITIVE_INFINITY)) continue;
      progress(`operations: ${entrant}, burst of ${burst}`);
      // Those for which small bursts are enough take a second for each.
      found.push(await counted(runtime, entrant, burst, largest[entrant] ? Math.min(most, MOST_SLOW) : most));
    }
  }
  progress("");
  return found;
}

async function counted(runtime: Runtime, entrant: EntrantName, burst: number, most: number): Promise<Operations> {
  const bursts = Math.max(1, Math.min(most, Math.floor(MOST_MESSAGES / burst)));
  const messages = bursts * burst;
  // The first burst of an object also makes what it keeps: tables, the marker.
  await once(runtime, entrant, burst);
  const sum: Costs = { rowsWritten: 0, rowsRead: 0, reads: 0, alarmsSet: 0, alarmRuns: 0 };
  for (let i = 0; i < bursts; i++) {
    const costs = await once(runtime, entrant, burst);
    for (const name of Object.keys(sum) as (keyof Costs)[]) sum[name] += costs[name];
  }
  return {
    entrant,
    burst,
    rowsWritten: sum.rowsWritten / messages,
    rowsRead: sum.rowsRead / messages,
    alarmsSet: sum.alarmsSet / messages,
    alarmRuns: sum.alarmRuns / messages,
  };
}

/** One burst, delivered and cleared. Asking whether it is over reads, too, and nobody does that in production: it is done without looking. */
async function once(runtime: Runtime, entrant: EntrantName, burst: number): Promise<Costs> {
  await runtime.ask(entrant, "costs");
  await (await runtime.ask(entrant, "burst", burst)).text();
  await (await runtime.ask(entrant, "settled")).text();
  return (await (await runtime.ask(entrant, "costs")).json()) as Costs;
}
