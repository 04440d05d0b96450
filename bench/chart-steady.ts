/** Two charts of the picture: what a message costs at a steady rate, and the distribution of latencies. */
import { ENTRANTS, type EntrantName } from "./contestants.ts";
import { short } from "./report.ts";
import type { Distribution, Results, Steady } from "./results.ts";
import { BAR, type Drawn, framed, INK, line, linear, logarithmic, NAMES, type Place, ROW, rect, text, ticks, tone, value } from "./svg.ts";

const ALL = Object.keys(ENTRANTS) as EntrantName[];
/** The axis of the histogram, in milliseconds: what is beyond stands at its ends. */
const [LEAST_MS, MOST_MS] = [0.1, 100];
/** Room right of the histogram for a percentile. */
const NUMBER = 58;

/** A column for each rate, all with the same scale. */
export function steadyCosts({ steady: { costs } }: Results, place: Place): Drawn | undefined {
  const rates = [...new Set(costs.map(({ perSecond }) => perSecond))].sort((a, b) => a - b);
  const entrants = ALL.filter((entrant) => costs.some((each) => each.entrant === entrant));
  if (entrants.length === 0) return undefined;
  const width = (place.width - NAMES) / rates.length;
  const scale = linear(Math.max(...costs.map(dear)), width - 56);
  const columns = rates.map((rate, column) => {
    const x = place.x + NAMES + column * width;
    const bars = entrants.map((entrant, i) => {
      const found = costs.find((each) => each.entrant === entrant && each.perSecond === rate);
      if (!found) return "";
      const y = place.y + 18 + i * ROW;
      const length = scale(dear(found));
      return rect(x, y, length, BAR, tone(entrant)) + value(entrant, x + length + 6, y, short(dear(found)));
    });
    return text(x, place.y + 8, `${rate.toLocaleString("en")} a second`, { "font-weight": 600 }) + bars.join("");
  });
  const about = "Rows written and alarms set, the state's row included, by messages a second of one object.";
  return framed("Billed operations of a message at a steady rate", about, place, entrants, columns, 18);
}

function dear({ rowsWritten, alarmsSet }: Steady): number {
  return rowsWritten + alarmsSet;
}

/** A histogram for each contestant: how many were about as fast, on a logarithmic axis of times. Each has its own height. */
export function distribution({ distributions }: Results, place: Place): Drawn | undefined {
  const found = distributions.filter(({ delivery }) => delivery !== null);
  if (found.length === 0) return undefined;
  const [left, right] = [place.x + NAMES, place.x + place.width - 4 * NUMBER];
  const scale = logarithmic(LEAST_MS, MOST_MS, left, right - left);
  const names = ["p50", "p90", "p99", "p99.9"] as const;
  const columns = names.map((name, i) =>
    text(place.x + place.width - (3 - i) * NUMBER, place.y + 8, name, { "text-anchor": "end", "font-weight": 600 }),
  );
  const bottom = place.y + 14 + found.length * ROW;
  const axis = ticks(LEAST_MS, MOST_MS).map((tick) => {
    const bound = tick === LEAST_MS ? "≤ " : tick === MOST_MS ? "≥ " : "";
    const label = text(scale(tick), bottom + 15, `${bound}${tick} ms`, { "text-anchor": "middle", "font-size": 11, fill: INK.quiet });
    return line(scale(tick), place.y + 10, scale(tick), bottom, INK.line) + label;
  });
  const rows = found.map((each, i) => histogram(each, scale, place.y + 18 + i * ROW, place.x + place.width));
  const [{ objects, perSecond } = { objects: 0, perSecond: 0 }] = found;
  const counts = new Set(found.map(({ messages }) => short(messages)));
  const about = `From the commit, in milliseconds, of ${[...counts].join(" or ")} messages of ${objects} objects with ${perSecond} a second each. Logarithmic axis.`;
  const entrants = found.map(({ entrant }) => entrant);
  const drawn = framed("How long deliveries take", about, place, entrants, [...axis, ...columns, ...rows], 18);
  return { ...drawn, height: drawn.height + 18 };
}

function histogram({ entrant, delivery }: Distribution, scale: (value: number) => number, y: number, right: number): string {
  if (!delivery) return "";
  const joined = new Map<number, number>();
  for (const [upTo, count] of delivery.buckets) {
    const bound = Math.min(MOST_MS, Math.max(LEAST_MS, upTo));
    joined.set(bound, (joined.get(bound) ?? 0) + count);
  }
  const most = Math.max(...joined.values());
  const width = scale(LEAST_MS * 10 ** 0.1) - scale(LEAST_MS);
  const bars = [...joined].map(([upTo, count]) => {
    // What there is can be seen, however little.
    const height = Math.max(0.8, (count / most) * (ROW - 6));
    return rect(scale(upTo) - (upTo > LEAST_MS ? width : 0), y + BAR - height, width - 0.5, height, tone(entrant));
  });
  const numbers = [delivery.p50, delivery.p90, delivery.p99, delivery.p999];
  const cells = numbers.map((number, i) => value(entrant, right - (3 - i) * NUMBER, y, short(number), "end"));
  return [...bars, ...cells].join("");
}
