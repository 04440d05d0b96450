/** The shadows: own methods on `ctx.storage` that stand before the native ones whose effects the outbox shares. */

import { type OutboxContext, untilWritable } from "../context.js";
import { guarded, guardedKv } from "../storage/guard.js";
import { NEVER } from "../storage/memory.js";
import { define } from "../storage/native.js";
import type { Transactions } from "./transaction.js";

type Method = (...args: never[]) => Promise<unknown>;

/** Puts the shadows on one object's storage. The native methods stay untouched on the prototype. */
export function shadow(parts: OutboxContext, native: DurableObjectStorage, transactions: Transactions, deleteAll: Method): void {
  const { ctx, store, alarm, kv, timers } = parts;

  const shadows: Record<string, unknown> = { ...guarded(native, () => parts.erasing), transactionSync: transactions.transactionSync };
  const { transaction } = transactions;
  for (const [name, call] of Object.entries<Method>({ ...alarm.methods, transaction, deleteAll })) {
    // In a constructor the outbox has not yet read what is stored; the call waits until it has.
    shadows[name] = async (...given: never[]) => {
      // A time is taken as it is at the call.
      const args = untilWritable(parts) ? given.map((arg: unknown) => (arg instanceof Date ? new Date(arg) : arg) as never) : given;
      for (let first = untilWritable(parts); first; first = untilWritable(parts)) await first;
      // Awaited, so that a rejection is handled in its own turn: before the compatibility date 2026-03-10 a later one comes too late.
      return await call(...args);
    };
  }
  define(ctx.storage, shadows);
  if ("get" in kv) define(ctx.storage.kv, guardedKv(kv));
  const block = ctx.blockConcurrencyWhile.bind(ctx);
  const abort: (reason?: string, options?: object) => void = ctx.abort.bind(ctx);
  define(ctx, {
    blockConcurrencyWhile: (body: () => Promise<unknown>) => timers.held(() => block(body)),
    // An alarm under way is repeated while messages wait: without the repetition (`retryAlarm: false`) nothing would wake the object for them.
    abort: (reason?: string, options?: object) => (store.memory.wakeAt < NEVER ? abort(reason) : abort(reason, options)),
  });
}
