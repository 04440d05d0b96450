/** What follows from the option `messages`, and what must not compile: checked by the compiler, never run. */
import { DurableObject } from "cloudflare:workers";
import { type } from "arktype";
import * as v from "valibot";
import * as z from "zod/v4";
import { byType, toQueue } from "../../src/destinations/index.ts";
import { consumeQueue, type InboxManager, type OutboxEnvelope, withTransactionalInbox } from "../../src/inbox/index.ts";
import {
  type MessageInputsOf,
  type MessageSchemas,
  type MessagesOf,
  type OutboxDestinations,
  type OutboxManager,
  type OutboxManagerOf,
  type OutboxMessage,
  type OutboxTransaction,
  type ValidMessage,
  withTransactionalOutbox,
} from "../../src/index.ts";

const messages = {
  order_created: z.object({ order: z.number(), note: z.string().default("") }),
  order_paid: {
    schema: v.object({ type: v.literal("order_paid"), order: v.number(), total: v.pipe(v.string(), v.transform(Number)) }),
    version: 3,
    upcast: { 1: (old) => ({ ...old, total: old.amount }), 2: (old: { order: number }) => ({ ...old, total: 0 }) },
    dataschema: "https://example.com/order_paid/3",
  },
  order_cancelled: type({ order: "number", "reason?": "'late' | 'lost'" }),
} satisfies MessageSchemas;

type Message = MessagesOf<typeof messages>;

interface Env {
  QUEUE: Queue;
  OUTBOX_MANAGER: OutboxManagerOf<typeof messages>;
}

