/** The worker that the tests of older compatibility dates run: handlers that fail in every way, and errors that cross a stub. */
import { DurableObject } from "cloudflare:workers";
import { type OutboxEnvelope, withTransactionalInbox } from "../../../src/inbox/index.ts";
import { type OutboxManager, type OutboxMessage, withTransactionalOutbox } from "../../../src/index.ts";

interface Env {
  SQLITE: DurableObjectNamespace<SqliteBox>;
  KV: DurableObjectNamespace<KvBox>;
  OUTBOX_MANAGER: OutboxManager;
}

/** What no code has handled in this isolate since it was last asked. */
const unhandled: string[] = [];
addEventListener("unhandledrejection", ({ reason }) => void unhandled.push(String(reason)));

/** The forms in which a handler can fail, at once and later. */
const FAILURES: Record<string, (error: Error) => unknown> = {
  throws(error) {
    throw error;
  },
  "returns a rejected promise": (error) => Promise.reject(error),
  "throws in an async function": async (error) => {
    throw error;
  },
  "throws two microtasks later": async (error) => {
    await null;
    await null;
    throw error;
  },
  "throws a turn later": async (error) => {
    await scheduler.wait(1);
    throw error;
  },
};

class Box extends DurableObject<Env> {
  #sent = 0;
  #alarms = 0;

  async fail(how: string): Promise<void> {
    await this.ctx.storage.put("how", how);
    await this.env.OUTBOX_MANAGER.send(how);
    await this.ctx.storage.setAlarm(Date.now());
  }

  async counts(): Promise<object> {
    return { sent: this.#sent, alarms: this.#alarms, ...(await this.env.OUTBOX_MANAGER.stats()) };
  }

  tooLarge(): Promise<unknown> {
    return this.env.OUTBOX_MANAGER.send("x".repeat(3_000_000));
  }

  sendMessages([message]: OutboxMessage<string>[]): unknown {
    if (++this.#sent <= 2) return FAILURES[message?.msg ?? ""]?.(new Error("sendMessages fails"));
  }

  receiveMessage({ msg }: OutboxEnvelope<string>): unknown {
    return FAILURES[msg]?.(new Error("receiveMessage fails"));
  }

  override async alarm(): Promise<void> {
    this.#alarms++;
    // What an alarm throws is the platform's to report. A transaction that fails is handled at once.
    await this.ctx.storage.transaction(() => Promise.reject(new Error("the transaction fails"))).catch(() => {});
  }
}

const Wrapped = withTransactionalInbox(
  withTransactionalOutbox(Box as never, { retry: { minDelaySeconds: 0.05, maxDelaySeconds: 0.1, jitter: 0 } }) as typeof Box,
);

export class SqliteBox extends Wrapped {}
export class KvBox extends Wrapped {}

export default {
  /** `/unhandled`, or `/<backend>/<object>/<method>` with the arguments as JSON. */
  async fetch(request, env) {
    const [backend = "", name = "", method = ""] = decodeURIComponent(new URL(request.url).pathname).slice(1).split("/");
    if (backend === "unhandled") return Response.json(unhandled.splice(0));
    const namespace = backend === "sqlite" ? env.SQLITE : env.KV;
    const stub = namespace.getByName(name) as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
    try {
      return Response.json({ got: await stub[method]?.(...((await request.json()) as unknown[])) });
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      return Response.json({ threw: { code, message } });
    }
  },
} satisfies ExportedHandler<Env>;
