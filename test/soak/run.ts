/**
 * The soak: what takes too long for every run of the tests. Prints a report, and exits with 1 when anything is broken.
 *
 *   npm run test:soak -- [--kills 10000] [--messages 1000000] [--kept 1000000] [--runs 100000] [--seed N]
 *
 * 0 leaves a part out. One story of the kill loop is replayed with its seed and `--kills 100 --messages 0 --kept 0 --runs 0`.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { killLoop, type Report } from "../process/kill-loop.ts";
import { lineOf, sumOf } from "../process/kill-loop-report.ts";
import { owned } from "../process/kill-loop-runtime.ts";
import { type LoadReport, load, tableOf } from "./load.ts";
import { keptTable, retained } from "./retained.ts";

/** Kills of one story: each has a fresh folder, so that neither its storage nor its log grows without end. */
const STORY = 100;
const ROOT = fileURLToPath(new URL("../..", import.meta.url));
/** The random stories of the model, and how many of them it is told to run. */
const MODEL = "test/model/commands.test.ts";
const MODEL_RUNS = "VITE_RUNS";

interface Options {
  readonly kills: number;
  readonly messages: number;
  readonly kept: number;
  readonly runs: number;
  readonly seed: number;
}

const options = parseOptions();
const lines: string[] = [];
let broken = false;

const reports = await kills(options);
if (options.messages > 0) await loads(options);
if (options.kept > 0) await logs(options);
if (options.runs > 0) await model(options);

console.log("\nsoak report");
if (reports.length > 0) console.log(lineOf(sumOf(reports)));
for (const line of lines) console.log(line);
console.log(broken ? "BROKEN" : "all is well");
process.exitCode = broken ? 1 : 0;

/** SIGKILLs, in stories of a hundred, each with a seed of its own. */
async function kills({ kills, seed }: Options): Promise<Report[]> {
  const reports: Report[] = [];
  for (let left = kills, story = seed; left > 0; left -= STORY, story++) {
    const report = await killLoop({ kills: Math.min(STORY, left), seed: story });
    reports.push(report);
    console.log(`--seed ${story}: ${lineOf(report)}`);
    if (report.wrong.length === 0) continue;
    broken = true;
    for (const text of report.wrong.slice(0, 20)) console.log(`  ${text}`);
  }
  return reports;
}

async function loads({ messages }: Options): Promise<void> {
  for (const name of ["SqliteBox", "KvBox"] as const) {
    const report: LoadReport = await load(name, messages, (text) => console.log(text));
    lines.push(tableOf(report));
    if (report.wrong.length > 0) broken = true;
  }
}

async function logs({ kept }: Options): Promise<void> {
  for (const name of ["Sqlite", "Kv"] as const) {
    const report = await retained(name, kept, (text) => console.log(text));
    lines.push(keptTable(report));
    if (report.wrong.length > 0) broken = true;
  }
}

/** The model's random stories, as vitest runs them. */
async function model({ runs }: Options): Promise<void> {
  if (!existsSync(`${ROOT}/${MODEL}`)) {
    lines.push(`model: ${MODEL} is missing, so it has not run`);
    broken = true;
    return;
  }
  const vitest = fileURLToPath(new URL("../../node_modules/vitest/vitest.mjs", import.meta.url));
  const args = [vitest, "run", "--project", "model", MODEL, "--testTimeout", "0"];
  const child = owned(spawn(process.execPath, args, { cwd: ROOT, stdio: "inherit", env: { ...process.env, [MODEL_RUNS]: String(runs) } }));
  const [code] = await once(child, "exit");
  lines.push(`model: ${runs} runs of random stories ${code === 0 ? "hold" : "BROKEN"}`);
  if (code !== 0) broken = true;
}

function parseOptions(): Options {
  const option = { type: "string" } as const;
  const { values } = parseArgs({ options: { kills: option, messages: option, kept: option, runs: option, seed: option } });
  const whole = (name: keyof typeof values, standard: number): number => {
    const value = Number(values[name] ?? standard);
    if (!Number.isInteger(value) || value < 0) throw new RangeError(`Expected --${name} to be a whole number, got ${values[name]}.`);
    return value;
  };
  return {
    kills: whole("kills", 10_000),
    messages: whole("messages", 1_000_000),
    kept: whole("kept", 1_000_000),
    runs: whole("runs", 100_000),
    seed: whole("seed", Math.floor(Math.random() * 2 ** 31)),
  };
}
