/** What is seen while the benchmarks run: progress, and a table for each measure. */
import { ENTRANTS, type EntrantName } from "./contestants.ts";
import type { Rates, Target } from "./results.ts";

/** One line that is written over; in a log, where nothing can be, none. */
export function progress(line: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${line}`);
}

export function heading(text: string): void {
  progress("");
  console.log(`\n${text}`);
}

/** Rows of columns: the first is a title, the others are numbers or what stands in for them. */
export function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): void {
  const cells = [head, ...rows].map((row) => row.map((cell) => (typeof cell === "number" ? short(cell) : cell)));
  const widths = head.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  for (const row of cells) {
    const padded = row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)));
    console.log(`  ${padded.join("  ")}`.trimEnd());
  }
}

/** A number with as many digits as it deserves. */
export function short(value: number): string {
  if (!Number.isFinite(value)) return "–";
  if (Math.abs(value) >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en");
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}

export function printRates({ name, rounds, rates, ratios, base }: Rates): void {
  heading(`${name}, ${rounds} ${rounds === 1 ? "round" : "rounds"}`);
  const entrants = Object.keys(rates) as EntrantName[];
  table(
    ["", "a second", "quartiles", `${ENTRANTS[base]} / it`, "quartiles"],
    entrants.map((entrant) => {
      const rate = rates[entrant];
      const ratio = ratios[entrant];
      const between = (spread: typeof rate): string => (spread ? `${short(spread.low)} – ${short(spread.high)}` : "");
      return [ENTRANTS[entrant], rate?.median ?? Number.NaN, between(rate), ratio?.median ?? "", between(ratio)];
    }),
  );
}

export function printTargets(targets: readonly Target[]): void {
  heading("targets");
  table(
    ["", "", "", ""],
    targets.map(({ name, value, limit, is, met }) => [name, met ? "met" : "MISSED", value.toFixed(3), `${is} ${limit}`]),
  );
}
