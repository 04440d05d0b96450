/** Which destinations compile with which messages, and which must not: checked by `tsc -p test`, never run. */
import { DurableObject } from "cloudflare:workers";
import { byType, type Destination, toDurableObject, toQueue, toWebhook } from "../../src/destinations/index.ts";
import { type OutboxEnvelope, withTransactionalInbox } from "../../src/inbox/index.ts";
import { type OutboxManager, type OutboxMessage, withTransactionalOutbox } from "../../src/index.ts";

type Order = { type: "order_created"; order: number } | { type: "order_paid"; cents: number };
class Inbox extends withTransactionalInbox(
  class extends DurableObject {
    async receiveMessage(_: OutboxEnvelope<Order>): Promise<void> {}
  },
) {}
class NoInbox extends DurableObject {
  async take(): Promise<void> {}
}
interface Env {
  QUEUE: Queue;
  TYPED: Queue<{ other: string }>;
  INBOX: DurableObjectNamespace<Inbox>;
  NO_INBOX: DurableObjectNamespace<NoInbox>;
  UNTYPED: DurableObjectNamespace;
  OUTBOX_MANAGER: OutboxManager<Order>;
}

export const Property = withTransactionalOutbox(
  class extends DurableObject<Env> {
    sendMessages = toQueue(this.env.QUEUE);
  },
);

export const Typed = withTransactionalOutbox(
  class extends DurableObject<Env> {
    sendMessages = byType<Order>({
      order_created: toQueue(this.env.TYPED, { body: ({ id, msg }) => ({ id, order: JSON.stringify(msg) }) }),
      order_paid: toDurableObject(this.env.INBOX, ({ msg }) => `cents ${msg.cents}`),
      default: toWebhook("https://example.com", { secret: new Uint8Array(32) }),
    });
  },
);

export const Method = withTransactionalOutbox(
  class extends DurableObject<Env> {
    async sendMessages(...[messages, delivery]: Parameters<Destination<Order>>) {
      await toDurableObject(this.env.UNTYPED, ({ key, msg }: OutboxMessage<Order>) => key ?? msg.type)(messages, delivery);
    }
  },
);

// Without a type argument any type may have a route.
export const untyped: Destination = byType({ anything: toQueue({} as Queue), default: toQueue({} as Queue) });

// @ts-expect-error: no message has this type.
byType<Order>({ order_lost: toQueue({} as Queue) });
// @ts-expect-error: this destination takes the messages of another type.
byType<Order>({ order_created: {} as Destination<{ type: "order_paid"; cents: number }> });
// @ts-expect-error: a name or an id, not a number.
toDurableObject({} as DurableObjectNamespace, () => 1);
// @ts-expect-error: a secret is required.
toWebhook("https://example.com", {});
// @ts-expect-error: a namespace is no queue.
toQueue({} as DurableObjectNamespace);
// @ts-expect-error: the message has no such field.
toQueue<Order>({} as Queue, { body: ({ msg }) => msg.missing });

export const Wrong = withTransactionalOutbox(
  // @ts-expect-error: the destination takes other messages than the manager's.
  class extends DurableObject<Env> {
    sendMessages: Destination<{ type: "another" }> = toQueue(this.env.QUEUE);
  },
);
