/** A log that is kept: reading it in pages, forwards and backwards, all of it and one type; and following it. */
import type { EntrantName } from "../contestants.ts";
import { progress } from "../report.ts";
import type { Log, Reading } from "../results.ts";
import { type Runtime, runtime } from "../runtime.ts";
import { type Costs, MATCHING, PAGE, type ReadingName } from "../words.ts";
import { latencies } from "./latency.ts";
import { rates } from "./rates.ts";

const ENTRANTS: readonly EntrantName[] = ["OursLog", "HandLog"];
const READINGS: readonly [name: ReadingName, direction: Reading["direction"], matching: number][] = [
  ["forward", "forward", 1],
  ["backward", "backward", 1],
  ["forwardSome", "forward", MATCHING],
  ["backwardSome", "backward", MATCHING],
];

/**
 * @param messages in the log
 * @param rounds in which all of it is read
 * @param seconds how long latencies are measured, each
 */
export async function log(messages: number, rounds: number, seconds: number): Promise<Log> {
  const counts = await within("Counted", ENTRANTS, (counting) => rowsRead(counting, messages));
  return within("", [...ENTRANTS, "OursImmediate"], async (timing) => {
    const readings: Reading[] = [];
    for (const entrant of ENTRANTS) await timing.work(entrant, "puts", messages);
    for (const [name, direction, matching] of READINGS) {
      const what = `reading ${direction} in pages of ${PAGE}, ${matching === 1 ? "every message" : `one message in ${matching}`}`;
      const found = await rates(timing, what, ENTRANTS, "OursLog", rounds, messages / matching, name, "nothing");
      readings.push({ direction, matching, rates: found, rowsRead: counts[name] ?? {} });
    }
    const followed: EntrantName[] = ["OursLog", "OursImmediate"];
    const tail = [await latencies(timing, followed, 0, seconds), await latencies(timing, followed, 100, seconds)].flat();
    return { messages, readings, tail };
  });
}

/** Rows that are read for each message that is found. */
async function rowsRead(counting: Runtime, messages: number): Promise<Partial<Record<ReadingName, Reading["rowsRead"]>>> {
  const found: Partial<Record<ReadingName, Partial<Record<EntrantName, number>>>> = {};
  for (const entrant of ENTRANTS) {
    progress(`reading, counted: ${entrant}`);
    await counting.work(entrant, "puts", messages);
    for (const [name, , matching] of READINGS) {
      await counting.ask(entrant, "costs");
      await counting.work(entrant, name, messages / matching);
      const costs = (await (await counting.ask(entrant, "costs")).json()) as Costs;
      found[name] = { ...found[name], [entrant]: (costs.rowsRead * matching) / messages };
    }
  }
  progress("");
  return found;
}

async function within<R>(kind: "" | "Counted", entrants: readonly EntrantName[], work: (runtime: Runtime) => Promise<R>): Promise<R> {
  const started = await runtime(kind, entrants);
  try {
    return await work(started);
  } finally {
    await started.dispose();
  }
}
