/** The tables of docs/performance.md: each stands between two markers and is written anew by a run. The prose around them is left alone. */
import { ENTRANTS, type EntrantName } from "./contestants.ts";
import { dollars, PRICES } from "./dollars.ts";
import { ALL, ascending, between, digits, escaped, known, named, table } from "./markdown.ts";
import { short } from "./report.ts";
import type { Burst, Latency, Operations, Results } from "./results.ts";
import { deliveries, destinations, distribution, latencyTable, log, schemas, steady } from "./sections.ts";

const DESTINATIONS = [
  ["nothing", "To a destination that does nothing"],
  ["queue", "To a local queue"],
  ["object", "To another object"],
] as const satisfies [Burst["to"], string][];

const SECTIONS: Record<string, (results: Results) => string> = {
  machine,
  puts,
  bursts,
  deliveries,
  latency,
  distribution,
  operations,
  dollars: costs,
  steady,
  destinations,
  log,
  schemas,
  backlog,
  recovery,
  startup,
  size,
  targets,
};

/**
 * The page with the tables of this run.
 *
 * @throws {Error} when the page lacks one of the markers `<!-- begin NAME -->` and `<!-- end NAME -->`
 */
export function page(markdown: string, results: Results): string {
  return Object.entries(SECTIONS).reduce((text, [name, section]) => replaced(text, name, section(results)), markdown);
}

function replaced(markdown: string, name: string, content: string): string {
  const [begin, end] = [`<!-- begin ${name} -->`, `<!-- end ${name} -->`];
  const from = markdown.indexOf(begin);
  const to = markdown.indexOf(end, Math.max(0, from));
  if (from === -1 || to === -1) throw new Error(`Expected the page to have "${begin}" and after it "${end}".`);
  return `${markdown.slice(0, from + begin.length)}\n\n${content}\n\n${markdown.slice(to)}`;
}

function machine({ machine, quick }: Results): string {
  const rows = [
    ["processors", `${machine.cpus} × ${escaped(machine.model)}`],
    ["workerd", machine.workerd],
    ["Node.js", machine.node],
    ["date", machine.date],
    ...(quick ? [["run", "quick: the numbers mean little"]] : []),
  ];
  return table(["", ""], rows);
}

function puts({ puts }: Results): string {
  const rows = ALL.flatMap((entrant) => {
    const rate = puts.rates[entrant];
    if (!known(rate?.median)) return [];
    const ratio = puts.ratios[entrant];
    return [[named(entrant), digits(rate?.median), between(rate), known(ratio?.median) ? digits(ratio?.median) : "", between(ratio)]];
  });
  return `${table(["", "puts a second", "quartiles", `${ENTRANTS[puts.base]} / it`, "quartiles"], rows)}\n\nRounds: ${short(puts.rounds)}.`;
}

function bursts({ bursts }: Results): string {
  return DESTINATIONS.flatMap(([to, title]) => {
    const measured = bursts.filter((burst) => burst.to === to);
    const sizes = ascending(measured.map(({ size }) => size));
    const entrants = ALL.filter((entrant) => measured.some(({ rates }) => known(rates[entrant]?.median)));
    if (entrants.length === 0) return [];
    const rows = entrants.map((entrant) => [named(entrant), ...sizes.map((size) => rateOf(measured, size, entrant))]);
    return [`${title}:\n\n${table(["", ...sizes.map((size) => (size === 1 ? "one message" : `burst of ${short(size)}`))], rows)}`];
  }).join("\n\n");
}

/** The rate, and the ratio from the same rounds. An entrant that took part twice is shown as it was first. */
function rateOf(measured: readonly Burst[], size: number, entrant: EntrantName): string {
  const burst = measured.find((each) => each.size === size && known(each.rates[entrant]?.median));
  if (!burst) return "–";
  const ratio = burst.ratios[entrant]?.median;
  return digits(burst.rates[entrant]?.median) + (known(ratio) ? ` (${digits(ratio)})` : "");
}

function latency({ latencies, wholes = [] }: Results): string {
  const shown = latencyTable(latencies);
  return wholes.length === 0 ? shown : `${shown}\n\n${whole(wholes)}`;
}

