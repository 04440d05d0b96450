/** The registry of a story: objects report to it, it is down now and then, and at the end it must know what is true. */

import type { FleetReceipt, FleetReport } from "../../src/fleet/report.ts";
import { withFleetReports } from "../../src/fleet/with-fleet-reports.ts";
import type { Durable } from "./durable.ts";
import type { World } from "./world.ts";

type Class = new (ctx: DurableObjectState, env: object) => object;

export class Registry {
  knows: FleetReport | null = null;
  #calls = 0;
  /** The life that reported last, and its version. */
  #last: { readonly ctx: DurableObjectState; readonly version: number } | null = null;
  readonly #wrong: string[] = [];

  constructor(readonly world: () => World<object>) {}

  /** The class with reports, as soon as they may be sent, and this registry in its env. */
  around(Base: Class): Class {
    const registry = this;
    const Reporting = withFleetReports(Base as never, { namespace: "boxes", delaySeconds: 2, stuckAfterSeconds: 60 }) as unknown as Class;
    return class extends Reporting {
      constructor(ctx: DurableObjectState, env: object) {
        super(ctx, {
          ...env,
          OUTBOX_FLEET: { idFromName: String, get: () => ({ report: (report: FleetReport) => registry.#called(ctx, report) }) },
        });
      }
    };
  }

  /** A report leaves when everything that was written before it is durable. Its call never ends when the object dies meanwhile. */
  async #called(ctx: DurableObjectState, report: FleetReport): Promise<FleetReceipt> {
    const world = this.world();
    if (world.life?.ctx !== ctx) return never();
    // One that takes long may arrive after the next, whatever the clock did meanwhile.
    if (this.#last?.ctx === ctx && report.version <= this.#last.version)
      this.#wrong.push(`a report has version ${report.version}, after ${this.#last.version}`);
    this.#last = { ctx, version: report.version };
    const answer = await world.outside(() => {
      if (!world.hook("report")) return null;
      const receipt = this.#report(report);
      return world.hook("reported") ? receipt : null;
    });
    if (!answer) return never();
    if (typeof answer === "string") throw new Error(answer);
    return answer;
  }

  /** Every third call fails, half of these after it has arrived: with what is thrown. */
  #report(report: FleetReport): FleetReceipt | string {
    this.#calls++;
    if (this.#calls % 6 === 3) return "the registry is down";
    const isIgnored = report.version <= (this.knows?.version ?? 0);
    if (!isIgnored) this.knows = report;
    if (this.#calls % 6 === 0) return "the registry has not answered";
    return { version: this.knows?.version ?? 0, ...(isIgnored && { isIgnored }) };
  }

  /** What it has wrong in the end, when nothing waits any more. */
  wrongIn({ dead }: Durable): string[] {
    const entries = this.knows?.entries ?? [];
    const known = entries.map((entry) => `${entry.flags} with ${String(entry.dead).length} digits`).join();
    const wanted = dead.length > 0 ? `8 with ${String(dead.length).length} digits` : "";
    return known === wanted ? this.#wrong : [`${dead.length} dead letters stand, and the registry knows ${JSON.stringify(entries)}`];
  }
}

function never<T>(): Promise<T> {
  return new Promise(() => {});
}
