/** The worker of `removal.test.ts`: a class with its wrapper, without it, and without it as docs/operations.md cleans up after it. */
import { DurableObject } from "cloudflare:workers";
import { type OutboxManager, type OutboxMessage, withTransactionalOutbox } from "../../../src/index.ts";

interface Env {
  OUTBOX_MANAGER: OutboxManager<string>;
  /** Takes what is delivered, or answers with an error. */
  RECEIVER: Fetcher;
}

export class Bare extends DurableObject<Env> {
  async put(message: string): Promise<void> {
    await this.env.OUTBOX_MANAGER.put("own", message, message, { id: message });
  }
  async keys(): Promise<string[]> {
    return [...(await this.ctx.storage.list()).keys()].map((key) => (key < "\u{10FFFF}" ? key : "reserved"));
  }
  async waiting(): Promise<number> {
    return (await this.env.OUTBOX_MANAGER.stats()).pending;
  }
  async alarmAt(): Promise<number | null> {
    return this.ctx.storage.getAlarm();
  }
  async sendMessages(messages: OutboxMessage<string>[]): Promise<void> {
    const { ok } = await this.env.RECEIVER.fetch("http://receiver", {
      method: "POST",
      body: JSON.stringify(messages.map(({ msg }) => msg)),
    });
    if (!ok) throw new Error("The receiver is down.");
  }
}

export class Wrapped extends withTransactionalOutbox(Bare, { retry: { minDelaySeconds: 0.1, maxDelaySeconds: 0.5 } }) {}

export class Cleaning extends Bare {
  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    ctx.blockConcurrencyWhile(async () => {
      for (;;) {
        const rows = [...(await ctx.storage.list({ start: "\u{10FFFF}", limit: 128 })).keys()];
        if (rows.length === 0) break;
        await ctx.storage.delete(rows);
      }
    });
  }
}

export default {
  async fetch(request, { BOX }) {
    const [, method = ""] = new URL(request.url).pathname.split("/");
    const box = BOX.getByName("box") as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
    return Response.json((await box[method]?.(...((await request.json()) as unknown[]))) ?? null);
  },
} satisfies ExportedHandler<{ BOX: DurableObjectNamespace }>;
