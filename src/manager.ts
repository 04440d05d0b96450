/** The manager: what a Durable Object's own code calls, at `env.OUTBOX_MANAGER`. */

import type { Eraser } from "./erase.js";
import { expected, OutboxError } from "./errors.js";
import type { OutboxDeadLetter, OutboxListed, OutboxReceipt } from "./message.js";
import { define } from "./native.js";
import { type OutboxListOptions, operations } from "./operations.js";
import type { Parts } from "./parts.js";
import { puttingOf } from "./put.js";
import type { OutboxPutOptions } from "./put-options.js";
import type { Transactions } from "./transaction.js";

/** The state of the outbox at this moment. Reading it costs a page of rows at most, whatever the backlog. */
export interface OutboxStats {
  /** Messages in the queue that wait for nothing but their turn. */
  pending: number;
  /** Messages that wait for a time: delayed, or failed by themselves. */
  delayed: number;
  /** Messages that wait behind a delayed one with the same ordering key. */
  blocked: number;
  /** Dead letters. */
  dead: number;
  /** How long the oldest undelivered message has waited, in seconds, at most: 0 when none does. */
  oldestAgeSeconds: number;
  /** When the outbox tries next, in milliseconds since the Unix epoch: `null` when nothing waits, or the outbox is paused. */
  nextAttemptAt: number | null;
  /** `"open"` from a failure of `sendMessages` to its next success: meanwhile the whole outbox backs off. */
  breaker: "closed" | "open";
  /** Failed calls of `sendMessages` in a row. */
  failures: number;
  /** Whether `pause()` holds all delivery back. */
  paused: boolean;
}

/** A storage transaction that messages can join. */
export interface OutboxTransaction<M = unknown> extends DurableObjectTransaction {
  /** A message that is stored when the transaction commits. Rejects, and has written nothing, once it has ended. */
  send(msg: M, options?: OutboxPutOptions): Promise<OutboxReceipt>;
}

/** A synchronous transaction that messages can join. */
export interface OutboxTransactionSync<M = unknown> {
  readonly sql: SqlStorage;
  readonly kv: SyncKvStorage;
  /** A message that is stored when the transaction commits. Throws at once what `send` of the manager rejects with. */
  send(msg: M, options?: OutboxPutOptions): OutboxReceipt;
}

/**
 * Writes state and message in one atomic batch. Bound at `env.OUTBOX_MANAGER` of a wrapped class; `M` is the type of
 * its messages.
 *
 * Every method writes in the turn in which it is called, before its first `await`: what the caller writes in the same
 * turn commits together with the message.
 */
export interface OutboxManager<M = unknown> {
  /**
   * `DurableObjectStorage.put` with one more argument: state and message become durable together, or not at all.
   *
   * @throws TypeError when the message is `undefined` or can't be cloned, or an option is wrong; OutboxError `too_large`,
   * `reserved_key`, `outbox_full`; whatever `storage.put` throws. In every case nothing was written.
   */
  put<T>(key: string, value: T, msg: M, options?: OutboxPutOptions): Promise<OutboxReceipt>;
  /** The same for several entries, also for more than the 128 that one `storage.put` takes. */
  put<T>(entries: Record<string, T>, msg: M, options?: OutboxPutOptions): Promise<OutboxReceipt>;
  /** `DurableObjectStorage.delete` with a message. Resolves to whether the key existed. */
  delete(key: string, msg: M, options?: OutboxPutOptions): Promise<boolean>;
  /** The same for several keys, also for more than 128. Resolves to how many existed. */
  delete(keys: string[], msg: M, options?: OutboxPutOptions): Promise<number>;
  /**
   * `DurableObjectStorage.deleteAll` with a last message: everything that is the object's own is deleted and the message stored
   * in one commit. Messages that wait, and dead letters, stay.
   */
  deleteAll(msg: M, options?: OutboxPutOptions): Promise<OutboxReceipt>;
  /**
   * A message alone. It commits with everything else that the caller writes in the same turn: `sql.exec()`, `kv.put()`,
   * `storage.put()`. A throw between the two rolls nothing back; where that can happen, use a transaction.
   */
  send(msg: M, options?: OutboxPutOptions): Promise<OutboxReceipt>;
  /**
   * `DurableObjectStorage.transaction`, with `txn.send`: what is written through `txn` and what is sent commit together, or
   * not at all when the closure throws or calls `txn.rollback()`. Everything that the outbox is told while a transaction is open
   * belongs to it. Rejects with what the closure threw.
   */
  transaction<T>(closure: (txn: OutboxTransaction<M>) => T | Promise<T>): Promise<T>;
  /**
   * `DurableObjectStorage.transactionSync`, with `send` beside `sql` and `kv`: all of it commits, or nothing when the closure
   * throws. For SQLite-backed objects. Gives what the closure gave.
   *
   * @throws OutboxError `unsupported` on a KV-backed object, or while the object's constructor runs; TypeError when the closure is async;
   * whatever the closure throws.
   */
  transactionSync<T>(closure: (txn: OutboxTransactionSync<M>) => T): T;
  /** Dead letters, in put order. */
  list(options: OutboxListOptions & { state: "dead" }): Promise<OutboxDeadLetter<M>[]>;
  /** Messages that are not delivered: those that are due in put order, those that wait for a time or behind their key as they are stored. */
  list(options?: OutboxListOptions): Promise<OutboxListed<M>[]>;
  stats(): Promise<OutboxStats>;
  /**
   * Puts dead letters back, all or those with these ids: due at once, in put order, before newer messages, with attempts
   * counted from 1. Resolves to how many. A call goes through them in steps, each one commit.
   */
  redrive(ids?: string[]): Promise<number>;
  /** Deletes dead letters. Resolves to how many. */
  discard(ids: string[]): Promise<number>;
  /**
   * Takes back a message that has never been handed over. Resolves to whether it could. One with a time of its own, or
   * behind its ordering key, is searched for: up to as many rows are read as there are set aside.
   */
  cancel(id: string): Promise<boolean>;
  /** Holds all delivery back, also in later lives of the object. A call of `sendMessages` under way ends as usual. */
  pause(): Promise<void>;
  /** Ends `pause()`. */
  resume(): Promise<void>;
  /** Attempts delivery now, without waiting for the alarm or the end of a backoff. Resolves when the run has ended, well or not. */
  flush(): Promise<void>;
  /**
   * From the next message on a new epoch, counted from 1. To be called after a point-in-time restore: without it numbers
   * that were given out after the restored point would be given out again.
   */
  newEpoch(): Promise<void>;
}

