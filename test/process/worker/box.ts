/** The worker that node tests run: an object whose destination is the test's own process, and a door to its methods. */
import { DurableObject } from "cloudflare:workers";
import type { OutboxEvent, OutboxManager, OutboxMessage } from "../../../src/index.ts";
import { withTransactionalOutbox } from "../../../src/index.ts";

interface Env {
  SQLITE: DurableObjectNamespace<Box>;
  KV: DurableObjectNamespace<Box>;
  RECEIVER: Fetcher;
  /** This deploy is one in which `sendMessages` got lost. */
  WITHOUT_SEND: boolean;
  OUTBOX_MANAGER: OutboxManager<Message>;
}

interface Message {
  n: number;
  text: string;
}

type Backend = "sqlite" | "kv";

/** Everything `onEvent` was told in this isolate, by objects of either backend. */
const events: (OutboxEvent & { backend: Backend })[] = [];

class Box extends DurableObject<Env> {
  declare readonly backend: Backend;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    if (env.WITHOUT_SEND) (this as { sendMessages: unknown }).sendMessages = undefined;
  }

  /** Puts the numbered messages one after the other, each with a state that says that it was committed. */
  async put(first: number, count: number, bytes = 0): Promise<number> {
    for (let n = first; n < first + count; n++) {
      await this.env.OUTBOX_MANAGER.put(`state:${String(n).padStart(9, "0")}`, n, { n, text: `#${n}#${"x".repeat(bytes)}` });
    }
    return count;
  }

  /** Sends numbered messages with these ordering keys, before any alarm can ring. The first of each key has to wait for this long. */
  lanes(keys: string[], seconds: number): Promise<void> {
    return this.ctx.blockConcurrencyWhile(async () => {
      for (const [i, key] of keys.entries()) {
        const delaySeconds = keys.indexOf(key) === i ? seconds : 0;
        await this.env.OUTBOX_MANAGER.send({ n: i + 1, text: `#${i + 1}#` }, { key, delaySeconds });
      }
      await this.env.OUTBOX_MANAGER.send({ n: 0, text: "#0#" });
    });
  }

  /** The same before any alarm can ring, so that the messages stand in full rows of sixteen. */
  store(first: number, count: number): Promise<number> {
    return this.ctx.blockConcurrencyWhile(() => this.put(first, count));
  }

  /** The numbers whose state is stored. */
  async committed(): Promise<number[]> {
    return [...(await this.ctx.storage.list<number>({ prefix: "state:" })).values()];
  }

  stats(): Promise<unknown> {
    return this.env.OUTBOX_MANAGER.stats();
  }

  /** What the platform itself has armed, whoever it belongs to. */
  nativeAlarm(): Promise<number | null> {
    return native(this.ctx.storage).getAlarm();
  }

  /** What the platform leaves behind when it gives up on an alarm. */
  async loseAlarm(): Promise<void> {
    await native(this.ctx.storage).deleteAlarm();
    await this.ctx.storage.sync();
  }

  async loseAlarmAndCrash(): Promise<void> {
    await this.loseAlarm();
    this.ctx.abort("crash");
  }

  /** How often this instance has set the platform's alarm. */
  alarmsSet(): number {
    return (this as { alarmsArmed?: number }).alarmsArmed ?? 0;
  }

  setOwnAlarm(delayMs: number): Promise<void> {
    return this.ctx.storage.setAlarm(Date.now() + delayMs);
  }

  ownAlarms(): Promise<number | undefined> {
    return this.ctx.storage.get<number>("own alarms");
  }

  override async alarm(): Promise<void> {
    await this.ctx.storage.put("own alarms", ((await this.ownAlarms()) ?? 0) + 1);
  }

  async sendMessages(messages: OutboxMessage<Message>[]): Promise<void> {
    const short = messages.map(({ msg, ...rest }) => ({ ...rest, msg: { n: msg.n } }));
    const response = await this.env.RECEIVER.fetch(`http://receiver/${this.backend}`, { method: "POST", body: JSON.stringify(short) });
    const order = await response.text();
    if (order === "throw") throw new Error("The destination is down.");
    if (order === "abort") this.ctx.abort("The run dies.");
    if (order !== "deliver") await new Promise(() => {});
  }
}

function native(storage: DurableObjectStorage): DurableObjectStorage {
  const prototype: DurableObjectStorage = Object.getPrototypeOf(storage);
  return {
    getAlarm: () => prototype.getAlarm.call(storage),
    deleteAlarm: () => prototype.deleteAlarm.call(storage),
  } as DurableObjectStorage;
}

/** A wrapped box that counts how often the platform's alarm is set, below the outbox. */
function box(backend: Backend): new (ctx: DurableObjectState, env: Env) => Box & { alarmsArmed: number } {
  const Wrapped = withTransactionalOutbox(class extends Box {}, {
    retry: { minDelaySeconds: 0.1, maxDelaySeconds: 0.5, jitter: 0 },
    onEvent: (event) => void events.push({ ...event, backend }),
  });
  return class extends Wrapped {
    override readonly backend = backend;
    alarmsArmed: number;
    constructor(ctx: DurableObjectState, env: Env) {
      const counter = { count: 0 };
      const setAlarm = ctx.storage.setAlarm.bind(ctx.storage);
      const value = (...args: Parameters<typeof setAlarm>) => {
        counter.count++;
        return setAlarm(...args);
      };
      Object.defineProperty(ctx.storage, "setAlarm", { value, configurable: true, writable: true });
      super(ctx, env);
      this.alarmsArmed = 0;
      Object.defineProperty(this, "alarmsArmed", { get: () => counter.count });
    }
  };
}

export class SqliteBox extends box("sqlite") {}
export class KvBox extends box("kv") {}

export default {
  /** `/events`, or `/<backend>/<object>/<method>` with the arguments as JSON. */
  async fetch(request, env) {
    const [backend, name = "", method = ""] = new URL(request.url).pathname.slice(1).split("/");
    if (backend === "events") return Response.json(events);
    const namespace = backend === "sqlite" ? env.SQLITE : env.KV;
    const stub = namespace.get(namespace.idFromName(name)) as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
    try {
      const result = await stub[method]?.(...((await request.json()) as unknown[]));
      return result === undefined ? new Response(null) : Response.json(result);
    } catch (error) {
      return new Response(String(error), { status: 500 });
    }
  },
} satisfies ExportedHandler<Env>;
