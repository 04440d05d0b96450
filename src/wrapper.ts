/** The wrapper: turns a Durable Object class into one with an outbox, and leaves everything else about it as it was. */

import { AlarmSlot } from "./alarm.js";
import { Delivery, type SendMessages } from "./delivery.js";
import { expected, told } from "./errors.js";
import { Manager, type OutboxManager, type Parts } from "./manager.js";
import type { OutboxProcessor } from "./message.js";
import { type OutboxOptions, settings } from "./options.js";
import { bindNative, shadow } from "./shadow.js";
import { Store } from "./store.js";

/** A class that can be wrapped: constructed with the object's state and env, and able to send messages. */
export type OutboxClass = new (ctx: DurableObjectState, env: never, ...rest: never[]) => OutboxProcessor<never>;

/** `unknown` when the class takes the manager's messages, and otherwise a type that no class has, so that the call does not compile. */
export type SendsWhatIsPut<C extends OutboxClass, B extends string> =
  ConstructorParameters<C>[1] extends Record<B, OutboxManager<infer M>>
    ? InstanceType<C> extends OutboxProcessor<M>
      ? unknown
      : { sendMessages_must_take_the_messages_of_the_manager: M }
    : unknown;

const WRAPPED = Symbol("do-transactional-outbox");

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
  if ((cls as { [WRAPPED]?: true })[WRAPPED]) return cls;
  const Base = cls as unknown as new (...args: unknown[]) => object;
  const Wrapped = class extends Base {
    constructor(...args: unknown[]) {
      const [ctx, env, ...rest] = args as [DurableObjectState, Record<string, unknown>, ...unknown[]];
      if (chosen.binding in env) {
        throw new TypeError(told(`env already binds ${chosen.binding}. Rename that binding, or pass the option \`binding\`.`));
      }
      const native = bindNative(ctx.storage);
      const store = new Store(ctx, chosen.emit);
      const alarm = new AlarmSlot(native, store, chosen.emit);
      const delivery = new Delivery(store, alarm, chosen);
      // Queued before anything that the class itself queues: whatever it does, the outbox knows its numbers first.
      const loading = ctx.blockConcurrencyWhile(async () => {
        adopt(this, alarm, delivery);
        const stale = await store.load();
        await alarm.load(delivery.nextWake(Date.now()), stale);
        parts.loading = null;
      });
      const parts: Parts = { ctx, store, alarm, delivery, emit: chosen.emit, loading };
      shadow(parts, native);
      super(ctx, { ...env, [chosen.binding]: new Manager(parts) }, ...rest);
      adopt(this, alarm, delivery);
    }
  };
  Object.defineProperty(Wrapped, "name", { value: cls.name, configurable: true });
  Object.defineProperty(Wrapped, WRAPPED, { value: true });
  return Wrapped as unknown as C;
}

/** Puts own handlers on the instance: the runtime calls an own `alarm`, and refuses own properties over RPC. */
function adopt(instance: object, alarm: AlarmSlot, delivery: Delivery): void {
  const { alarm: ownAlarm, sendMessages } = instance as { alarm?: unknown; sendMessages?: unknown };
  // Handlers that a subclass defines as instance properties replace ours after our constructor; they are taken in, too.
  if (typeof ownAlarm !== "function" || !OURS.has(ownAlarm)) {
    alarm.handler = typeof ownAlarm === "function" ? ownAlarm.bind(instance) : null;
    define(instance, "alarm", (info?: AlarmInvocationInfo) => alarm.handle(info, (died) => delivery.run(died)));
  }
  if (typeof sendMessages !== "function" || !OURS.has(sendMessages)) {
    delivery.send = typeof sendMessages === "function" ? (sendMessages.bind(instance) as SendMessages) : null;
    if (delivery.send !== null) define(instance, "sendMessages", (...args: Parameters<SendMessages>) => delivery.send?.(...args));
  }
}

/** The handlers that `adopt` has made. */
const OURS = new WeakSet<object>();

function define(instance: object, name: string, handler: (...args: never[]) => unknown): void {
  OURS.add(handler);
  Object.defineProperty(instance, name, { value: handler, writable: true, configurable: true, enumerable: false });
}

/**
 * A class without `sendMessages` is found when it is wrapped, not when the first message is stuck. The method may be
 * an instance property, which only the text of the class tells.
 */
function checkClass(cls: unknown): asserts cls is OutboxClass {
  if (typeof cls !== "function" || cls.prototype === undefined) throw expected("cls", "a Durable Object class", cls);
  if (typeof cls.prototype.sendMessages === "function") return;
  for (let part: unknown = cls; typeof part === "function" && part !== Function.prototype; part = Object.getPrototypeOf(part)) {
    if (Function.prototype.toString.call(part).includes("sendMessages")) return;
  }
  throw new TypeError(
    told(
      `The class ${cls.name || "(anonymous)"} has no sendMessages(messages). Add it: it forwards the messages, and throws when it could not.`,
    ),
  );
}
