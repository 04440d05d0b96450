/** The worker of the load: an object that stores as many messages as it is told, hands them to itself, and counts what each costs in storage. */
import { DurableObject } from "cloudflare:workers";
import type { OutboxManager, OutboxMessage, OutboxOptions, OutboxStats } from "../../../src/index.ts";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { type Costs, type Delivered, PAGE } from "../words.ts";

interface Message {
  readonly n: number;
  readonly text: string;
}

interface Env extends Record<string, unknown> {
  OUTBOX_MANAGER: OutboxManager<Message>;
}

/** Puts of one turn: then others have a turn, and what was written goes to disk. */
const TOGETHER = 100;

class Box extends DurableObject<Env> {
  #delivered = 0;
  #disordered = 0;
  #last = 0;
  /** From so many delivered messages on the outbox is paused. */
  #until = Number.POSITIVE_INFINITY;

  pause(): Promise<void> {
    return this.env.OUTBOX_MANAGER.pause();
  }

  /** Puts so many messages, numbered from `first`. */
  async fill(first: number, count: number): Promise<void> {
    for (let n = first; n < first + count; ) {
      const puts: Promise<unknown>[] = [];
      for (let left = Math.min(TOGETHER, first + count - n); left > 0; left--, n++) puts.push(this.#put(n));
      await Promise.all(puts);
    }
  }

  /** The same one after the other: what a single put costs. */
  async put(first: number, count: number): Promise<void> {
    for (let n = first; n < first + count; n++) await this.#put(n);
  }

  #put(n: number): Promise<unknown> {
    return this.env.OUTBOX_MANAGER.put("state", n, { n, text: `message ${n} of about a hundred bytes ${"x".repeat(60)}` });
  }

  /** Lets so many be delivered, and no more. */
  async deliver(count: number): Promise<Delivered> {
    const { OUTBOX_MANAGER: outbox } = this.env;
    this.#until = this.#delivered + count;
    await outbox.resume();
    while (this.#delivered < this.#until) {
      await outbox.flush();
      if ((await outbox.stats()).pending === 0) break;
    }
    return { delivered: this.#delivered, disordered: this.#disordered };
  }

  /** Reads pages of a hundred messages, one from each of these positions. Returns how many messages came that were not expected there. */
  async pages(positions: readonly number[], direction: "forward" | "backward"): Promise<number> {
    let wrong = 0;
    for (const from of positions) {
      const { messages } = await this.env.OUTBOX_MANAGER.read({ from, direction, limit: PAGE });
      const step = direction === "forward" ? 1 : -1;
      wrong += messages.filter(({ position, msg }, i) => position !== from + i * step || msg.n !== position).length;
      wrong += Math.abs(PAGE - messages.length);
    }
    return wrong;
  }

  stats(): Promise<OutboxStats> {
    return this.env.OUTBOX_MANAGER.stats();
  }

  async sendMessages(messages: OutboxMessage<Message>[]): Promise<void> {
    for (const { msg, sequence } of messages) {
      if (sequence !== this.#last + 1 || msg.n !== sequence) this.#disordered++;
      this.#last = sequence;
    }
    this.#delivered += messages.length;
    if (this.#delivered >= this.#until) await this.env.OUTBOX_MANAGER.pause();
  }
}

/** One call of storage as the outbox made it. */
type Call = () => Promise<unknown>;

/** A wrapped box whose storage counts, below the outbox. */
function counted(options: Pick<OutboxOptions, "retain"> = {}): new (ctx: DurableObjectState, env: Env) => Box {
  const Wrapped = withTransactionalOutbox(class extends Box {}, options);
  return class extends Wrapped {
    readonly #costs: Costs;
    readonly #calls: Call[];

    constructor(ctx: DurableObjectState, env: Env) {
      const costs: Costs = { rows: 0, reads: 0, read: 0, alarms: 0 };
      const calls: Call[] = [];
      count(ctx.storage, costs, calls);
      super(ctx, env);
      this.#costs = costs;
      this.#calls = calls;
    }

    /** Makes the reads and puts since the last look once more, one after the other, without an outbox: what storage itself takes for them. */
    async repeat(): Promise<void> {
      if (this.#calls.length === MOST_CALLS) throw new Error(`Storage was called more than ${MOST_CALLS} times.`);
      for (const call of this.#calls) await call();
    }

    /** What was done since the last look. */
    costs(): Costs {
      const costs = { ...this.#costs };
      Object.assign(this.#costs, { rows: 0, reads: 0, read: 0, alarms: 0 });
      this.#calls.length = 0;
      return costs;
    }
  };
}

/** So many calls are remembered at most, to be made again. */
const MOST_CALLS = 200;
const repeatable = new Set(["get", "list", "put"]);

/** Own methods that count and pass on. The outbox defines its own above them. */
function count(storage: DurableObjectStorage, costs: Costs, calls: Call[]): void {
  const define = (
    name: "get" | "list" | "put" | "delete" | "setAlarm",
    before: (first: unknown) => void,
    after?: (result: unknown) => void,
  ) => {
    const native = storage[name].bind(storage) as (...args: unknown[]) => Promise<unknown>;
    const value = (first: unknown, ...rest: unknown[]): Promise<unknown> => {
      before(first);
      if (repeatable.has(name) && calls.length < MOST_CALLS) calls.push(() => native(first, ...rest));
      const result = native(first, ...rest);
      if (!after) return result;
      return result.then((found) => {
        after(found);
        return found;
      });
    };
    Object.defineProperty(storage, name, { value, configurable: true, writable: true });
  };
  const keysOf = (first: unknown): number =>
    typeof first === "string" ? 1 : Array.isArray(first) ? first.length : Object.keys(first as object).length;
  define("put", (first) => {
    costs.rows += keysOf(first);
  });
  define("delete", (first) => {
    costs.rows += keysOf(first);
  });
  define("setAlarm", () => {
    costs.alarms++;
  });
  define("get", () => {
    costs.reads++;
    costs.read++;
  });
  define(
    "list",
    () => {
      costs.reads++;
    },
    (found) => {
      costs.read += (found as Map<string, unknown>).size;
    },
  );
}

export class SqliteBox extends counted() {}
export class KvBox extends counted() {}
export class SqliteLog extends counted({ retain: "all" }) {}
export class KvLog extends counted({ retain: "all" }) {}
export class SqliteShortLog extends counted({ retain: "all" }) {}
export class KvShortLog extends counted({ retain: "all" }) {}

export default {
  /** `/<class>/<method>` with the arguments as JSON: each class has one object. */
  async fetch(request, env) {
    const [name = "", method = ""] = new URL(request.url).pathname.slice(1).split("/");
    const namespace = env[name] as DurableObjectNamespace;
    const stub = namespace.get(namespace.idFromName("one")) as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
    const result = await stub[method]?.(...((await request.json()) as unknown[]));
    return result === undefined ? new Response(null) : Response.json(result);
  },
} satisfies ExportedHandler<Env>;
