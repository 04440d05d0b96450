/** The picture of a run: six charts in one SVG that needs nothing else. What was not measured is left out, never drawn as zero. */
import { distribution, steadyCosts } from "./chart-steady.ts";
import { ENTRANTS, type EntrantName } from "./contestants.ts";
import { short } from "./report.ts";
import type { Burst, Operations, Results, Spread } from "./results.ts";
import {
  BAR,
  BASELINE,
  type Drawn,
  element,
  escaped,
  framed,
  HEAD,
  INK,
  known,
  line,
  linear,
  logarithmic,
  NAMES,
  OTHERS,
  OURS,
  type Place,
  ROW,
  rect,
  span,
  text,
  ticks,
  tone,
  value,
} from "./svg.ts";

const WIDTH = 880;
const PADDING = 28;
const GAP = 32;
const HALF = (WIDTH - 2 * PADDING - GAP) / 2;
/** The burst whose billed operations are drawn. */
const SHOWN_BURST = 100;
/** Bars may be this many times as long as the longest of what is written; longer ones are cut, so that the others can still be read. */
const LONGEST_READS = 2;
/** From here on the axis of latencies begins. What is below, or below zero, because the message overtook the answer, stands at its left end. */
const LEAST_MS = 0.1;

const ALL = Object.keys(ENTRANTS) as EntrantName[];

export function chart(results: Results): string {
  const { machine, quick } = results;
  const rows: readonly (readonly (Drawn | undefined)[])[] = [
    [puts(results, at(0, HALF)), billed(results, at(HALF + GAP, HALF))],
    [bursts(results, at(0, WIDTH - 2 * PADDING))],
    [steadyCosts(results, at(0, WIDTH - 2 * PADDING))],
    [latency(results, at(0, WIDTH - 2 * PADDING))],
    [distribution(results, at(0, WIDTH - 2 * PADDING))],
  ];
  let y = 92;
  const drawn = rows.flatMap((row) => {
    const charts = row.filter((one) => one !== undefined);
    const group = charts.map(({ svg }) => element("g", { transform: `translate(0 ${y})` }, svg));
    y += charts.length === 0 ? 0 : Math.max(...charts.map(({ height }) => height)) + 26;
    return group;
  });
  const title = "Transactional outbox on workerd: speed and cost";
  const where = `${machine.cpus} × ${machine.model}, workerd ${machine.workerd}, Node ${machine.node}, storage on disk, ${machine.date}`;
  const height = y - 4;
  return `${element(
    "svg",
    {
      xmlns: "http://www.w3.org/2000/svg",
      viewBox: `0 0 ${WIDTH} ${height}`,
      width: WIDTH,
      height,
      role: "img",
      "aria-labelledby": "title desc",
      "font-family": "-apple-system, Segoe UI, Helvetica, Arial, system-ui, sans-serif",
    },
    element("title", { id: "title" }, escaped(title)),
    element("desc", { id: "desc" }, escaped(description(results))),
    rect(0.5, 0.5, WIDTH - 1, height - 1, INK.back, { rx: 12, stroke: INK.line }),
    text(PADDING, 38, title, { "font-size": 18, "font-weight": 600, fill: INK.title }),
    text(PADDING, 58, where, { fill: INK.quiet }),
    quick ? text(PADDING, 76, "A quick run: the numbers mean little.", { fill: INK.quiet }) : "",
    legend(),
    ...drawn,
  )}\n`;
}

function at(x: number, width: number): Place {
  return { x: PADDING + x, y: HEAD, width };
}

function description({ puts }: Results): string {
  const rates = ALL.flatMap((entrant) => {
    const median = puts.rates[entrant]?.median;
    return known(median) ? [`${ENTRANTS[entrant]} ${short(median)}`] : [];
  });
  return `Puts a second, billed operations of a message, messages a second from put to delivery by burst size, billed operations by rate, latency, and its distribution, by contestant. Puts a second: ${rates.join("; ")}. All numbers are in the tables of docs/performance.md.`;
}

function legend(): string {
  const entries: [string, string, number][] = [
    ["this package", OURS, 600],
    ["others", OTHERS, 706],
    ["baselines", BASELINE, 776],
  ];
  return entries.map(([name, fill, x]) => rect(x, 28, 11, 11, fill, { rx: 2 }) + text(x + 17, 38, name)).join("");
}