/** Whether two types are the same. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
export const types: readonly [
  Same<Message["type"], "order_created" | "order_paid" | "order_cancelled">,
  Same<Extract<Message, { type: "order_created" }>["note"], string>,
  Same<Extract<MessageInputsOf<typeof messages>, { type: "order_created" }>["note"], string | undefined>,
  Same<Extract<Message, { type: "order_paid" }>["total"], number>,
  Same<Extract<MessageInputsOf<typeof messages>, { type: "order_paid" }>["total"], string>,
  Same<Extract<Message, { type: "order_cancelled" }>["reason"], "late" | "lost" | undefined>,
] = [true, true, true, true, true, true];

// What is put has the schemas' inputs.
export async function writes(outbox: OutboxManagerOf<typeof messages>): Promise<void> {
  await outbox.put("order", 1, { type: "order_created", order: 1 });
  await outbox.send({ type: "order_paid", order: 1, total: "12.50" }, { key: "1" });
  await outbox.delete("order", { type: "order_cancelled", order: 1, reason: "late" });
  const valid: ValidMessage<Message> = await outbox.validate({ type: "order_created", order: 1 });
  await outbox.put("order", valid.msg, valid);
  await outbox.transaction((txn) => txn.send(valid));
  await outbox.transaction((txn) => txn.send({ type: "order_created", order: 1 }));
  outbox.transactionSync((txn) => txn.send({ type: "order_created", order: 1 }));
  const [listed] = await outbox.list();
  if (listed?.msg.type === "order_paid") {
    const total: number = listed.msg.total;
    void total;
  }
  // @ts-expect-error A type that does not exist.
  await outbox.put("order", 1, { type: "order_creatd", order: 1 });
  // @ts-expect-error The output of a transform where its input belongs.
  await outbox.send({ type: "order_paid", order: 1, total: 12.5 });
  // @ts-expect-error A field of another type of message.
  await outbox.send({ type: "order_created", order: 1, reason: "late" });
  // @ts-expect-error A message without a field that it needs.
  await outbox.delete("order", { type: "order_cancelled" });
  // @ts-expect-error A message without a type.
  await outbox.send({ order: 1 });
  // @ts-expect-error The same in a transaction.
  await outbox.transaction((txn) => txn.send({ type: "order_creatd", order: 1 }));
  // @ts-expect-error The same in a synchronous one.
  outbox.transactionSync((txn) => txn.send({ type: "order_creatd", order: 1 }));
  // @ts-expect-error The same where it is validated.
  await outbox.validate({ type: "order_creatd", order: 1 });
  // @ts-expect-error What only looks as if it had been validated.
  await outbox.send({ msg: { type: "order_created", order: 1, note: "" } });
}

// Handlers get the schemas' outputs.
class OrdersBase extends DurableObject<Env> {
  async sendMessages(batch: OutboxMessage<Message>[]): Promise<void> {
    const [first] = batch;
    if (first?.msg.type === "order_created") {
      const note: string = first.msg.note;
      void note;
    }
    // @ts-expect-error A type that does not exist.
    if (first?.msg.type === "order_creatd") return;
  }
}
export class Orders extends withTransactionalOutbox(OrdersBase, { messages, batchSize: 10 }) {}
export class OnlyOutputs extends withTransactionalOutbox(
  class extends DurableObject<{ OUTBOX_MANAGER: OutboxManager<{ type: "a"; n: number } | { other: string }> }> {
    sendMessages() {}
  },
  // A message without a type needs no schema.
  { messages: { a: z.object({ n: z.number() }) } },
) {}
// A class whose env names no manager takes any schemas.
export class Untyped extends withTransactionalOutbox(
  class extends DurableObject {
    sendMessages() {}
  },
  { messages },
) {}

withTransactionalOutbox(OrdersBase, {
  // @ts-expect-error A type of the manager has no schema.
  messages: { order_created: messages.order_created },
});
withTransactionalOutbox(OrdersBase, {
  // @ts-expect-error A schema of which the manager does not know the type.
  messages: { ...messages, order_lost: z.object({}) },
});
withTransactionalOutbox(OrdersBase, {
  // @ts-expect-error A schema whose input the manager does not have.
  messages: { ...messages, order_created: z.object({ order: z.string() }) },
});
// @ts-expect-error What is no schema.
withTransactionalOutbox(OrdersBase, { messages: { order_created: { order: "number" } } });
export const mistakes = {
  // @ts-expect-error A version that is no number.
  order_created: { schema: messages.order_created, version: "2" },
  // @ts-expect-error An option that does not exist.
  order_paid: { schema: messages.order_created, upcasts: {} },
} satisfies MessageSchemas;

// Named destinations, the types that they take, and the routes of byType.
export class Named extends withTransactionalOutbox(
  class extends DurableObject<Env> {
    destinations = {
      all: toQueue<Message>(this.env.QUEUE),
      some: { send: toQueue(this.env.QUEUE), types: ["order_paid"] },
    } satisfies OutboxDestinations<Message>;
  },
  { messages },
) {}
export const destinations = (queue: Queue): unknown => [
  // @ts-expect-error A type that does not exist.
  { some: { send: toQueue(queue), types: ["order_payd"] } } satisfies OutboxDestinations<Message>,
  byType<Message>({ order_created: toQueue(queue), order_paid: toQueue(queue), order_cancelled: toQueue(queue) }),
  byType<Message>({ order_created: toQueue(queue), default: toQueue(queue) }),
  // @ts-expect-error A type without a route.
  byType<Message>({ order_created: toQueue(queue), order_paid: toQueue(queue) }),
  // @ts-expect-error A route for a type that does not exist.
  byType<Message>({ order_creatd: toQueue(queue), default: toQueue(queue) }),
];

// The inbox.
export class Stock extends withTransactionalInbox(
  class extends DurableObject<{ INBOX_MANAGER: InboxManager<Message> }> {
    async receiveMessage({ msg }: OutboxEnvelope<Message>, txn: OutboxTransaction<MessageInputsOf<typeof messages>>): Promise<void> {
      if (msg.type === "order_created") await txn.send({ type: "order_paid", order: msg.order, total: "1" });
      // @ts-expect-error A type that does not exist.
      await txn.send({ type: "order_payd", order: msg.order, total: "1" });
    }
  },
  { messages },
) {}
export class Till extends withTransactionalOutbox(
  withTransactionalInbox(
    class extends DurableObject<Env> {
      sendMessages() {}
      async receiveMessage(_: OutboxEnvelope<Message>, __: OutboxTransaction<MessageInputsOf<typeof messages>>): Promise<void> {}
    },
    { messages },
  ),
  { messages },
) {}
withTransactionalInbox(
  class extends DurableObject {
    receiveMessage(_: OutboxEnvelope<{ type: "order_created"; order: string }>): void {}
  },
  // @ts-expect-error Schemas that make something else than the handler takes.
  { messages },
);
// A handler that takes anything takes what any schemas make.
export const Any = withTransactionalInbox(
  class extends DurableObject {
    receiveMessage(_: OutboxEnvelope): void {}
  },
  { messages },
);

// The consumer of a queue.
export const consumer: ExportedHandler<{ STOCK: DurableObjectNamespace<Stock> }, OutboxEnvelope<Message>> = {
  async queue(batch, env) {
    await consumeQueue(batch, env, {
      route: ({ msg }) => {
        // @ts-expect-error A type that does not exist.
        if (msg.type === "order_creatd") throw new Error();
        return env.STOCK.getByName(String(msg.order));
      },
    });
  },
};
