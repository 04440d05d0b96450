/** An actor of the Actors package, as the framework has it and wrapped. */
import { Actor } from "@cloudflare/actors";
import { type OutboxManager, type OutboxMessage, withTransactionalOutbox } from "../../src/index.ts";
import { deliver, note, type OutboxEnv, options } from "./stage.ts";

export class BarePlayer extends Actor<OutboxEnv> {
  get outbox(): OutboxManager {
    return this.env.OUTBOX_MANAGER;
  }

  /** What schedules call. */
  async task(payload: unknown): Promise<void> {
    await note(this, this.ctx, "task", payload);
  }

  protected override async onAlarm(): Promise<void> {
    await note(this, this.ctx, "alarm");
  }

  protected override async onRequest(request: Request): Promise<Response> {
    await this.outbox.send(new URL(request.url).pathname);
    return new Response(`${this.identifier} has served`);
  }

  async sendMessages(messages: OutboxMessage[]): Promise<void> {
    await deliver(this, this.ctx, messages);
  }
}

export const Player: typeof BarePlayer = withTransactionalOutbox(class Player extends BarePlayer {}, options);
