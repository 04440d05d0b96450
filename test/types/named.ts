/** What compiles of named destinations and what must not: checked by `tsc`, never run. */
import { DurableObject } from "cloudflare:workers";
import { toQueue, toWebhook } from "../../src/destinations/index.ts";
import {
  type OutboxDeadLetter,
  type OutboxDestinations,
  type OutboxManager,
  type OutboxMessage,
  type OutboxTransaction,
  withTransactionalOutbox,
} from "../../src/index.ts";

type OrderMessage = { type: "order_created"; order: number } | { type: "order_paid"; order: number; cents: number };

interface Env {
  SEARCH: Queue;
  OUTBOX_MANAGER: OutboxManager<OrderMessage>;
}

class OrdersBase extends DurableObject<Env> {
  destinations = {
    search: toQueue(this.env.SEARCH),
    billing: {
      send: toWebhook("https://billing.example", { secret: "s" }),
      types: ["order_paid"],
      timeoutSeconds: 15,
      formerly: ["invoices"],
    },
    audit: async (messages: OutboxMessage<OrderMessage>[]) => void messages,
  } satisfies OutboxDestinations<OrderMessage>;

  async pay(order: number): Promise<number> {
    await this.env.OUTBOX_MANAGER.put(`paid:${order}`, true, { type: "order_paid", order, cents: 100 });
    await this.env.OUTBOX_MANAGER.pause({ destination: "billing" });
    const { destinations } = await this.env.OUTBOX_MANAGER.stats();
    return destinations.billing?.pending ?? 0;
  }
}

export class Orders extends withTransactionalOutbox(OrdersBase) {}
declare const orders: DurableObjectStub<Orders>;
export const paid: Promise<number> = orders.pay(1);

class BothBase extends OrdersBase {
  async sendMessages(messages: OutboxMessage<OrderMessage>[]): Promise<void> {
    void messages;
  }
}
export class Both extends withTransactionalOutbox(BothBase) {}

export const misspelt = {
  // @ts-expect-error A type that no message has.
  billing: { send: async () => {}, types: ["order_payed"] },
} satisfies OutboxDestinations<OrderMessage>;

export const unknownOption = {
  // @ts-expect-error An option that does not exist.
  billing: { send: async () => {}, timeoutSecs: 5 },
} satisfies OutboxDestinations<OrderMessage>;

export const other = {
  // @ts-expect-error A handler of other messages.
  audit: async (messages: OutboxMessage<{ type: "other" }>[]) => void messages,
} satisfies OutboxDestinations<OrderMessage>;

class WrongBase extends DurableObject<Env> {
  destinations = { audit: async (messages: OutboxMessage<{ type: "other" }>[]) => void messages };
}
// @ts-expect-error Destinations of other messages than the manager's.
export class Wrong extends withTransactionalOutbox(WrongBase) {}

class HandlingBase extends OrdersBase {
  async deadMessage({ msg }: OutboxDeadLetter<OrderMessage>, destination: string, txn: OutboxTransaction<OrderMessage>): Promise<void> {
    await txn.put(`failed:${msg.order}`, destination);
    // @ts-expect-error A message of another type.
    await txn.send({ type: "order_lost", order: msg.order });
    await txn.send({ type: "order_created", order: msg.order });
  }
}
export class Handling extends withTransactionalOutbox(HandlingBase) {}

class HandlingOthersBase extends OrdersBase {
  async deadMessage({ msg }: OutboxDeadLetter<{ lost: string }>): Promise<void> {
    void msg.lost;
  }
}
// @ts-expect-error A deadMessage of other messages.
export class HandlingOthers extends withTransactionalOutbox(HandlingOthersBase) {}
