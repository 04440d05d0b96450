/** What is billed for a message where messages come one after the other at a steady rate: counted, by a clock that is moved on. */
import { ENTRANTS, type EntrantName } from "../contestants.ts";
import { progress } from "../report.ts";
import type { Steady } from "../results.ts";
import type { Runtime } from "../runtime.ts";
import type { Costs } from "../words.ts";

/**
 * @param runtime one whose clock is moved on
 * @param rates messages a second
 * @param messages of each contestant at each rate. Costs repeat every ten seconds at the latest, so they should be those of some tens of seconds
 */
export async function steadyCosts(
  runtime: Runtime,
  entrants: readonly EntrantName[],
  rates: readonly number[],
  messages: (perSecond: number) => number,
): Promise<Steady[]> {
  const found: Steady[] = [];
  for (const perSecond of rates) {
    for (const entrant of entrants) {
      progress(`${perSecond} a second: ${ENTRANTS[entrant]}`);
      const count = messages(perSecond);
      const object = `steady-${perSecond}`;
      const costs = (await (await runtime.ask(entrant, "steady", count, 1000 / perSecond, object)).json()) as Costs;
      const { rowsWritten, rowsRead, alarmsSet, alarmRuns } = costs;
      found.push({
        ...{ entrant, perSecond, messages: count, rowsWritten: rowsWritten / count, rowsRead: rowsRead / count },
        ...{ alarmsSet: alarmsSet / count, alarmRuns: alarmRuns / count },
      });
    }
  }
  progress("");
  return found;
}
