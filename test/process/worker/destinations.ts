/** The worker in which node tests try destinations: against real queues, real objects and a server of the test's own. */
import { DurableObject } from "cloudflare:workers";
import { envelopeOf, type OutboxEnvelope, readEnvelope } from "../../../src/api/envelope.ts";
import { byType, type Destination, toDurableObject, toQueue, toWebhook } from "../../../src/destinations/index.ts";
import { withTransactionalInbox } from "../../../src/inbox/index.ts";
import { type OutboxEvent, type OutboxManager, type OutboxMessage, withTransactionalOutbox } from "../../../src/index.ts";
import { record } from "../../support/destinations/recorder.ts";
import type { Run } from "../../support/destinations/run.ts";

interface Env {
  QUEUE: Queue;
  SENDER_SQLITE: DurableObjectNamespace<Sender>;
  SENDER_KV: DurableObjectNamespace<Sender>;
  METHOD_SQLITE: DurableObjectNamespace<Sender>;
  METHOD_KV: DurableObjectNamespace<Sender>;
  HOOK_SQLITE: DurableObjectNamespace<Sender>;
  HOOK_KV: DurableObjectNamespace<Sender>;
  FIXED_SQLITE: DurableObjectNamespace<Sender>;
  FIXED_KV: DurableObjectNamespace<Sender>;
  INBOX: DurableObjectNamespace<Inbox>;
  REAL: DurableObjectNamespace;
  /** The test's server. */
  BASE: string;
  SECRET: string;
  OUTBOX_MANAGER: OutboxManager<Message>;
}

interface Message {
  type: "queue" | "inbox" | "real" | "hook";
  n: number;
  /** What the receiver is to do. */
  order?: string;
  text?: string;
}

const events: OutboxEvent[] = [];
/** What the queue's consumer got, in order. */
const consumed: unknown[] = [];
/** What inboxes got, in order: the object, and the message. */
const taken: { inbox: string; envelope: OutboxEnvelope }[] = [];
/** How often an inbox has seen an order, by message. */
const seen = new Map<string, number>();

const onEvent = (event: OutboxEvent): void => void events.push(event);
const quick = { retry: { minDelaySeconds: 0.1, maxDelaySeconds: 0.5, jitter: 0 }, timeoutSeconds: 3, onEvent } as const;

export class Inbox extends DurableObject<Env> {
  async receiveMessages(envelopes: OutboxEnvelope[]): Promise<unknown> {
    return envelopes.map((given) => {
      const envelope = readEnvelope(given) as OutboxEnvelope<Message>;
      const { id, msg } = envelope;
      const count = (seen.get(id) ?? 0) + 1;
      seen.set(id, count);
      if (msg.order === "abort once" && count === 1) this.ctx.abort("the inbox dies");
      if (msg.order === "throw") throw new Error("the inbox refuses");
      if (msg.order === "fail once" && count === 1) return { id, status: "failed", error: "not yet" };
      taken.push({ inbox: this.ctx.id.name ?? "", envelope });
      return { id, status: "processed" };
    });
  }
}

/** An object with the package's own inbox: what `receiveMessage` does has its effect once. */
export class RealInbox extends withTransactionalInbox(
  class extends DurableObject<Env> {
    async receiveMessage({ id, msg }: OutboxEnvelope, txn: DurableObjectTransaction): Promise<void> {
      const count = (seen.get(id) ?? 0) + 1;
      seen.set(id, count);
      const { n, order } = msg as Message;
      const numbers = (await txn.get<number[]>("numbers")) ?? [];
      await txn.put("numbers", [...numbers, n]);
      if (order === "abort once" && count === 1) this.ctx.abort("the inbox dies");
      if (order === "fail once" && count === 1) throw new Error("not yet");
    }

    numbers(): Promise<number[] | undefined> {
      return this.ctx.storage.get<number[]>("numbers");
    }
  },
) {}

class Sender extends DurableObject<Env> {
  /** Sends numbered messages before any of them can be delivered. */
  put(from: number, count: number, key: string | null, rest: Omit<Message, "n">): Promise<void> {
    return this.ctx.blockConcurrencyWhile(async () => {
      for (let n = from; n < from + count; n++) await this.env.OUTBOX_MANAGER.send({ ...rest, n }, key ? { key: `${key} ${n % 3}` } : {});
    });
  }

  list(state: "pending" | "dead"): Promise<unknown> {
    return this.env.OUTBOX_MANAGER.list({ state });
  }

  resume(): Promise<void> {
    return this.env.OUTBOX_MANAGER.resume();
  }

