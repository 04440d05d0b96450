/** The worker under test in the pool: one scripted class, once for each backend, and a second class beside it. */
import { DurableObject } from "cloudflare:workers";
import type { OutboxDelivery, OutboxEvent, OutboxManager, OutboxMessage } from "../../src/index.ts";
import { withTransactionalOutbox } from "../../src/index.ts";

export interface Env {
  BOX_SQLITE: DurableObjectNamespace<Box>;
  BOX_KV: DurableObjectNamespace<Box>;
  OTHER_SQLITE: DurableObjectNamespace<Box>;
  OTHER_KV: DurableObjectNamespace<Box>;
}

interface BoxEnv extends Env {
  OUTBOX_MANAGER: OutboxManager;
}

/** What a test sees of one call of `sendMessages`. */
export type Sent = OutboxMessage[];

/** Counted storage calls, by the billing rules: a row for each key put or deleted, a row for each alarm set. */
export interface Ledger {
  rows: number;
  alarms: number;
  reads: number;
  /** Keys written and deleted, in order, without those of the object's own state. */
  keys: string[];
}

/** Events of all objects in this isolate, newest last. Tests filter by id. */
export const events: OutboxEvent[] = [];

/** An object whose behaviour a test scripts from outside, through `runInDurableObject`. */
export class Box extends DurableObject<BoxEnv> {
  /** Every call of `sendMessages`, in order. */
  calls: Sent[] = [];
  /** What the next calls do; beyond the last one they succeed. */
  script: ((messages: Sent, delivery: OutboxDelivery) => unknown)[] = [];
  /** Every call of the object's own `alarm`, with the time at which it came. */
  alarms: { info: AlarmInvocationInfo | undefined; at: number }[] = [];
  onAlarm: ((info: AlarmInvocationInfo | undefined) => unknown) | undefined;
  #secret = "kept";

  get outbox(): OutboxManager {
    return this.env.OUTBOX_MANAGER;
  }

  hello(name: string): string {
    return `hello ${name}, ${this.#secret}`;
  }

  get greeting(): string {
    return "a getter";
  }

  override async fetch(request: Request): Promise<Response> {
    return new Response(`fetched ${new URL(request.url).pathname}`);
  }

  async sendMessages(messages: Sent, delivery: OutboxDelivery): Promise<void> {
    this.calls.push(structuredClone(messages));
    await this.script.shift()?.(messages, delivery);
  }

  override async alarm(info?: AlarmInvocationInfo): Promise<void> {
    this.alarms.push({ info, at: Date.now() });
    await this.onAlarm?.(info);
  }
}

const options = {
  retry: { minDelaySeconds: 0.1, maxDelaySeconds: 1, jitter: 0 },
  timeoutSeconds: 1,
  onEvent: (event: OutboxEvent) => void events.push(event),
};

/** Own properties below the outbox's shadows: they count what reaches the native storage. */
function counted(storage: DurableObjectStorage, ledger: Ledger): void {
  const define = (name: string, value: unknown) => Object.defineProperty(storage, name, { value, configurable: true, writable: true });
  const native = Object.fromEntries(
    (["get", "list", "put", "delete", "setAlarm"] as const).map((name) => [name, storage[name].bind(storage)]),
  ) as unknown as DurableObjectStorage;
  const row = (key: string) => {
    if (!key.startsWith("\u{10FFFF}")) return;
    ledger.rows++;
    ledger.keys.push(key);
  };
  define("put", (first: string | Record<string, unknown>, ...rest: never[]) => {
    for (const key of typeof first === "string" ? [first] : Object.keys(first)) row(key);
    return (native.put as (...args: unknown[]) => unknown)(first, ...rest);
  });
  define("delete", (first: string | string[], ...rest: never[]) => {
    for (const key of typeof first === "string" ? [first] : first) row(key);
    return (native.delete as (...args: unknown[]) => unknown)(first, ...rest);
  });
  define("setAlarm", (...args: [number]) => {
    ledger.alarms++;
    return native.setAlarm(...args);
  });
  for (const name of ["get", "list"] as const) {
    define(name, (...args: never[]) => {
      ledger.reads++;
      return (native[name] as (...args: unknown[]) => unknown)(...args);
    });
  }
}

/** A wrapped box that counts its storage calls. A class that extends a wrapped class is itself one of the tested forms. */
function box(): { new (ctx: DurableObjectState, env: BoxEnv): Box & { ledger: Ledger } } {
  return class extends withTransactionalOutbox(class extends Box {}, options) {
    ledger: Ledger;
    constructor(ctx: DurableObjectState, env: BoxEnv) {
      const ledger: Ledger = { rows: 0, alarms: 0, reads: 0, keys: [] };
      counted(ctx.storage, ledger);
      super(ctx, env);
      this.ledger = ledger;
    }
  };
}

export class SqliteBox extends box() {}
export class KvBox extends box() {}
export class OtherSqliteBox extends box() {}
export class OtherKvBox extends box() {}

export default {} satisfies ExportedHandler<Env>;
