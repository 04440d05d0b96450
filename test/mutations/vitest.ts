/** One run of tests on a copy of the project, and what it showed: which test failed, or why none could. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import type { Line } from "./reporter.ts";

/** The projects of vitest.config.ts that look for mutations. */
export type Layer = "unit" | "model" | "runtime";

/** Tests of one layer: of these files, those whose full title matches. */
export interface Tests {
  readonly layer: Layer;
  readonly files: readonly string[];
  /** A regular expression. */
  readonly titles?: string;
  /** They are not meant to fail, and have all the time that tests have. */
  readonly patient?: boolean;
  /** Suites that need only one backend run on both. */
  readonly onBoth?: boolean;
}

/** What a run showed. `"broken"`: it ended without a verdict, for the reason given. */
export type Verdict =
  | { readonly type: "passed"; readonly titles: readonly string[] }
  | { readonly type: "failed"; readonly title: string; readonly error: string }
  | { readonly type: "broken"; readonly reason: string };

/** How long a test waits for what does not come, in seconds: its own timeout is three times as long. */
const PATIENCE = "10";
/** No run takes longer, in milliseconds. A test that hangs fails by its own timeout before. */
const LONGEST_MS = 150_000;
/** Random stories in one run: enough for these mistakes, and quick. */
const STORIES = "400";
/** The end of what vitest printed, in characters: enough to see why it could not run. */
const OUTPUT_LENGTH = 600;

/** Runs tests in the copy, up to the first that fails. A run without a verdict is repeated once. */
export async function tested(copy: string, tests: Tests, seed: string): Promise<Verdict> {
  const verdict = await testedOnce(copy, tests, seed);
  return verdict.type === "broken" ? testedOnce(copy, tests, seed) : verdict;
}

async function testedOnce(copy: string, { layer, files, titles, patient, onBoth }: Tests, seed: string): Promise<Verdict> {
  const args = ["run", "--project", layer, "--reporter", join(copy, "test/mutations/reporter.ts")];
  if (titles !== undefined) args.push("-t", titles);
  const child = spawn(process.execPath, [join(copy, "node_modules/vitest/vitest.mjs"), ...args, ...files], {
    cwd: copy,
    env: {
      ...process.env,
      ...{ VITE_SEED: seed, VITE_RUNS: STORIES, VITE_PROOF: "", TEST_RESULTS: "", NO_COLOR: "1" },
      IN_NODE: layer === "runtime" ? "" : "1",
      VITE_BACKENDS: onBoth ? "both" : "",
      ...(!patient && { VITE_PATIENCE: PATIENCE }),
    },
    stdio: ["ignore", "pipe", "pipe", "pipe"],
    // A group of its own, so that what it has started ends with it.
    detached: true,
  });
  let output = "";
  const keep = (data: Buffer): void => {
    output = (output + data).slice(-OUTPUT_LENGTH);
  };
  child.stdout?.on("data", keep);
  child.stderr?.on("data", keep);
  const end = (): void => {
    try {
      process.kill(-(child.pid ?? 0), "SIGKILL");
    } catch {
      // Nothing of it is left.
    }
  };
  const lines: Line[] = [];
  let failed: Verdict | undefined;
  const reader = createInterface({ input: child.stdio[3] as Readable });
  reader.on("line", (text) => {
    const line = JSON.parse(text) as Line;
    lines.push(line);
    if (line.type !== "failed") return;
    failed ??= line;
    // Not by vitest's `--bail`, which ends a run before the test that failed is reported.
    end();
  });
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    end();
  }, LONGEST_MS);
  const [[code, signal]] = (await Promise.all([once(child, "exit").finally(end), once(reader, "close")])) as [
    [number | null, string | null],
    unknown,
  ];
  clearTimeout(timer);
  if (failed) return failed;
  if (late) return { type: "broken", reason: `no result after ${LONGEST_MS / 1000} s` };
  return verdictOf(lines, `${signal ?? `exit code ${code}`}`, output);
}

/** The verdict of a run in which no test failed. */
function verdictOf(lines: readonly Line[], ending: string, output: string): Verdict {
  for (const line of lines) {
    if (line.type === "unread") return { type: "broken", reason: `${line.file} could not be run: ${line.error}` };
    if (line.type === "unhandled") return { type: "broken", reason: `an error that no test caught: ${line.error}` };
  }
  if (ending !== "exit code 0") return { type: "broken", reason: `no test failed, and vitest ended with ${ending}:\n${output}` };
  const titles = lines.flatMap((line) => (line.type === "passed" ? [line.title] : []));
  return titles.length > 0 ? { type: "passed", titles } : { type: "broken", reason: "no test has these titles" };
}
