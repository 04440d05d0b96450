/**
 * A million objects on paper, and an hour's outage of one region's queues, simulated: how the retries of its objects arrive, and how long the backlog takes
 * to drain. Seeded, so that it comes to the same each time; no clock, no runtime, ten seconds.
 *
 *   node bench/scale.ts            prints the tables of docs/scale.md, and writes docs/scale.svg
 */
import { writeFileSync } from "node:fs";
import { retryDelayMs } from "../src/subscription/retry.ts";
import { element, escaped, INK, line, OTHERS, OURS, rect, text } from "./svg.ts";

const OBJECTS = 100_000;
/** Messages a second of one object. */
const RATE = 0.1;
const OUTAGE_SECONDS = 3600;
const END_SECONDS = 4 * 3600;
/** Messages a second that one queue takes (Queues limits page), and messages in one `sendBatch`. */
const QUEUE_RATE = 5000;
const BATCH = 100;
/** What the chart puts together, in seconds. */
const BIN_SECONDS = 10;

interface Case {
  readonly name: string;
  readonly jitter: number;
  readonly maxDelaySeconds: number;
  readonly queues: number;
}

interface Outcome {
  /** Attempts in each second. */
  readonly attempts: Uint32Array;
  /** Attempts of one object while the queues were out, on average. */
  readonly each: number;
  /** The most attempts in a second, in the last wave before the end of the outage and from its end on. */
  readonly peaks: readonly [before: number, after: number];
  /** Objects that were refused after the outage, because the queues had too much. */
  readonly throttled: number;
  /** When so much of the objects had nothing waiting any more, in seconds after the end of the outage. */
  readonly drained: { readonly half: number; readonly most: number; readonly all: number };
}

