/** What is to be reached, and by how much it was. */
import type { EntrantName } from "./contestants.ts";
import type { Operations, Results, Target } from "./results.ts";

/** Of what was measured. */
export function targets({ puts, bursts = [], latencies = [], operations = [], backlogs = [], startup }: Partial<Results>): Target[] {
  const found: Target[] = [];
  const add = (name: string, value: number | undefined, is: Target["is"], limit: number, counted = false): void => {
    if (value === undefined || Number.isNaN(value)) return;
    found.push({ name, value, limit, is, met: is === "at least" ? value >= limit : value <= limit, counted });
  };

  add("put, against storage.put of state and message", puts?.ratios.RawPair?.median, "at least", 0.85);
  const pair = puts?.rates.RawPair?.median;
  const sync = puts?.rates.OursSync?.median;
  add("transactionSync with a message, against the same", pair && sync && sync / pair, "at least", 1);

  const unchecked = puts?.ratios.OursChecked?.median;
  add("put with a schema that accepts at once, against put without", unchecked && 1 / unchecked, "at least", 0.97);

  for (const { size, to, ratios } of bursts) {
    if (to !== "nothing" || !ratios.HandKv) continue;
    const limit = size >= 10_000 ? 1.1 : 1;
    add(`burst of ${size.toLocaleString("en")}, against hand-written, key-value`, ratios.HandKv.median, "at least", limit);
  }
  const peer = bursts.filter(({ ratios }) => ratios.AgentQueue).at(-1);
  add(`burst of ${peer?.size.toLocaleString("en")}, against the Agents SDK's queue()`, peer?.ratios.AgentQueue?.median, "at least", 20);

  const idle = (entrant: EntrantName): number | undefined =>
    latencies.find((latency) => latency.entrant === entrant && latency.load === 0)?.p50;
  const [immediate, alarm] = [idle("OursImmediate"), idle("Ours")];
  if (immediate !== undefined && alarm !== undefined) add("median latency of immediate, against alarm", immediate / alarm, "at most", 0.5);

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

  add("storage reads of an idle wrapped object at its start", startup?.reads, "at most", 1, true);
  return found;
}

/** What is dear: rows written and alarms set, without the state's row, which every contestant pays for alike. A row read costs a thousandth. */
function billed(operations: readonly Operations[], entrant: EntrantName, burst: number): number | undefined {
  const found = operations.find((each) => each.entrant === entrant && each.burst === burst);
  return found && found.rowsWritten - 1 + found.alarmsSet;
}
