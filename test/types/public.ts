/** What compiles and what must not: checked by `tsc -p test`, never run. */
import { DurableObject } from "cloudflare:workers";
import {
  type DeadReason,
  type OutboxDelivery,
  OutboxError,
  type OutboxErrorCode,
  type OutboxManager,
  type OutboxMessage,
  type OutboxOptions,
  type OutboxProcessor,
  type OutboxReceipt,
  type OutboxTransaction,
  type OutboxTransactionSync,
  type TOB_DurableObject,
  type TOB_Env,
  withTransactionalOutbox,
} from "../../src/index.ts";

type OrderMessage = { type: "order_created"; ordernr: number };
type OtherMessage = { type: "something_else" };

interface Env {
  QUEUE: Queue;
  OUTBOX_MANAGER: OutboxManager<OrderMessage>;
}

class Orders extends DurableObject<Env> {
  static readonly version = 3;
  #count = 0;

  async create(ordernr: number): Promise<number> {
    await this.env.OUTBOX_MANAGER.put(`order:${ordernr}`, { status: "new" }, { type: "order_created", ordernr });
    return ++this.#count;
  }

  async sendMessages(messages: OutboxMessage<OrderMessage>[], delivery: OutboxDelivery): Promise<void> {
    const signal: AbortSignal = delivery.signal;
    const numbers: number[] = messages.map(({ msg }) => msg.ordernr);
    void [signal, numbers];
  }
}

// The example of the documentation, as it stands there.
export const Documented = withTransactionalOutbox(
  class Orders extends DurableObject<Env> {
    async create(order: number) {
      await this.env.OUTBOX_MANAGER.put(`order:${order}`, { status: "new" }, { type: "order_created", ordernr: order });
    }

    async sendMessages(messages: OutboxMessage<OrderMessage>[]) {
      await this.env.QUEUE.sendBatch(messages.map(({ id, msg }) => ({ body: { id, ...msg } })));
    }
  },
);

// A wrapped class keeps its statics, its constructor's parameters and its RPC type.
const Wrapped = withTransactionalOutbox(Orders, { batchSize: 10 });
const version: 3 = Wrapped.version;
const parameters: [DurableObjectState, Env] = {} as ConstructorParameters<typeof Wrapped>;
declare const namespace: DurableObjectNamespace<InstanceType<typeof Wrapped>>;

export async function calls(): Promise<void> {
  const stub = namespace.get(namespace.newUniqueId());
  const count: number = await stub.create(1);
  // @ts-expect-error A wrong argument.
  await stub.create("1");
  // @ts-expect-error A method that the class does not have.
  await stub.cancel(1);
  // @ts-expect-error A static that the class does not have.
  void Wrapped.revision;
  void [count, version, parameters];
}

// @ts-expect-error A constructor's parameter that is missing.
new Wrapped({} as DurableObjectState);

// @ts-expect-error A class without sendMessages.
withTransactionalOutbox(class extends DurableObject<Env> {});

withTransactionalOutbox(
  // @ts-expect-error A class whose sendMessages takes other messages than the manager's.
  class extends DurableObject<Env> {
    async sendMessages(_: OutboxMessage<OtherMessage>[]): Promise<void> {}
  },
);

withTransactionalOutbox(
  // @ts-expect-error A class whose sendMessages wants more of a message than the manager gives.
  class extends DurableObject<Env> {
    async sendMessages(_: OutboxMessage<OrderMessage & { more: true }>[]): Promise<void> {}
  },
);

withTransactionalOutbox(
  // @ts-expect-error A class whose sendMessages wants a third argument.
  class extends DurableObject<Env> {
    async sendMessages(_: OutboxMessage<OrderMessage>[], __: OutboxDelivery, ___: string): Promise<void> {}
  },
);

// One argument, with no more than is needed, is complete.
withTransactionalOutbox(
  class extends DurableObject<Env> {
    // biome-ignore lint/suspicious/noExplicitAny: it is what a user may write.
    async sendMessages(_: { id: string; msg: any }[]) {}
  },
);
withTransactionalOutbox(
  class extends DurableObject<Env> {
    async sendMessages(_: { id: string; msg: unknown }[]) {}
  },
);
withTransactionalOutbox(
  class extends DurableObject<Env> {
    sendMessages() {}
  },
);

// The manager is looked for under the name that the options give.
interface MailEnv {
  MAIL: OutboxManager<OrderMessage>;
  OUTBOX_MANAGER: string;
}
withTransactionalOutbox(
  class extends DurableObject<MailEnv> {
    async sendMessages(_: OutboxMessage<OrderMessage>[]): Promise<void> {}
  },
  { binding: "MAIL" },
);
withTransactionalOutbox(
  // @ts-expect-error Other messages than those of the manager at the custom binding.
  class extends DurableObject<MailEnv> {
    async sendMessages(_: OutboxMessage<OtherMessage>[]): Promise<void> {}
  },
  { binding: "MAIL" },
);

