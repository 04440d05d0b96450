/** The core of one object: what its wrappers, the outbox and the inbox in either order, share. Made by the first that comes. */

import { adoptOriginal, ORIGINAL } from "./adopt.js";
import { alarmSlot } from "./alarm.js";
import type { Send } from "./call.js";
import { deliveryOf } from "./delivery.js";
import { eraserOf } from "./erase.js";
import { load } from "./load.js";
import { manager, type OutboxManager } from "./manager.js";
import { bindNative, define } from "./native.js";
import { type Settings, settings } from "./options.js";
import type { Parts } from "./parts.js";
import { shadow } from "./shadow.js";
import { isSqlite, maxMessageBytes, storeOf } from "./store.js";
import { timersOf } from "./timers.js";
import { transactionsOf } from "./transaction.js";

/** What a wrapper works with. */
export interface Core extends Parts {
  readonly manager: OutboxManager;
  /** Whether the class is wrapped with an outbox, and not with an inbox alone. */
  readonly hasOutbox: boolean;
  /** Puts the outbox's handlers on the instance, before those of its class. Called again when a subclass may have put its own there. */
  adopt(instance: object): void;
}

/** Where a wrapped class keeps the settings of its outbox, so that a wrapper around it finds them. */
const OUTBOX: unique symbol = Symbol();

/** A class as wrappers see it. */
export type Wrappable = new (...args: unknown[]) => object;
type Marked = { [OUTBOX]?: Settings };

/** The settings of the outbox with which a class is wrapped, if it is. */
export function outboxOf(cls: object): Settings | undefined {
  return (cls as Marked)[OUTBOX];
}

/** Marks a class as wrapped with an outbox. */
export function markOutbox(cls: object, chosen: Settings): void {
  Object.defineProperty(cls, OUTBOX, { value: chosen });
}

const cores = new WeakMap<DurableObjectState, Core>();

/**
 * The core of the object that is being constructed. To be called before the class's own constructor runs: it finds the shadows in place.
 *
 * @param chosen the settings of the outbox, if there is one
 */
export function coreOf(ctx: DurableObjectState, chosen: Settings | undefined): Core {
  const known = cores.get(ctx);
  if (known) return known;
  const used = chosen ?? settings();
  const native = bindNative(ctx.storage);
  const timers = timersOf();
  const abort = (reason: string): void => ctx.abort(reason);
  const store = storeOf(ctx.id.toString(), native, used.emit, abort);
  const alarm = alarmSlot(store, used.emit, timers, used.immediate, abort);
  const delivery = deliveryOf(store, alarm, used, timers, native.sync, abort);
  const wake = () => alarm.setWake(delivery.nextWake());
  let instance: object | null = null;

  const ours = {
    async alarm(info?: AlarmInvocationInfo) {
      await alarm.handle(info, async (died) => {
        for (const chore of core.chores) await chore.run();
        if (core.chores.length === 0 || delivery.isDue()) await delivery.run(died);
        else await wake();
      });
    },
    sendMessages: (...args: Parameters<Send>) => delivery.send?.(...args),
  };

  // Queued before anything that the class itself queues: whatever it does, the outbox knows its numbers first.
  const loading = ctx.blockConcurrencyWhile(async () => {
    // By now a subclass may have put instance properties in the place of our handlers.
    if (instance) core.adopt(instance);
    const fresh = await load(store, ctx.id.toString());
    // What can't be read of it is tried again at the next start: the object must start all the same.
    if (fresh && chosen) {
      await adoptOriginal(store, maxMessageBytes(core.sqlite), wake).catch((error) => store.unreadable(ORIGINAL, error));
    }
    // What is due may have been under way when an earlier life ended, without an alarm that could tell.
    if (used.immediate && delivery.isDue()) store.memory.trouble = { ...store.memory.trouble, lease: true };
    // It is left to an alarm: should it end this life, too, the platform counts.
    await alarm.load(delivery.isDue() ? Date.now() : delivery.nextWake());
    core.loading = null;
  });
  const parts: Parts = {
    ...{
      ctx,
      store,
      alarm,
      delivery,
      settings: used,
      timers,
      sqlite: isSqlite(ctx.storage),
      kv: bindNative(kvOf(ctx.storage) ?? ({} as SyncKvStorage)),
    },
    ...{ loading, erasing: null, turn: null, chores: [] },
  };
  const transactions = transactionsOf(parts, native);
  const { erase, deleteAll } = eraserOf(parts, native);
  shadow(parts, native, transactions, deleteAll);
  const core: Core = Object.assign(parts, {
    manager: manager(parts, transactions.tell, erase),
    hasOutbox: chosen !== undefined,
    adopt(given: object) {
      instance = given;
      const { alarm: theirAlarm, sendMessages } = given as Partial<typeof ours>;
      if (theirAlarm !== ours.alarm) alarm.handler = theirAlarm?.bind?.(given) ?? null;
      // The runtime calls an own `alarm`, and refuses own properties over RPC.
      define(given, { alarm: ours.alarm });
      if (!chosen) return;
      if (sendMessages !== ours.sendMessages) delivery.send = sendMessages?.bind?.(given) ?? null;
      define(given, { sendMessages: ours.sendMessages });
    },
  });
  cores.set(ctx, core);
  return core;
}

/** `storage.kv`, where there is one: older runtimes have none, and a KV-backed object may refuse it. */
export function kvOf(storage: DurableObjectStorage): SyncKvStorage | undefined {
  try {
    return storage.kv;
  } catch {
    return undefined;
  }
}
