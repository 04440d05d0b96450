/** Mistakes that must not compile, each as a newcomer makes it, and beside it what does: checked by `tsc -p test`, never run. */
import { DurableObject } from "cloudflare:workers";
import { byType, type Destination, toDurableObject, toQueue, toWebhook } from "../../src/destinations/index.ts";
import { consumeQueue, type InboxManager, type OutboxEnvelope, withTransactionalInbox } from "../../src/inbox/index.ts";
import {
  type OutboxManager,
  type OutboxMessage,
  type OutboxTransaction,
  type OutboxTransactionSync,
  withTransactionalOutbox,
} from "../../src/index.ts";

type Created = { type: "order_created"; order: number };
type Paid = { type: "order_paid"; cents: number };
type Order = Created | Paid;

interface Env {
  QUEUE: Queue;
  STOCK: DurableObjectNamespace<Stock>;
  PLAIN: DurableObjectNamespace<Plain>;
  UNTYPED: DurableObjectNamespace;
  OUTBOX_MANAGER: OutboxManager<Order>;
}

class Stock extends withTransactionalInbox(
  class extends DurableObject {
    async receiveMessage(_: OutboxEnvelope<Created>): Promise<void> {}
  },
) {}
class Plain extends DurableObject {
  async hello(): Promise<number> {
    return 1;
  }
}

class Base extends DurableObject<Env> {
  async sendMessages(_: OutboxMessage<Order>[]): Promise<void> {}
}

// ── A binding that is not the env's name.
withTransactionalOutbox(Base, { binding: "OUTBOX_MANAGER" });
// @ts-expect-error Env has no such name.
withTransactionalOutbox(Base, { binding: "OUTBOX" });
// @ts-expect-error The name is something else in Env.
withTransactionalOutbox(Base, { binding: "QUEUE" });
// A name that is known at run time only, and an env of which nothing is known.
withTransactionalOutbox(Base, { binding: "OUTBOX" as string });
withTransactionalOutbox(
  class extends DurableObject<unknown> {
    sendMessages() {}
  },
  { binding: "OUTBOX" },
);
class Receiver extends DurableObject<{ IN: InboxManager; OTHER: number }> {
  async receiveMessage(_: OutboxEnvelope): Promise<void> {}
}
withTransactionalInbox(Receiver, { binding: "IN", ordered: true });
// @ts-expect-error Env has no such name.
withTransactionalInbox(Receiver, { binding: "INBOX" });
// @ts-expect-error The name is something else in Env.
withTransactionalInbox(Receiver, { binding: "OTHER" });

// ── A target without an inbox, and messages that its inbox does not take.
export function targets({ STOCK, PLAIN, UNTYPED }: Env): void {
  // What the target takes is what the destination is for.
  const created: Destination<Created> = toDurableObject(STOCK, ({ msg }) => `order ${msg.order}`);
  toDurableObject<Order>(STOCK, ({ msg }) => msg.type);
  toDurableObject(UNTYPED, ({ msg }: OutboxMessage<Paid>) => `${msg.cents}`);
  toDurableObject({ idFromName: (_: string) => ({}) as DurableObjectId, get: (_: DurableObjectId) => ({}) as Stock }, () => "a");
  // biome-ignore lint/suspicious/noExplicitAny: what the name of a const becomes in an env that `wrangler types` has generated.
  toDurableObject<Order>({} as DurableObjectNamespace<any>, ({ msg }) => msg.type);
  void created;
  // @ts-expect-error Its class has no inbox.
  toDurableObject(PLAIN, () => "a");
  // @ts-expect-error Nor has it when the messages are given.
  toDurableObject<Order>(PLAIN, () => "a");
  // @ts-expect-error With the messages given, a binding without a class may have none.
  toDurableObject<Order>(UNTYPED, () => "a");
  // @ts-expect-error A message of the target has no such field.
  toDurableObject(STOCK, ({ msg }) => msg.customer);
  // @ts-expect-error The objects behind this have no inbox.
  toDurableObject({ idFromName: (_: string) => ({}) as DurableObjectId, get: (_: DurableObjectId) => ({}) as Plain }, () => "a");
}
withTransactionalOutbox(
  // @ts-expect-error The target takes some of the manager's messages only.
  class extends DurableObject<Env> {
    sendMessages = toDurableObject(this.env.STOCK, ({ msg }) => `order ${msg.order}`);
  },
);

// ── A `sendMessages` of other messages than the manager's, in a class with an inbox: found where it is extended.
class Other extends DurableObject<Env> {
  async receiveMessage(_: OutboxEnvelope<Paid>): Promise<void> {}
  async sendMessages(_: OutboxMessage<{ other: string }>[]): Promise<void> {}
}
// @ts-expect-error
export class OtherInside extends withTransactionalInbox(withTransactionalOutbox(Other)) {}
// @ts-expect-error
export class OtherOutside extends withTransactionalOutbox(withTransactionalInbox(Other)) {}