// Options.
// @ts-expect-error An option that does not exist.
withTransactionalOutbox(Orders, { batchSise: 10 });
// @ts-expect-error An option of the wrong type.
withTransactionalOutbox(Orders, { batchSize: "10" });
// @ts-expect-error A retry option that does not exist.
withTransactionalOutbox(Orders, { retry: { minDelay: 1 } });
export const options: OutboxOptions = {
  onEvent(event) {
    if (event.type === "failed") void [event.retryAt, event.error, event.ids];
    if (event.type === "dead") {
      const about: (string | undefined)[] = [event.object, event.destination, event.id, event.key, event.messageType, event.reason];
      const { error, cause }: { error: string; cause?: unknown } = event;
      void [about, error, cause, event.attempts];
    }
    // @ts-expect-error A `stored` event has no `retryAt`.
    if (event.type === "stored") void event.retryAt;
  },
};

// The manager takes its own messages only.
export async function writes(outbox: OutboxManager<OrderMessage>): Promise<void> {
  const msg: OrderMessage = { type: "order_created", ordernr: 1 };
  const receipt: OutboxReceipt = await outbox.put("key", 1, msg);
  await outbox.put("key", 1, msg, { allowUnconfirmed: true });
  await outbox.put({ one: 1, two: 2 }, msg, { noCache: true });
  await outbox.send(msg);
  const existed: boolean = await outbox.delete("key", msg);
  const count: number = await outbox.delete(["one", "two"], msg);
  const [oldest] = await outbox.list();
  const ordernr: number | undefined = oldest?.msg.ordernr;
  void [receipt, existed, count, ordernr];
  // @ts-expect-error Another message.
  await outbox.put("key", 1, { type: "something_else" });
  // @ts-expect-error Another message with entries.
  await outbox.put({ key: 1 }, { type: "something_else" });
  // @ts-expect-error Another message in a send.
  await outbox.send("text");
  // @ts-expect-error Another message in a delete.
  await outbox.delete("key", { type: "something_else" });
  // @ts-expect-error No message.
  await outbox.put("key", 1);
  // @ts-expect-error An option that storage does not have.
  await outbox.put("key", 1, msg, { allowUnconfirmedd: true });
}

export async function operations(outbox: OutboxManager<OrderMessage>, msg: OrderMessage): Promise<void> {
  const receipt = await outbox.send(msg, { id: "a", key: "b", delaySeconds: 1, expiresInSeconds: 2, headers: { traceparent: "c" } });
  const deduplicated: true | undefined = receipt.deduplicated;
  await outbox.put("key", 1, msg, { deliverAt: new Date(), allowUnconfirmed: true });
  const [dead] = await outbox.list({ state: "dead", limit: 1, after: receipt.id });
  const told: [DeadReason, string, number, number] | undefined = dead && [dead.reason, dead.error, dead.firstFailedAt, dead.lastFailedAt];
  const [delayed] = await outbox.list({ state: "delayed" });
  const at: number | undefined = delayed?.deliverAt;
  const counts: number[] = [await outbox.redrive(), await outbox.redrive(["a"]), await outbox.discard(["a"])];
  const cancelled: boolean = await outbox.cancel("a");
  const { breaker, nextAttemptAt } = await outbox.stats();
  const state: ["open" | "closed", number | null] = [breaker, nextAttemptAt];
  void [deduplicated, told, at, counts, cancelled, state];
  // @ts-expect-error Without ids nothing is discarded.
  await outbox.discard();
  // @ts-expect-error A header is a text.
  await outbox.send(msg, { headers: { attempt: 1 } });
  // @ts-expect-error A state that does not exist.
  await outbox.list({ state: "sent" });
  // @ts-expect-error Only a dead letter has a reason.
  delayed?.reason;
}

