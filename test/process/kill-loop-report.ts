/** The kill loop's report: as one line, and the sum of several stories. */
import type { Report } from "./kill-loop.ts";

/** What people look at first comes first. */
export function lineOf(report: Report): string {
  const {
    kills,
    starting,
    delivering,
    stopped,
    requests,
    confirmed,
    committed,
    delivered,
    dead,
    duplicates,
    failures,
    lost,
    ghosts,
    wrong,
  } = report;
  return [
    `kills ${kills} (${starting} during start-up, ${delivering} while delivering, ${stopped} after a SIGSTOP)`,
    `requests ${requests}, confirmed ${confirmed}, committed ${committed}`,
    `delivered ${delivered}, dead letters ${dead}, duplicates ${duplicates}, calls without an answer ${failures}`,
    `lost ${lost}, ghosts ${ghosts}, invariants ${wrong.length === 0 ? "hold" : `BROKEN: ${wrong.length}`}`,
  ].join("; ");
}

export function sumOf(reports: readonly Report[]): Report {
  const sum = { kills: 0, starting: 0, delivering: 0, stopped: 0, requests: 0, confirmed: 0, committed: 0, delivered: 0, dead: 0 };
  const rest = { duplicates: 0, failures: 0, lost: 0, ghosts: 0 };
  const all = { ...sum, ...rest };
  for (const report of reports) for (const name of Object.keys(all) as (keyof typeof all)[]) all[name] += report[name];
  return { ...all, wrong: reports.flatMap(({ wrong }) => wrong), evidence: reports.flatMap(({ evidence }) => evidence) };
}
