/** The worker of the recovery: an object that stores as many messages as it is told, and hands them to a process outside. */
import { DurableObject } from "cloudflare:workers";
import { type OutboxManager, type OutboxMessage, withTransactionalOutbox } from "../../src/index.ts";
import { KEY, type Message, message, state } from "./work.ts";

interface Env {
  readonly OUTBOX_MANAGER: OutboxManager<Message>;
  /** The destination: a process of its own, so that it outlives this one. */
  readonly RECEIVER: Fetcher;
}

/** Puts of one turn: then others have a turn, and what was written goes to disk. */
const TOGETHER = 100;

class Box extends DurableObject<Env> {
  /** Puts messages with these numbers. They wait: the outbox is paused. */
  async fill(first: number, count: number): Promise<void> {
    await this.env.OUTBOX_MANAGER.pause();
    for (let n = first; n < first + count; ) {
      const puts: Promise<unknown>[] = [];
      for (let left = Math.min(TOGETHER, first + count - n); left > 0; left--, n++) {
        puts.push(this.env.OUTBOX_MANAGER.put(KEY, state(n), message(n)));
      }
      await Promise.all(puts);
    }
  }

  resume(): Promise<void> {
    return this.env.OUTBOX_MANAGER.resume();
  }

  async sendMessages(messages: OutboxMessage<Message>[]): Promise<void> {
    const body = JSON.stringify(messages.map(({ msg }) => msg.data.ordernr));
    const response = await this.env.RECEIVER.fetch("http://receiver/", { method: "POST", body });
    // Read to its end, the connection is used again.
    await response.text();
    if (!response.ok) throw new Error(`The receiver answers ${response.status}.`);
  }
}

export const Recovering: typeof Box = withTransactionalOutbox(class extends Box {});

export default {
  /** `/<class>/<method>` with the arguments as JSON: there is one object. */
  async fetch(request, env) {
    const [name = "", method = ""] = new URL(request.url).pathname.slice(1).split("/");
    const namespace = env[name] as DurableObjectNamespace;
    const stub = namespace.get(namespace.idFromName("one")) as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
    const result = await stub[method]?.(...((await request.json()) as unknown[]));
    return result === undefined ? new Response(null) : Response.json(result);
  },
} satisfies ExportedHandler<Record<string, unknown>>;
