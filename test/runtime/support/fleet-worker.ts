/** A fleet inside workerd: objects that report, the registry's shards, and a registry with little room. Each counts what it writes. */
import { DurableObject } from "cloudflare:workers";
import { OutboxFleet, withFleetReports } from "../../../src/fleet/index.ts";
import { type OutboxDelivery, type OutboxManager, type OutboxMessage, withTransactionalOutbox } from "../../../src/index.ts";
import { withInspector } from "../../../src/inspector/index.ts";
import { counted, type Ledger } from "./ledger.ts";

interface FleetEnv {
  readonly OUTBOX_MANAGER: OutboxManager;
  readonly OUTBOX_FLEET: DurableObjectNamespace<never>;
}

/** The objects whose destination refuses every message. */
export const refusing = new Set<string>();

class Target extends DurableObject<FleetEnv> {
  get outbox(): OutboxManager {
    return this.env.OUTBOX_MANAGER;
  }

  sendMessages(messages: OutboxMessage[], delivery: OutboxDelivery): void {
    if (refusing.has(this.ctx.id.toString())) for (const { id } of messages) delivery.reject(id, "refused by the test");
  }
}

/** A box that reports as soon as it may. */
function reporter(namespace: string): new (ctx: DurableObjectState, env: FleetEnv) => Target & { ledger: Ledger } {
  const Reporting = withFleetReports(withInspector(withTransactionalOutbox(class extends Target {}, {})), { namespace, delaySeconds: 0 });
  return class extends Reporting {
    ledger: Ledger;
    constructor(ctx: DurableObjectState, env: FleetEnv) {
      const ledger = counted(ctx.storage);
      super(ctx, env);
      this.ledger = ledger;
    }
  };
}

export class SqliteReporter extends reporter("REPORTER_SQLITE") {}
export class KvReporter extends reporter("REPORTER_KV") {}

/** What the registries of this isolate have written: rows by the count of SQLite, and alarms. */
export const written = { rows: 0, alarms: 0 };

/** Counts what a shard writes with SQL. */
function counting(ctx: DurableObjectState): DurableObjectState {
  const { storage } = ctx;
  const exec = storage.sql.exec.bind(storage.sql);
  const sql = new Proxy(storage.sql, {
    get(target, name) {
      if (name !== "exec") return Reflect.get(target, name, target);
      return (...args: Parameters<typeof exec>) => {
        const cursor = exec(...args);
        const all = cursor.toArray();
        written.rows += cursor.rowsWritten;
        return { toArray: () => all };
      };
    },
  });
  const setAlarm = storage.setAlarm.bind(storage);
  Object.defineProperties(storage, {
    sql: { value: sql },
    setAlarm: {
      value: (time: number) => {
        written.alarms++;
        return setAlarm(time);
      },
    },
  });
  return ctx;
}

export class Fleet extends OutboxFleet<FleetEnv> {
  constructor(ctx: DurableObjectState, env: FleetEnv) {
    super(counting(ctx), env);
  }
}

export class SmallFleet extends OutboxFleet<FleetEnv> {
  constructor(ctx: DurableObjectState, env: FleetEnv) {
    super(ctx, env, { maxObjects: 5, namespaces: {} });
  }
}
