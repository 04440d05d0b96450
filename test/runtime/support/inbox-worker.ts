/** The objects that are called over RPC: an inbox that does what its messages say, around an outbox and within one. */
import { DurableObject } from "cloudflare:workers";
import { type InboxReceiver, type OutboxEnvelope, withTransactionalInbox } from "../../../src/inbox/index.ts";
import { type OutboxManager, type OutboxTransaction, withTransactionalOutbox } from "../../../src/index.ts";

/** What a message orders: to fail so often, for ever when that is negative, to kill its object so often, or to roll back. */
export interface Order {
  readonly fails?: number;
  readonly dies?: number;
  readonly rollsBack?: boolean;
}

/** How often a message has been handled. It stands beside the objects, and so survives them. */
const handled = new Map<string, number>();

class Target extends DurableObject<{ OUTBOX_MANAGER: OutboxManager }> {
  async receiveMessage(message: OutboxEnvelope, txn: OutboxTransaction): Promise<void> {
    const { id } = message;
    const { fails = 0, dies = 0, rollsBack = false } = Object(message.msg) as Order;
    const name = `${this.ctx.id} ${id}`;
    const times = (handled.get(name) ?? 0) + 1;
    handled.set(name, times);
    await txn.put(`effect:${id}`, ((await txn.get<number>(`effect:${id}`)) ?? 0) + 1);
    await txn.put("turns", [...((await txn.get<string[]>("turns")) ?? []), id]);
    if (times <= dies) this.ctx.abort("the target dies");
    if (fails < 0 || times <= fails) throw new Error(`It refuses ${id}.`);
    if (rollsBack) txn.rollback();
  }

  async effects(): Promise<Record<string, number>> {
    const found = await this.ctx.storage.list<number>({ prefix: "effect:" });
    return Object.fromEntries([...found].map(([key, count]) => [key.slice(7), count]));
  }

  async turns(): Promise<string[]> {
    return (await this.ctx.storage.get<string[]>("turns")) ?? [];
  }

  sendMessages(): void {}
}

type Class = new (ctx: DurableObjectState, env: { OUTBOX_MANAGER: OutboxManager }) => Target & InboxReceiver;

export const SqliteInbox: Class = withTransactionalInbox(withTransactionalOutbox(class extends Target {}));
export const KvInbox: Class = withTransactionalOutbox(withTransactionalInbox(class extends Target {}));

export type RpcInbox = InstanceType<Class>;