function puts({ puts }: Results, place: Place): Drawn | undefined {
  const entrants = ALL.filter((entrant) => known(puts.rates[entrant]?.median));
  if (entrants.length === 0) return undefined;
  const rates = entrants.map((entrant) => puts.rates[entrant] as Spread);
  const scale = linear(mostOf(rates), place.width - NAMES - 56);
  const bars = entrants.map((entrant, i) => bar(entrant, place.x + NAMES, place.y + i * ROW, rates[i] as Spread, scale));
  return framed("Puts a second", "In sequence; no alarm rings meanwhile. Thin line: quartiles.", place, entrants, bars);
}

/** A column for each size, each with a scale of its own: what is compared stands below each other. */
function bursts({ bursts }: Results, place: Place): Drawn | undefined {
  const measured = bursts.filter(({ to }) => to === "nothing");
  const sizes = [...new Set(measured.map(({ size }) => size))].sort((a, b) => a - b);
  const entrants = ALL.filter((entrant) => sizes.some((size) => rateOf(measured, size, entrant)));
  if (entrants.length === 0) return undefined;
  const width = (place.width - NAMES) / sizes.length;
  const columns = sizes.map((size, column) => {
    const x = place.x + NAMES + column * width;
    const rates = entrants.map((entrant) => rateOf(measured, size, entrant));
    const scale = linear(mostOf(rates.filter((rate) => rate !== undefined)), width - 62);
    const bars = rates.map((rate, i) => (rate ? bar(entrants[i] as EntrantName, x, place.y + 18 + i * ROW, rate, scale) : ""));
    return text(x, place.y + 8, size === 1 ? "one message" : `burst of ${short(size)}`, { "font-weight": 600 }) + bars.join("");
  });
  const about =
    "From the first put to the last delivery, to a destination that does nothing. Each column has its own scale. Thin line: quartiles.";
  return framed("Messages a second, end to end", about, place, entrants, columns, 18);
}

function rateOf(bursts: readonly Burst[], size: number, entrant: EntrantName): Spread | undefined {
  return bursts.find((burst) => burst.size === size && known(burst.rates[entrant]?.median))?.rates[entrant];
}

function billed({ operations }: Results, place: Place): Drawn | undefined {
  const counted = (entrant: EntrantName): Operations | undefined =>
    operations.find((each) => each.entrant === entrant && each.burst === SHOWN_BURST && known(writes(each)) && known(each.rowsRead));
  const found = ALL.map(counted).filter((each) => each !== undefined);
  if (found.length === 0) return undefined;
  const most = Math.max(...found.map(writes));
  const end = Math.min(Math.max(...found.map((each) => writes(each) + each.rowsRead)), most * LONGEST_READS);
  const scale = linear(end, place.width - NAMES - 82);
  const bars = found.map((each, i) => stack(each, place.x + NAMES, place.y + i * ROW, end, scale));
  const entrants = found.map(({ entrant }) => entrant);
  const about = `Rows written and alarms set, + rows read (lighter). Burst of ${SHOWN_BURST}.`;
  return framed("Billed operations of a message", about, place, entrants, bars);
}

/** What is billed at the price of a row written. */
function writes({ rowsWritten, alarmsSet }: Operations): number {
  return rowsWritten + alarmsSet;
}

/** What is written, then what is read; with a cut where it would go on. */
function stack(each: Operations, x: number, y: number, end: number, scale: (value: number) => number): string {
  const [written, all] = [writes(each), writes(each) + each.rowsRead];
  const [middle, right] = [x + scale(written), x + scale(Math.min(all, end))];
  const fill = tone(each.entrant);
  const cut = [-14, -9].map((from) => line(right + from, y + BAR + 2, right + from + 5, y - 2, INK.back, { "stroke-width": 2 }));
  return [
    rect(x, y, middle - x, BAR, fill),
    rect(middle, y, right - middle, BAR, fill, { "fill-opacity": 0.35 }),
    ...(all > end * 1.001 ? cut : []),
    value(each.entrant, right + 6, y, `${short(written)} + ${short(each.rowsRead)}`),
  ].join("");
}

