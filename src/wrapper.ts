/** The wrapper: turns a Durable Object class into one with an outbox, and leaves everything else about it as it was. */

import { adoptOriginal, ORIGINAL } from "./adopt.js";
import { alarmSlot } from "./alarm.js";
import type { Send } from "./call.js";
import { deliveryOf } from "./delivery.js";
import { eraserOf } from "./erase.js";
import { expected } from "./errors.js";
import { manager, type OutboxManager } from "./manager.js";
import type { OutboxDelivery, OutboxMessage, OutboxProcessor } from "./message.js";
import { bindNative, define } from "./native.js";
import { type OutboxOptions, settings } from "./options.js";
import type { Parts } from "./parts.js";
import { shadow } from "./shadow.js";
import { isSqlite, maxMessageBytes, storeOf } from "./store.js";
import { timersOf } from "./timers.js";
import { transactionsOf } from "./transaction.js";

/** A class that can be wrapped: constructed with the object's state and env, and able to send messages. */
export type OutboxClass = new (ctx: DurableObjectState, env: never, ...rest: never[]) => OutboxProcessor<never>;

/** `unknown` when the class takes the manager's messages, and otherwise a type that no class has, so that the call does not compile. */
export type SendsWhatIsPut<C extends OutboxClass, B extends string> =
  ConstructorParameters<C>[1] extends Record<B, OutboxManager<infer M>>
    ? InstanceType<C>["sendMessages"] extends (messages: OutboxMessage<M>[], delivery: OutboxDelivery) => unknown
      ? unknown
      : { sendMessages_must_take_the_messages_of_the_manager: M }
    : unknown;

const WRAPPED = Symbol();

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
    static readonly [WRAPPED] = true;
    static override readonly name = cls.name;
    constructor(...args: unknown[]) {
      const [ctx, env, ...rest] = args as [DurableObjectState, Record<string, unknown>, ...unknown[]];
      if (chosen.binding in env) {
        throw expected("options.binding", "a name that is free in env", chosen.binding);
      }
      const { emit } = chosen;
      const native = bindNative(ctx.storage);
      const timers = timersOf();
      const store = storeOf(ctx.id.toString(), native, emit);
      const abort = (reason: string) => ctx.abort(reason);
      const alarm = alarmSlot(store, emit, timers, chosen.immediate, abort);
      const delivery = deliveryOf(store, alarm, chosen, timers, native.sync, abort);
      const ours = {
        alarm: (info?: AlarmInvocationInfo) => alarm.handle(info, (died) => delivery.run(died)),
        sendMessages: (...args: Parameters<Send>) => delivery.send?.(...args),
      };
      /** The runtime calls an own `alarm`, and refuses own properties over RPC. */
      const adopt = (): void => {
        const { alarm: theirAlarm, sendMessages } = this as Partial<typeof ours>;
        if (theirAlarm !== ours.alarm) alarm.handler = theirAlarm?.bind?.(this) ?? null;
        if (sendMessages !== ours.sendMessages) delivery.send = sendMessages?.bind?.(this) ?? null;
        define(this, ours);
      };
      // Queued before anything that the class itself queues: whatever it does, the outbox knows its numbers first.
      const loading = ctx.blockConcurrencyWhile(async () => {
        // By now a subclass may have put instance properties in the place of our handlers.
        adopt();
        const wake = () => alarm.setWake(delivery.nextWake());
        // What can't be read of it is tried again at the next start: the object must start all the same.
        if (await store.load())
          await adoptOriginal(store, maxMessageBytes(parts.sqlite), wake).catch((error) => store.unreadable(ORIGINAL, error));
        await alarm.load(delivery.nextWake());
        parts.loading = null;
        delivery.kick();
      });
      const kv = bindNative(ctx.storage.kv);
      const parts: Parts = {
        ...{ ctx, store, alarm, delivery, settings: chosen, timers, sqlite: isSqlite(ctx.storage), kv },
        ...{ loading, erasing: null, turn: null },
      };
      const transactions = transactionsOf(parts, native);
      const { erase, deleteAll } = eraserOf(parts, native);
      shadow(parts, native, transactions, deleteAll);
      super(ctx, { ...env, [chosen.binding]: manager(parts, transactions.tell, erase) }, ...rest);
      adopt();
    }
  };
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
