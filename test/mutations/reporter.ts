/** The reporter of a run that looks for a mutation: what becomes of each test, as a line of JSON, the moment it is known. */
import { writeSync } from "node:fs";
import type { SerializedError } from "vitest";
import type { Reporter, TestCase, TestModule } from "vitest/node";

/** The file descriptor on which the runner listens. */
const LINES = 3;

/** One line. A test is named by its full title, as `-t` matches it. */
export type Line =
  | { readonly type: "passed"; readonly title: string }
  | { readonly type: "failed"; readonly title: string; readonly error: string }
  | { readonly type: "unread"; readonly file: string; readonly error: string }
  | { readonly type: "unhandled"; readonly error: string };

function titleOf(test: TestCase): string {
  const names: string[] = [];
  for (let task: TestCase["parent"] | TestCase = test; task.type !== "module"; task = task.parent) names.unshift(task.name);
  return names.join(" ");
}

const firstLine = (error: { message: string } | undefined): string => error?.message.split("\n")[0] ?? "";

export default class Lines implements Reporter {
  onTestCaseResult(test: TestCase): void {
    const { state, errors } = test.result();
    if (state === "passed") this.#write({ type: "passed", title: titleOf(test) });
    if (state === "failed") this.#write({ type: "failed", title: titleOf(test), error: firstLine(errors?.[0]) });
  }

  onTestModuleEnd(module: TestModule): void {
    for (const error of module.errors()) this.#write({ type: "unread", file: module.relativeModuleId, error: firstLine(error) });
  }

  onTestRunEnd(_: readonly TestModule[], errors: readonly SerializedError[]): void {
    for (const error of errors) this.#write({ type: "unhandled", error: firstLine(error) });
  }

  #write(line: Line): void {
    writeSync(LINES, `${JSON.stringify(line)}\n`);
  }
}
