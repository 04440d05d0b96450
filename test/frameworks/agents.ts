/** An agent of the Agents SDK, as the framework has it and wrapped. */
import { Agent as SdkAgent } from "agents";
import { type OutboxManager, type OutboxMessage, withTransactionalOutbox } from "../../src/index.ts";
import { deliver, note, type OutboxEnv, options, stageOf } from "./stage.ts";

export interface Counted {
  count: number;
}

export class BareAgent extends SdkAgent<Cloudflare.Env & OutboxEnv, Counted> {
  override initialState: Counted = { count: 0 };

  get outbox(): OutboxManager {
    return this.env.OUTBOX_MANAGER;
  }

  /** It notes the start alone: what a test has scripted is for a schedule or the queue. */
  override onStart(): void {
    stageOf(this.ctx).notes.push({ what: "start", detail: undefined, at: Date.now() });
  }

  /** What schedules and the queue call. */
  async task(payload: unknown): Promise<void> {
    await note(this, this.ctx, "task", payload);
  }

  override async onRequest(request: Request): Promise<Response> {
    const order = new URL(request.url).pathname;
    this.setState({ count: this.state.count + 1 });
    await this.outbox.send(order);
    return Response.json(this.state);
  }

  async sendMessages(messages: OutboxMessage[]): Promise<void> {
    await deliver(this, this.ctx, messages);
  }
}

export const Agent: typeof BareAgent = withTransactionalOutbox(class Agent extends BareAgent {}, options);
