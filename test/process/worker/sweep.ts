/** The worker of `sweep.test.ts`: objects whose alarms are lost, their registry, and the route that wakes them. */
import { DurableObject } from "cloudflare:workers";
import { fleet, sweepRoute, withFleetReports } from "../../../src/fleet/index.ts";
import { type OutboxDelivery, type OutboxManager, type OutboxMessage, withTransactionalOutbox } from "../../../src/index.ts";

interface Env {
  SQLITE: DurableObjectNamespace<never>;
  KV: DurableObjectNamespace<never>;
  OUTBOX_FLEET: DurableObjectNamespace<never>;
  OUTBOX_MANAGER: OutboxManager<string>;
  RECEIVER: Fetcher;
}

class ParcelsBase extends DurableObject<Env> {
  /** Puts a message whose alarm never comes, and ends this life, which would notice. */
  async putAndLose(msg: string): Promise<void> {
    await Promise.all([this.env.OUTBOX_MANAGER.send(msg), Object.getPrototypeOf(this.ctx.storage).deleteAlarm.call(this.ctx.storage)]);
    await this.ctx.storage.sync();
    this.ctx.abort("the end of a life that the test wants");
  }

  send(msg: string): Promise<unknown> {
    return this.env.OUTBOX_MANAGER.send(msg);
  }

  async sendMessages(messages: OutboxMessage<string>[], delivery: OutboxDelivery): Promise<void> {
    for (const { id, msg } of messages) {
      if (msg === "refused") delivery.reject(id, "refused by the test");
      else await this.env.RECEIVER.fetch("http://receiver", { method: "POST", body: msg });
    }
  }
}

const wrapped = (namespace: string) =>
  withFleetReports(withTransactionalOutbox(class extends ParcelsBase {}), { namespace, delaySeconds: 0 });
export class SqliteParcels extends wrapped("SQLITE") {}
export class KvParcels extends wrapped("KV") {}
export { OutboxFleet } from "../../../src/fleet/index.ts";

export default {
  async fetch(request, env) {
    const { SQLITE, KV, OUTBOX_FLEET } = env;
    const { pathname } = new URL(request.url);
    if (pathname.startsWith("/sweep/")) {
      const authorize = ({ headers }: Request): boolean => headers.get("authorization") === "Bearer secret";
      return sweepRoute({ namespaces: { SQLITE, KV }, authorize, fleet: fleet(OUTBOX_FLEET) })(request);
    }
    const [, namespace, name = "", method, msg] = pathname.split("/");
    const objects = (namespace === "KV" ? KV : SQLITE) as unknown as DurableObjectNamespace<SqliteParcels>;
    const object = objects.getByName(name);
    if (method === "putAndLose") await object.putAndLose(msg ?? "").catch(() => {});
    else await object.send(msg ?? "");
    return new Response(object.id.toString());
  },
} satisfies ExportedHandler<Env>;
