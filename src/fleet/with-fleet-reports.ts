/** The wrapper: lets an object report to a fleet's registry, and be woken by a sweep. */

import { expected } from "../api/errors.js";
import { type Core, coreOf, isDecorator, outboxOf, type Wrappable } from "../compose.js";
import { untilWritable } from "../context.js";
import { addChore } from "../storage/chore.js";
import { undelivered } from "../subscription/reader.js";
import { type FleetReportOptions, reportSettings } from "./options.js";
import { type FleetReceipt, type FleetReport, shardName, shardOf } from "./report.js";
import { reporterOf } from "./reporter.js";

/** A class that can be wrapped. */
export type FleetClass = new (ctx: DurableObjectState, env: never, ...rest: never[]) => object;

/** What an object says when it has been woken. */
export interface FleetWoken {
  /** Undelivered messages, and dead letters, of all destinations. */
  readonly waiting: number;
  readonly dead: number;
  /** When the outbox goes on by itself, in milliseconds since the Unix epoch; `null` when nothing is left to do. */
  readonly nextAttemptAt: number | null;
}

/** What a wrapped class offers over RPC. */
export interface FleetObject {
  /**
   * Starts the object, if it is not awake, and does what is due, as its alarm would; waits for that no longer than five seconds. Leaves an alarm set for
   * what is left. Harmless at any time.
   */
  wakeOutbox(): Promise<FleetWoken>;
}

/** The wrapped class: with the statics and the constructor of its class, and one more method. */
export type WithFleetReports<C extends FleetClass> = { readonly [K in keyof C]: C[K] } & (new (
  ...args: ConstructorParameters<C>
) => InstanceType<C> & FleetObject);

/** The registry as an object calls it. */
interface Registry {
  report(report: FleetReport): Promise<FleetReceipt>;
}

/** How long waking waits for what is due, in milliseconds. */
const WAKE_MS = 5000;
const WRAPPED: unique symbol = Symbol();
/** Where an instance keeps what its `wakeOutbox` calls: a proxy around it finds that as well. */
const WAKE: unique symbol = Symbol();

/**
 * Wraps a Durable Object class, so that its objects report to a registry when something goes wrong with one of their destinations, and when that is over: the
 * first dead letter (and each further power of ten), a breaker that opens, a destination that is stuck or paused. While all is well nothing is written or
 * sent. Combines with `withTransactionalOutbox`, `withTransactionalInbox` and `withInspector` in any order.
 *
 * Reports are sent by the object's alarm, beside delivery: a registry that is down delays no message. They are not messages of the outbox, and count nowhere.
 *
 * @throws TypeError when an option is wrong, or the class has a `wakeOutbox` of its own. An env without the registry is a `TypeError` when the object starts.
 *
 * @example
 * export class Orders extends withFleetReports(withInspector(withTransactionalOutbox(OrdersBase)), { namespace: "ORDERS" }) {}
 */
export function withFleetReports<C extends FleetClass>(cls: C, options: FleetReportOptions): WithFleetReports<C> {
  if (typeof cls !== "function") throw expected("cls", "a class", cls);
  if (isDecorator(options)) throw expected("options", "an object with a namespace", options);
  const settings = reportSettings(options);
  if ((cls as { [WRAPPED]?: true })[WRAPPED]) return cls as unknown as WithFleetReports<C>;
  if ("wakeOutbox" in cls.prototype) throw expected("cls", "a class without a wakeOutbox() of its own", cls.name);
  const Base = cls as unknown as Wrappable;
  const Wrapped = class extends Base {
    static readonly [WRAPPED] = true;
    static override readonly name = cls.name;
    constructor(...args: unknown[]) {
      const [ctx, env] = args as [DurableObjectState, Record<string, unknown>];
      const registry = env[settings.registry] as DurableObjectNamespace | undefined;
      if (typeof registry?.idFromName !== "function") {
        throw expected(`env.${settings.registry}`, "the namespace of an OutboxFleet", registry);
      }
      const core = coreOf(ctx, outboxOf(cls));
      const shard = registry.idFromName(shardName(shardOf(ctx.id.toString(), settings.shards)));
      // A stub for each report: one that has broken stays broken.
      const send = (report: FleetReport) => (registry.get(shard) as unknown as Registry).report(report);
      addChore(core.store.chores, reporterOf(core, settings, send));
      super(...args);
      // A wrapper in between may have constructed its class as if nothing extended it (Sentry 10.8 did).
      if (!Object.prototype.isPrototypeOf.call(Wrapped.prototype, this)) Object.setPrototypeOf(this, new.target.prototype);
      core.adopt(this);
      Object.defineProperty(this, WAKE, { value: () => wake(core) });
    }

    wakeOutbox(): Promise<FleetWoken> {
      const woken = (this as { [WAKE]?: () => Promise<FleetWoken> })[WAKE];
      if (!woken) throw expected("this", "a wrapped object", this);
      return woken();
    }
  };
  return Wrapped as unknown as WithFleetReports<C>;
}

async function wake(core: Core): Promise<FleetWoken> {
  const { store, alarm, delivery, timers } = core;
  for (let first = untilWritable(core); first; first = untilWritable(core)) await first;
  const isDue = (): boolean => delivery.nextWake() <= store.now();
  if (isDue() || delivery.isRunning) {
    const run = delivery.isRunning ? delivery.run(false) : alarm.deliverLate();
    await Promise.race([run, new Promise<void>((resolve) => void timers.after(WAKE_MS, resolve))]);
  }
  while (store.open) await store.open;
  const next = delivery.nextWake();
  // What a run has in hand is due until it is settled.
  if (!delivery.isRunning) await alarm.setWake(next);
  const { readers } = store.memory;
  return {
    waiting: readers.reduce((sum, reader) => sum + undelivered(reader), 0),
    dead: readers.reduce((sum, { deadCount }) => sum + deadCount, 0),
    nextAttemptAt: Number.isFinite(next) ? next : null,
  };
}
