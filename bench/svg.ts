/** SVG as text: elements, scales, and the look that all charts share. */
import { ENTRANTS, type EntrantName } from "./contestants.ts";

/** From one contestant to the next. */
export const ROW = 22;
export const BAR = 12;
/** Names stand left of the bars. */
export const NAMES = 208;
/** Above the bars: the title and what the numbers are. */
export const HEAD = 50;

export const OURS = "#0969da";
export const OTHERS = "#6e7781";
/** Of what all are held against: storage alone, and the dual write. */
export const BASELINE = "#afb8c1";
const BASELINES: readonly EntrantName[] = ["RawState", "RawPair", "DualWrite"];

/** Where something begins and how much room it has, in pixels. */
export interface Place {
  readonly x: number;
  readonly y: number;
  readonly width: number;
}

/** What was drawn, and how high it is. */
export interface Drawn {
  readonly svg: string;
  readonly height: number;
}

/** Dark enough on the chart's own white: what is read has a contrast of at least 4.5. */
export const INK = { title: "#1f2328", text: "#424a53", quiet: "#59636e", line: "#d1d9e0", back: "#ffffff" } as const;

type Attributes = Readonly<Record<string, string | number>>;

export function element(name: string, attributes: Attributes, ...children: string[]): string {
  const pairs = Object.entries(attributes).map(([key, value]) => ` ${key}="${escaped(typeof value === "number" ? pixels(value) : value)}"`);
  return children.length === 0 ? `<${name}${pairs.join("")}/>` : `<${name}${pairs.join("")}>${children.join("")}</${name}>`;
}

/** @param content is escaped here */
export function text(x: number, y: number, content: string, attributes: Attributes = {}): string {
  return element("text", { x, y, "font-size": 12, fill: INK.text, ...attributes }, escaped(content));
}

export function rect(x: number, y: number, width: number, height: number, fill: string, attributes: Attributes = {}): string {
  return element("rect", { x, y, width, height, fill, ...attributes });
}

export function line(x1: number, y1: number, x2: number, y2: number, stroke: string, attributes: Attributes = {}): string {
  return element("line", { x1, y1, x2, y2, stroke, ...attributes });
}

export function escaped(content: string): string {
  return content.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

/** From zero, so that twice as long is twice as much. */
export function linear(most: number, length: number): (value: number) => number {
  return (value) => (most > 0 ? (value / most) * length : 0);
}

/** What `logarithmic` spans: from a step below the least to a step above the most, all of them above zero. */
export function span(values: readonly number[]): { readonly low: number; readonly high: number } {
  const steps = [1, 2, 5].flatMap((first) => Array.from({ length: 19 }, (_, i) => first * 10 ** (i - 9))).sort((a, b) => a - b);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return { low: steps.filter((step) => step <= least).at(-1) ?? least, high: steps.find((step) => step > most) ?? most };
}

/** The same distance for the same factor. */
export function logarithmic(low: number, high: number, from: number, length: number): (value: number) => number {
  return (value) => from + (Math.log(value / low) / Math.log(high / low)) * length;
}

/** 1, 2, 5, 10 and so on; powers of ten alone where that would be too many. */
export function ticks(low: number, high: number): number[] {
  const powers = Array.from({ length: 19 }, (_, i) => 10 ** (i - 9));
  const between = (values: number[]): number[] => values.filter((value) => value >= low * 0.999 && value <= high * 1.001);
  const all = between(powers.flatMap((power) => [power, 2 * power, 5 * power]));
  return all.length > 9 ? between(powers) : all;
}

/**
 * With its title and the names of the contestants.
 *
 * @param below how far below its usual place the first contestant stands
 */
export function framed(
  title: string,
  about: string,
  { x, y, width }: Place,
  names: readonly EntrantName[],
  parts: string[],
  below = 0,
): Drawn {
  const labels = names.map((entrant, i) => {
    const ours = isOurs(entrant);
    return text(x, y + below + i * ROW + 10, ENTRANTS[entrant], { "font-size": 11.5, ...(ours ? { fill: OURS, "font-weight": 600 } : {}) });
  });
  const svg = [
    line(x, y - HEAD, x + width, y - HEAD, INK.line),
    text(x, y - HEAD + 20, title, { "font-size": 14, "font-weight": 600, fill: INK.title }),
    text(x, y - HEAD + 36, about, { "font-size": 11, fill: INK.quiet }),
    ...labels,
    ...parts,
  ];
  return { svg: svg.join("\n"), height: HEAD + below + names.length * ROW };
}

/** The number that belongs to a bar. */
export function value(entrant: EntrantName, x: number, y: number, shown: string, anchor = "start"): string {
  return text(x, y + 10, shown, {
    "font-size": 11.5,
    "text-anchor": anchor,
    ...(isOurs(entrant) ? { "font-weight": 600, fill: INK.title } : {}),
  });
}

function isOurs(entrant: EntrantName): boolean {
  return entrant.startsWith("Ours");
}

/** This package stands out, all others are grey. */
export function tone(entrant: EntrantName): string {
  if (isOurs(entrant)) return OURS;
  return BASELINES.includes(entrant) ? BASELINE : OTHERS;
}

/** JSON has no NaN: what was read back from a file is null there. */
export function known(value: number | null | undefined): value is number {
  return Number.isFinite(value);
}

/** A tenth of a pixel is enough. */
function pixels(value: number): string {
  return String(Math.round(value * 10) / 10);
}
