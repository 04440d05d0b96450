/** Rates: the same work again and again, contestants in turn, so that a slow moment of the machine hits all of them. */
import type { EntrantName } from "../contestants.ts";
import { progress } from "../report.ts";
import { type Burst, type Rates, spread } from "../results.ts";
import type { Runtime } from "../runtime.ts";
import type { Destination, JobName } from "../words.ts";

/** Rounds before the first that counts, and their share of those that do: the engine optimises code for as long as that. */
const WARM_UP_ROUNDS = 30;
const WARM_UP_SHARE = 1 / 3;

/** What is left behind after each turn is cleared off the clock. */
export async function rates(
  runtime: Runtime,
  name: string,
  entrants: readonly EntrantName[],
  base: EntrantName,
  rounds: number,
  count: number,
  job: JobName,
  to: Destination,
  /** Done before, and not measured. */
  before?: JobName,
): Promise<Rates> {
  const found = new Map<EntrantName, number[]>(entrants.map((entrant) => [entrant, []]));
  for (let round = -Math.min(WARM_UP_ROUNDS, Math.ceil(rounds * WARM_UP_SHARE)); round < rounds; round++) {
    progress(`${name}: round ${Math.max(0, round + 1)} of ${rounds}`);
    for (const entrant of shuffled(entrants)) {
      if (before) await runtime.work(entrant, before, count, to);
      const took = await runtime.work(entrant, job, count, to);
      if (round >= 0) found.get(entrant)?.push((count / took) * 1000);
      await runtime.work(entrant, "clean", 0, to);
    }
  }
  progress("");
  const ours = found.get(base) ?? [];
  const ratio = (rates: number[]): number[] => rates.map((rate, i) => (ours[i] ?? Number.NaN) / rate);
  const others = [...found].filter(([entrant]) => entrant !== base);
  return {
    name,
    rounds,
    base,
    rates: Object.fromEntries([...found].map(([entrant, values]) => [entrant, spread(values)])),
    ratios: Object.fromEntries(others.map(([entrant, values]) => [entrant, spread(ratio(values))])),
  };
}

/** In another order each time: whoever always came after the same neighbour would always have its leftovers, which makes up to 4 %. */
function shuffled<T>(all: readonly T[]): T[] {
  return all
    .map((one) => ({ one, place: Math.random() }))
    .sort((a, b) => a.place - b.place)
    .map(({ one }) => one);
}

export function puts(runtime: Runtime, entrants: readonly EntrantName[], base: EntrantName, count: number, rounds: number): Promise<Rates> {
  return rates(runtime, `puts, ${count.toLocaleString("en")} in sequence`, entrants, base, rounds, count, "puts", "nothing");
}

export async function burst(
  runtime: Runtime,
  entrants: readonly EntrantName[],
  base: EntrantName,
  size: number,
  to: Destination,
  rounds: number,
): Promise<Burst> {
  const where = { nothing: "a destination that does nothing", queue: "a local queue", object: "another object" }[to];
  const name = `put to delivered, bursts of ${size.toLocaleString("en")} to ${where}`;
  return { ...(await rates(runtime, name, entrants, base, rounds, size, "burst", to)), to, size };
}

/** Delivery alone: so many messages wait, and the alarm rings. The clock begins when the puts have answered, a request before the first delivery. */
export async function deliveries(
  runtime: Runtime,
  entrants: readonly EntrantName[],
  base: EntrantName,
  size: number,
  rounds: number,
): Promise<Burst> {
  const name = `delivery alone, ${size.toLocaleString("en")} messages that wait`;
  return { ...(await rates(runtime, name, entrants, base, rounds, size, "rest", "nothing", "puts")), to: "nothing", size };
}
