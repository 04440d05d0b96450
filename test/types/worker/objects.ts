/** Objects in the form that the documentation teaches, with nothing annotated: two that send to each other, and those that its fragments send to. */
import { DurableObject } from "cloudflare:workers";
import { type OutboxManager, type OutboxTransaction, withTransactionalOutbox } from "do-transactional-outbox";
import { byType, toDurableObject, toQueue } from "do-transactional-outbox/destinations";
import { consumeQueue, type InboxManager, type OutboxEnvelope, withTransactionalInbox } from "do-transactional-outbox/inbox";

type Asked = { type: "asked"; buyer: string; item: string; quantity: number };
type Sold = { type: "sold"; buyer: string };
type Noted = { type: "noted"; text: string };

class BuyerBase extends DurableObject<Env & { OUTBOX_MANAGER: OutboxManager<Asked> }> {
  static readonly version = 3;
  #quantity = 1;

  async ask(item: string): Promise<void> {
    const buyer = this.ctx.id.name ?? "";
    await this.env.OUTBOX_MANAGER.put("asked", item, { type: "asked", buyer, item, quantity: this.#quantity });
  }
  async receiveMessage({ msg }: OutboxEnvelope<Sold>, txn: OutboxTransaction<Asked>): Promise<void> {
    await txn.put("bought", msg.buyer);
  }
  sendMessages = toDurableObject(this.env.SELLER, ({ msg }) => msg.item);
}
export class Buyer extends withTransactionalInbox(withTransactionalOutbox(BuyerBase, { batchSize: 10 }), { ordered: true }) {}

/** The wrappers the other way round. */
class SellerBase extends DurableObject<Env & { OUTBOX_MANAGER: OutboxManager<Sold | Noted> }> {
  async receiveMessage({ msg }: OutboxEnvelope<Asked>, txn: OutboxTransaction<Sold | Noted>): Promise<void> {
    await txn.put("left", ((await txn.get<number>("left")) ?? 0) - msg.quantity);
    await txn.send({ type: "sold", buyer: msg.buyer });
  }
  async left(): Promise<number> {
    return (await this.ctx.storage.get<number>("left")) ?? 0;
  }
  sendMessages = byType<Sold | Noted>({
    sold: toDurableObject(this.env.BUYER, ({ msg }) => msg.buyer),
    noted: toQueue(this.env.AUDIT_QUEUE),
  });
}
export class Seller extends withTransactionalOutbox(withTransactionalInbox(SellerBase)) {}

class CustomersBase extends DurableObject<Env> {
  async receiveMessage({ msg }: OutboxEnvelope<{ type: string; customer: string }>, txn: OutboxTransaction): Promise<void> {
    await txn.put("customer", msg.customer);
  }
}
export class Customers extends withTransactionalInbox(CustomersBase) {}

/** It receives by its own code. */
class LedgerBase extends DurableObject<Env & { INBOX_MANAGER: InboxManager<{ type: "order_paid"; account: string }> }> {
  async receiveMessage({ msg }: OutboxEnvelope<{ type: "order_paid"; account: string }>): Promise<void> {
    await this.ctx.storage.put("account", msg.account);
  }
  async enter(message: OutboxEnvelope<{ type: "order_paid"; account: string }>): Promise<boolean> {
    const { duplicate } = await this.env.INBOX_MANAGER.receive(message, (txn, { msg }) => txn.put("account", msg.account));
    return duplicate;
  }
}
export class Ledger extends withTransactionalInbox(LedgerBase) {}

/** It has no inbox. */
export class Plain extends DurableObject<Env> {
  async hello(): Promise<number> {
    return 1;
  }
}

/** What an env gives to somebody who calls the objects. */
export async function called(env: Env): Promise<void> {
  await env.BUYER.getByName("b").ask("apple");
  const left: number = await env.SELLER.getByName("apple").left();
  // @ts-expect-error A wrong argument.
  await env.BUYER.getByName("b").ask(1);
  // @ts-expect-error A method that the class does not have.
  await env.BUYER.getByName("b").missing();
  const version: number = Buyer.version;
  void [left, version];
}

export async function consumed(batch: MessageBatch<OutboxEnvelope<Asked>>, env: Env): Promise<void> {
  await consumeQueue(batch, env, { route: ({ msg }, { SELLER }) => SELLER.getByName(msg.item) });
  await consumeQueue(batch as MessageBatch, env, { route: ({ key = "none" }, { SELLER }) => SELLER.getByName(key) });
  // @ts-expect-error The target has no inbox.
  await consumeQueue(batch, env, { route: ({ key = "none" }, { PLAIN }) => PLAIN.getByName(key) });
}

class ToPlain extends DurableObject<Env & { OUTBOX_MANAGER: OutboxManager<Sold> }> {
  // @ts-expect-error The target has no inbox.
  sendMessages = toDurableObject(this.env.PLAIN, () => "a");
}
// @ts-expect-error Env has no such manager.
export class Misnamed extends withTransactionalOutbox(ToPlain, { binding: "BUYER" }) {}

class ToBuyer extends DurableObject<Env & { OUTBOX_MANAGER: OutboxManager<Asked> }> {
  async receiveMessage(_: OutboxEnvelope<Sold>): Promise<void> {}
  sendMessages = toDurableObject(this.env.BUYER, ({ msg }) => msg.buyer);
}
// @ts-expect-error A buyer does not take what this sends.
export class Mistaken extends withTransactionalInbox(withTransactionalOutbox(ToBuyer)) {}