// Transactions take the manager's own messages only, and are the platform's beside.
export async function transactions(outbox: OutboxManager<OrderMessage>, msg: OrderMessage): Promise<void> {
  const total: number = await outbox.transaction(async (txn) => {
    const receipt: OutboxReceipt = await txn.send(msg);
    await txn.send(msg, { id: "a", key: "b", delaySeconds: 1, allowUnconfirmed: true });
    const known: number | undefined = await txn.get<number>("count");
    await txn.put({ count: 1 }, { noCache: true });
    await txn.setAlarm(Date.now());
    const alarm: number | null = await txn.getAlarm();
    const platform: DurableObjectTransaction = txn;
    txn.rollback();
    // @ts-expect-error Another message.
    await txn.send({ type: "something_else" });
    // @ts-expect-error No message.
    await txn.send();
    // @ts-expect-error An option that storage does not have.
    await txn.send(msg, { dellaySeconds: 1 });
    // @ts-expect-error The platform has no put with a message in a transaction: it is txn.put and txn.send.
    await txn.put("key", 1, msg);
    void [known, alarm, platform];
    return receipt.sequence;
  });
  const text: string = await outbox.transaction(() => "a closure that is not async");
  // @ts-expect-error The result is a promise.
  const now: number = outbox.transaction(async () => 1);
  // @ts-expect-error No closure.
  await outbox.transaction();
  // @ts-expect-error The platform's own transaction has no send.
  await ({} as DurableObjectStorage).transaction(async (txn) => txn.send(msg));
  const annotated = (txn: OutboxTransaction<OrderMessage>) => txn.send(msg);
  await outbox.transaction(annotated);
  // @ts-expect-error A closure that sends other messages than the manager's.
  await outbox.transaction((txn: OutboxTransaction<OtherMessage>) => txn.send({ type: "something_else" }));
  void [total, text, now];
}

export function transactionsSync(outbox: OutboxManager<OrderMessage>, msg: OrderMessage): void {
  const sequence: number = outbox.transactionSync(({ sql, kv, send }) => {
    sql.exec("INSERT INTO orders VALUES (?)", msg.ordernr);
    kv.put("order", msg.ordernr);
    const order: number | undefined = kv.get<number>("order");
    const receipt: OutboxReceipt = send(msg, { id: "a", headers: { traceparent: "b" } });
    void order;
    return receipt.sequence;
  });
  const annotated = (txn: OutboxTransactionSync<OrderMessage>): OutboxReceipt => txn.send(msg);
  const receipt: OutboxReceipt = outbox.transactionSync(annotated);
  // @ts-expect-error Another message.
  outbox.transactionSync(({ send }) => send({ type: "something_else" }));
  // @ts-expect-error The receipt is no promise.
  outbox.transactionSync(({ send }) => send(msg).then());
  // @ts-expect-error It can't be rolled back but by a throw.
  outbox.transactionSync((txn) => txn.rollback());
  outbox.transactionSync((txn) => {
    // @ts-expect-error What it gives can't be replaced.
    txn.sql = {} as SqlStorage;
  });
  void [sequence, receipt];
}

export async function deleteAll(outbox: OutboxManager<OrderMessage>, msg: OrderMessage): Promise<void> {
  const receipt: OutboxReceipt = await outbox.deleteAll(msg);
  await outbox.deleteAll(msg, { id: "a", allowConcurrency: true });
  void receipt;
  // @ts-expect-error No message: that is the storage's own deleteAll().
  await outbox.deleteAll();
  // @ts-expect-error Another message.
  await outbox.deleteAll({ type: "something_else" });
  // @ts-expect-error Options in the place of the message.
  await outbox.deleteAll({ allowConcurrency: true });
}

// A manager of all messages takes any, and any class fits it.
interface LooseEnv {
  OUTBOX_MANAGER: OutboxManager;
}
withTransactionalOutbox(
  class extends DurableObject<LooseEnv> {
    create() {
      return this.env.OUTBOX_MANAGER.send("anything");
    }
    async sendMessages(_: OutboxMessage[]): Promise<void> {}
  },
);

// The names of the original package.
export class Original implements TOB_DurableObject {
  constructor(
    readonly state: DurableObjectState,
    protected readonly env: TOB_Env,
  ) {}
  async fetch(): Promise<Response> {
    await this.env.OUTBOX_MANAGER.put("one", "first", "first");
    return new Response();
  }
  // biome-ignore lint/suspicious/noExplicitAny: it is how the original's users wrote it.
  async sendMessages(_: { id: string; msg: any }[]): Promise<void> {}
}
export const WrappedOriginal: typeof Original = withTransactionalOutbox(Original);

// @ts-expect-error `implements` finds that sendMessages is missing.
export class Incomplete implements TOB_DurableObject {
  async fetch(): Promise<Response> {
    return new Response();
  }
}

export const processor: OutboxProcessor<OrderMessage> = { sendMessages: async (messages) => void messages.map(({ msg }) => msg.ordernr) };

// Errors are matched by code.
export function codes(error: unknown): OutboxErrorCode | undefined {
  if (!(error instanceof OutboxError)) return undefined;
  // @ts-expect-error A code that does not exist.
  if (error.code === "too_big") return undefined;
  return error.code;
}
