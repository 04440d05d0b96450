/** The process in which vitest runs, on a copy of the project: it starts once, and runs one file of tests after another. */
import { join } from "node:path";
import type { SerializedError } from "vitest";
import { createVitest, type Reporter, type TestCase, type TestModule, type TestRunEndReason } from "vitest/node";
import type { Run, Verdict } from "./vitest.ts";

/** The full title of a test, as a pattern of titles matches it. */
function titleOf(test: TestCase): string {
  const names: string[] = [];
  for (let task: TestCase["parent"] | TestCase = test; task.type !== "module"; task = task.parent) names.unshift(task.name);
  return names.join(" ");
}

const firstLine = (error: { message: string } | undefined): string => error?.message.split("\n")[0] ?? "";

/** What one run shows, and how to end it. */
class Results implements Reporter {
  readonly #cancel: () => void;
  #failed: Verdict | undefined;
  readonly #broken: string[] = [];
  readonly #passed: string[] = [];

  constructor(cancel: () => void) {
    this.#cancel = cancel;
  }

  get verdict(): Verdict {
    const [reason] = this.#broken;
    if (this.#failed) return this.#failed;
    if (reason !== undefined) return { type: "broken", reason };
    return this.#passed.length > 0 ? { type: "passed", titles: this.#passed } : { type: "broken", reason: "no test has these titles" };
  }

  onTestCaseResult(test: TestCase): void {
    const { state, errors } = test.result();
    if (state === "passed") this.#passed.push(titleOf(test));
    if (state !== "failed" || this.#failed) return;
    this.#failed = { type: "failed", title: titleOf(test), error: firstLine(errors?.[0]) };
    this.#cancel();
  }

  onTestModuleEnd(module: TestModule): void {
    for (const error of module.errors()) this.#broken.push(`${module.relativeModuleId} could not be run: ${firstLine(error)}`);
  }

  onTestRunEnd(_: readonly TestModule[], errors: readonly SerializedError[], reason: TestRunEndReason): void {
    for (const error of errors) this.#broken.push(`an error that no test caught: ${firstLine(error)}`);
    if (reason !== "passed") this.#broken.push(`no test failed, and the run has ${reason}`);
  }
}

/** Of the run in progress: vitest takes its reporters when it starts. */
let results = new Results(() => {});
const vitest = await createVitest("test", {
  watch: false,
  project: ["unit", "model", "runtime"],
  reporters: [
    {
      onTestCaseResult: (test) => results.onTestCaseResult(test),
      onTestModuleEnd: (module) => results.onTestModuleEnd(module),
      onTestRunEnd: (modules, errors, reason) => results.onTestRunEnd(modules, errors, reason),
    },
  ],
});
await vitest.standalone();

async function verdictOf({ layer, files, titles, changed }: Run): Promise<Verdict> {
  const project = vitest.getProjectByName(layer);
  for (const path of changed) vitest.invalidateFile(path);
  if (titles === undefined) vitest.resetGlobalTestNamePattern();
  else vitest.setGlobalTestNamePattern(titles);
  let cancelled: Promise<unknown> | undefined;
  results = new Results(() => {
    // The first call waits for the tests that have begun, and some hang. The second ends the process in which they run.
    cancelled = Promise.all([vitest.cancelCurrentRun("test-failure"), vitest.cancelCurrentRun("test-failure")]);
  });
  // Each run has a new process of its own, workerd or Node: what a mutation does there ends with it.
  await vitest.runTestSpecifications(files.map((file) => project.createSpecification(join(process.cwd(), file))));
  await cancelled;
  return results.verdict;
}

process.on("message", async (run: Run) => process.send?.(await verdictOf(run)));
// The runner has ended.
process.on("disconnect", () => process.exit());
