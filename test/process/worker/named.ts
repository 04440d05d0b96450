/**
 * The worker of the tests that kill objects with several destinations. One is a real object with an inbox, and one a webhook; the others call the test's
 * own process.
 */
import { DurableObject } from "cloudflare:workers";
import type { OutboxEnvelope } from "../../../src/api/envelope.ts";
import { toDurableObject, toWebhook } from "../../../src/destinations/index.ts";
import { withTransactionalInbox } from "../../../src/inbox/index.ts";
import {
  type OutboxDelivery,
  type OutboxDestinations,
  type OutboxHandler,
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
  SHELF: DurableObjectNamespace;
  /** The webhook of the destination `even`. */
  WEBHOOK: string;
  SECRET: string;
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
        send: this.#targetOf(name),
        timeoutSeconds: this.env.TIMEOUT_SECONDS,
        ...(name === "even" && { types: ["even" as const] }),
        from: "start" as const,
      },
    ]),
  );

  #targetOf(name: string): OutboxHandler<Message> {
    if (name === "fine") return toDurableObject(this.env.SHELF as never, () => "one");
    if (name === "even") return toWebhook(this.env.WEBHOOK, { secret: this.env.SECRET, concurrency: 1 });
    return this.#sendTo(name);
  }

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

/** The receiver of `fine`: what it was told it tells the test, in the handler of its inbox. */
export class Shelf extends withTransactionalInbox(
  class extends DurableObject<Env> {
    async receiveMessage({ msg }: OutboxEnvelope<Message>): Promise<void> {
      const body = JSON.stringify({ name: "fine", numbers: [msg.n] });
      await (await this.env.RECEIVER.fetch("http://receiver/", { method: "POST", body })).arrayBuffer();
    }
  },
) {}

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
