/** A server of PartyServer that hibernates, as the framework has it and wrapped. */
import { type Connection, Server } from "partyserver";
import { type OutboxManager, type OutboxMessage, withTransactionalOutbox } from "../../src/index.ts";
import { deliver, note, type OutboxEnv, options } from "./stage.ts";

export class BareParty extends Server<OutboxEnv & Cloudflare.Env> {
  static override options = { hibernate: true };

  get outbox(): OutboxManager {
    return this.env.OUTBOX_MANAGER;
  }

  override async onStart(): Promise<void> {
    await note(this, this.ctx, "start");
  }

  override async onAlarm(): Promise<void> {
    await note(this, this.ctx, "alarm");
  }

  override async onRequest(request: Request): Promise<Response> {
    await note(this, this.ctx, "request");
    return new Response(`${this.name} has served ${new URL(request.url).pathname}`);
  }

  override async onMessage(connection: Connection, text: string): Promise<void> {
    await this.outbox.put("last", text, text);
    connection.send(`told ${text}`);
    this.broadcast(`all were told ${text}`, [connection.id]);
  }

  async sendMessages(messages: OutboxMessage[]): Promise<void> {
    await deliver(this, this.ctx, messages);
  }
}

export const Party: typeof BareParty = withTransactionalOutbox(class Party extends BareParty {}, options);
export class BareKvParty extends BareParty {}
export const KvParty: typeof BareParty = withTransactionalOutbox(class KvParty extends BareParty {}, options);