  stats(): Promise<unknown> {
    return this.env.OUTBOX_MANAGER.stats();
  }
}

/** A sender whose `sendMessages` is an instance property. */
function property(): typeof Sender {
  return withTransactionalOutbox(
    class extends Sender {
      // @ts-expect-error No test sends a message of type "hook" here.
      sendMessages: Destination<Message> = byType<Message>({
        queue: toQueue(this.env.QUEUE),
        real: toDurableObject(this.env.REAL, ({ msg }: OutboxMessage<Message>) => msg.text ?? ""),
        inbox: toDurableObject<Message>(this.env.INBOX, ({ msg }) => `inbox ${msg.text ?? msg.n % 2}`),
      });
    },
    quick,
  );
}

/** One whose `sendMessages` is a method that calls a destination. */
function method(): typeof Sender {
  return withTransactionalOutbox(
    class extends Sender {
      async sendMessages(...args: Parameters<Destination<Message>>): Promise<void> {
        await toQueue(this.env.QUEUE)(...args);
      }
    },
    quick,
  );
}

/** One that posts to the test's server, where the path says what the server does. */
function hook(): typeof Sender {
  return withTransactionalOutbox(
    class extends Sender {
      sendMessages: Destination<Message> = toWebhook<Message>(({ msg }) => `${this.env.BASE}/${msg.order}?token=${this.env.SECRET}`, {
        secret: this.env.SECRET,
      });
    },
    { ...quick, retry: { ...quick.retry, maxDelaySeconds: 5, maxAttempts: 1 } },
  );
}

/** One that posts to one URL, of an endpoint that says it is gone. */
function fixed(backend: string): typeof Sender {
  return withTransactionalOutbox(
    class extends Sender {
      sendMessages: Destination<Message> = toWebhook<Message>(`${this.env.BASE}/gone/${backend}`, {
        secret: this.env.SECRET,
        concurrency: 1,
        authorization: async () => `Bearer ${backend}`,
        headers: ({ msg }) => ({ "x-number": `${msg.n}` }),
      });
    },
    quick,
  );
}

export class FixedSqlite extends fixed("SQLITE") {}
export class FixedKv extends fixed("KV") {}
export class SenderSqlite extends property() {}
export class SenderKv extends property() {}
export class MethodSqlite extends method() {}
export class MethodKv extends method() {}
export class HookSqlite extends hook() {}
export class HookKv extends hook() {}

/** The text of a message alone, where it is one; what JSON can't bring here, where that is asked for; otherwise the envelope. */
function bodyOf(message: OutboxMessage): unknown {
  const { msg } = message;
  if (typeof msg === "string") return msg;
  return (msg as Message).order === "map" ? new Map([["n", (msg as Message).n]]) : envelopeOf(message);
}

async function run({ messages, webhook, queue, timeoutMs }: Run, env: Env): Promise<unknown> {
  const signal = timeoutMs ? AbortSignal.timeout(timeoutMs) : undefined;
  const text = ({ msg }: OutboxMessage) => (msg as Message).text ?? "";
  const destination = webhook
    ? toWebhook(webhook.own ? text : webhook.url, webhook.options)
    : queue
      ? toQueue(env.QUEUE, { body: bodyOf, ...queue })
      : toDurableObject(env.INBOX, text);
  return { ...(await record(destination, messages, signal)), ordering: destination.ordering ?? "strict" };
}

export default {
  /** `/events`, `/consumed`, `/taken`, `/run`, or `/<binding>/<object>/<method>` with the arguments as JSON. */
  async fetch(request, env) {
    const [first = "", name = "", method = ""] = new URL(request.url).pathname.slice(1).split("/");
    if (first === "events") return new Response(JSON.stringify(events, shown));
    if (first === "consumed") return Response.json(consumed);
    if (first === "taken") return Response.json(taken);
    try {
      if (first === "run") return Response.json(await run(await request.json(), env));
      const namespace = env[first as "SENDER_SQLITE"];
      const stub = namespace.get(namespace.idFromName(name)) as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
      return Response.json((await stub[method]?.(...((await request.json()) as unknown[]))) ?? null);
    } catch (error) {
      return new Response(String(error), { status: 500 });
    }
  },
  async queue({ messages }) {
    consumed.push(
      ...messages.map(({ body }) => (typeof body === "string" ? body.length : body instanceof Map ? { map: [...body] } : body)),
    );
  },
} satisfies ExportedHandler<Env>;

/** All of an error that a log could show. */
function shown(_: string, value: unknown): unknown {
  return value instanceof Error ? { ...value, message: value.message, stack: value.stack, cause: String(value.cause) } : value;
}
