/** What a run of vitest came to, from its JSON report. */
import { readFileSync } from "node:fs";

export interface Failed {
  readonly title: string;
  /** The first line of why. */
  readonly message: string;
}

export interface Results {
  readonly passed: number;
  readonly failed: readonly Failed[];
}

interface Report {
  readonly numPassedTests: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message: string;
    readonly assertionResults: readonly {
      readonly status: string;
      readonly fullName: string;
      readonly failureMessages: readonly string[];
    }[];
  }[];
}

const firstLine = (text = ""): string => text.split("\n", 1)[0] ?? "";

/** A file that failed before any of its tests ran counts as one. */
export function resultsOf(file: string): Results {
  const report: Report = JSON.parse(readFileSync(file, "utf8"));
  const failed = report.testResults.flatMap(({ name, status, message, assertionResults }): Failed[] => {
    const tests = assertionResults.filter((test) => test.status === "failed");
    if (tests.length === 0 && status === "failed") return [{ title: name.replace(/^.*\/test\//, "test/"), message: firstLine(message) }];
    return tests.map(({ fullName, failureMessages }) => ({ title: fullName, message: firstLine(failureMessages[0]) }));
  });
  return { passed: report.numPassedTests, failed };
}
