/**
 * A shop: an order is an object that asks the stock of its item, another object, to reserve what was ordered. A parcel has two destinations.
 */
import { DurableObject } from "cloudflare:workers";
import {
  type OutboxDestinations,
  type OutboxManager,
  type OutboxMessage,
  type OutboxTransaction,
  withTransactionalOutbox,
} from "do-transactional-outbox";
import { toDurableObject } from "do-transactional-outbox/destinations";
import { type OutboxEnvelope, withTransactionalInbox } from "do-transactional-outbox/inbox";

export type OrderCreated = { type: "order_created"; order: number; item: string; quantity: number };
export type OrderReminder = { type: "order_reminder"; order: number; item: string };
export type OrderMessage = OrderCreated | OrderReminder;
export type StockReserved = { type: "stock_reserved"; order: number; left: number };

export type Shipped = { type: "shipped"; parcel: number };

export interface Env {
  ORDERS: DurableObjectNamespace<Orders>;
  STOCK: DurableObjectNamespace<Stock>;
  PARCELS: DurableObjectNamespace<Parcels>;
}

interface OrdersEnv extends Env {
  OUTBOX_MANAGER: OutboxManager<OrderMessage>;
}

class OrdersBase extends DurableObject<OrdersEnv> {
  async create(order: number, item: string, quantity: number): Promise<void> {
    await this.env.OUTBOX_MANAGER.put(`order:${order}`, { item, quantity }, { type: "order_created", order, item, quantity });
  }

  async remind(order: number, item: string, delaySeconds: number): Promise<void> {
    await this.env.OUTBOX_MANAGER.send({ type: "order_reminder", order, item }, { delaySeconds });
  }

  async has(order: number): Promise<boolean> {
    return (await this.ctx.storage.get(`order:${order}`)) !== undefined;
  }

  async closeAt(time: number): Promise<void> {
    await this.ctx.storage.setAlarm(time);
  }

  async isClosed(): Promise<boolean> {
    return (await this.ctx.storage.get("closed")) === true;
  }

  override async alarm(): Promise<void> {
    await this.ctx.storage.put("closed", true);
  }

  sendMessages = toDurableObject<OrderMessage>(this.env.STOCK, ({ msg }) => msg.item);
}

export class Orders extends withTransactionalOutbox(OrdersBase) {}

class StockBase extends DurableObject<{ OUTBOX_MANAGER: OutboxManager<StockReserved> }> {
  reported: number[] = [];

  async receiveMessage({ msg }: OutboxEnvelope<OrderMessage>, txn: OutboxTransaction<StockReserved>): Promise<void> {
    if (msg.type === "order_reminder") return;
    const left = ((await txn.get<number>("left")) ?? 10) - msg.quantity;
    if (left < 0) throw new Error(`There is not enough of ${msg.item}.`);
    await txn.put("left", left);
    await txn.send({ type: "stock_reserved", order: msg.order, left });
  }

  async left(): Promise<number> {
    return (await this.ctx.storage.get<number>("left")) ?? 10;
  }

  async sendMessages(messages: { msg: StockReserved }[]): Promise<void> {
    this.reported.push(...messages.map(({ msg }) => msg.order));
  }
}

export class Stock extends withTransactionalInbox(withTransactionalOutbox(StockBase)) {}

class ParcelsBase extends DurableObject<Env & { OUTBOX_MANAGER: OutboxManager<Shipped> }> {
  async ship(parcel: number): Promise<void> {
    await this.env.OUTBOX_MANAGER.put(`parcel:${parcel}`, "shipped", { type: "shipped", parcel });
  }

  destinations = {
    tracking: async (messages: OutboxMessage<Shipped>[]) => console.log(`Tracked: ${messages.length}`),
    billing: async (messages: OutboxMessage<Shipped>[]) => console.log(`Billed: ${messages.length}`),
  } satisfies OutboxDestinations<Shipped>;
}

export class Parcels extends withTransactionalOutbox(ParcelsBase) {}

export default {
  async fetch(): Promise<Response> {
    return new Response("A shop.");
  },
} satisfies ExportedHandler<Env>;
