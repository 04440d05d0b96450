/** The wrapper: turns a Durable Object class into one with an outbox, and changes nothing else about it. */

import type { OutboxDestinations } from "./api/destinations.js";
import { expected } from "./api/errors.js";
import type { OutboxDelivery, OutboxMessage } from "./api/message.js";
import type { MessageInputsOf, MessageSchemas, MessagesOf } from "./api/messages.js";
import { type OutboxOptions, settings } from "./api/options.js";
import { coreOf, isDecorator, markOutbox, outboxOf, type Wrappable } from "./compose.js";
import type { OutboxDeadMessageHandler, OutboxManager } from "./manager.js";

/** A class that can be wrapped: constructed with the object's state and env, and able to send messages, by one method or to named destinations. */
export type OutboxClass = new (
  ctx: DurableObjectState,
  env: never,
  ...rest: never[]
) => { sendMessages: unknown } | { destinations: unknown };

/** The env that a class is constructed with. */
type EnvOf<C extends OutboxClass> = ConstructorParameters<C>[1];

/**
 * The `sendMessages` that fits the manager in a class's env: any, if the env declares no manager. It returns `void` here, so that no type is inferred
 * from its body.
 */
type SendMessages<C extends OutboxClass, B extends string> =
  EnvOf<C> extends Record<B, OutboxManager<infer M, infer _>> ? (messages: OutboxMessage<M>[], delivery: OutboxDelivery) => void : unknown;

/**
 * `unknown` when the class takes the manager's messages, and otherwise a type that no class has, so that the call does not compile.
 *
 * A class with an inbox is not checked here: its `sendMessages` may send to an object that sends back, and then its type depends on the type of the
 * wrapped class, which would reference itself (TS7022). `WithOutbox` checks it later, where a class extends the wrapped one; a constant has no such place.
 */
export type SendsWhatIsPut<C extends OutboxClass, B extends string> =
  InstanceType<C> extends { receiveMessage: unknown } | { receiveMessages: unknown }
    ? unknown
    : InstanceType<C> extends { sendMessages: infer S }
      ? S extends SendMessages<C, B>
        ? HasDestinations<C, B>
        : { sendMessages_must_take_the_messages_of_the_manager: SendMessages<C, B> }
      : HasDestinations<C, B>;

/** The `deadMessage` that fits the manager in a class's env: any, where the env names no manager. */
type DeadMessage<C extends OutboxClass, B extends string> =
  EnvOf<C> extends Record<B, OutboxManager<infer M, infer I>> ? OutboxDeadMessageHandler<M, I> : unknown;

/** `unknown` when the class has no `deadMessage`, or one that takes the manager's messages. */
type HandlesDead<C extends OutboxClass, B extends string> =
  InstanceType<C> extends { deadMessage: infer H }
    ? H extends DeadMessage<C, B>
      ? unknown
      : { deadMessage_must_take_the_messages_of_the_manager: DeadMessage<C, B> }
    : unknown;

/** The destinations that fit the manager in a class's env: any, where the env names no manager. */
type Destinations<C extends OutboxClass, B extends string> =
  EnvOf<C> extends Record<B, OutboxManager<infer M, infer _>> ? OutboxDestinations<M, string> : unknown;

/** The same for the named destinations of a class, if it has some. */
type HasDestinations<C extends OutboxClass, B extends string> =
  InstanceType<C> extends { destinations: infer D }
    ? D extends Destinations<C, B>
      ? HandlesDead<C, B>
      : { destinations_must_take_the_messages_of_the_manager: Destinations<C, B> }
    : HandlesDead<C, B>;

/** Those messages that a schema would have to know. */
type WithType<M> = unknown extends M ? never : Extract<M, { readonly type: string }>;

/**
 * `unknown` when the schemas are those of the manager in a class's env, and otherwise a type that no schemas have: what the manager takes must be
 * their inputs, and what it lists and handlers get their outputs.
 */
