/** Tables and numbers as the page has them. */
import { ENTRANTS, type EntrantName } from "./contestants.ts";
import { short } from "./report.ts";
import type { Spread } from "./results.ts";

export const ALL = Object.keys(ENTRANTS) as EntrantName[];

/** The first column is a title, the others are numbers. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const rule = head.map((_, column) => (column === 0 ? "---" : "---:"));
  return [head, rule, ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}

export function named(entrant: EntrantName): string {
  const name = escaped(ENTRANTS[entrant]);
  return entrant.startsWith("Ours") ? `**${name}**` : name;
}

export function escaped(text: string): string {
  return text.replace(/[|<\\]/g, "\\$&");
}

export function between(spread: Spread | undefined): string {
  return spread && known(spread.low) && known(spread.high) ? `${digits(spread.low)} – ${digits(spread.high)}` : "";
}

/** As `short`, with a third decimal for what is small: a large burst shares its few alarms. */
export function digits(value: number | undefined): string {
  if (!known(value)) return "–";
  if (value > 0 && value < 0.0005) return "&lt;0.001";
  return value !== 0 && Math.abs(value) < 0.1 ? value.toFixed(3) : short(value);
}

export function ascending(values: readonly number[]): number[] {
  return [...new Set(values)].sort((a, b) => a - b);
}

/** JSON has no NaN: what was read back from a file is null there. */
export function known(value: number | null | undefined): value is number {
  return Number.isFinite(value);
}
