/** What is to be reached, and by how much it was. */
import { ENTRANTS, type EntrantName } from "./contestants.ts";
import type { Operations, Results, Target } from "./results.ts";

/** Of what was measured. */
export function targets(results: Partial<Results>): Target[] {
  const { puts, bursts = [], latencies = [], operations = [], backlogs = [], startup } = results;
  const found: Target[] = [];
  const add: Add = (name, value, is, limit, counted = false) => {
    if (value === undefined || Number.isNaN(value)) return;
    found.push({ name, value, limit, is, met: is === "at least" ? value >= limit : value <= limit, counted });
  };

  add("put, against storage.put of state and message", puts?.ratios.RawPair?.median, "at least", 0.88);
  const pair = puts?.rates.RawPair?.median;
  const sync = puts?.rates.OursSync?.median;
  add("transactionSync with a message, against the same", pair && sync && sync / pair, "at least", 1);

  const unchecked = puts?.ratios.OursChecked?.median;
  add("put with a schema that accepts at once, against put without", unchecked && 1 / unchecked, "at least", 0.97);

  for (const { size, to, ratios } of bursts) {
    if (to !== "nothing" || !ratios.HandKv) continue;
    const limit = size >= 10_000 ? 1.1 : 1;
    add(`burst of ${size.toLocaleString("en")}, against hand-written, key-value`, ratios.HandKv.median, "at least", limit);
    add(`burst of ${size.toLocaleString("en")}, against hand-written, SQL`, ratios.HandSql?.median, "at least", 1);
  }
  const peer = bursts.filter(({ ratios }) => ratios.AgentQueue).at(-1);
  add(`burst of ${peer?.size.toLocaleString("en")}, against the Agents SDK's queue()`, peer?.ratios.AgentQueue?.median, "at least", 20);

  const idle = (entrant: EntrantName): number | undefined =>
    latencies.find((latency) => latency.entrant === entrant && latency.load === 0)?.p50;
  const [immediate, alarm] = [idle("OursImmediate"), idle("Ours")];
  if (immediate !== undefined && alarm !== undefined) add("median latency of immediate, against alarm", immediate / alarm, "at most", 0.5);

  const slowest = (entrant: EntrantName): number | undefined => results.wholes?.find((each) => each.entrant === entrant)?.p99;
  const [whole, raw] = [slowest("OursImmediate"), slowest("RawPair")];
  add("p99 of immediate at 500 a second, from request to delivery, against that of the raw put", whole && raw && whole / raw, "at most", 2);

  for (const { burst } of operations.filter(({ entrant }) => entrant === "Ours")) {
    const [ours, hand] = (["Ours", "HandKv"] as const).map((entrant) => billed(operations, entrant, burst));
    if (ours === undefined || hand === undefined) continue;
    const limit = burst === 100 ? 0.6 : burst === 1 ? 1 : 0.999;
    add(`billed operations at a burst of ${burst.toLocaleString("en")}, against hand-written`, ours / hand, "at most", limit, true);
  }

  const [few, many] = [backlogs[0], backlogs.at(-1)];
  if (few && many && few !== many) {
    const of = `with ${many.pending.toLocaleString("en")} waiting, against ${few.pending.toLocaleString("en")}`;
    add(`rows written by a put ${of}`, many.rowsPerPut / few.rowsPerPut, "at most", 1.2, true);
    add(`rows written by a delivery ${of}`, many.rowsPerDelivery / few.rowsPerDelivery, "at most", 1.2, true);
    add(`reads by a delivery ${of}`, many.readsPerDelivery / few.readsPerDelivery, "at most", 1.2, true);
    add(`time of a delivery ${of}`, many.microsecondsPerDelivery / few.microsecondsPerDelivery, "at most", 1.2);
  }

  const { pending = 0, mostMiB } = results.memory ?? {};
  add(`MiB of an object's heap with ${pending.toLocaleString("en")} waiting, garbage included`, mostMiB, "at most", 128);

  add("storage reads of an idle wrapped object at its start", startup?.reads, "at most", 1, true);
  steadyTargets(results, add);
  destinationTargets(results, add);
  logTargets(results, add);
  return found;
}

type Add = (name: string, value: number | undefined, is: Target["is"], limit: number, counted?: boolean) => void;

function steadyTargets({ steady: { costs = [] } = { costs: [], latencies: [] } }: Partial<Results>, add: Add): void {
  const at = (entrant: EntrantName, perSecond: number): number | undefined => {
    const found = costs.find((each) => each.entrant === entrant && each.perSecond === perSecond);
    return found && dear(found);
  };
  add("rows and alarms of a message, one a second, immediate with settleWithinSeconds", at("OursSettled", 1), "at most", 1.25, true);
  for (const perSecond of new Set(costs.map(({ perSecond }) => perSecond))) {
    const hand = at("HandKv", perSecond) ?? Number.NaN;
    for (const entrant of ["Ours", "OursImmediate", "OursSettled"] as const) {
      const name = `billed operations at ${perSecond} a second, ${ENTRANTS[entrant].replace("this package, ", "")}, against hand-written`;
      add(name, (at(entrant, perSecond) ?? Number.NaN) / hand, "at most", 1, true);
    }
  }
}

function destinationTargets({ destinations }: Partial<Results>, add: Add): void {
  const at = (entrant: EntrantName, burst: number): Operations | undefined =>
    destinations?.counts.find((each) => each.entrant === entrant && each.burst === burst);
  const [one, ten] = [at("OursTo1", 100), at("OursTo10", 100)];
  if (one && ten) add("rows of a message for each further destination, burst of 100", (dear(ten) - dear(one)) / 9, "at most", 0.02, true);
  const five = at("OursTo5", 1);
  add("rows of a message on an idle object, five destinations", five && five.rowsWritten - STATE, "at most", 2, true);
  add("alarms set for it", five?.alarmsSet, "at most", 1, true);
}

function logTargets({ log, commands }: Partial<Results>, add: Add): void {
  for (const { direction, matching, rowsRead } of log?.readings ?? []) {
    const what = matching === 1 ? "" : `, of a type that one in ${matching} has`;
    add(`rows read for a message of the log, ${direction}${what}`, rowsRead.OursLog, "at most", 2, true);
  }
  const unchecked = commands?.ratios.OursEventsChecked?.median;
  add("event sourcing with a schema that accepts at once, against without", unchecked && 1 / unchecked, "at least", 0.97);
}

/** Every contestant pays for the state's row alike. */
const STATE = 1;

/** What is dear: rows written and alarms set, without the state's row. A row read costs a thousandth. */
function dear({ rowsWritten, alarmsSet }: Pick<Operations, "rowsWritten" | "alarmsSet">): number {
  return rowsWritten - STATE + alarmsSet;
}

function billed(operations: readonly Operations[], entrant: EntrantName, burst: number): number | undefined {
  const found = operations.find((each) => each.entrant === entrant && each.burst === burst);
  return found && dear(found);
}
