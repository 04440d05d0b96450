/** The worker of the kill loop: an object that writes in every way there is, says beside each message that it was committed, and sends to a process of its own. */
import { DurableObject } from "cloudflare:workers";
import type { OutboxDelivery, OutboxManager, OutboxMessage, OutboxOptions, OutboxPutOptions } from "../../../src/index.ts";
import { withTransactionalOutbox } from "../../../src/index.ts";
import type { ClassName, Committed, Dead, Order, Sent, Way, Written } from "../kill-loop-words.ts";
import { BATCH_SIZE, TIMEOUT_MS } from "../kill-loop-words.ts";

interface Message {
  readonly label: number;
  readonly text: string;
}

interface Env extends Record<ClassName, DurableObjectNamespace<Box>> {
  RECEIVER: Fetcher;
  /** Which start of workerd this is, from 1. */
  LIFE: string;
  OUTBOX_MANAGER: OutboxManager<Message>;
}

/** A life has fewer messages than this. */
const LABELS = 1_000_000;
/** More entries than one storage call takes. */
const WIDE = 130;

const LIST_ROWS = 1000;

/** How a closure ends that is to leave nothing. */
class Unwanted extends Error {}

let given = 0;

/** By class, of which each has one object: its calls in this life, and those that have failed without the destination's knowing. */
const calls = new Map<ClassName, { count: number; failed: number[] }>();

abstract class Box extends DurableObject<Env> {
  /** The name of its class. */
  abstract readonly kind: ClassName;

