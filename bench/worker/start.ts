/** The worker of the start: many objects of a class as it is, of the same class wrapped, and of that with a storage that counts. */
import { DurableObject } from "cloudflare:workers";
import { type OutboxManager, withTransactionalOutbox } from "../../src/index.ts";
import { counted } from "./ledger.ts";
import { KEY, type Message, message, state } from "./work.ts";

interface Env {
  /** In the wrapped class alone. */
  readonly OUTBOX_MANAGER?: OutboxManager<Message>;
}

class Order extends DurableObject<Env> {
  /** What has been done to an object before: its state stands, and where there is an outbox a message has gone with it. */
  async use(): Promise<void> {
    const { OUTBOX_MANAGER: outbox } = this.env;
    await (outbox ? outbox.put(KEY, state(1), message(1)) : this.ctx.storage.put(KEY, state(1)));
  }

  /** Whether nothing is left to do, so that no alarm wakes the object before its first request. */
  async idle(): Promise<boolean> {
    const waiting = (await this.env.OUTBOX_MANAGER?.stats())?.pending ?? 0;
    return waiting === 0 && (await this.ctx.storage.getAlarm()) === null;
  }

  /** The first request: it reads the state, as most requests do. */
  async look(): Promise<boolean> {
    return (await this.ctx.storage.get(KEY)) !== undefined;
  }

  async sendMessages(): Promise<void> {}
}

export class Bare extends Order {}
export const Wrapped: typeof Order = withTransactionalOutbox(class extends Order {});
export const Counted: typeof Order = counted(withTransactionalOutbox(class extends Order {}));

export default {
  /** `/<class>/<method>` with the number of an object as JSON. */
  async fetch(request, env) {
    const [name = "", method = ""] = new URL(request.url).pathname.slice(1).split("/");
    const [number] = (await request.json()) as [number];
    const namespace = env[name] as DurableObjectNamespace;
    const stub = namespace.get(namespace.idFromName(String(number))) as unknown as Record<string, () => Promise<unknown>>;
    const result = await stub[method]?.();
    return result === undefined ? new Response(null) : Response.json(result);
  },
} satisfies ExportedHandler<Record<string, unknown>>;
