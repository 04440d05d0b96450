/** The shadows: own methods on `ctx.storage` that stand before the native ones whose effects the outbox shares. */

import { guarded, guardedKv } from "./guard.js";
import { define } from "./native.js";
import { gate, type Parts } from "./parts.js";
import type { Transactions } from "./transaction.js";

type Method = (...args: never[]) => Promise<unknown>;

/** Puts the shadows on one object's storage. The native methods stay untouched on the prototype. */
export function shadow(parts: Parts, native: DurableObjectStorage, transactions: Transactions, deleteAll: Method): void {
  const { ctx, alarm, kv, timers } = parts;

  const shadows: Record<string, unknown> = { ...guarded(native, () => parts.erasing), transactionSync: transactions.transactionSync };
  const { transaction } = transactions;
  for (const [name, call] of Object.entries<Method>({ ...alarm.methods, transaction, deleteAll })) {
    // In a constructor the outbox has not yet read what is stored; the call waits until it has.
    shadows[name] = async (...args: never[]) => {
      for (let first = gate(parts); first; first = gate(parts)) await first;
      return call(...args);
    };
  }
  define(ctx.storage, shadows);
  if ("get" in kv) define(ctx.storage.kv, guardedKv(kv));
  const block = ctx.blockConcurrencyWhile.bind(ctx);
  define(ctx, { blockConcurrencyWhile: (body: () => Promise<unknown>) => timers.held(() => block(body)) });
}
