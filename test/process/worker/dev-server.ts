/** The worker of `dev-server.test.ts`: an object with an outbox and an inbox, in three forms, and a stranger who tries its handlers. */
import { DurableObject } from "cloudflare:workers";
import { type OutboxEnvelope, withTransactionalInbox } from "../../../src/inbox/index.ts";
import { type OutboxManager, type OutboxMessage, withTransactionalOutbox } from "../../../src/index.ts";

interface Env {
  METHODS: DurableObjectNamespace<Methods>;
  FIELDS: DurableObjectNamespace<Fields>;
  OVERRIDING: DurableObjectNamespace<Overriding>;
  OUTBOX_MANAGER: OutboxManager<string>;
}

class Base extends DurableObject<Env> {
  readonly noted: string[] = [];

  async go(): Promise<void> {
    await this.ctx.storage.setAlarm(Date.now());
    await this.env.OUTBOX_MANAGER.send("m");
  }

  log(): string[] {
    return this.noted;
  }

  /** What the object's own code finds in its prototypes. */
  found(): string[] {
    const { prototype } = this.constructor as typeof Overriding;
    return [typeof prototype.sendMessages, typeof prototype.receiveMessage];
  }
}

class WithMethods extends Base {
  override async alarm(): Promise<void> {
    this.noted.push("alarm");
  }
  async sendMessages(messages: OutboxMessage<string>[]): Promise<void> {
    this.noted.push(`sendMessages of ${messages.map(({ msg }) => msg)}`);
  }
  async receiveMessage({ id }: OutboxEnvelope): Promise<void> {
    this.noted.push(`receiveMessage of ${id}`);
  }
}

class WithFields extends Base {
  override alarm = async (): Promise<void> => void this.noted.push("alarm");
  sendMessages = async (messages: OutboxMessage<string>[]): Promise<void> =>
    void this.noted.push(`sendMessages of ${messages.map(({ msg }) => msg)}`);
  receiveMessage = async ({ id }: OutboxEnvelope): Promise<void> => void this.noted.push(`receiveMessage of ${id}`);
}

export class Methods extends withTransactionalInbox(withTransactionalOutbox(WithMethods)) {}
export class Fields extends withTransactionalOutbox(withTransactionalInbox(WithFields)) {}
export class Overriding extends withTransactionalInbox(withTransactionalOutbox(class extends WithMethods {})) {
  override sendMessages(messages: OutboxMessage<string>[]): Promise<void> {
    return super.sendMessages(messages);
  }
  override receiveMessage(message: OutboxEnvelope): Promise<void> {
    return super.receiveMessage(message);
  }
}

export default {
  /** `/<binding>/<method>` with the arguments as JSON. */
  async fetch(request, env) {
    const [binding = "", method = ""] = new URL(request.url).pathname.slice(1).split("/");
    const stub = env[binding as "METHODS"].getByName("a") as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
    try {
      return Response.json({ got: (await stub[method]?.(...((await request.json()) as unknown[]))) ?? null });
    } catch (error) {
      return Response.json({ threw: String(error) });
    }
  },
} satisfies ExportedHandler<Env>;
