/** The worker of the rollout test: an object that sends to another one's inbox, each in a version that its deployment chooses. */
import { env as bindings, DurableObject } from "cloudflare:workers";
import { toDurableObject } from "../../../src/destinations/index.ts";
import { type OutboxEnvelope, withTransactionalInbox } from "../../../src/inbox/index.ts";
import { type MessageSchemas, type OutboxManager, type OutboxTransaction, withTransactionalOutbox } from "../../../src/index.ts";
import { schemaOf } from "../../support/schema.ts";

interface Message {
  type: "counted";
  n: number;
  /** Version 1 has a text, version 2 a list. */
  label?: string;
  labels?: string[];
}

interface Env {
  SENDER_SQLITE: DurableObjectNamespace<Sender>;
  SENDER_KV: DurableObjectNamespace<Sender>;
  COUNTER_SQLITE: DurableObjectNamespace<SqliteCounter>;
  COUNTER_KV: DurableObjectNamespace<KvCounter>;
  /** The versions that this deployment knows. */
  SENDS: 1 | 2;
  COUNTS: 1 | 2;
  OUTBOX_MANAGER: OutboxManager<Message>;
}

const { SENDS, COUNTS } = bindings as unknown as Env;

/** Whether a message is one of this version. */
const isOf = (version: 1 | 2, { label, labels }: Message): boolean =>
  version === 1 ? label !== undefined && labels === undefined : label === undefined && labels?.length === 1;

/** What a deployment declares. Its schema accepts messages of its version alone. */
function messagesIn(version: 1 | 2): MessageSchemas {
  const schema = schemaOf((value) =>
    isOf(version, value as Message) ? { value } : { issues: [{ message: `not of version ${version}` }] },
  );
  const upcast = ({ label, ...old }: Message): Message => ({ ...old, labels: [String(label)] });
  return { counted: { schema, version, upcast: version === 2 ? { 1: upcast } : {} } };
}

/** What the counter has handled, in this order, and whether it was in another version than that of the deployment. */
type Report = { readonly n: number; readonly isStrange: boolean }[];

class Counter extends DurableObject<Env> {
  /** Numbers the messages as they are handled. */
  async receiveMessage({ msg, version = 1 }: OutboxEnvelope<Message>, txn: OutboxTransaction): Promise<void> {
    const last = (await txn.get<number>("last")) ?? 0;
    const isStrange = version !== COUNTS || !isOf(COUNTS, msg);
    await txn.put({ last: last + 1, [`handled:${String(last + 1).padStart(6, "0")}`]: { n: msg.n, isStrange } });
  }

  async report(): Promise<Report> {
    return [...(await this.ctx.storage.list<Report[number]>({ prefix: "handled:" })).values()];
  }
}

class Sender extends DurableObject<Env> {
  /** Puts numbered messages, all in one turn: most with an ordering key. */
  async put(first: number, count: number): Promise<void> {
    const all = Array.from({ length: count }, (_, i) => first + i);
    const msg = (n: number): Message => ({ type: "counted", n, ...(SENDS === 1 ? { label: `${n}` } : { labels: [`${n}`] }) });
    const keyed = (n: number) => (n % 4 === 0 ? {} : { key: `key ${n % 4}` });
    await Promise.all(all.map((n) => this.env.OUTBOX_MANAGER.put(`state:${n % 100}`, n, msg(n), keyed(n))));
  }

  stats(): Promise<unknown> {
    return this.env.OUTBOX_MANAGER.stats();
  }
}

const options = { retry: { minDelaySeconds: 0.05, maxDelaySeconds: 0.2, jitter: 0 }, batchSize: 20, messages: messagesIn(SENDS) };

export class SqliteSender extends withTransactionalOutbox(
  class extends Sender {
    sendMessages = toDurableObject<Message>(this.env.COUNTER_SQLITE, () => "counter");
  },
  options,
) {}
export class KvSender extends withTransactionalOutbox(
  class extends Sender {
    sendMessages = toDurableObject<Message>(this.env.COUNTER_KV, () => "counter");
  },
  options,
) {}
export class SqliteCounter extends withTransactionalInbox(class extends Counter {}, { messages: messagesIn(COUNTS) }) {}
export class KvCounter extends withTransactionalInbox(class extends Counter {}, { messages: messagesIn(COUNTS) }) {}

export default {
  async fetch(request, env) {
    const [, backend, role, method] = new URL(request.url).pathname.split("/");
    const name = `${role === "sender" ? "SENDER" : "COUNTER"}_${backend === "sqlite" ? "SQLITE" : "KV"}` as "SENDER_SQLITE";
    const stub = env[name].getByName(String(role)) as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
    try {
      const args = (await request.json()) as unknown[];
      return Response.json((await stub[method ?? ""]?.(...args)) ?? null);
    } catch (error) {
      return new Response(String(error), { status: 500 });
    }
  },
} satisfies ExportedHandler<Env>;