function whole(wholes: readonly Latency[]): string {
  const rows = wholes.map(({ entrant, p50, p95, p99 }) => [named(entrant), ...[p50, p95, p99].map(digits)]);
  const load = short(wholes[0]?.load ?? 0);
  return `From the request to the delivery, and of the raw pair to its commit, at ${load} a second:\n\n${table(["milliseconds", "p50", "p95", "p99"], rows)}`;
}

function operations({ operations }: Results): string {
  const written = ({ rowsWritten, alarmsSet }: Operations): string => `${digits(rowsWritten)} + ${digits(alarmsSet)}`;
  return [
    `Rows written + alarms set:\n\n${byBurst(operations, written)}`,
    `Rows read:\n\n${byBurst(operations, ({ rowsRead }) => digits(rowsRead))}`,
    `Runs of the alarm:\n\n${byBurst(operations, ({ alarmRuns }) => digits(alarmRuns))}`,
  ].join("\n\n");
}

/** Without a dollar sign: GitHub takes what stands between two of them for a formula. */
function costs({ operations }: Results): string {
  const prices = Object.values(PRICES).map(
    ({ dollarsPerMillion, unit }) => `${unit} ${dollarsPerMillion < 0.01 ? dollarsPerMillion : dollarsPerMillion.toFixed(2)}`,
  );
  const cost = byBurst(dollars(operations), ({ sum }) => (known(sum) ? sum.toFixed(2) : "–"), "dollars");
  return `${cost}\n\nPrices of a million, in dollars: ${prices.join(", ")}.`;
}

/** A row for each contestant, a column for each burst size. */
function byBurst<T extends { readonly entrant: EntrantName; readonly burst: number }>(
  all: readonly T[],
  cell: (one: T) => string,
  title = "",
): string {
  const sizes = ascending(all.map(({ burst }) => burst));
  const rows = ALL.filter((entrant) => all.some((each) => each.entrant === entrant)).map((entrant) => {
    const found = sizes.map((size) => all.find((each) => each.entrant === entrant && each.burst === size));
    return [named(entrant), ...found.map((one) => (one ? cell(one) : "–"))];
  });
  return table([title, ...sizes.map((size) => (size === 1 ? "one message" : `burst of ${short(size)}`))], rows);
}

function backlog({ backlogs, memory }: Results): string {
  const head = ["waiting", "rows a put", "rows a delivery", "reads a delivery", "µs a put", "µs a delivery", "peak MiB"];
  const rows = backlogs.map((each) => [
    short(each.pending),
    ...[each.rowsPerPut, each.rowsPerDelivery, each.readsPerDelivery].map(digits),
    ...[each.microsecondsPerPut, each.microsecondsPerDelivery, each.peakMiB].map(digits),
  ]);
  const heap = memory
    ? `\n\nThe heap of the object's isolate, while ${short(memory.pending)} messages were put and waited, garbage included: at most ${digits(memory.mostMiB)} MiB.`
    : "";
  return table(head, rows) + heap;
}

function recovery({ recovery: { pending, startMs, firstMs, allMs, lost } }: Results): string {
  const rows = [[short(pending), digits(startMs), digits(firstMs), digits(allMs), short(lost)]];
  return table(["waiting", "process ready, ms", "first message, ms", "last message, ms", "lost"], rows);
}

function startup({ startup }: Results): string {
  const rows = [
    ["calls that read storage", short(startup.reads), ""],
    ["rows written and alarms set", short(startup.writes), ""],
    ["first request to the class as it is, µs", digits(startup.bareMicroseconds.median), between(startup.bareMicroseconds)],
    ["first request to the class wrapped, µs", digits(startup.wrappedMicroseconds.median), between(startup.wrappedMicroseconds)],
    ["difference by round, µs", digits(startup.moreMicroseconds), ""],
  ];
  return table(["", "median", "quartiles"], rows);
}

function size({ sizes }: Results): string {
  const rows = sizes.map(({ name, minified, gzipped }) => [escaped(name), short(minified), short(gzipped)]);
  return table(["bytes", "minified", "minified and gzipped"], rows);
}

/** Three decimals: a ratio that misses by little must not look as if it had met. */
function targets({ targets }: Results): string {
  const rows = targets.map(({ name, value, limit, is, met, counted }) => [
    escaped(name),
    known(value) ? value.toFixed(3) : "–",
    `${is} ${limit}`,
    counted ? "counted" : "timed",
    met ? "met" : "**missed**",
  ]);
  return table(["", "reached", "target", "how", "result"], rows);
}