/** The median, the quartiles over it, and the number. */
function bar(entrant: EntrantName, x: number, y: number, rate: Spread, scale: (value: number) => number): string {
  const right = x + scale(Math.max(rate.median, known(rate.high) ? rate.high : rate.median));
  const middle = y + BAR / 2;
  const quartiles =
    known(rate.low) && known(rate.high)
      ? line(x + scale(rate.low), middle, x + scale(rate.high), middle, INK.title, { "stroke-width": 1.2 })
      : "";
  return rect(x, y, scale(rate.median), BAR, tone(entrant)) + quartiles + value(entrant, right + 6, y, short(rate.median));
}

/** A line from the median to the 99th percentile, on a logarithmic axis. */
function latency({ latencies }: Results, place: Place): Drawn | undefined {
  const measured = latencies.filter(({ load, p50, p95, p99 }) => load === 0 && [p50, p95, p99].every(known));
  const found = ALL.map((entrant) => measured.find((each) => each.entrant === entrant)).filter((each) => each !== undefined);
  if (found.length === 0) return undefined;
  const below = found.some(({ p50 }) => p50 < LEAST_MS);
  const { low, high } = span(found.flatMap(({ p50, p99 }) => [p50, p99]).map((one) => Math.max(one, LEAST_MS)));
  const [left, right, numbers] = [place.x + NAMES, place.x + place.width - 190, place.x + place.width];
  const logarithm = logarithmic(low, high, left, right - left);
  const scale = (milliseconds: number): number => logarithm(Math.max(milliseconds, LEAST_MS));
  const [top, bottom] = [place.y + 16, place.y + 14 + found.length * ROW];
  const axis = ticks(low, high).map((tick) =>
    line(scale(tick), top - 6, scale(tick), bottom, INK.line).concat(
      text(scale(tick), bottom + 15, `${below && tick === low ? "≤ " : ""}${plain(tick)} ms`, {
        "text-anchor": "middle",
        "font-size": 11,
        fill: INK.quiet,
      }),
    ),
  );
  const names = ["p50", "p95", "p99"] as const;
  const heads = names.map((name, i) => {
    const x = numbers - (2 - i) * 58;
    return dot(i, x - 34, place.y + 4, INK.quiet) + text(x, place.y + 8, name, { "text-anchor": "end", "font-weight": 600 });
  });
  const dots = found.map((each, i) => {
    const y = place.y + 18 + i * ROW + BAR / 2;
    const range = line(scale(each.p50), y, scale(each.p99), y, tone(each.entrant), { "stroke-width": 3, "stroke-opacity": 0.5 });
    // The median is drawn last: it stays in sight where the three fall together.
    const marks = [2, 1, 0].map((n) => dot(n, scale(each[names[n as 0 | 1 | 2]]), y, tone(each.entrant)));
    const cells = names.map((name, n) => value(each.entrant, numbers - (2 - n) * 58, y - BAR / 2, short(each[name]), "end"));
    return [range, ...marks, ...cells].join("");
  });
  const about = `One message at a time to an idle object. Logarithmic axis.${below ? " At its left end: with the answer to the put, or before it." : ""}`;
  const entrants = found.map(({ entrant }) => entrant);
  const drawn = framed("From commit to delivery, in milliseconds", about, place, entrants, [...axis, ...heads, ...dots], 18);
  return { ...drawn, height: drawn.height + 18 };
}

/** Full for the median, ringed for the 95th percentile, small for the 99th. */
function dot(nth: number, cx: number, cy: number, fill: string): string {
  if (nth === 1) return element("circle", { cx, cy, r: 3.6, fill: INK.back, stroke: fill, "stroke-width": 2 });
  return element("circle", { cx, cy, r: nth === 0 ? 5 : 2.8, fill });
}

function mostOf(rates: readonly Spread[]): number {
  return Math.max(...rates.flatMap(({ median, high }) => [median, high]).filter(known));
}

/** A round number as it is said: 0.5, 20, 1,000. */
function plain(value: number): string {
  return value.toLocaleString("en", { maximumSignificantDigits: 3 });
}
