/** Every crash: runs a scenario again and again, each time on a fresh object that is aborted at a different commit. */

import { expected, told } from "../api/errors.js";
import { drain } from "./drain.js";
import { stubOf, type TestStub } from "./inside.js";
import { watched } from "./probe.js";
import type { CrashPlan } from "./storage.js";

/** Where the object was aborted. */
export interface Crash {
  /** The number of the commit in the scenario, from 1. */
  readonly commit: number;
  /** `"before"`: nothing of the commit is stored. `"after"`: all of it is stored, but no caller knows. `"none"`: the run without a crash. */
  readonly when: "before" | "after" | "none";
  /** The call of storage that began the commit: `"put"`, for example `"transaction"` or `"sql.exec"`. */
  readonly call: string;
}

/** The most commits that are tried. */
const MOST_COMMITS = 1000;
/** After a crash, delays and backoffs of this long are waited out, in seconds. */
const WAIT_SECONDS = 86_400;

/**
 * Checks whether an invariant holds wherever the process crashes. The scenario runs on a fresh object, which is aborted before its first commit; then the
 * object recovers as it would on the platform, until nothing is left to do, and the invariant is checked. The same after the first commit, before and
 * after the second, and so on, until the scenario completes.
 *
 * What the scenario throws in a run with a crash is ignored, because its caller would see an error too; the scenario ends there.
 *
 * @param make returns a stub of a different object each time
 * @param scenario calls the object; `drain(stub)` in it delivers, so that crashes during delivery are tried
 * @param invariant throws if it does not hold
 * @returns the number of crashes tried
 * @throws what the invariant throws, with the crash prefixed to its message
 *
 * @example
 * await everyCrash(
 *   () => env.ORDERS.get(env.ORDERS.newUniqueId()),
 *   async (stub) => {
 *     await stub.create(1);
 *     await drain(stub);
 *   },
 *   async (stub) => {
 *     const known = await stub.has(1);
 *     expect(await sent(stub)).toHaveLength(known ? 1 : 0);
 *   },
 * );
 */
export async function everyCrash<S extends TestStub>(
  make: () => S | Promise<S>,
  scenario: (stub: S) => unknown,
  invariant: (stub: S, crash: Crash) => unknown,
): Promise<number> {
  for (const [name, given] of Object.entries({ make, scenario, invariant })) {
    if (typeof given !== "function") throw expected(name, "a function", given);
  }
  for (let run = 0; run < 2 * MOST_COMMITS; run++) {
    const stub = await make();
    const plan: CrashPlan = { at: Math.floor(run / 2) + 1, when: run % 2 ? "after" : "before", seen: 0, call: "", crashed: false };
    const object = watched(stub.id);
    if (object.life) throw new TypeError(told("Expected `make` to return a stub of a different object each time."));
    object.plan = plan;
    let failed: { error: unknown } | undefined;
    try {
      await scenario(stub);
    } catch (error) {
      failed = { error };
    }
    object.plan = null;
    if (failed && !plan.crashed) throw failed.error;
    const crash: Crash = plan.crashed
      ? { commit: plan.at, when: plan.when, call: plan.call }
      : { commit: plan.seen, when: "none", call: "" };
    await check(stubOf(object.id) as S, crash, invariant);
    if (!plan.crashed) return run;
  }
  throw new Error(told(`The scenario has more than ${MOST_COMMITS} commits.`));
}

async function check<S extends TestStub>(stub: S, crash: Crash, invariant: (stub: S, crash: Crash) => unknown): Promise<void> {
  try {
    await drain(stub, { recursive: true, until: WAIT_SECONDS });
    await invariant(stubOf(stub.id.toString()) as S, crash);
  } catch (error) {
    if (crash.when === "none") throw error;
    const where = `everyCrash(): aborted ${crash.when} commit ${crash.commit} (${crash.call})`;
    throw new Error(`${where}: ${(error as Error | undefined)?.message ?? error}`, { cause: error });
  }
}
