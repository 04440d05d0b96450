/** The worker of `closed.test.ts`: an object with a wide surface, and a stranger who tries every door. */
import { DurableObject } from "cloudflare:workers";
import type { OutboxManager, OutboxMessage } from "../../../src/index.ts";
import { withTransactionalOutbox } from "../../../src/index.ts";

interface Env {
  SQLITE: DurableObjectNamespace<Box>;
  KV: DurableObjectNamespace<Box>;
  OWN: DurableObjectNamespace<Box>;
  OUTBOX_MANAGER: OutboxManager<number>;
}

class Box extends DurableObject<Env> {
  #secret = "kept";

  hello(name: string): string {
    return `hello ${name}, ${this.#secret}`;
  }

  get greeting(): string {
    return "a getter";
  }

  _underscored(): string {
    return "underscored";
  }

  put(n: number): Promise<{ sequence: number }> {
    return this.env.OUTBOX_MANAGER.put("n", n, n);
  }

  /** How many messages `sendMessages` was handed, and how often the object's own alarm rang. */
  async counts(): Promise<{ sent: number; alarms: number }> {
    const { storage } = this.ctx;
    return { sent: (await storage.get<number>("sent")) ?? 0, alarms: (await storage.get<number>("alarms")) ?? 0 };
  }

  override async alarm(): Promise<void> {
    await this.ctx.storage.put("alarms", (await this.counts()).alarms + 1);
  }

  async sendMessages(messages: OutboxMessage<number>[]): Promise<void> {
    await this.ctx.storage.put("sent", (await this.counts()).sent + messages.length);
  }

  /** No message dies here. */
  async deadMessage(): Promise<void> {
    await this.ctx.storage.put("sent", Number.NaN);
  }
}

/** Handlers as instance properties, which a subclass or a bundler's class fields make of methods. */
class Own extends DurableObject<Env> {
  sent = 0;
  override alarm = async (): Promise<void> => {};
  sendMessages = async (messages: OutboxMessage<number>[]): Promise<void> => {
    this.sent += messages.length;
  };
  deadMessage = (): void => {};
  destinations = { other: (): void => {} };
  greet(): string {
    return "own";
  }
}

export class SqliteBox extends withTransactionalOutbox(Box) {}
export class KvBox extends withTransactionalOutbox(class extends Box {}) {}
export class OwnBox extends withTransactionalOutbox(Own) {}

type Door = Record<string, unknown>;

/** Tries a member of a stub, as a call and as a property, and says what came of it. */
async function knock(stub: Door, member: string, args: unknown[]): Promise<Record<string, unknown>> {
  const tried = async (attempt: () => unknown): Promise<unknown> => {
    try {
      return { got: (await attempt()) ?? null };
    } catch (error) {
      return { refused: String(error) };
    }
  };
  const called = await tried(() => (stub[member] as (...args: unknown[]) => unknown)(...args));
  const read = await tried(async () => {
    const value = await stub[member];
    return typeof value === "function" ? "a function" : value;
  });
  return { called, read };
}

/** `/<binding>/<member>` with the arguments as JSON. A second worker runs the same code and is only bound to the objects. */
export default {
  async fetch(request, env) {
    const [binding, member = ""] = new URL(request.url).pathname.slice(1).split("/");
    const namespace = env[binding as "SQLITE" | "KV" | "OWN"];
    const stub = namespace.get(namespace.idFromName("a")) as unknown as Door;
    return Response.json(await knock(stub, member, (await request.json()) as unknown[]));
  },
} satisfies ExportedHandler<Env>;