/** The implementation behind the public interface. */
export function manager(parts: Parts, tell: Transactions["tell"], erase: Eraser["erase"]): OutboxManager {
  const { ctx, alarm, delivery, sqlite } = parts;
  const wake = () => alarm.setWake(delivery.nextWake());
  const { accept, sendSync } = puttingOf(parts, tell, erase, wake);

  const outbox = {
    put: (first: string | object, second: unknown, third?: unknown, fourth?: OutboxPutOptions) =>
      typeof first === "string" ? accept({ [first]: second }, third, fourth) : accept(first, second, third as OutboxPutOptions),

    async delete(first: string | string[], msg: unknown, options?: OutboxPutOptions) {
      const existed = (await accept({}, msg, options, [first].flat())) as number;
      return Array.isArray(first) ? existed : existed > 0;
    },

    deleteAll: (msg: unknown, options?: OutboxPutOptions) => accept({}, msg, options, undefined, true),

    send: (msg: unknown, options?: OutboxPutOptions) => accept({}, msg, options),

    async transaction<T>(closure: (txn: OutboxTransaction) => T | Promise<T>): Promise<T> {
      if (typeof closure !== "function") throw expected("closure", "a function", closure);
      return ctx.storage.transaction(async (txn) => {
        let open = true;
        const rollback = txn.rollback.bind(txn);
        define(txn, {
          send: (msg: unknown, options?: OutboxPutOptions): Promise<unknown> =>
            open ? accept({}, msg, options) : Promise.reject(new OutboxError("unsupported", "The transaction has ended.")),
          rollback() {
            rollback();
            open = false;
          },
        });
        try {
          return await closure(txn as OutboxTransaction);
        } finally {
          open = false;
        }
      });
    },

    transactionSync<T>(closure: (txn: OutboxTransactionSync) => T): T {
      if (!sqlite) throw new OutboxError("unsupported", "transactionSync() needs a SQLite-backed object: use transaction().");
      if (parts.loading) throw new OutboxError("unsupported", "In a constructor, call transactionSync() in blockConcurrencyWhile().");
      if (typeof closure !== "function") throw expected("closure", "a function", closure);
      let open = true;
      const send = (msg: unknown, options?: OutboxPutOptions): OutboxReceipt => {
        if (!open) throw new OutboxError("unsupported", "The transaction has ended.");
        return sendSync(msg, options);
      };
      try {
        return ctx.storage.transactionSync(() => {
          const result = closure({ sql: ctx.storage.sql, kv: ctx.storage.kv, send });
          // What it writes later would be written outside.
          if (result instanceof Promise) throw expected("closure", "a function that is not async", result);
          return result;
        });
      } finally {
        open = false;
      }
    },
    ...operations(parts, wake),
  };
  return outbox as unknown as OutboxManager;
}
