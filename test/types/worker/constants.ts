/** What keeps working beside the form that the documentation teaches, without `declaration`: constants, and decorators. */
import { DurableObject } from "cloudflare:workers";
import { type OutboxManager, type OutboxMessage, type OutboxTransaction, withTransactionalOutbox } from "do-transactional-outbox";
import { toDurableObject } from "do-transactional-outbox/destinations";
import { type OutboxEnvelope, withTransactionalInbox } from "do-transactional-outbox/inbox";

type Ping = { type: "ping"; to: string };
type Pong = { type: "pong"; to: string };

interface Pair {
  PINGER: DurableObjectNamespace<Pinger>;
  PONGER: DurableObjectNamespace<Ponger>;
}

export const Pinger = withTransactionalInbox(
  withTransactionalOutbox(
    class Pinger extends DurableObject<Pair & { OUTBOX_MANAGER: OutboxManager<Ping> }> {
      async start(to: string): Promise<void> {
        await this.env.OUTBOX_MANAGER.send({ type: "ping", to });
      }
      async receiveMessage({ msg }: OutboxEnvelope<Pong>, txn: OutboxTransaction<Ping>): Promise<void> {
        await txn.put("last", msg.type);
      }
      sendMessages = toDurableObject<Ping>(this.env.PONGER, ({ msg }) => msg.to);
    },
  ),
);
export type Pinger = InstanceType<typeof Pinger>;

export const Ponger = withTransactionalInbox(
  withTransactionalOutbox(
    class Ponger extends DurableObject<Pair & { OUTBOX_MANAGER: OutboxManager<Pong> }> {
      async receiveMessage({ msg }: OutboxEnvelope<Ping>, txn: OutboxTransaction<Pong>): Promise<void> {
        await txn.send({ type: "pong", to: msg.to });
      }
      sendMessages = toDurableObject(this.env.PINGER, ({ msg }) => msg.to);
    },
  ),
);
export type Ponger = InstanceType<typeof Ponger>;

export async function called({ PINGER }: Pair): Promise<void> {
  await PINGER.getByName("a").start("b");
  // @ts-expect-error A wrong argument.
  await PINGER.getByName("a").start(1);
}

@withTransactionalInbox
@withTransactionalOutbox
export class Decorated extends DurableObject<Env & { OUTBOX_MANAGER: OutboxManager<Ping> }> {
  async receiveMessage(_: OutboxEnvelope<Ping>): Promise<void> {}
  async sendMessages(_: OutboxMessage<Ping>[]): Promise<void> {}
}

@((cls) => withTransactionalOutbox(cls, { batchSize: 10 }))
export class WithOptions extends DurableObject<Env & { OUTBOX_MANAGER: OutboxManager<Ping> }> {
  async sendMessages(_: OutboxMessage<Ping>[]): Promise<void> {}
}

/** A binding of a class in another worker says nothing of it. */
export class Unknown extends DurableObject<Env & { OUTBOX_MANAGER: OutboxManager<Ping> }> {
  sendMessages = toDurableObject(this.env.ELSEWHERE, ({ msg }: OutboxMessage<Ping>) => msg.to);
}
