/** What the status of a response means for the messages of its request. */

import { expected } from "../api/errors.js";

/**
 * `"ack"`: delivered. `"retry"`: the message failed this time. `"reject"`: a dead letter. `"throw"`: the endpoint is failing, not a
 * message. `"pause"`: it is, until someone has acted.
 */
export type StatusOutcome = "ack" | "retry" | "reject" | "throw" | "pause";

/** Outcomes by response status, overriding the defaults. */
export type StatusOutcomes = Readonly<Record<number, StatusOutcome>>;

const OUTCOMES: readonly unknown[] = ["ack", "retry", "reject", "throw", "pause"];
/** The endpoint has not got round to the message. */
const LATER: ReadonlySet<number> = new Set([408, 425]);
/** A wrong secret, a wrong path, or an endpoint that is asked too often: no message is to blame. */
const TROUBLE: ReadonlySet<number> = new Set([401, 403, 404, 429]);
/** The endpoint says that it will not come back: a sender is to stop (Standard Webhooks). */
const GONE = 410;

/** @throws TypeError that names the status. */
export function statusesOf(given: unknown): (status: number) => StatusOutcome {
  if (given !== undefined && Object(given) !== given) throw expected("options.statuses", "an object", given);
  const chosen = new Map<number, StatusOutcome>();
  for (const [name, outcome] of Object.entries(given ?? {})) {
    const status = Number(name);
    if (!(Number.isInteger(status) && status >= 200 && status <= 599)) {
      throw expected("options.statuses", "an object with keys from 200 to 599", name);
    }
    if (!OUTCOMES.includes(outcome)) throw expected(`options.statuses[${name}]`, '"ack", "retry", "reject", "throw" or "pause"', outcome);
    chosen.set(status, outcome as StatusOutcome);
  }
  return (status) => chosen.get(status) ?? standard(status);
}

function standard(status: number): StatusOutcome {
  if (status >= 200 && status < 300) return "ack";
  if (LATER.has(status)) return "retry";
  if (status === GONE) return "pause";
  return status >= 400 && status < 500 && !TROUBLE.has(status) ? "reject" : "throw";
}
