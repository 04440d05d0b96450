/**
 * The long proof: what `npm test` leaves out because it takes long. Every test that draws or counts, with its big counts; the tests inside
 * workerd at two older compatibility dates; and the mutations.
 *
 *     npm run test:proof -- [--only TEXT]
 *
 * The last line sums up. With TEST_RESULTS set, each run of vitest writes its JSON report into a file of that name and its own ending.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { testsThatReach } from "./reach.ts";

const { values } = parseArgs({ options: { only: { type: "string", default: "" } } });
const root = fileURLToPath(new URL("../../", import.meta.url));
const { TEST_RESULTS } = process.env;

interface Part {
  readonly name: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

const vitest = (...args: string[]): string[] => ["node_modules/vitest/vitest.mjs", "run", ...args];

/** Before and after the dates at which the platform changed what the core leans on: see docs/reliability.md. */
const DATES = ["2025-06-01", "2026-01-28"];

/**
 * What changes with the date is how the platform treats one call: which promises it reports as unhandled, what an error keeps over RPC, what
 * deleteAll() deletes, how an alarm is called. These files make no call that others don't make; they look for cases and moments. The fuzzer's
 * handlers also return rejected promises, which the platform itself reports at these dates.
 */
const THE_SAME_AT_ANY_DATE = [
  ...["*-random", "*-crash", "fuzz-arguments", "fuzz-options", "fuzz-sends", "blocked"],
  ...[
    "bounded-lists",
    "clock",
    "counts",
    "idempotency-remembered",
    "lanes-limit",
    "limits-entries",
    "paging",
    "poison",
    "stats-age",
    "time",
  ],
];

/** The files of tests that draw or count. */
const COUNTING = testsThatReach("test/support/random.ts");
const isInside = (file: string): boolean => file.startsWith("test/runtime/");

/** Of those inside workerd each has a run of its own: with the big counts the pool does not come to an end after several of them. */
function inThrees(files: readonly string[]): string[][] {
  return Array.from({ length: Math.ceil(files.length / 3) }, (_, i) => files.slice(3 * i, 3 * i + 3));
}

/** A part that takes longer hangs. */
const LONGEST_MS = 20 * 60_000;

/** One group after the other. The tests at older dates wait most of their time, so those of both dates run side by side. */
const GROUPS: readonly (readonly Part[])[] = [
  [{ name: "big counts outside workerd", args: vitest(...COUNTING.filter((file) => !isInside(file))), env: { VITE_PROOF: "1" } }],
  ...inThrees(COUNTING.filter(isInside)).map((files) =>
    files.map((file) => ({ name: `big counts of ${file}`, args: vitest("--project", "runtime", file), env: { VITE_PROOF: "1" } })),
  ),
  DATES.map((date) => ({
    name: `compatibility date ${date}`,
    args: vitest("--project", "runtime", ...THE_SAME_AT_ANY_DATE.flatMap((name) => ["--exclude", `test/runtime/**/${name}.test.ts`])),
    // What does not depend on the backend runs on both at one of the dates, and on one of them at the other.
    env: { TEST_COMPATIBILITY_DATE: date, VITE_BACKENDS: date === DATES[0] ? "both" : "" },
  })),
  [{ name: "mutations", args: ["test/mutations/run.ts"] }],
];

interface Outcome {
  readonly name: string;
  readonly isWell: boolean;
}

/** Runs one part. What it prints is printed as it comes, or at its end where another one runs beside it. */
async function outcomeOf({ name, args, env }: Part, isAlone: boolean): Promise<Outcome> {
  const begun = Date.now();
  const results = TEST_RESULTS ? `${TEST_RESULTS}.${name.replaceAll(/\W/g, "-")}` : "";
  const output = isAlone ? "inherit" : "pipe";
  const child = spawn(process.execPath, args, {
    cwd: root,
    env: { ...process.env, ...env, TEST_RESULTS: results },
    timeout: LONGEST_MS,
    stdio: ["inherit", output, output],
  });
  const printed: Uint8Array[] = [];
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (part: Uint8Array) => printed.push(part));
  if (isAlone) console.log(`── proof: ${name}`);
  const [code] = await once(child, "close");
  if (!isAlone) console.log(`── proof: ${name}\n${Buffer.concat(printed)}`);
  console.log(`── proof: ${name}: ${code === 0 ? "ok" : "FAILED"} (${Math.round((Date.now() - begun) / 1000)} s)`);
  return { name, isWell: code === 0 };
}

const outcomes: Outcome[] = [];
for (const group of GROUPS) {
  const parts = group.filter(({ name }) => name.includes(values.only));
  outcomes.push(...(await Promise.all(parts.map((part) => outcomeOf(part, parts.length === 1)))));
}
const failed = outcomes.filter(({ isWell }) => !isWell).map(({ name }) => name);
console.log(failed.length === 0 ? `proof: all ${outcomes.length} parts passed` : `proof: FAILED: ${failed.join(", ")}`);
process.exitCode = failed.length === 0 ? 0 : 1;
