/** Commands of an aggregate, with and without a schema for its events. */
import type { EntrantName } from "../contestants.ts";
import type { Rates } from "../results.ts";
import type { Runtime } from "../runtime.ts";
import { rates } from "./rates.ts";

export function commands(runtime: Runtime, count: number, rounds: number): Promise<Rates> {
  const entrants: EntrantName[] = ["OursEvents", "OursEventsChecked"];
  const name = `event sourcing, ${count.toLocaleString("en")} commands in sequence`;
  return rates(runtime, name, entrants, "OursEvents", rounds, count, "commands", "nothing");
}