/** A generator of numbers from 0 to 1 (mulberry32). */
function chance(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Every object has a first message after the outage has begun, fails, waits as its policy says, and so on, second by second. */
function simulated({ jitter, maxDelaySeconds, queues }: Case): Outcome {
  const random = chance(1);
  const policy = { minDelaySeconds: 2, maxDelaySeconds, factor: 2, jitter, maxAttempts: 20 };
  const attempts = new Uint32Array(END_SECONDS);
  const failures = new Uint8Array(OBJECTS);
  /** When the first of the messages that wait was put, in seconds. */
  const since = new Float64Array(OBJECTS);
  const due: number[][] = Array.from({ length: END_SECONDS }, () => []);
  /** Of a fraction of a second, by object. */
  const times = new Float64Array(OBJECTS);
  const doneAt: number[] = [];
  let early = 0;
  let throttled = 0;
  const plan = (object: number, at: number): void => {
    times[object] = at;
    // What is later than the end is left out, and shows in the last column.
    due[Math.floor(at)]?.push(object);
  };
  for (let object = 0; object < OBJECTS; object++) {
    const first = -Math.log(1 - random()) / RATE;
    since[object] = first;
    plan(object, first);
  }
  for (let second = 0; second < END_SECONDS; second++) {
    const isOut = second < OUTAGE_SECONDS;
    // Objects that have nothing waiting send as before.
    let room = Math.max(0, QUEUE_RATE * queues - doneAt.length * RATE);
    // What is due again in the same second comes behind.
    const now = due[second] ?? [];
    for (let place = 0; place < now.length; place++) {
      const object = now[place] as number;
      const at = times[object] as number;
      attempts[second] = (attempts[second] ?? 0) + 1;
      if (isOut) early++;
      const waiting = Math.max(1, Math.round((at - (since[object] as number)) * RATE));
      const sent = isOut ? 0 : Math.min(waiting, Math.floor(room / Math.min(BATCH, waiting)) * Math.min(BATCH, waiting));
      room -= sent;
      if (sent === waiting) {
        doneAt.push(at - OUTAGE_SECONDS);
        continue;
      }
      if (!isOut) throttled++;
      // Something was delivered: the wait begins anew, as in the outbox.
      failures[object] = sent > 0 ? 1 : (failures[object] as number) + 1;
      since[object] = (since[object] as number) + sent / RATE;
      plan(object, at + retryDelayMs(policy, failures[object] as number, random()) / 1000);
    }
  }
  doneAt.sort((a, b) => a - b);
  const most = (from: number, to: number): number => attempts.subarray(from, to).reduce((high, count) => Math.max(high, count), 0);
  const place = (share: number): number => doneAt[Math.ceil(OBJECTS * share) - 1] ?? Number.POSITIVE_INFINITY;
  return {
    attempts,
    each: early / OBJECTS,
    peaks: [most(OUTAGE_SECONDS / 4, OUTAGE_SECONDS), most(OUTAGE_SECONDS, END_SECONDS)],
    throttled,
    drained: { half: place(0.5), most: place(0.99), all: place(1) },
  };
}

const CASES: readonly Case[] = [
  { name: "no jitter", jitter: 0, maxDelaySeconds: 3600, queues: 8 },
  { name: "jitter 0.2 (default)", jitter: 0.2, maxDelaySeconds: 3600, queues: 8 },
  { name: "jitter 1", jitter: 1, maxDelaySeconds: 3600, queues: 8 },
  { name: "jitter 0.2, at most 5 minutes", jitter: 0.2, maxDelaySeconds: 300, queues: 8 },
  { name: "jitter 1, at most 5 minutes", jitter: 1, maxDelaySeconds: 300, queues: 8 },
  { name: "jitter 1, at most 1 minute", jitter: 1, maxDelaySeconds: 60, queues: 8 },
  { name: "jitter 1, at most 5 minutes, 4 queues", jitter: 1, maxDelaySeconds: 300, queues: 4 },
];

const WIDTH = 880;
const LEFT = 64;
const PANEL = 120;

/** Attempts a second over time, a panel for each case. */
function picture(drawn: readonly { readonly name: string; readonly outcome: Outcome; readonly isOurs: boolean }[]): string {
  const bins = END_SECONDS / BIN_SECONDS / 2;
  const width = WIDTH - LEFT - 24;
  const panels = drawn.map(({ name, outcome, isOurs }, index) => {
    const rates = Array.from({ length: bins }, (_, bin) => {
      const from = bin * BIN_SECONDS;
      return outcome.attempts.subarray(from, from + BIN_SECONDS).reduce((sum, count) => sum + count, 0) / BIN_SECONDS;
    });
    const high = Math.max(...rates.slice(6));
    const top = 84 + index * (PANEL + 44);
    const x = (bin: number): number => LEFT + (bin / bins) * width;
    const y = (rate: number): number => top + PANEL - (Math.min(rate, high) / high) * (PANEL - 20);
    const points = rates.map((rate, bin) => `${x(bin).toFixed(1)},${y(rate).toFixed(1)}`).join(" ");
    const outEnds = x(OUTAGE_SECONDS / BIN_SECONDS);
    return [
      rect(LEFT, top + 20, outEnds - LEFT, PANEL - 20, "#fff1e5"),
      text(LEFT, top + 8, `${name}: at most ${Math.round(high).toLocaleString("en")} attempts a second after the first minute`, {
        "font-weight": 600,
        fill: INK.title,
      }),
      line(LEFT, top + PANEL, LEFT + width, top + PANEL, INK.line),
      element("polyline", { points, fill: "none", stroke: isOurs ? OURS : OTHERS, "stroke-width": 1.5 }),
      text(LEFT - 8, y(high) + 4, Math.round(high).toLocaleString("en"), { "text-anchor": "end", fill: INK.quiet }),
      ...[0, 30, 60, 90, 120].map((minutes) =>
        text(x((minutes * 60) / BIN_SECONDS), top + PANEL + 16, `${minutes} min`, { "text-anchor": "middle", fill: INK.quiet }),
      ),
    ].join("\n");
  });
  const height = 84 + drawn.length * (PANEL + 44);
  const title = "An hour's outage of a region's queues: when 100,000 objects try again";
  return `${element(
    "svg",
    {
      xmlns: "http://www.w3.org/2000/svg",
      viewBox: `0 0 ${WIDTH} ${height}`,
      width: WIDTH,
      height,
      role: "img",
      "aria-labelledby": "title",
      "font-family": "-apple-system, Segoe UI, Helvetica, Arial, system-ui, sans-serif",
    },
    element("title", { id: "title" }, escaped(title)),
    rect(0.5, 0.5, WIDTH - 1, height - 1, INK.back, { rx: 12, stroke: INK.line }),
    text(28, 38, title, { "font-size": 18, "font-weight": 600, fill: INK.title }),
    text(28, 58, "Attempts a second, each scaled by itself. The outage is shaded. Simulated with the package's own retry policy.", {
      fill: INK.quiet,
    }),
    ...panels,
  )}\n`;
}

const minutes = (seconds: number): string => (seconds === Number.POSITIVE_INFINITY ? "over 180" : (seconds / 60).toFixed(1));
const outcomes = CASES.map((each) => ({ ...each, outcome: simulated(each) }));
const rows = outcomes.map(({ name, outcome: { each, peaks, throttled, drained } }) =>
  [
    name,
    each.toFixed(1),
    peaks[0].toLocaleString("en"),
    peaks[1].toLocaleString("en"),
    throttled.toLocaleString("en"),
    minutes(drained.half),
    minutes(drained.most),
    minutes(drained.all),
  ].join(" | "),
);
console.log(
  ["| policy | attempts each | peak before | peak after | refused | half | 99 % | all |", "|---|---|---|---|---|---|---|---|"].join("\n"),
);
for (const row of rows) console.log(`| ${row} |`);
const shown = ["no jitter", "jitter 0.2 (default)", "jitter 1, at most 5 minutes"];
const panels = outcomes.filter(({ name }) => shown.includes(name)).map((each) => ({ ...each, isOurs: each.name !== "no jitter" }));
writeFileSync(new URL("../docs/scale.svg", import.meta.url), picture(panels));
