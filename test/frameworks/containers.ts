/** A container-enabled object of the Containers package, as the framework has it and wrapped. Its engine is a stand-in. */
import { Container } from "@cloudflare/containers";
import { type OutboxManager, type OutboxMessage, withTransactionalOutbox } from "../../src/index.ts";
import { Engine } from "./engine.ts";
import { deliver, note, type OutboxEnv, options } from "./stage.ts";

export class BareBoxed extends Container<OutboxEnv & Cloudflare.Env> {
  override defaultPort = 8080;
  override sleepAfter = "2s";
  override entrypoint: string[] = ["serve"];

  constructor(ctx: DurableObjectState, env: OutboxEnv & Cloudflare.Env) {
    Object.defineProperty(ctx, "container", { value: new Engine() });
    super(ctx as never, env);
  }

  get outbox(): OutboxManager {
    return this.env.OUTBOX_MANAGER;
  }

  /** What schedules call. */
  async task(payload: unknown): Promise<void> {
    await note(this, this.ctx, "task", payload);
  }

  override async onStart(): Promise<void> {
    await note(this, this.ctx, "start");
  }

  override async onStop(): Promise<void> {
    await note(this, this.ctx, "stop");
  }

  async sendMessages(messages: OutboxMessage[]): Promise<void> {
    await deliver(this, this.ctx, messages);
  }
}

export const Boxed: typeof BareBoxed = withTransactionalOutbox(class Boxed extends BareBoxed {}, options);
