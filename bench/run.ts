/**
 * Measures `put` and delivery on workerd, against storage itself and against an outbox written by hand.
 *
 *   node bench/run.ts [--quick] [--backend sqlite|kv] [--json FILE]
 *
 * The clock is out here: inside a worker it stands still between I/O. Contestants take turns in rounds, so that a slow
 * moment of the machine hits all of them; a ratio is the median of the rounds' ratios.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build } from "esbuild";
import { Miniflare, type MiniflareOptions } from "miniflare";

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    backend: { type: "string", default: "sqlite" },
    json: { type: "string" },
  },
});
if (options.backend !== "sqlite" && options.backend !== "kv") throw new TypeError("Expected --backend to be sqlite or kv.");
const SQLITE = options.backend === "sqlite";
const SUFFIX = SQLITE ? "Sqlite" : "Kv";

const CONTESTANTS = ["RawState", "RawPair", "ByHand", "Ours"] as const;
type Contestant = (typeof CONTESTANTS)[number];
const NAMES: Record<Contestant, string> = {
  RawState: "storage.put, state only",
  RawPair: "storage.put, state and message",
  ByHand: "outbox by hand",
  Ours: "do-transactional-outbox",
};

const PUTS = 1000;
const PUT_ROUNDS = options.quick ? 7 : 60;
/** Messages in a burst, and how many rounds: small bursts are short and need more of them. */
const BURSTS: [number, number][] = options.quick
  ? [
      [1, 15],
      [10, 15],
      [100, 10],
      [1000, 5],
      [10_000, 1],
    ]
  : [
      [1, 500],
      [10, 500],
      [100, 300],
      [1000, 60],
      [10_000, 15],
    ];
const WARM_UP_ROUNDS = 3;
/** No piece of work takes this long, in milliseconds: a message got lost. */
const STUCK_MS = 60_000;
const PUT_TARGET = 0.8;
const BURST_TARGET = 1;

interface Spread {
  readonly median: number;
  /** The quartiles. */
  readonly low: number;
  readonly high: number;
}

interface Measure {
  readonly name: string;
  readonly rounds: number;
  /** Operations per second, by contestant. */
  readonly rates: Partial<Record<Contestant, Spread>>;
  /** Ours over another contestant. */
  readonly ratios: Partial<Record<Contestant, Spread>>;
}

function spread(values: number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number): number => {
    const place = (sorted.length - 1) * share;
    const below = sorted[Math.floor(place)] ?? Number.NaN;
    return below + ((sorted[Math.ceil(place)] ?? Number.NaN) - below) * (place % 1);
  };
  return { median: at(0.5), low: at(0.25), high: at(0.75) };
}

async function start(folder: string): Promise<{ miniflare: Miniflare; url: URL }> {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL("worker.ts", import.meta.url))],
    bundle: true,
    write: false,
    format: "esm",
    target: "es2022",
    external: ["cloudflare:*"],
  });
  const miniflare = new Miniflare({
    host: "127.0.0.1",
    cf: false,
    name: "bench",
    modules: true,
    script: outputFiles[0]?.text ?? "",
    compatibilityDate: "2026-07-01",
    durableObjectsPersist: folder,
    durableObjects: Object.fromEntries(CONTESTANTS.map((name) => [name, { className: name + SUFFIX, useSQLite: SQLITE }])),
  } as MiniflareOptions);
  return { miniflare, url: await miniflare.ready };
}

/** One piece of work inside the object: how long it took, in milliseconds. */
async function work(url: URL, contestant: Contestant, method: string, count = 0): Promise<number> {
  const begin = performance.now();
  const signal = AbortSignal.timeout(STUCK_MS);
  const response = await fetch(new URL(`${contestant}/${method}/${count}`, url), { signal }).catch((cause: unknown) => {
    throw new Error(`${NAMES[contestant]}, ${method}: no answer`, { cause });
  });
  const text = await response.text();
  const took = performance.now() - begin;
  if (!response.ok) throw new Error(`${NAMES[contestant]}, ${method}: ${text}`);
  return took;
}