// ── A `receiveMessage` that is misspelt, or has the wrong shape.
withTransactionalInbox(
  // @ts-expect-error It is misspelt, and the class has no InboxManager either.
  class extends DurableObject<Env> {
    async recieveMessage(_: OutboxEnvelope<Order>): Promise<void> {}
  },
);
withTransactionalInbox(
  class extends DurableObject<Env & { INBOX_MANAGER: InboxManager<Order> }> {
    take(message: OutboxEnvelope<Order>) {
      return this.env.INBOX_MANAGER.receive(message, async () => {});
    }
  },
);
withTransactionalInbox(
  // @ts-expect-error It takes the message without its envelope.
  class extends DurableObject<Env> {
    async receiveMessage(_: Order): Promise<void> {}
  },
);
withTransactionalInbox(
  // @ts-expect-error It takes its arguments the other way round.
  class extends DurableObject<Env> {
    async receiveMessage(_: OutboxTransaction<Order>, __: OutboxEnvelope<Order>): Promise<void> {}
  },
);
withTransactionalInbox(
  // @ts-expect-error It is no function.
  class extends DurableObject<Env> {
    receiveMessage = 1;
  },
);
withTransactionalInbox(
  class extends DurableObject<Env> {
    receiveMessage = async (_: OutboxEnvelope<Order>, txn: DurableObjectTransaction) => txn.put("a", 1);
  },
);

// ── A `byType` that forgets a type and has no default.
const queue = toQueue({} as Queue);
byType<Order>({ order_created: queue, order_paid: queue });
byType<Order>({ order_created: queue, default: queue });
byType<Order>({ default: queue });
byType<{ type: string }>({ order_created: queue, default: queue });
// @ts-expect-error A message of type "order_paid" would have no way.
byType<Order>({ order_created: queue });
// @ts-expect-error Nor does an empty one have any.
byType<Order>({});
// @ts-expect-error No message has this type.
byType<Order>({ order_craeted: queue, default: queue });
// @ts-expect-error Messages without a type have no way.
byType<Order | { n: number }>({ order_created: queue, order_paid: queue });
// @ts-expect-error Any other type has no way.
byType<{ type: string }>({ order_created: queue });

// ── An async closure where there is no await.
export function sync(outbox: OutboxManager<Order>, inbox: InboxManager<Order>, message: OutboxEnvelope<Order>): void {
  const sent: string = outbox.transactionSync((txn) => txn.send({ type: "order_paid", cents: 1 }).id);
  // @ts-expect-error Async.
  outbox.transactionSync(async (txn) => void txn.send({ type: "order_paid", cents: 1 }));
  // @ts-expect-error It returns a promise.
  outbox.transactionSync((txn: OutboxTransactionSync<Order>) => Promise.resolve(txn));
  const value: number | undefined = inbox.receiveSync(message, () => 1).value;
  // @ts-expect-error Async.
  inbox.receiveSync(message, async () => 1);
  void [sent, value];
}

// ── The route of a queue's consumer.
export async function consumes(batch: MessageBatch<OutboxEnvelope<Order>>, untyped: MessageBatch, env: Env): Promise<void> {
  await consumeQueue(batch, env, { route: ({ msg }, { STOCK }) => STOCK.getByName(msg.type) });
  await consumeQueue(untyped, env, { route: ({ key = "none" }, { STOCK }) => STOCK.getByName(key) });
  // @ts-expect-error A message has no such field.
  await consumeQueue(batch, env, { route: ({ msg }, { STOCK }) => STOCK.getByName(msg.customer) });
  // @ts-expect-error Nothing is known of the messages of an untyped batch.
  await consumeQueue(untyped, env, { route: ({ msg }, { STOCK }) => STOCK.getByName(msg.type) });
  // @ts-expect-error The target has no inbox.
  await consumeQueue(batch, env, { route: (_, { PLAIN }) => PLAIN.getByName("a") });
}

// ── Others that have not compiled before either.
withTransactionalOutbox(
  class extends DurableObject<{ QUEUE: Queue }> {
    create() {
      // @ts-expect-error The env of the class has no manager.
      return this.env.OUTBOX_MANAGER.put("key", 1, {});
    }
    sendMessages() {}
  },
);
// @ts-expect-error A class without sendMessages.
withTransactionalOutbox(Plain);
abstract class Abstract extends DurableObject<Env> {
  abstract sendMessages(messages: OutboxMessage<Order>[]): Promise<void>;
}
// @ts-expect-error A class that is abstract.
withTransactionalOutbox(Abstract);
// @ts-expect-error An option of `retry` that does not exist.
withTransactionalOutbox(Base, { retry: { attempts: 3 } });
// @ts-expect-error A value that `dispatch` does not have.
withTransactionalOutbox(Base, { dispatch: "now" });
// @ts-expect-error A webhook without its options.
toWebhook("https://example.com");
