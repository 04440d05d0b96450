/** The options of `withFleetReports`: their meaning, their defaults and their checks. */

import { expected } from "../api/errors.js";
import { known } from "../api/known.js";
import { within } from "../api/within.js";
import { MOST_SHARDS, SHARDS } from "./report.js";

/** Options of `withFleetReports`. */
export interface FleetReportOptions {
  /** The name of this class's namespace in the registry: its key in the options of `inspector`, and its binding in the registry's env. */
  namespace: string;
  /** The binding of the registry, a namespace of `OutboxFleet`, in the object's env. Default `"OUTBOX_FLEET"`. */
  registry?: string;
  /** How many objects share the registry's work: the same number here and in `fleet()`. Default 16, from 1 to 256. */
  shards?: number;
  /** A destination whose oldest message has waited for so many seconds is stuck. Default 300, from 10 to 86,400. */
  stuckAfterSeconds?: number;
  /** A trouble that is over within so many seconds is not reported. Default 5, from 0 to 60. */
  delaySeconds?: number;
}

/** The options with every default filled in. */
export interface FleetReportSettings {
  readonly namespace: string;
  readonly registry: string;
  readonly shards: number;
  readonly stuckMs: number;
  readonly delayMs: number;
}

const OPTIONS = ["namespace", "registry", "shards", "stuckAfterSeconds", "delaySeconds"];

/** @throws TypeError that names the option, when one is unknown, missing or out of range. */
export function reportSettings(options: FleetReportOptions): FleetReportSettings {
  const { namespace, registry = "OUTBOX_FLEET", shards, stuckAfterSeconds, delaySeconds } = known("options", options, OPTIONS);
  if (typeof namespace !== "string" || !namespace) throw expected("options.namespace", "the name of the class's namespace", namespace);
  if (typeof registry !== "string" || !registry) throw expected("options.registry", "the name of a binding", registry);
  return {
    namespace,
    registry,
    shards: within("options.shards", shards, [SHARDS, 1, MOST_SHARDS, 1]),
    stuckMs: within("options.stuckAfterSeconds", stuckAfterSeconds, [300, 10, 86_400]) * 1000,
    delayMs: within("options.delaySeconds", delaySeconds, [5, 0, 60]) * 1000,
  };
}
