/** The worker of the facets test: an object that holds wrapped classes as facets, which have storage of their own and no alarm. */
import { DurableObject } from "cloudflare:workers";
import type { OutboxManager } from "../../../src/index.ts";
import { withTransactionalOutbox } from "../../../src/index.ts";

interface Env {
  PARENT: DurableObjectNamespace<Parent>;
  OUTBOX_MANAGER: OutboxManager<string>;
}

class Child extends DurableObject<Env> {
  /** Own state alone: the manager is not touched. */
  async count(): Promise<number> {
    const count = ((await this.ctx.storage.get<number>("count")) ?? 0) + 1;
    await this.ctx.storage.put("count", count);
    return count;
  }

  async query(): Promise<unknown> {
    const { sql } = this.ctx.storage;
    sql.exec("CREATE TABLE IF NOT EXISTS t (a)");
    sql.exec("INSERT INTO t VALUES (1)");
    this.ctx.storage.transactionSync(() => sql.exec("INSERT INTO t VALUES (2)"));
    await this.ctx.storage.transaction((txn) => txn.put("in a transaction", 1));
    return sql.exec("SELECT count(*) AS n FROM t").one();
  }

  async put(): Promise<unknown> {
    return this.env.OUTBOX_MANAGER.put("state", 1, "message");
  }

  /** Does not wait for anything. */
  putBlindly(): void {
    this.env.OUTBOX_MANAGER.put("state", 1, "message").catch(() => {});
  }

  async stats(): Promise<unknown> {
    return this.env.OUTBOX_MANAGER.stats();
  }

  /** Every row, those of the outbox too. */
  async rows(): Promise<string[]> {
    const prototype: DurableObjectStorage = Object.getPrototypeOf(this.ctx.storage);
    return [...(await prototype.list.call(this.ctx.storage)).keys()];
  }

  async sendMessages(): Promise<void> {}
}

/** The same with an alarm handler of its own, which would never be called. */
class Ringing extends Child {
  override async alarm(): Promise<void> {}
}

export const Plain: typeof Child = withTransactionalOutbox(class extends Child {});
export const Alarmed: typeof Ringing = withTransactionalOutbox(class extends Ringing {});
export const Immediate: typeof Child = withTransactionalOutbox(class extends Child {}, { dispatch: "immediate" });

type Facet = Record<string, () => Promise<unknown>>;

export class Parent extends DurableObject<Env> {
  /** Calls a method of a facet, which bears the name of its class. */
  async call(facet: string, method: string): Promise<unknown> {
    const { ctx } = this;
    const exported = ctx.exports as unknown as Record<string, DurableObjectClass>;
    const stub = ctx.facets.get(facet, () => ({ class: exported[facet] as DurableObjectClass })) as unknown as Facet;
    return stub[method]?.();
  }
}

export default {
  /** `/<facet>/<method>`, of the one object that there is. */
  async fetch(request, env) {
    const [facet = "", method = ""] = new URL(request.url).pathname.slice(1).split("/");
    try {
      return Response.json((await env.PARENT.get(env.PARENT.idFromName("a")).call(facet, method)) ?? null);
    } catch (error) {
      return new Response(String(error), { status: 500 });
    }
  },
} satisfies ExportedHandler<Env>;
