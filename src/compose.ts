/** The core of one object: what its wrappers, the outbox and the inbox in either order, share. Made by the first that comes. */

import { type AlarmSlot, alarmSlot } from "./alarm/slot.js";
import { CORE } from "./api/core.js";
import { specsOf } from "./api/destinations.js";
import { expected, OutboxError } from "./api/errors.js";
import { DEFAULT_DESTINATION } from "./api/events.js";
import { type ClassSettings, type Settings, settings } from "./api/options.js";
import { emitterOf } from "./api/report.js";
import { seam } from "./api/seam.js";
import { adoptOriginal, ORIGINAL } from "./compat/migrate-v0.js";
import type { OutboxContext } from "./context.js";
import { type Alarm, alarmOf, closed, type Handler, handlerIn, type Lookup, lookupOf } from "./handlers.js";
import { manager, type OutboxManager } from "./manager.js";
import { letterLimiterOf } from "./operate/letter-limits.js";
import { hasOrphans } from "./storage/chore.js";
import { load } from "./storage/load.js";
import { NEVER } from "./storage/memory.js";
import { bindNative, isSqlite } from "./storage/native.js";
import { maxMessageBytes } from "./storage/size.js";
import { storeOf } from "./storage/store.js";
import { deadMessagesOf } from "./subscription/dead-message.js";
import { type Dispatch, dispatchOf } from "./subscription/dispatch.js";
import { suspect } from "./subscription/reader.js";
import { register } from "./subscription/register.js";
import { timersOf } from "./timers.js";
import { eraserOf } from "./write/delete-all.js";
import { shadow } from "./write/shadows.js";
import { transactionsOf } from "./write/transaction.js";

/** What a wrapper works with. */
export interface Core extends OutboxContext {
  readonly manager: OutboxManager;
  /** Whether the class is wrapped with an outbox, and not with an inbox alone. */
  readonly hasOutbox: boolean;
  /** Puts the outbox's handlers on the instance, before those of its class. Called again by a wrapper further out. */
  adopt(instance: object): void;
}

/** The core of an object that has been constructed, if it has one. */
export function coreIn(ctx: DurableObjectState): Core | undefined {
  return (ctx as { [CORE]?: Core })[CORE];
}

/** Where a wrapped class keeps the settings of its outbox, so that a wrapper around it finds them. */
const OUTBOX: unique symbol = Symbol();

/** A class as wrappers see it. */
export type Wrappable = new (...args: unknown[]) => object;
type Marked = { [OUTBOX]?: ClassSettings };

/** The settings of the outbox with which a class is wrapped, if it is. */
export function outboxOf(cls: object): ClassSettings | undefined {
  return (cls as Marked)[OUTBOX];
}

/** Whether this is what a wrapper is called with, beside the class, as a decorator. */
export function isDecorator(options: object | undefined): options is ClassDecoratorContext {
  return (options as { kind?: unknown } | null | undefined)?.kind === "class";
}

/** Marks a class as wrapped with an outbox. */
export function markOutbox(cls: object, chosen: ClassSettings): void {
  Object.defineProperty(cls, OUTBOX, { value: chosen });
}

/**
 * The core of the object that is being constructed. To be called before the class's own constructor runs: it finds the shadows in place.
 *
 * @param chosen the settings of the outbox, if there is one
 */
