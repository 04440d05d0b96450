/** The wrapper: turns a Durable Object class into one with an outbox, and leaves everything else about it as it was. */

import { coreOf, markOutbox, outboxOf, type Wrappable } from "./core.js";
import { expected } from "./errors.js";
import type { OutboxManager } from "./manager.js";
import type { OutboxDelivery, OutboxMessage, OutboxProcessor } from "./message.js";
import { type OutboxOptions, settings } from "./options.js";

/** A class that can be wrapped: constructed with the object's state and env, and able to send messages. */
export type OutboxClass = new (ctx: DurableObjectState, env: never, ...rest: never[]) => OutboxProcessor<never>;

/** `unknown` when the class takes the manager's messages, and otherwise a type that no class has, so that the call does not compile. */
export type SendsWhatIsPut<C extends OutboxClass, B extends string> =
  ConstructorParameters<C>[1] extends Record<B, OutboxManager<infer M>>
    ? InstanceType<C>["sendMessages"] extends (messages: OutboxMessage<M>[], delivery: OutboxDelivery) => unknown
      ? unknown
      : { sendMessages_must_take_the_messages_of_the_manager: M }
    : unknown;

/**
 * Wraps a Durable Object class, so that it finds an `OutboxManager` at `env.OUTBOX_MANAGER`, and its `sendMessages`
 * is called by an alarm with what was put. Statics, constructor, name and RPC methods stay the same; `sendMessages`
 * can't be called over RPC. A class that is wrapped already is returned as it is.
 *
 * @throws TypeError when the class has no `sendMessages` or an option is wrong. An env that already binds the name is a
 * `TypeError` when the object starts.
 *
 * @example
 * export const Orders = withTransactionalOutbox(class Orders extends DurableObject<Env> {
 *   create(id: string) {
 *     return this.env.OUTBOX_MANAGER.put(`order:${id}`, { status: "new" }, { type: "order_created", id });
 *   }
 *   async sendMessages(messages: OutboxMessage[]) {
 *     await this.env.ORDERS_QUEUE.sendBatch(messages.map(({ id, msg }) => ({ body: { id, msg } })));
 *   }
 * });
 */
export function withTransactionalOutbox<C extends OutboxClass, const B extends string = "OUTBOX_MANAGER">(
  cls: C & SendsWhatIsPut<C, B>,
  options?: OutboxOptions<B>,
): C {
  checkClass(cls);
  const chosen = settings(options);
  if (outboxOf(cls)) return cls;
  const Base = cls as unknown as Wrappable;
  const Wrapped = class extends Base {
    static override readonly name = cls.name;
    constructor(...args: unknown[]) {
      const [ctx, env, ...rest] = args as [DurableObjectState, Record<string, unknown>, ...unknown[]];
      if (chosen.binding in env) throw expected("options.binding", "a name that is free in env", chosen.binding);
      const core = coreOf(ctx, chosen);
      super(ctx, { ...env, [chosen.binding]: core.manager }, ...rest);
      core.adopt(this);
    }
  };
  markOutbox(Wrapped, chosen);
  return Wrapped as unknown as C;
}

/**
 * A class without `sendMessages` is found when it is wrapped, not when the first message is stuck. The method may be
 * an instance property, which only the text of the class tells.
 */
function checkClass(cls: OutboxClass): void {
  for (let part = cls; part?.prototype; part = Object.getPrototypeOf(part)) {
    if ("sendMessages" in part.prototype || String(part).includes("sendMessages")) return;
  }
  throw expected("cls", "a class with sendMessages()", cls?.name);
}
