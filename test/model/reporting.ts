/** The registry of a story: objects report to it, it is down now and then, and at the end it must know what is true. */

import type { FleetReceipt, FleetReport } from "../../src/fleet/report.ts";
import { withFleetReports } from "../../src/fleet/with-fleet-reports.ts";
import type { Durable } from "./durable.ts";

type Class = new (ctx: DurableObjectState, env: object) => object;

export class Registry {
  knows: FleetReport | null = null;
  #calls = 0;

  /** The class with reports, as soon as they may be sent, and this registry in its env. */
  around(Base: Class): Class {
    const registry = this;
    const Reporting = withFleetReports(Base as never, { namespace: "boxes", delaySeconds: 2, stuckAfterSeconds: 60 }) as unknown as Class;
    return class extends Reporting {
      constructor(ctx: DurableObjectState, env: object) {
        super(ctx, {
          ...env,
          OUTBOX_FLEET: { idFromName: String, get: () => ({ report: (report: FleetReport) => registry.#report(report) }) },
        });
      }
    };
  }

  /** Every third call fails, half of these after it has arrived. */
  async #report(report: FleetReport): Promise<FleetReceipt> {
    this.#calls++;
    if (this.#calls % 6 === 3) throw new Error("the registry is down");
    if (!this.knows || report.version > this.knows.version) this.knows = report;
    if (this.#calls % 6 === 0) throw new Error("the registry has not answered");
    return { version: this.knows.version };
  }

  /** What it has wrong in the end, when nothing waits any more. */
  wrongIn({ dead }: Durable): string[] {
    const entries = this.knows?.entries ?? [];
    const known = entries.map((entry) => `${entry.flags} with ${String(entry.dead).length} digits`).join();
    const wanted = dead.length > 0 ? `8 with ${String(dead.length).length} digits` : "";
    return known === wanted ? [] : [`${dead.length} dead letters stand, and the registry knows ${JSON.stringify(entries)}`];
  }
}
