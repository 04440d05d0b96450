/** The worker under test inside workerd: one scripted class, once for each backend, a second class beside it, and classes that tests declare. */
import "./one-proxy.ts";
import { DurableObject } from "cloudflare:workers";
import type { OutboxDelivery, OutboxEvent, OutboxManager, OutboxMessage, OutboxOptions } from "../../../src/index.ts";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { counted, type Ledger } from "./ledger.ts";

export interface Env {
  BOX_SQLITE: DurableObjectNamespace<Box>;
  BOX_KV: DurableObjectNamespace<Box>;
  OTHER_SQLITE: DurableObjectNamespace<Box>;
  OTHER_KV: DurableObjectNamespace<Box>;
  FORM_SQLITE: DurableObjectNamespace<Box>;
  FORM_KV: DurableObjectNamespace<Box>;
  REPORTER_SQLITE: DurableObjectNamespace<Box>;
  REPORTER_KV: DurableObjectNamespace<Box>;
  OUTBOX_FLEET: DurableObjectNamespace<never>;
  SMALL_FLEET: DurableObjectNamespace<never>;
}

export interface BoxEnv extends Env {
  OUTBOX_MANAGER: OutboxManager;
}

/** What a test sees of one call of `sendMessages`. */
export type Sent = OutboxMessage[];

type Step = (messages: Sent, delivery: OutboxDelivery) => unknown;

/** What a test scripts for one object and sees of it. It stands beside the object, and so survives its crashes. */
export interface Stage {
  /** Every call of `sendMessages`, in order. */
  readonly calls: Sent[];
  /** What the next calls do; beyond the last one they do `rest`. */
  readonly script: Step[];
  /** What calls do that have no step of their own: by default they succeed. */
  rest: Step;
  /** Every call of the object's own `alarm`, with the time at which it came. */
  readonly alarms: { info: AlarmInvocationInfo | undefined; at: number }[];
  /** What the object's own `alarm` does. */
  onAlarm: (state: DurableObjectState, outbox: OutboxManager) => unknown;
}

const stages = new Map<string, Stage>();

export function stageOf({ id }: { readonly id: DurableObjectId }): Stage {
  const found = stages.get(id.toString());
  if (found !== undefined) return found;
  const stage: Stage = { calls: [], script: [], rest: () => {}, alarms: [], onAlarm: () => {} };
  stages.set(id.toString(), stage);
  return stage;
}

/** Events of all objects in this isolate, newest last. Tests filter by id. */
export const events: OutboxEvent[] = [];

/** An object whose behaviour a test scripts from outside, on its stage. */
export class Box extends DurableObject<BoxEnv> {
  readonly stage: Stage = stageOf(this.ctx);
  #secret = "kept";

  get calls(): Sent[] {
    return this.stage.calls;
  }

  get script(): Step[] {
    return this.stage.script;
  }

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
    const { calls, script, rest } = this.stage;
    calls.push(structuredClone(messages));
    await (script.shift() ?? rest)(messages, delivery);
  }

  override async alarm(info?: AlarmInvocationInfo): Promise<void> {
    // A copy: what the platform hands over is no plain object.
    const { retryCount = 0, isRetry = false, scheduledTime = 0 } = info ?? {};
    this.stage.alarms.push({ info: info && { retryCount, isRetry, scheduledTime }, at: Date.now() });
    await this.stage.onAlarm(this.ctx, this.outbox);
  }
}

/** Options that make failures quick: 0.1 s, doubling up to 1 s. No call takes so long that it fails, however busy the machine. */
export const options: OutboxOptions<"OUTBOX_MANAGER"> = {
  retry: { minDelaySeconds: 0.1, maxDelaySeconds: 1, jitter: 0 },
  timeoutSeconds: 600,
  onEvent: (event: OutboxEvent) => void events.push(event),
};

/** A wrapped box that counts its storage calls. A class that extends a wrapped class is itself one of the tested forms. */
function box(): { new (ctx: DurableObjectState, env: BoxEnv): Box & { ledger: Ledger } } {
  return class extends withTransactionalOutbox(class extends Box {}, options) {
    ledger: Ledger;
    constructor(ctx: DurableObjectState, env: BoxEnv) {
      const ledger = counted(ctx.storage);
      super(ctx, env);
      this.ledger = ledger;
    }
  };
}

export class SqliteBox extends box() {}
export class KvBox extends box() {}
export class OtherSqliteBox extends box() {}
export class OtherKvBox extends box() {}

/** A class that a test declares for one object. */
export type Form = new (ctx: DurableObjectState, env: never) => object;

export const forms: Map<string, Form> = new Map<string, Form>();

/** Constructs what was declared for the object's id. */
function form(): typeof Box {
  return new Proxy(Box, {
    construct(_, [ctx, env]: [DurableObjectState, never]) {
      const Declared = forms.get(ctx.id.toString());
      if (Declared === undefined) throw new Error("No class was declared for this object.");
      return new Declared(ctx, env);
    },
  });
}

export const SqliteForm: typeof Box = form();
export const KvForm: typeof Box = form();

export { Fleet, KvReporter, SmallFleet, SqliteReporter } from "./fleet-worker.ts";
export { KvInbox, SqliteInbox } from "./inbox-worker.ts";
export { KvInspected, NoOutbox, SqliteInspected } from "./inspected-worker.ts";

export default {} satisfies ExportedHandler<Env>;