/** Rounds of the same work, each contestant in turn; what a round leaves behind is cleared off the clock. */
async function measure(url: URL, name: string, contestants: readonly Contestant[], method: string, count: number, rounds: number) {
  const rates: Record<string, number[]> = Object.fromEntries(contestants.map((contestant) => [contestant, []]));
  const warmUp = Math.min(WARM_UP_ROUNDS, rounds);
  for (let round = -warmUp; round < rounds; round++) {
    progress(`${name}: round ${Math.max(0, round + 1)} of ${rounds}`);
    for (let turn = 0; turn < contestants.length; turn++) {
      // Who begins changes from round to round, so that nobody always runs after the same neighbour's leftovers.
      const contestant = contestants[(turn + Math.max(0, round)) % contestants.length] as Contestant;
      const took = await work(url, contestant, method, count);
      if (round >= 0) rates[contestant]?.push((count / took) * 1000);
      await work(url, contestant, "clean");
    }
  }
  progress("");
  const ratio = (other: string): Spread => spread((rates.Ours ?? []).map((rate, i) => rate / (rates[other]?.[i] ?? Number.NaN)));
  const result: Measure = {
    name,
    rounds,
    rates: Object.fromEntries(contestants.map((contestant) => [contestant, spread(rates[contestant] ?? [])])),
    ratios: Object.fromEntries(contestants.filter((other) => other !== "Ours").map((other) => [other, ratio(other)])),
  };
  print(result);
  return result;
}

/** One line that is written over; in a log, where nothing can be, none. */
function progress(line: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${line}`);
}

function print({ name, rounds, rates, ratios }: Measure): void {
  const whole = (value: number): string => Math.round(value).toLocaleString("en");
  console.log(`\n${name}, ${rounds} rounds`);
  console.log(
    `  ${"".padEnd(32)}${"per second".padStart(12)}${"quartiles".padStart(22)}${"ours / it".padStart(12)}${"quartiles".padStart(14)}`,
  );
  for (const contestant of CONTESTANTS) {
    const rate = rates[contestant];
    if (rate === undefined) continue;
    const ratio = ratios[contestant];
    const row = `  ${NAMES[contestant].padEnd(32)}${whole(rate.median).padStart(12)}${`${whole(rate.low)} – ${whole(rate.high)}`.padStart(22)}`;
    const tail = ratio && `${ratio.median.toFixed(2).padStart(12)}${`${ratio.low.toFixed(2)} – ${ratio.high.toFixed(2)}`.padStart(14)}`;
    console.log(row + (tail ?? ""));
  }
}

const folder = mkdtempSync(join(tmpdir(), "outbox-bench-"));
const { miniflare, url } = await start(folder);
const measures: Measure[] = [];
const targets: { target: string; ratio: number; met: boolean }[] = [];
try {
  console.log(
    `workerd on ${cpus().length} × ${cpus()[0]?.model ?? "unknown"}, ${SQLITE ? "SQLite-backed" : "KV-backed"} objects, storage on disk`,
  );
  const puts = await measure(url, `puts, ${PUTS.toLocaleString("en")} in sequence`, CONTESTANTS, "puts", PUTS, PUT_ROUNDS);
  measures.push(puts);
  const target = (name: string, ratio: number, least: number): void => {
    targets.push({ target: `${name}: at least ${least.toFixed(1)}`, ratio, met: ratio >= least });
  };
  target("put against storage.put of state and message", puts.ratios.RawPair?.median ?? 0, PUT_TARGET);
  for (const [count, rounds] of BURSTS) {
    const name = `put to delivered, burst of ${count.toLocaleString("en")}`;
    const burst = await measure(url, name, ["ByHand", "Ours"], "burst", count, rounds);
    measures.push(burst);
    target(`${name}, against an outbox by hand`, burst.ratios.ByHand?.median ?? 0, BURST_TARGET);
  }
} finally {
  await miniflare.dispose();
  rmSync(folder, { recursive: true, force: true });
}
console.log("\ntargets");
for (const { target, ratio, met } of targets) console.log(`  ${met ? "met   " : "missed"}  ${ratio.toFixed(3)}  ${target}`);
if (options.json !== undefined) {
  writeFileSync(options.json, `${JSON.stringify({ backend: options.backend, node: process.version, measures, targets }, null, 2)}\n`);
}
