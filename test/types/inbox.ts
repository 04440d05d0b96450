/** What compiles of the inbox and what must not: checked by `tsc -p test`, never run. */
import { DurableObject } from "cloudflare:workers";
import {
  type ConsumeOptions,
  consumeQueue,
  type InboxHandler,
  type InboxManager,
  type InboxOptions,
  type InboxReceipt,
  type OutboxEnvelope,
  withTransactionalInbox,
} from "../../src/inbox/index.ts";
import { type OutboxManager, type OutboxMessage, type OutboxTransaction, withTransactionalOutbox } from "../../src/index.ts";

type Booked = { type: "booked"; table: number };

interface Env {
  TABLES: DurableObjectNamespace<InstanceType<typeof Tables>>;
  OUTBOX_MANAGER: OutboxManager<{ type: "seated" }>;
  INBOX_MANAGER: InboxManager<Booked>;
}

// The example of the documentation: a class with both, in either order.
class Table extends DurableObject<Env> {
  static readonly version = 3;

  async receiveMessage(message: OutboxEnvelope<Booked>, txn: OutboxTransaction<{ type: "seated" }>): Promise<void> {
    const taken = (await txn.get<number>("taken")) ?? 0;
    await txn.put("taken", taken + message.msg.table);
    await txn.send({ type: "seated" });
  }

  async take(message: OutboxEnvelope<Booked>): Promise<number | undefined> {
    const receipt: InboxReceipt<number> = await this.env.INBOX_MANAGER.receive(message, async (txn, { msg }) => {
      await txn.put("table", msg.table);
      return msg.table;
    });
    const status: "processed" | "duplicate" | "waiting" | "rolled_back" = receipt.status;
    const duplicate: boolean = receipt.duplicate;
    void [status, duplicate];
    return receipt.value;
  }

  takeSync(message: OutboxEnvelope<Booked>): string | undefined {
    return this.env.INBOX_MANAGER.receiveSync(message, ({ sql, kv, send }, { msg }) => {
      sql.exec("INSERT INTO tables VALUES (?)", msg.table);
      kv.put("last", msg.table);
      const { id }: { id: string } = send({ type: "seated" });
      return id;
    }).value;
  }

  async sendMessages(_: OutboxMessage<{ type: "seated" }>[]): Promise<void> {}
}

export const Tables = withTransactionalInbox(withTransactionalOutbox(Table), { ordered: true });
export const Around = withTransactionalOutbox(withTransactionalInbox(Table));
export const Alone = withTransactionalInbox(class extends DurableObject<Pick<Env, "INBOX_MANAGER">> {});

const version: 3 = Tables.version;

export async function calls(env: Env, message: OutboxEnvelope<Booked>): Promise<void> {
  const stub = env.TABLES.getByName("a");
  const outcomes = await stub.receiveMessages([message]);
  const first: "processed" | "duplicate" | "waiting" | "failed" | undefined = outcomes[0]?.status;
  const value: number | undefined = await stub.take(message);
  void [first, value, version];
  // @ts-expect-error The list is no single message.
  await stub.receiveMessages(message);
  // @ts-expect-error Another message than the manager's.
  await env.INBOX_MANAGER.receive({ v: 1, id: "a", msg: { type: "other" } }, () => {});
  // @ts-expect-error A synchronous handler has no asynchronous storage.
  env.INBOX_MANAGER.receiveSync(message, (txn) => txn.put("a", 1));
  // @ts-expect-error A receipt can't be written to.
  (await env.INBOX_MANAGER.receive(message, () => {})).status = "duplicate";
}

// @ts-expect-error An envelope without an id.
export const nameless: OutboxEnvelope = { v: 1, msg: 1 };
// @ts-expect-error An envelope of another version.
export const later: OutboxEnvelope = { v: 2, id: "a", msg: 1 };

// A handler may take no parameter, one or both.
export const handlers: InboxHandler[] = [() => {}, (txn) => txn.put("a", 1), (txn, { id }) => txn.put(id, 1)];

export const options: InboxOptions = { ordered: true, maxWaiting: 5, retentionSeconds: 60, maxIds: 10, onEvent: (event) => told(event) };
// @ts-expect-error An option that does not exist.
export const wrong: InboxOptions = { retention: 60 };
// @ts-expect-error Not a class.
withTransactionalInbox({});

function told(event: Parameters<NonNullable<InboxOptions["onEvent"]>>[0]): void {
  if (event.type === "gap") void [event.expected, event.got, event.source];
  // @ts-expect-error Only a gap tells what was expected.
  else void event.expected;
}

export async function consumes(batch: MessageBatch<unknown>, env: Env): Promise<void> {
  await consumeQueue(batch, env, { route: ({ key = "none" }, { TABLES }) => TABLES.getByName(key), retryDelaySeconds: 5 });
  // @ts-expect-error A route must give a stub of an inbox.
  await consumeQueue(batch, env, { route: ({ key }) => key });
  // @ts-expect-error Without a route no one gets anything.
  const none: ConsumeOptions<Env> = {};
  void none;
}
