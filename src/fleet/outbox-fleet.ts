/** The registry: a Durable Object class of which each object is one shard. It keeps which objects are in trouble, and acts on many of them. */

import { DurableObject } from "cloudflare:workers";
import { expected, told } from "../api/errors.js";
import { known } from "../api/known.js";
import { within } from "../api/within.js";
import type { FleetFilter } from "../inspector/fleet-api.js";
import { type Batches, batchesOf, type ShardBatch, type ShardBatchRequest } from "./batch.js";
import { checkedReport, type FleetReceipt } from "./report.js";
import { type Place, type ShardPage, type Troubled, troubledOf } from "./troubled.js";

/** A namespace of objects that a batch can act on, by `inspectOutbox`. */
export interface FleetNamespace {
  idFromString(id: string): DurableObjectId;
  get(id: DurableObjectId): object;
}

/** What a class that extends `OutboxFleet` may pass to its constructor. */
export interface OutboxFleetOptions {
  /** The namespaces of the objects, by the names with which they report. Default: the bindings of env. */
  namespaces?: Readonly<Record<string, FleetNamespace>>;
  /**
   * How many objects a shard keeps. When there are more, those that are least in trouble are left out, until they report again. Default 10,000, from 1 to
   * 100,000.
   */
  maxObjects?: number;
}

/** A call of the alarm works for so long, in milliseconds; the next goes on. */
const RUN_MS = 20_000;
/** A batch whose alarm comes so much later than it goes on, in milliseconds, has lost it. */
const LATE_MS = 5000;
/** If it dies, the next comes after this, in milliseconds. */
const AGAIN_MS = 30_000;

/**
 * One shard of a fleet's registry, which `withFleetReports` finds at `env.OUTBOX_FLEET`. Its class must be SQLite-backed. Objects, and `fleet()`, call its
 * methods; nothing else should.
 *
 * @example
 * export { OutboxFleet } from "do-transactional-outbox/fleet";
 */
export class OutboxFleet<Env = unknown> extends DurableObject<Env> {
  readonly #troubled: Troubled;
  readonly #batches: Batches;
  /** A call of the alarm is under way. */
  #isWorking = false;

  constructor(ctx: DurableObjectState, env: Env, options: OutboxFleetOptions = {}) {
    super(ctx, env);
    const { namespaces, maxObjects } = known("options", options, ["namespaces", "maxObjects"]);
    const most = within("options.maxObjects", maxObjects, [10_000, 1, 100_000, 1]);
    const sql = sqlOf(ctx);
    const find = (name: string): FleetNamespace => {
      const namespace = Reflect.get(Object(namespaces ?? env), name) as FleetNamespace | undefined;
      if (typeof namespace?.idFromString !== "function") throw new Error(told(`The registry has no namespace ${JSON.stringify(name)}.`));
      return namespace;
    };
    this.#troubled = troubledOf(sql, most);
    this.#batches = batchesOf(sql, this.#troubled, find);
  }

  /** Takes an object's report. */
  report(report: unknown): FleetReceipt {
    this.#repair();
    return this.#troubled.report(checkedReport(report), Date.now());
  }

  /** A page of what is in trouble, worst first. */
  list(filter: FleetFilter, after: Place | undefined, limit: number): ShardPage {
    return this.#troubled.list(filter, after, limit);
  }

  /** Starts this shard's part of a batch, once. */
  start(request: ShardBatchRequest): ShardBatch {
    const batch = this.#batches.start(request);
    if (batch.state === "running") this.#arm();
    return batch;
  }

  /** The parts of batches that this shard has. */
  batches(): ShardBatch[] {
    this.#repair();
    return this.#batches.all();
  }

  /** Stops a batch, or lets it go on. */
  set(id: string, state: "running" | "stopped"): ShardBatch | null {
    const batch = this.#batches.set(id, state, Date.now());
    if (batch?.state === "running") this.#arm();
    return batch;
  }

  override async alarm(): Promise<void> {
    const until = Date.now() + RUN_MS;
    this.#isWorking = true;
    let next: number | null = null;
    try {
      // Whatever ends this call, another one comes.
      if (this.#batches.nextAt() !== null) await this.ctx.storage.setAlarm(Date.now() + AGAIN_MS);
      do {
        if (next !== null) await scheduler.wait(Math.max(0, next - Date.now()));
        next = await this.#batches.step(Date.now);
      } while (next !== null && next < until);
      if (next !== null) await this.ctx.storage.setAlarm(Math.max(next, Date.now() + 1));
      else if (this.#batches.nextAt() === null) await this.ctx.storage.deleteAlarm();
    } catch (error) {
      console.error(told(`A batch of the fleet is interrupted, and goes on in ${AGAIN_MS / 1000} s:`), error);
    } finally {
      this.#isWorking = false;
    }
  }

  /** An earlier life may have died in the middle of a batch, perhaps of the last of the platform's retries. */
  #repair(): void {
    if (this.#isWorking || this.#batches.nextAt() === null) return;
    void this.ctx.storage.getAlarm().then((time) => {
      const nextAt = this.#batches.nextAt();
      const isLost = nextAt !== null && (time ?? Number.POSITIVE_INFINITY) > Math.max(Date.now(), nextAt) + LATE_MS;
      if (isLost && !this.#isWorking) this.#arm();
    });
  }

  /** Lets the alarm come at once. */
  #arm(): void {
    void this.ctx.storage.setAlarm(Date.now() + 1);
  }
}

function sqlOf(ctx: DurableObjectState): SqlStorage {
  try {
    ctx.storage.sql.exec("SELECT 1");
    return ctx.storage.sql;
  } catch (cause) {
    throw expected("OutboxFleet", "a SQLite-backed class (new_sqlite_classes)", "a KV-backed one", cause);
  }
}
