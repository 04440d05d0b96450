/** The worker of the tests that kill objects with several destinations: each of them is the test's own process. */
import { DurableObject } from "cloudflare:workers";
import {
  type OutboxDelivery,
  type OutboxDestinations,
  type OutboxManager,
  type OutboxMessage,
  withTransactionalOutbox,
} from "../../../src/index.ts";

export interface Message {
  n: number;
  type: "even" | "odd";
}

interface Env {
  SQLITE: DurableObjectNamespace<NamedBox>;
  KV: DurableObjectNamespace<NamedBox>;
  RECEIVER: Fetcher;
  /** The names of the destinations that this deployment has. */
  NAMES: string[];
  TIMEOUT_SECONDS: number;
  OUTBOX_MANAGER: OutboxManager<Message>;
}

/** What the receiver says becomes of a call. */
type Order = "deliver" | "throw" | "hang" | { readonly reject: readonly number[] };

class NamedBox extends DurableObject<Env> {
  destinations: OutboxDestinations<Message> = Object.fromEntries(
    this.env.NAMES.map((name) => [
      name,
      {
        send: this.#sendTo(name),
        timeoutSeconds: this.env.TIMEOUT_SECONDS,
        ...(name === "even" && { types: ["even" as const] }),
        from: "start" as const,
      },
    ]),
  );

  #sendTo(name: string) {
    return async (messages: OutboxMessage<Message>[], delivery: OutboxDelivery): Promise<void> => {
      const body = JSON.stringify({ name, numbers: messages.map(({ msg }) => msg.n) });
      const response = await this.env.RECEIVER.fetch("http://receiver/", { method: "POST", body, signal: delivery.signal });
      const order = (await response.json()) as Order;
      if (order === "throw") throw new Error(`${name} refuses`);
      if (order === "hang") await new Promise(() => {});
      if (typeof order === "object") for (const { id, msg } of messages) if (order.reject.includes(msg.n)) delivery.reject(id, "no");
    };
  }

  /** Puts numbered messages, all in one turn. */
  async put(first: number, count: number): Promise<void> {
    const { OUTBOX_MANAGER: outbox } = this.env;
    const all = Array.from({ length: count }, (_, i) => first + i);
    await Promise.all(all.map((n) => outbox.put(`state:${n % 100}`, n, { n, type: n % 2 ? "odd" : "even" })));
  }

  stats(): Promise<unknown> {
    return this.env.OUTBOX_MANAGER.stats();
  }

  flush(): Promise<void> {
    return this.env.OUTBOX_MANAGER.flush();
  }

  /** How many rows the outbox has, without dead letters, and whether an alarm is set. */
  async left(): Promise<{ rows: number; alarm: number | null }> {
    const storage = Object.getPrototypeOf(this.ctx.storage) as DurableObjectStorage;
    const rows = await storage.list.call(this.ctx.storage, { prefix: "\u{10FFFF}" });
    return { rows: rows.size, alarm: await this.ctx.storage.getAlarm() };
  }
}

const options = { retry: { minDelaySeconds: 0.05, maxDelaySeconds: 0.2, jitter: 0 } };
export class SqliteNamed extends withTransactionalOutbox(NamedBox, options) {}
export class KvNamed extends withTransactionalOutbox(class extends NamedBox {}, options) {}

export default {
  async fetch(request, env) {
    const [, backend, method] = new URL(request.url).pathname.split("/");
    const namespace = backend === "sqlite" ? env.SQLITE : env.KV;
    const stub = namespace.get(namespace.idFromName("one")) as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
    try {
      const args = (await request.json()) as unknown[];
      return Response.json((await stub[method ?? ""]?.(...args)) ?? null);
    } catch (error) {
      return new Response(String(error), { status: 500 });
    }
  },
} satisfies ExportedHandler<Env>;