  /** The next label: they count in the order in which the outbox is called, over all lives. */
  #label(): number {
    return Number(this.env.LIFE) * LABELS + ++given;
  }

  #message(label: number, { bytes = 0 }: Way): Message {
    return { label, text: "x".repeat(bytes) };
  }

  /** Writes as it is told, and gives what a caller may rely on from now on. */
  async write(way: Way): Promise<Written> {
    const { key, delaySeconds, id } = way;
    const options: OutboxPutOptions = {
      ...(key !== undefined && { key }),
      ...(delaySeconds !== undefined && { delaySeconds }),
      ...(id !== undefined && { id }),
    };
    try {
      return { confirmed: await this.#write(way, options), undone: [] };
    } catch (error) {
      if (error instanceof Undone) return { confirmed: [], undone: error.labels };
      throw error;
    }
  }

  async #write(way: Way, options: OutboxPutOptions): Promise<number[]> {
    const { OUTBOX_MANAGER: outbox } = this.env;
    const { storage } = this.ctx;
    const state = (label: number): Record<string, unknown> => ({ [stateKey(label)]: factsOf(way) });
    const label = way.kind.startsWith("transaction") || way.kind === "delete" || way.kind === "burst" ? 0 : this.#label();
    switch (way.kind) {
      case "put":
        await outbox.put(state(label), this.#message(label, way), options);
        return [label];
      case "burst": {
        const labels = Array.from({ length: way.count ?? 1 }, () => this.#label());
        await Promise.all(labels.map((one) => outbox.put(state(one), this.#message(one, way), options)));
        return labels;
      }
      case "send":
        await Promise.all([outbox.send(this.#message(label, way), options), storage.put(state(label))]);
        return [label];
      case "wide": {
        const rows = Array.from({ length: WIDE }, (_, n) => [`wide:${digits(label)}:${n}`, n] as const);
        await outbox.put({ ...Object.fromEntries(rows), ...state(label) }, this.#message(label, way), options);
        return [label];
      }
      case "delete": {
        const doomed = `doomed:${digits(this.#label())}`;
        await storage.put(doomed, 1);
        const last = this.#label();
        const facts = { ...factsOf(way), doomed };
        await Promise.all([outbox.delete(doomed, this.#message(last, way), options), storage.put(stateKey(last), facts)]);
        return [last];
      }
      case "transaction":
        return [await this.#transaction(way, options)];
      case "transactionSync":
        return [this.#transactionSync(way, options)];
    }
  }

  async #transaction(way: Way, options: OutboxPutOptions): Promise<number> {
    let label = 0;
    try {
      await this.env.OUTBOX_MANAGER.transaction(async (txn) => {
        label = this.#label();
        const sent = txn.send(this.#message(label, way), options);
        await txn.put(stateKey(label), factsOf(way));
        await sent;
        if (way.end === "throw") throw new Unwanted();
        if (way.end === "rollback") txn.rollback();
      });
    } catch (error) {
      if (!(error instanceof Unwanted)) throw error;
    }
    if (way.end !== "return") throw new Undone([label]);
    return label;
  }

  #transactionSync(way: Way, options: OutboxPutOptions): number {
    const label = this.#label();
    try {
      this.env.OUTBOX_MANAGER.transactionSync(({ sql, send }) => {
        sql.exec("CREATE TABLE IF NOT EXISTS states (label INTEGER PRIMARY KEY, facts TEXT)");
        sql.exec("INSERT INTO states VALUES (?, ?)", label, JSON.stringify(factsOf(way)));
        send(this.#message(label, way), options);
        if (way.end !== "return") throw new Unwanted();
      });
    } catch (error) {
      if (!(error instanceof Unwanted)) throw error;
      throw new Undone([label]);
    }
    return label;
  }

  /** What is stored, label by label, and what is stored in part. */
  async committed(): Promise<Committed> {
    const states: [number, Way][] = [];
    const torn: string[] = [];
    const own = await this.#own();
    const wide = new Map<string, number>();
    for (const key of own.keys()) if (key.startsWith("wide:")) wide.set(key.slice(5, 20), (wide.get(key.slice(5, 20)) ?? 0) + 1);
    for (const [key, value] of own) {
      if (!key.startsWith("state:")) continue;
      const facts = value as Way & { doomed?: string };
      const label = Number(key.slice(6));
      states.push([label, facts]);
      if (facts.doomed !== undefined && own.has(facts.doomed)) torn.push(`${label} is committed, and what it deletes still stands`);
      const parts = wide.get(digits(label)) ?? 0;
      if (parts !== (facts.kind === "wide" ? WIDE : 0)) torn.push(`${parts} of ${WIDE} entries of ${label} are stored`);
      wide.delete(digits(label));
    }
    for (const label of wide.keys()) torn.push(`of ${label} some entries are stored, and not all`);
    states.push(...this.#rows());
    const { pending, delayed, blocked } = await this.env.OUTBOX_MANAGER.stats();
    return { states: states.sort(([a], [b]) => a - b), torn, waiting: pending + delayed + blocked, alarm: await native(this.ctx.storage) };
  }

  async #own(): Promise<Map<string, unknown>> {
    const rows = new Map<string, unknown>();
    for (let start = ""; ; ) {
      const page = await this.ctx.storage.list({ start, limit: LIST_ROWS });
      for (const [key, value] of page) rows.set(key, value);
      if (page.size < LIST_ROWS) return rows;
      start = `${[...page.keys()].at(-1)}\0`;
    }
  }

  #rows(): [number, Way][] {
    if (this.kind.startsWith("Kv")) return [];
    const { sql } = this.ctx.storage;
    if (sql.exec("SELECT 1 FROM sqlite_master WHERE name = 'states'").toArray().length === 0) return [];
    return sql
      .exec<{ label: number; facts: string }>("SELECT label, facts FROM states")
      .toArray()
      .map(({ label, facts }) => [label, JSON.parse(facts)]);
  }

  async dead(): Promise<Dead[]> {
    const dead: Dead[] = [];
    for (let after: string | undefined; ; ) {
      const page = await this.env.OUTBOX_MANAGER.list({ state: "dead", limit: LIST_ROWS, ...(after !== undefined && { after }) });
      dead.push(...page.map(({ msg, sequence, source, reason }) => ({ label: msg.label, sequence, source, reason })));
      after = page.at(-1)?.id;
      if (page.length < LIST_ROWS) return dead;
    }
  }

  async waiting(): Promise<number> {
    const { pending, delayed, blocked } = await this.env.OUTBOX_MANAGER.stats();
    return pending + delayed + blocked;
  }

  protected async forward(messages: OutboxMessage<Message>[], { signal }: OutboxDelivery): Promise<Order> {
    const mine = calls.get(this.kind) ?? { count: 0, failed: [] };
    calls.set(this.kind, mine);
    const call = ++mine.count;
    const fail = (): void => void mine.failed.push(call);
    signal.addEventListener("abort", fail);
    const sent: Sent = {
      call,
      failed: mine.failed,
      messages: messages.map(({ msg, id, sequence, attempts, source }) => [msg.label, id, sequence, attempts, source]),
    };
    try {
      const path = `${this.kind}/${this.env.LIFE}`;
      const response = await this.env.RECEIVER.fetch(`http://receiver/send/${path}`, { method: "POST", body: JSON.stringify(sent) });
      return await response.json();
    } catch (error) {
      fail();
      throw error;
    }
  }
}

/** Ends a call of `sendMessages` as the destination has ordered. */
async function endOf({ end }: Order): Promise<void> {
  if (end === "hang") await new Promise(() => {});
  if (end === "throw") throw new Error("The destination is down.");
}

/** One parameter: full batches, whatever their ordering keys, and no outcome for a single message. */
abstract class Plain extends Box {
  async sendMessages(messages: OutboxMessage<Message>[], ...[delivery]: [OutboxDelivery]): Promise<void> {
    await endOf(await this.forward(messages, delivery));
  }
}

/** Two: an outcome for each message that has one. */
abstract class Settling extends Box {
  async sendMessages(messages: OutboxMessage<Message>[], delivery: OutboxDelivery): Promise<void> {
    const ids = messages.map(({ id }) => id);
    const order = await this.forward(messages, delivery);
    for (const i of order.retried) delivery.retry(ids[i] ?? "", { delaySeconds: 0.02 });
    for (const i of order.rejected) delivery.reject(ids[i] ?? "", "not wanted");
    for (const i of order.acked) delivery.ack(ids[i] ?? "");
    await endOf(order);
  }
}

const OPTIONS: OutboxOptions<"OUTBOX_MANAGER"> = {
  batchSize: BATCH_SIZE,
  timeoutSeconds: TIMEOUT_MS / 1000,
  retry: { minDelaySeconds: 0.02, maxDelaySeconds: 0.2, jitter: 0.5, maxAttempts: 4 },
};

export const SqlitePlain = withTransactionalOutbox(
  class extends Plain {
    readonly kind = "SqlitePlain";
  },
  OPTIONS,
);
export const SqliteSettling = withTransactionalOutbox(
  class extends Settling {
    readonly kind = "SqliteSettling";
  },
  { ...OPTIONS, dispatch: "immediate" },
);
export const KvPlain = withTransactionalOutbox(
  class extends Plain {
    readonly kind = "KvPlain";
  },
  { ...OPTIONS, dispatch: "immediate" },
);
export const KvSettling = withTransactionalOutbox(
  class extends Settling {
    readonly kind = "KvSettling";
  },
  OPTIONS,
);

/** What was written has been undone on purpose. */
class Undone extends Error {
  readonly labels: number[];
  constructor(labels: number[]) {
    super();
    this.labels = labels;
  }
}

function digits(label: number): string {
  return String(label).padStart(15, "0");
}

function stateKey(label: number): string {
  return `state:${digits(label)}`;
}

function factsOf({ kind, key, delaySeconds, id }: Way): Way {
  return { kind, ...(key !== undefined && { key }), ...(delaySeconds !== undefined && { delaySeconds }), ...(id !== undefined && { id }) };
}

/** What the platform itself has armed. */
function native(storage: DurableObjectStorage): Promise<number | null> {
  return (Object.getPrototypeOf(storage) as DurableObjectStorage).getAlarm.call(storage);
}

export default {
  /** `/<class>/<method>` with the arguments as JSON: each class has one object. */
  async fetch(request, env) {
    const [kind = "", method = ""] = new URL(request.url).pathname.slice(1).split("/");
    const namespace = env[kind as ClassName];
    const stub = namespace.get(namespace.idFromName("one")) as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
    try {
      const result = await stub[method]?.(...((await request.json()) as unknown[]));
      return result === undefined ? new Response(null) : Response.json(result);
    } catch (error) {
      return new Response(String(error), { status: 500 });
    }
  },
} satisfies ExportedHandler<Env>;
