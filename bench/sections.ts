/** Tables of the page for what is neither a burst nor one message alone: steady rates, several destinations, the log, schemas, distributions. */
import { ENTRANTS, type EntrantName } from "./contestants.ts";
import { ALL, ascending, digits, known, named, table } from "./markdown.ts";
import { short } from "./report.ts";
import type { Latency, Operations, Rates, Results, Times } from "./results.ts";

export function deliveries({ deliveries }: Results): string {
  const entrants = ALL.filter((entrant) => deliveries.some(({ rates }) => known(rates[entrant]?.median)));
  const rows = entrants.map((entrant) => [named(entrant), ...deliveries.map((rates) => rateAndRatio(rates, entrant))]);
  return table(["messages a second", ...deliveries.map(({ size }) => `${short(size)} waiting`)], rows);
}

export function steady({ steady: { costs, latencies } }: Results): string {
  const rates = ascending(costs.map(({ perSecond }) => perSecond));
  const entrants = ALL.filter((entrant) => costs.some((each) => each.entrant === entrant));
  const byRate = (title: string, cell: (each: (typeof costs)[number]) => string): string => {
    const rows = entrants.map((entrant) => {
      const found = rates.map((rate) => costs.find((each) => each.entrant === entrant && each.perSecond === rate));
      return [named(entrant), ...found.map((each) => (each ? cell(each) : "–"))];
    });
    return table([title, ...rates.map(aSecond)], rows);
  };
  return [
    `Rows written + alarms set:\n\n${byRate("", ({ rowsWritten, alarmsSet }) => `${digits(rowsWritten)} + ${digits(alarmsSet)}`)}`,
    `Rows read, and runs of the alarm:\n\n${byRate("", ({ rowsRead, alarmRuns }) => `${digits(rowsRead)}, ${digits(alarmRuns)}`)}`,
    `From the commit to the delivery:\n\n${latencyTable(latencies)}`,
  ].join("\n\n");
}

export function destinations({ destinations: { counts, puts, bursts } }: Results): string {
  const entrants = ALL.filter((entrant) => counts.some((each) => each.entrant === entrant));
  const sizes = ascending(counts.map(({ burst }) => burst));
  const cost = (found: Operations | undefined): string => (found ? `${digits(found.rowsWritten)} + ${digits(found.alarmsSet)}` : "–");
  const head = [
    ...["", ...sizes.map((size) => `rows + alarms, ${sizeOf(size)}`), "puts a second"],
    ...bursts.map(({ size }) => `delivered to all a second, ${sizeOf(size)}`),
  ];
  const rows = entrants.map((entrant) => [
    named(entrant),
    ...sizes.map((size) => cost(counts.find((each) => each.entrant === entrant && each.burst === size))),
    ...[puts, ...bursts].map((rates) => rateAndRatio(rates, entrant)),
  ]);
  return table(head, rows);
}

export function log({ log: { messages, readings, tail } }: Results): string {
  const entrants = ALL.filter((entrant) => readings.some(({ rates }) => known(rates.rates[entrant]?.median)));
  const head = ["messages found a second; rows read for each", ...entrants.map((entrant) => ENTRANTS[entrant])];
  const rows = readings.map(({ direction, matching, rates, rowsRead }) => [
    `${direction}, ${matching === 1 ? "all" : `the type of one in ${matching}`}`,
    ...entrants.map((entrant) => `${rateAndRatio(rates, entrant)}; ${digits(rowsRead[entrant])}`),
  ]);
  return `A log of ${short(messages)} messages, in pages of 100:\n\n${table(head, rows)}\n\nFrom the commit to the line of \`tailStream()\`, and beside it to an immediate delivery:\n\n${latencyTable(tail)}`;
}

/** With a schema over without: what it costs is what is missing to 1. */
export function schemas({ puts, commands }: Results): string {
  const checked: EntrantName[] = ["OursChecked", "OursValibot", "OursEventsChecked"];
  const rows = [puts, commands].flatMap((rates) =>
    [rates.base, ...checked].flatMap((entrant) => {
      const rate = rates.rates[entrant]?.median;
      if (!known(rate)) return [];
      const ratio = rates.ratios[entrant]?.median;
      return [[named(entrant), digits(rate), entrant !== rates.base && known(ratio) ? digits(1 / ratio) : ""]];
    }),
  );
  return table(["", "a second", "with a schema / without"], rows);
}

export function distribution({ distributions }: Results): string {
  const numbers = (times: Times | null): string[] =>
    times ? [times.p50, times.p90, times.p99, times.p999, times.most].map(digits) : ["–", "–", "–", "–", "–"];
  const of = (what: "put" | "delivery"): string => {
    const shown = distributions.filter((each) => each[what] !== null);
    const rows = shown.map((each) => [named(each.entrant), short(each.messages), ...numbers(each[what])]);
    return table(["milliseconds", "messages", "p50", "p90", "p99", "p99.9", "the slowest"], rows);
  };
  const [{ objects, perSecond } = { objects: 0, perSecond: 0 }] = distributions;
  return `From ${objects} objects, ${perSecond} a second each. From the commit to the delivery:\n\n${of("delivery")}\n\nFrom the request to the commit:\n\n${of("put")}`;
}

/** The rate, and the ratio from the same rounds. */
function rateAndRatio({ rates, ratios }: Rates, entrant: EntrantName): string {
  const ratio = ratios[entrant]?.median;
  return digits(rates[entrant]?.median) + (known(ratio) ? ` (${digits(ratio)})` : "");
}

export function latencyTable(latencies: readonly Latency[]): string {
  const loads = ascending(latencies.map(({ load }) => load));
  const head = loads.map((load) => `${load === 0 ? "one at a time" : aSecond(load)}: p50 / p95 / p99`);
  const rows = ALL.filter((entrant) => latencies.some((each) => each.entrant === entrant)).map((entrant) => {
    const cells = loads.map((load) => {
      const found = latencies.find((each) => each.entrant === entrant && each.load === load);
      return found ? [found.p50, found.p95, found.p99].map(digits).join(" / ") : "–";
    });
    return [named(entrant), ...cells];
  });
  const counts = loads.map((load) => {
    const least = Math.min(...latencies.filter((each) => each.load === load).map(({ count }) => count));
    return `${short(least)} ${load === 0 ? "one at a time" : `at ${aSecond(load)}`}`;
  });
  return `${table(["milliseconds", ...head], rows)}\n\nMessages for each contestant, at least: ${counts.join(", ")}.`;
}

function aSecond(rate: number): string {
  return `${rate.toLocaleString("en")} a second`;
}

function sizeOf(size: number): string {
  return size === 1 ? "one message" : `burst of ${short(size)}`;
}
