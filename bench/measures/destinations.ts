/** What further destinations cost: rows, which are counted, puts, and deliveries. */
import type { EntrantName } from "../contestants.ts";
import type { Burst, Destinations } from "../results.ts";
import { runtime } from "../runtime.ts";
import { operations } from "./operations.ts";
import { burst, puts } from "./rates.ts";

const ENTRANTS: readonly EntrantName[] = ["OursTo1", "OursTo2", "OursTo5", "OursTo10"];

/** @param rounds of puts, and of bursts of each of `sizes`; a quarter as many bursts are counted */
export async function destinations(rounds: number, sizes: readonly number[]): Promise<Destinations> {
  const counting = await runtime("Counted", ENTRANTS);
  const counts = await operations(counting, ENTRANTS, [1, 100], {}, Math.ceil(rounds / 4)).finally(() => counting.dispose());
  const timing = await runtime("", ENTRANTS);
  try {
    const bursts: Burst[] = [];
    for (const size of sizes) bursts.push(await burst(timing, ENTRANTS, "OursTo1", size, "nothing", rounds));
    return { counts, puts: await puts(timing, ENTRANTS, "OursTo1", rounds > 1 ? 1000 : 100, rounds), bursts };
  } finally {
    await timing.dispose();
  }
}
