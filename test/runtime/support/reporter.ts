/** Reporters: boxes that report to a registry which a test scripts, and what they have said. */

import { withFleetReports } from "../../../src/fleet/index.ts";
import type { FleetReport } from "../../../src/fleet/report.ts";
import { type OutboxOptions, withTransactionalOutbox } from "../../../src/index.ts";
import { type Backend, declared, type Stub } from "./harness.ts";
import { counted, type Ledger } from "./ledger.ts";
import { Box, type BoxEnv, options, stageOf } from "./worker.ts";

/** A registry of one object: it keeps what a real one would know. */
export interface Registry {
  /** Everything that has arrived, in the order of arrival. */
  readonly reports: FleetReport[];
  /** What it does with a call: by default it takes the report, ignores older ones, and answers. */
  answer: (report: FleetReport, take: () => { version: number }) => unknown;
  /** What it knows now. */
  readonly knows: FleetReport | undefined;
}

export function registry(): Registry {
  const reports: FleetReport[] = [];
  let knows: FleetReport | undefined;
  return {
    reports,
    answer: (_, take) => take(),
    get knows() {
      return knows;
    },
    ...{
      take(report: FleetReport) {
        reports.push(report);
        if (!knows || report.version > knows.version) knows = report;
        return { version: knows.version };
      },
    },
  };
}

/** The namespace of such a registry, as env has it. */
const namespaceOf = (known: Registry): unknown => ({
  idFromName: (name: string) => name,
  get: () => ({
    report: async (given: FleetReport) => {
      const report = structuredClone(given);
      return await known.answer(report, () => (known as unknown as { take(report: FleetReport): { version: number } }).take(report));
    },
  }),
});

export interface Reporter {
  readonly stub: Stub;
  readonly registry: Registry;
  readonly ledger: () => Ledger;
}

type Wrap = (cls: typeof Box) => new (ctx: DurableObjectState, env: never) => object;

/** A box that reports under the name `boxes`, and counts its storage calls. `wrap`: in place of the usual wrapper. */
export function reporter(
  backend: Backend,
  chosen: OutboxOptions<"OUTBOX_MANAGER"> = {},
  wrap?: Wrap,
  known: Registry = registry(),
): Reporter {
  let ledger: Ledger | undefined;
  const outer = wrap ?? ((cls) => withFleetReports(withTransactionalOutbox(cls, { ...options, ...chosen }), { namespace: "boxes" }));
  const Wrapped = outer(class extends Box {}) as new (ctx: DurableObjectState, env: BoxEnv) => Box;
  const cls = class extends Wrapped {
    constructor(ctx: DurableObjectState, env: BoxEnv) {
      ledger ??= counted(ctx.storage);
      super(ctx, { ...env, OUTBOX_FLEET: namespaceOf(known) } as BoxEnv);
    }
  };
  const stub = declared(backend, cls);
  return { stub, registry: known, ledger: () => ledger as Ledger };
}

/** Makes calls of `sendMessages` reject every message, or fail as a whole, or succeed. */
export function destination(stub: Stub, does: "rejects" | "fails" | "works"): void {
  stageOf(stub).rest = (messages, delivery) => {
    if (does === "fails") throw new Error("the destination is down");
    if (does === "rejects") for (const { id } of messages) delivery.reject(id, "refused by the test");
  };
}