export function coreOf(ctx: DurableObjectState, chosen: ClassSettings | undefined): Core {
  const known = coreIn(ctx);
  if (known) return known;
  const object = ctx.id.toString();
  const options = chosen ?? settings();
  const probe = seam()?.probe(ctx);
  const now = probe?.now ?? (() => Date.now());
  const onEvent = probe ? probe.listener(options.onEvent) : options.onEvent;
  const emit = emitterOf(ctx.id.name ?? object, onEvent, now);
  const used: Settings = { ...options, emit, listening: !!onEvent, around: probe?.around, aheadMs: probe?.aheadMs };
  const native = bindNative(ctx.storage);
  const timers = timersOf();
  const abort = (reason: string): void => ctx.abort(reason);
  const recorded = (): void => void wake();
  const store = storeOf(object, native, used.emit, abort, used, now, () => alarm.outboxAlarmLeft(), recorded);
  const alarm: AlarmSlot = alarmSlot(store, used.emit, timers, {
    handler: () => handlers?.own() ?? null,
    deliverLate: () => work(false, true),
    durable: native.sync,
    refuse: abort,
    keepsAlarm: used.immediate,
  });
  const delivery: Dispatch = dispatchOf(store, alarm, used, timers, native.sync);
  probe?.attach({ store, alarm, delivery, timers });
  const wake = () => alarm.setWake(delivery.nextWake());
  let handlers: Alarm | undefined;
  /** The object's own instance, once it is constructed, its `sendMessages` and its `deadMessage`. */
  let instance: object = {};
  let [sendMessages, deadMessage]: [Lookup, Lookup] = [() => null, () => null];

  /** An earlier deployment may have set the alarm for an extension that this one does not have: it comes once, and then is the object's. */
  let isOrphaned = false;

  /** Does what is due, of the outbox and of the inbox. */
  async function work(died: boolean, unguarded = false): Promise<void> {
    for (const chore of store.chores) await chore.run();
    if (letters.isDue()) await letters.run();
    const isOnly = store.chores.length === 0 && store.otherWorkAt() === NEVER && !isOrphaned;
    // What a run has in hand is due until it is settled: setting the alarm for it would start this again at once.
    if (isOnly || delivery.isDue() || delivery.isRunning) await delivery.run(died, unguarded);
    else await wake();
    // What has died in this run may be more than is kept.
    if (letters.isDue()) await letters.run();
  }

  /** Learns which destinations the class has: it has been constructed by now. */
  function adoptDestinations(): void {
    const destinations: unknown = chosen && Reflect.get(instance, "destinations");
    if (destinations !== undefined && !Object.hasOwn(instance, "destinations")) {
      throw expected("destinations", "a property of the instance, because a getter of its class can be read over RPC", destinations);
    }
    const specs = specsOf(destinations, sendMessages() !== null, options);
    register(store, specs, options.deadLetters, emit);
    delivery.adopt();
    for (const { name, batchSize, timeoutSeconds, retry, ordering, maxPerSecond, pull } of specs) {
      const each = delivery.of(name);
      if (!each) continue;
      each.settings = { batchSize, timeoutSeconds, retry, ordering, maxPerSecond };
      if (pull) {
        each.visibilityMs = pull.visibilityMs;
        Object.defineProperty(each, "send", { value: null, configurable: true });
        continue;
      }
      const isNamed = destinations !== undefined && (name !== DEFAULT_DESTINATION || sendMessages() === null);
      // Of the instance that there is now: a dev server constructs another one for the same state.
      const get = isNamed ? () => handlerIn(instance, "destinations", name)() : () => sendMessages();
      Object.defineProperty(each, "send", { get, configurable: true });
    }
  }

  const enter = async (info?: AlarmInvocationInfo): Promise<void> => {
    await alarm.handle(info, work);
  };

  // Queued before anything that the class itself queues: whatever it does, the outbox knows its numbers first.
  const loading = ctx.blockConcurrencyWhile(async () => {
    handlers?.check();
    const fresh = await load(store, object);
    adoptDestinations();
    // What can't be read of it is tried again at the next start: the object must start all the same.
    if (fresh && chosen) {
      await adoptOriginal(store, maxMessageBytes(core.sqlite), wake).catch((error) => store.unreadable(ORIGINAL, error));
    }
    // What is due may have been under way when an earlier life ended, without an alarm that could tell.
    if (used.immediate) {
      for (const each of delivery.all) if (each.isDue()) suspect(each.reader);
    }
    for (const chore of store.chores) chore.started?.();
    isOrphaned = hasOrphans(store.memory, store.chores);
    // It is left to an alarm: should it end this life, too, the platform counts.
    await alarm.load(delivery.isDue() || isOrphaned ? store.now() : delivery.nextWake());
    core.loading = null;
  });
  const parts: OutboxContext = {
    ...{ ctx, store, alarm, delivery, settings: used, timers, sqlite: isSqlite(ctx.storage) },
    kv: bindNative(kvOf(ctx.storage) ?? ({} as SyncKvStorage)),
    ...{ loading, erasing: null, turn: null },
  };
  const letters = letterLimiterOf(parts, wake);
  const transactions = transactionsOf(parts, native);
  const { erase, deleteAll } = eraserOf(parts, native);
  shadow(parts, native, transactions, deleteAll);
  const core: Core = Object.assign(parts, {
    manager: manager(parts, transactions.emitAfterCommit, erase),
    hasOutbox: chosen !== undefined,
    adopt(given: object) {
      // The same object, perhaps behind a proxy: what came in between may have put its own handlers there.
      if (handlers?.isOn(given)) return handlers.adopt();
      handlers = alarmOf(given, enter as Handler);
      instance = given;
      if (chosen) sendMessages = closed(given, "sendMessages", missing);
      if (chosen) deadMessage = ("deadMessage" in given ? closed : lookupOf)(given, "deadMessage", missing);
      // Once the constructor has returned.
      if (core.loading === null) void Promise.resolve().then(adoptDestinations);
    },
  });
  delivery.deadMessages = deadMessagesOf(store, used, () => deadMessage(), ctx, core.manager.transaction, native.sync, wake);
  Object.defineProperty(ctx, CORE, { value: core });
  return core;
}

function missing(): never {
  throw new OutboxError("send_messages_missing", "The class has no sendMessages().");
}

/** `storage.kv`, where there is one: older runtimes have none, and a KV-backed object may refuse it. */
export function kvOf(storage: DurableObjectStorage): SyncKvStorage | undefined {
  try {
    return storage.kv;
  } catch {
    return undefined;
  }
}
