/** The manager: what a Durable Object's own code calls, at `env.OUTBOX_MANAGER`. */

import { envelope, type OutboxPutOptions } from "./envelope.js";
import type { Eraser } from "./erase.js";
import { expected, OutboxError } from "./errors.js";
import { checkKey } from "./guard.js";
import { type Draft, draft, identify, type More, type OutboxDeadLetter, type OutboxListed, type OutboxReceipt } from "./message.js";
import { define } from "./native.js";
import { type OutboxListOptions, operations } from "./operations.js";
import { gate, type Parts } from "./parts.js";
import { idKey, type KnownId } from "./rows.js";
import { contentBytes } from "./size.js";
import { FEW_KEYS, maxMessageBytes } from "./store.js";
import type { Transactions } from "./transaction.js";

/** The limits of a KV-backed object, in bytes: a key in UTF-8, and a value (Durable Objects limits page). */
const KV_KEY_BYTES = 2048;
const KV_VALUE_BYTES = 131_072;

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

/** The manager as the inbox uses it, too. */
export type Manager = OutboxManager;

/** The implementation behind the public interface. */
export function manager(parts: Parts, tell: Transactions["tell"], erase: Eraser["erase"]): Manager {
  const { ctx, store, alarm, delivery, settings, sqlite } = parts;
  const { listening, immediate, maxPending, expiresInSeconds } = settings;
  const { memory } = store;
  const maxBytes = maxMessageBytes(sqlite);
  const maxValueBytes = 2 ** (sqlite ? 21 : 17);
  const wake = () => alarm.setWake(delivery.nextWake());

  /** @throws TypeError, or OutboxError `reserved_key` or `too_large`. */
  function checkEntries(entries: Record<string, unknown>, keys: string[]): void {
    for (const key of keys) {
      if (typeof key !== "string") throw expected("key", "a string", key);
      checkKey(key);
      const value = entries[key];
      // The runtime holds a SQLite-backed object to its limits, locally as well, and a KV-backed one only in production.
      if (!sqlite) checkKv(key, value);
      // More entries than one put takes go down as several. A bad value among them must be found before the first is written.
      if (keys.length > FEW_KEYS && value !== undefined) draft(key, value, maxValueBytes);
    }
  }

  function checkRoom(): void {
    if (store.undelivered() >= maxPending) throw new OutboxError("outbox_full", `${maxPending} messages wait already (maxPending).`);
  }

  /**
   * Checks everything, then writes everything: once the object is loaded, nothing is written after an `await`.
   * Resolves to the receipt, or to how many of the `deleted` keys existed.
   */
  function accept(given: object, msg: unknown, options?: OutboxPutOptions, deleted?: string[], erased?: true): Promise<unknown> {
    // Not an async function: what is refused rejects all the same, and every promise in between costs each put its share.
    try {
      if (Object(given) !== given || Array.isArray(given)) throw expected("key", "a string or an object", given);
      // A copy, to which the outbox's rows are added. Every key is an own property, whatever its name.
      const entries: Record<string, unknown> = { ...given };
      const keys = Object.keys(entries);
      checkEntries(entries, deleted ?? keys);
      const now = Date.now();
      const more = envelope(options, now, expiresInSeconds);
      const message = draft("msg", msg, maxBytes, more ?? null);
      const put: Put = { entries, keys, now, more, message, options, deleted, erased };
      return gate(parts) ? whenReady(put) : begin(put);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  async function whenReady(put: Put): Promise<unknown> {
    for (let first = gate(parts); first; first = gate(parts)) await first;
    return begin(put);
  }

  function begin(put: Put): Promise<unknown> {
    const id = put.more?.id;
    const known = id === undefined ? undefined : idKey(id);
    const { options, erased } = put;
    if (erased && !sqlite) {
      return erase(
        options,
        (first) => write(put, first),
        async () => {
          const first = known === undefined ? undefined : await store.native.get<KnownId>(known);
          if (!first) checkRoom();
          return first;
        },
      );
    }
    if (parts.turn === null && known === undefined) return commit(put);
    if (parts.turn === null && known !== undefined && sqlite) return commit(put, parts.kv.get<KnownId>(known));
    // A KV-backed object reads before it writes: whatever is put meanwhile takes its turn behind, as it is at the call.
    const copy = structuredClone({ ...put.entries });
    for (const key of put.keys) put.entries[key] = copy[key];
    const within = store.native;
    const done = Promise.resolve(parts.turn)
      .then(() => (known ? store.native.get<KnownId>(known) : undefined))
      .then((first) => {
        // Only rollback() ends a transaction that still has something to write.
        if (store.native !== within) throw new OutboxError("unsupported", "The transaction has been rolled back.");
        return commit(put, first);
      });
    const mine = done
      .then(
        () => {},
        () => {},
      )
      .then(() => {
        if (parts.turn === mine) parts.turn = null;
      });
    parts.turn = mine;
    return done;
  }

  /** `first` is what is known of an earlier message with the same id: this one is not stored, and its state is. */
  function commit(put: Put, first?: KnownId): Promise<unknown> {
    if (!first) checkRoom();
    return put.erased ? erase(put.options, () => write(put, first)) : write(put, first);
  }

  async function write({ entries, keys, message, now, more, options, deleted, erased }: Put, first?: KnownId): Promise<unknown> {
    const id = more?.id;
    const position = first ? 0 : store.append(entries, message, now, more);
    const receipt = identify(memory, position, id);
    const { sequence } = receipt;
    if (id !== undefined && !first) entries[idKey(id)] = [position, sequence];
    try {
      const existed = deleted && store.delete(deleted, options);
      // Should the put refuse at once, nobody waits for this one.
      existed?.catch(() => {});
      const written = keys.length > FEW_KEYS ? store.put(entries, options) : store.native.put(entries, options);
      const armed = first || (memory.trouble.retryAt === 0 && alarm.stands(now)) ? undefined : wake();
      if (listening && !first) tell({ type: "stored", id: receipt.id, sequence });
      await written;
      if (armed) await armed;
      if (immediate && !first) delivery.kick();
      return existed ?? (first ? { id, sequence: first[1], deduplicated: true } : receipt);
    } catch (error) {
      // Storage refused the batch, so nothing of it was written: neither may the message go down with a later one.
      // Should it have gone down already, what is not yet committed is dropped, and the object begins again from what is stored.
      if (erased || (!first && !store.retract(position, entries))) ctx.abort(String(error));
      void wake();
      throw error;
    }
  }

  /** A message alone, on a SQLite-backed object: what it writes is written when this returns. */
  function sendSync(msg: unknown, options?: OutboxPutOptions): OutboxReceipt {
    const now = Date.now();
    const more = envelope(options, now, expiresInSeconds);
    const message = draft("msg", msg, maxBytes, more ?? null);
    const { kv } = parts;
    const id = more?.id;
    const known = id === undefined ? undefined : kv.get<KnownId>(idKey(id));
    if (id !== undefined && known) return { id, sequence: known[1], deduplicated: true };
    checkRoom();
    const before = { ...memory };
    try {
      const rows: Record<string, unknown> = {};
      const position = store.append(rows, message, now, more);
      const receipt = identify(memory, position, id);
      if (id !== undefined) rows[idKey(id)] = [position, receipt.sequence];
      // The header last: nothing else counts before it stands.
      const { [memory.key]: header, ...others } = rows;
      for (const key of Object.keys(others)) kv.put(key, others[key]);
      kv.put(memory.key, header);
      void wake();
      if (listening) tell({ type: "stored", id: receipt.id, sequence: receipt.sequence });
      return receipt;
    } catch (error) {
      Object.assign(memory, before);
      throw error;
    }
  }

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
  return outbox as unknown as Manager;
}

/** One put, checked. */
interface Put {
  readonly entries: Record<string, unknown>;
  /** Those of the caller. */
  readonly keys: readonly string[];
  readonly now: number;
  readonly more: More | undefined;
  readonly message: Draft;
  readonly options: OutboxPutOptions | undefined;
  /** Keys to delete with it. */
  readonly deleted: string[] | undefined;
  /** Everything of the object's own is to be deleted with it. */
  readonly erased: true | undefined;
}

/** What a local run does not hold a KV-backed object to (Durable Objects limits page). @throws OutboxError `too_large`. */
function checkKv(key: string, value: unknown): void {
  // A UTF-16 unit takes three bytes at most.
  const keyBytes = key.length * 3 <= KV_KEY_BYTES ? 0 : new TextEncoder().encode(key).length;
  if (keyBytes > KV_KEY_BYTES) throw new OutboxError("too_large", `A key takes ${keyBytes} bytes, the limit is ${KV_KEY_BYTES}.`);
  // Never more than it takes: what is in doubt is the platform's to refuse, and that refuses all or nothing.
  const bytes = contentBytes(value);
  if (bytes > KV_VALUE_BYTES)
    throw new OutboxError("too_large", `The value of ${key} takes ${bytes} bytes, the limit is ${KV_VALUE_BYTES}.`);
}
