/** Vitest on a copy of the project, which changes between runs, and what a run shows: which test failed, or why none could. */
import { type ChildProcess, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

/** The projects of vitest.config.ts that look for mutations. */
export type Layer = "unit" | "model" | "runtime";

/** Tests of one layer: of these files, those whose full title matches. */
export interface Tests {
  readonly layer: Layer;
  readonly files: readonly string[];
  /** A regular expression. */
  readonly titles?: string;
}

/** What the process of vitest is asked to run. */
export interface Run extends Tests {
  /** Paths of files that have changed since the run before. */
  readonly changed: readonly string[];
}

/** What a run showed. `"broken"`: it ended without a verdict, for the reason given. */
export type Verdict =
  | { readonly type: "passed"; readonly titles: readonly string[] }
  | { readonly type: "failed"; readonly title: string; readonly error: string }
  | { readonly type: "broken"; readonly reason: string };

export interface Options {
  readonly seed: string;
  /** The tests are not meant to fail, and have all the time that tests have. */
  readonly patient?: boolean;
}

/** How long a test waits for what does not come, in seconds: its own timeout is three times as long. */
const PATIENCE = "10";
/** No run takes longer, in milliseconds. A test that hangs fails by its own timeout before. */
const LONGEST_MS = 150_000;
/** The same where all tests that have found something run, and none is meant to fail. */
const LONGEST_PATIENT_MS = 600_000;
/** Random stories in one run: enough for these mistakes, and quick. */
const STORIES = "400";
/** The end of what was printed, in characters: enough to see why nothing could run. */
const OUTPUT_LENGTH = 600;

/** Starts with its first run. To start takes several times as long as most of the tests that find something. */
export class Vitest {
  readonly copy: string;
  readonly #options: Options;
  readonly #changed = new Set<string>();
  #child: ChildProcess | undefined;
  #output = "";

  constructor(copy: string, options: Options) {
    this.copy = copy;
    this.#options = options;
  }

  /** Changes a file of the copy, for the runs that follow. */
  write(path: string, text: string): void {
    writeFileSync(path, text);
    this.#changed.add(path);
  }

  /** Runs tests, up to the first that fails. A run without a verdict is repeated once, by a vitest that has just started. */
  async run(tests: Tests): Promise<Verdict> {
    const verdict = await this.#runOnce(tests);
    return verdict.type === "broken" ? this.#runOnce(tests) : verdict;
  }

  end(): void {
    try {
      if (this.#child?.pid !== undefined) process.kill(-this.#child.pid, "SIGKILL");
    } catch {
      // Nothing of it is left.
    }
    this.#child = undefined;
  }

  async #runOnce(tests: Tests): Promise<Verdict> {
    this.#child ??= this.#start();
    const child = this.#child;
    const run: Run = { ...tests, changed: [...this.#changed] };
    this.#changed.clear();
    const longest = this.#options.patient ? LONGEST_PATIENT_MS : LONGEST_MS;
    const { promise, resolve } = Promise.withResolvers<Verdict>();
    const broken = (reason: string): void => resolve({ type: "broken", reason });
    const late = setTimeout(broken, longest, `no result after ${longest / 1000} s`);
    const exited = (code: number | null, signal: string | null): void => broken(`vitest ended with ${signal ?? code}:\n${this.#output}`);
    child.once("message", resolve).once("exit", exited).send(run);
    const verdict = await promise;
    clearTimeout(late);
    child.off("message", resolve).off("exit", exited);
    if (verdict.type === "broken") this.end();
    return verdict;
  }

  #start(): ChildProcess {
    const { seed, patient } = this.#options;
    const child = spawn(process.execPath, [join(this.copy, "test/mutations/child.ts")], {
      cwd: this.copy,
      env: {
        ...process.env,
        ...{ VITE_SEED: seed, VITE_RUNS: STORIES, VITE_PROOF: "", VITE_BACKENDS: "both", TEST_RESULTS: "", NO_COLOR: "1" },
        ...(!patient && { VITE_PATIENCE: PATIENCE }),
      },
      stdio: ["ignore", "pipe", "pipe", "ipc"],
      // A group of its own, so that what it has started ends with it.
      detached: true,
    });
    this.#output = "";
    for (const stream of [child.stdout, child.stderr])
      stream?.on("data", (data: Buffer) => {
        this.#output = (this.#output + data).slice(-OUTPUT_LENGTH);
      });
    return child;
  }
}