export type DescribesMessages<C extends OutboxClass, B extends string, S extends MessageSchemas> = string extends keyof S
  ? unknown
  : EnvOf<C> extends Record<B, OutboxManager<infer M, infer I>>
    ? [WithType<I>] extends [MessageInputsOf<S>]
      ? [MessagesOf<S>] extends [M]
        ? unknown
        : { messages_must_be_those_of_the_manager: M }
      : { messages_must_be_those_of_the_manager: I }
    : unknown;

/** The name of the manager: the given one, if env has a manager with that name, and otherwise the names that would work. */
export type OutboxBinding<C extends OutboxClass, B extends string> = B extends "OUTBOX_MANAGER"
  ? B
  : string extends B
    ? B
    : unknown extends EnvOf<C>
      ? B
      : EnvOf<C> extends Record<B, OutboxManager>
        ? B
        : ManagersIn<EnvOf<C>>;

type ManagersIn<E> = { [K in keyof E]: E[K] extends OutboxManager ? K : never }[keyof E] & string;

/**
 * The wrapped class. Its type is that of the class; whether `prototype` takes the manager's messages is checked where a class extends it, when the types
 * of all classes are known.
 */
export type WithOutbox<C extends OutboxClass, B extends string = "OUTBOX_MANAGER"> = C extends new (
  ...args: never[]
) => { sendMessages: unknown }
  ? { readonly prototype: { sendMessages: SendMessages<C, B> } } & C
  : C;

/**
 * Wraps a Durable Object class, so that it finds an `OutboxManager` at `env.OUTBOX_MANAGER`, and its `sendMessages`
 * is called by an alarm with what was put. Statics, constructor, name and RPC methods stay the same; `sendMessages`
 * can't be called over RPC. A class that is already wrapped is returned unchanged.
 *
 * Export a class that extends the wrapped one: its name is also a type, which the `Env` that `wrangler types` generates refers to.
 *
 * @throws TypeError when the class has neither `sendMessages` nor `destinations`, or an option is wrong. An env that already has the name is a
 * `TypeError` when the object starts.
 *
 * @example
 * class OrdersBase extends DurableObject<Env & { OUTBOX_MANAGER: OutboxManager<OrderMessage> }> {
 *   create(id: string) {
 *     return this.env.OUTBOX_MANAGER.put(`order:${id}`, { status: "new" }, { type: "order_created", id });
 *   }
 *   async sendMessages(messages: OutboxMessage<OrderMessage>[]) {
 *     await this.env.ORDERS_QUEUE.sendBatch(messages.map(({ id, msg }) => ({ body: { id, msg } })));
 *   }
 * }
 * export class Orders extends withTransactionalOutbox(OrdersBase) {}
 */
export function withTransactionalOutbox<
  C extends OutboxClass,
  const B extends string = "OUTBOX_MANAGER",
  S extends MessageSchemas = MessageSchemas,
>(
  cls: C & SendsWhatIsPut<C, B>,
  options?: OutboxOptions<OutboxBinding<C, B>, S & DescribesMessages<C, B, S>> | ClassDecoratorContext,
): WithOutbox<C, B> {
  checkClass(cls);
  const chosen = settings(isDecorator(options) ? undefined : options);
  if (outboxOf(cls)) return cls as WithOutbox<C, B>;
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
  return Wrapped as unknown as WithOutbox<C, B>;
}

/** The source text of a proxy of a class: that of the class itself is not available. */
const NO_TEXT = "function () { [native code] }";

/**
 * A class without `sendMessages` is reported when it is wrapped, not when the first message is stuck. The method may be an instance property, which only
 * the source text of the class shows.
 */
function checkClass(cls: OutboxClass): void {
  for (let part = cls; part?.prototype; part = Object.getPrototypeOf(part)) {
    const text = String(part);
    if ("sendMessages" in part.prototype || /sendMessages|destinations/.test(text) || text === NO_TEXT) return;
  }
  throw expected("cls", "a class with sendMessages() or destinations", cls?.name);
}
