/** The contestants: four Durable Objects that do the same work, from the least that is possible to ours. */
import { DurableObject } from "cloudflare:workers";
import type { OutboxManager, OutboxMessage } from "../src/index.ts";
import { withTransactionalOutbox } from "../src/index.ts";

interface Env {
  OUTBOX_MANAGER: OutboxManager<Message>;
}

interface State {
  status: string;
  ordernr: number;
  total: number;
  lines: string[];
}

interface Message {
  type: string;
  data: { ordernr: number; customer: string; total: number };
}

const KEY = "order";

/** What every operation stores: about a hundred bytes of state. */
function state(n: number): State {
  return { status: "new", ordernr: n, total: n * 10, lines: ["4711 x 3", "4712 x 1", "4713 x 12", "shipping"] };
}

/** What every operation announces: about a hundred bytes of message. */
function message(n: number): Message {
  return { type: "order_created", data: { ordernr: n, customer: "c0ffee00-0000-4000-8000-000000000000", total: n * 10 } };
}

/** The work that is the same for all: puts one after the other, and counting what arrives. */
abstract class Contestant extends DurableObject<Env> {
  #expected = 0;
  #arrived = 0;
  #all: () => void = () => {};

  abstract one(n: number): Promise<unknown>;
  abstract clean(): Promise<void>;

  /**
   * Sequential awaited puts. The alarm that they arm can't ring before the last: for every contestant alike, delivery
   * begins after the measurement.
   */
  puts(count: number): Promise<void> {
    return this.ctx.blockConcurrencyWhile(async () => {
      for (let n = 0; n < count; n++) await this.one(n);
    });
  }

  /** The same puts, with delivery whenever the platform gives it a turn, until the last message has arrived. */
  async burst(count: number): Promise<void> {
    this.#expected = count;
    this.#arrived = 0;
    const all = new Promise<void>((resolve) => {
      this.#all = resolve;
    });
    for (let n = 0; n < count; n++) await this.one(n);
    await all;
  }

  /** The destination: it takes everything and does nothing. */
  protected arrived(messages: number): void {
    this.#arrived += messages;
    if (this.#arrived >= this.#expected) this.#all();
  }
}

/** The floor: state only. */
class RawState extends Contestant {
  one(n: number): Promise<void> {
    return this.ctx.storage.put(KEY, state(n));
  }

  async clean(): Promise<void> {}
}

/** The limit of the pattern: state and message in one put, under two keys, and one alarm for all. */
class RawPair extends Contestant {
  async one(n: number): Promise<void> {
    if (n === 0) void this.ctx.storage.setAlarm(Date.now());
    await this.ctx.storage.put({ [KEY]: state(n), [`outbox:${String(n).padStart(16, "0")}`]: message(n) });
  }

  async clean(): Promise<void> {
    await this.ctx.storage.deleteAll();
  }

  override async alarm(): Promise<void> {}
}

/** An outbox by hand, as the documentation of the platform would have you write it. */
class ByHand extends Contestant {
  #last = 0;

  async put<T>(key: string, value: T, msg: Message): Promise<void> {
    const alarm = await this.ctx.storage.getAlarm();
    // Sixteen digits that grow with time and never repeat: order and identity in one.
    this.#last = Math.max(this.#last + 1, Date.now() * 1000);
    const written = this.ctx.storage.put<unknown>({ [key]: value, [`outbox:${this.#last}`]: msg });
    if (alarm === null) void this.ctx.storage.setAlarm(Date.now() + 1);
    await written;
  }

  override async alarm(): Promise<void> {
    const batch = await this.ctx.storage.list<Message>({ prefix: "outbox:", limit: 100 });
    if (batch.size === 0) return;
    await this.sendMessages([...batch].map(([id, msg]) => ({ id, msg })));
    await this.ctx.storage.delete([...batch.keys()]);
    // One millisecond later: the platform may lose an alarm that is set for the very millisecond of the one that rings.
    if (batch.size === 100) await this.ctx.storage.setAlarm(Date.now() + 1);
  }

  async sendMessages(messages: { id: string; msg: Message }[]): Promise<void> {
    this.arrived(messages.length);
  }

  one(n: number): Promise<void> {
    return this.put(KEY, state(n), message(n));
  }

  async clean(): Promise<void> {
    while ((await this.ctx.storage.list({ prefix: "outbox:", limit: 1 })).size > 0) await scheduler.wait(1);
  }
}

/** Ours. */
class Ours extends Contestant {
  async sendMessages(messages: OutboxMessage<Message>[]): Promise<void> {
    this.arrived(messages.length);
  }

  one(n: number): Promise<unknown> {
    return this.env.OUTBOX_MANAGER.put(KEY, state(n), message(n));
  }

  async clean(): Promise<void> {
    while ((await this.env.OUTBOX_MANAGER.stats()).pending > 0) await scheduler.wait(1);
  }
}

export class RawStateSqlite extends RawState {}
export class RawStateKv extends RawState {}
export class RawPairSqlite extends RawPair {}
export class RawPairKv extends RawPair {}
export class ByHandSqlite extends ByHand {}
export class ByHandKv extends ByHand {}
export class OursSqlite extends withTransactionalOutbox(Ours) {}
export class OursKv extends withTransactionalOutbox(Ours) {}

export default {
  /** `/<class>/<method>/<count>`: one request, one piece of work inside the object. */
  async fetch(request, env) {
    const [name = "", method, count] = new URL(request.url).pathname.slice(1).split("/");
    const namespace = env[name] as DurableObjectNamespace<Contestant>;
    const stub = namespace.get(namespace.idFromName("bench"));
    if (method === "puts") await stub.puts(Number(count));
    if (method === "burst") await stub.burst(Number(count));
    if (method === "clean") await stub.clean();
    return new Response(null);
  },
} satisfies ExportedHandler<Record<string, unknown>>;
