/** The manager: what a Durable Object's own code calls, at `env.OUTBOX_MANAGER`. */

import { expected, OutboxError } from "./api/errors.js";
import type { OutboxDeadLetter, OutboxListed, OutboxReceipt } from "./api/message.js";
import type { MessageInputsOf, MessageSchemas, MessagesOf } from "./api/messages.js";
import type { OutboxPutOptions } from "./api/put-options.js";
import { type ValidMessage, validated } from "./api/schemas.js";
import type { OutboxContext } from "./context.js";
import type { DropOptions } from "./operate/drop.js";
import type { OutboxListOptions } from "./operate/list.js";
import {
  logOperations,
  type OutboxLogMessage,
  type OutboxLogPage,
  type OutboxReadOptions,
  type OutboxTailOptions,
  type OutboxTrimOptions,
} from "./operate/log.js";
import { type DestinationOption, operations } from "./operate/operations.js";
import { type OutboxOutcomes, type OutboxReceived, type OutboxReceiveOptions, pullOperations } from "./operate/pull.js";
import { replacerOf } from "./operate/replace.js";
import type { OutboxRewindOptions } from "./operate/rewind.js";
import type { OutboxStats } from "./operate/stats.js";
import { define } from "./storage/native.js";
import type { Eraser } from "./write/delete-all.js";
import { checkEntries } from "./write/entries.js";
import { puttingOf } from "./write/put.js";
import type { Transactions } from "./write/transaction.js";

/** A storage transaction that messages can join. */
export interface OutboxTransaction<M = unknown> extends DurableObjectTransaction {
  /** The same with a message that `validate` has checked. */
  send(msg: ValidMessage, options?: OutboxPutOptions): Promise<OutboxReceipt>;
  /** Sends a message that is stored when the transaction commits. Once the transaction has ended, it rejects and writes nothing. */
  send(msg: M, options?: OutboxPutOptions): Promise<OutboxReceipt>;
}

/**
 * An optional method of the class, `deadMessage(message, destination, txn)`: called when a message is about to become a dead letter, whatever the
 * reason, in the transaction in which it becomes one. What it writes through `txn` and what it sends commits with the dead letter, or not at all:
 * a compensation, say, or a report to someone who looks at it. It can't be called over RPC.
 *
 * If it throws, calls `txn.rollback()` or takes over ten seconds, nothing of what it wrote is kept, the message becomes a dead letter all the same, and
 * the event `dead_message_failed` says so. After a crash it is called again. Other requests to the object wait until it has returned.
 *
 * @param message a copy, with `reason` and `error` as `list({ state: "dead" })` shows them
 * @param destination the name of the destination that did not get it: `"default"` is `sendMessages`
 *
 * @example
 * async deadMessage({ msg }: OutboxDeadLetter<OrderMessage>, destination: string, txn: OutboxTransaction<OrderMessage>) {
 *   await txn.put(`order:${msg.id}`, { status: "failed", destination });
 *   await txn.send({ type: "order_failed", id: msg.id });
 * }
 */
export type OutboxDeadMessageHandler<M = unknown, I = M> = (
  message: OutboxDeadLetter<M>,
  destination: string,
  txn: OutboxTransaction<I>,
) => unknown;

/** A synchronous transaction that messages can join. */
export interface OutboxTransactionSync<M = unknown> {
  readonly sql: SqlStorage;
  readonly kv: SyncKvStorage;
  /** The same with a message that `validate` has checked. */
  send(msg: ValidMessage, options?: OutboxPutOptions): OutboxReceipt;
  /** Sends a message that is stored when the transaction commits. Throws immediately what the manager's `send` would reject with. */
  send(msg: M, options?: OutboxPutOptions): OutboxReceipt;
}

/** What a synchronous closure may return: anything but a promise, whose work would be done outside the transaction. */
export type Synchronous<T> = T extends PromiseLike<unknown> ? "a closure that is not async" : T;

/**
 * Writes state and message in one atomic batch. Bound at `env.OUTBOX_MANAGER` of a wrapped class; `M` is the type of
 * its messages, and `I` that of what may be put, where a schema fills in defaults or transforms: see `OutboxManagerOf`.
 *
 * Every method writes in the turn in which it is called, before its first `await`: everything that the caller writes in the same turn commits
 * together with the message.
 */
export interface OutboxManager<M = unknown, I = M> {
  // The form of most calls comes last: its mistakes are the ones that the compiler explains.
  /** The same with a message that `validate` has checked. */
  put<T>(entries: Record<string, T>, msg: ValidMessage, options?: OutboxPutOptions): Promise<OutboxReceipt>;
  put<T>(key: string, value: T, msg: ValidMessage, options?: OutboxPutOptions): Promise<OutboxReceipt>;
  /** The same for several entries, even more than the 128 that one `storage.put` allows. */
  put<T>(entries: Record<string, T>, msg: I, options?: OutboxPutOptions): Promise<OutboxReceipt>;
  /**
   * `DurableObjectStorage.put` with one more argument: state and message become durable together, or not at all.
   *
   * @throws TypeError when the message is `undefined`, can't be cloned, or could not be read back (a `SharedArrayBuffer`, more than 500 levels), or an
   * option is wrong, or its schema is async; OutboxError `invalid_message`, `no_destination`, `sequence_conflict`, `too_large`, `reserved_key`,
   * `outbox_full`; whatever `storage.put` throws. In every case nothing was written.
   */
  put<T>(key: string, value: T, msg: I, options?: OutboxPutOptions): Promise<OutboxReceipt>;
  /** The same with a message that `validate` has checked. */
  delete(keys: string[], msg: ValidMessage, options?: OutboxPutOptions): Promise<number>;
  delete(key: string, msg: ValidMessage, options?: OutboxPutOptions): Promise<boolean>;
  /** The same for several keys, even more than 128. Resolves to the number of keys that existed. */
  delete(keys: string[], msg: I, options?: OutboxPutOptions): Promise<number>;
  /** `DurableObjectStorage.delete` with a message. Resolves to whether the key existed. */
  delete(key: string, msg: I, options?: OutboxPutOptions): Promise<boolean>;
  /** The same with a message that `validate` has checked. */
  deleteAll(msg: ValidMessage, options?: OutboxPutOptions): Promise<OutboxReceipt>;
  /**
   * `DurableObjectStorage.deleteAll` with a last message: deletes all of the object's own state and stores the message, in one commit. Undelivered
   * messages and dead letters stay.
   */
  deleteAll(msg: I, options?: OutboxPutOptions): Promise<OutboxReceipt>;
  /** The same with a message that `validate` has checked. */
  send(msg: ValidMessage, options?: OutboxPutOptions): Promise<OutboxReceipt>;
  /**
   * Sends a message alone. It commits with everything else that the caller writes in the same turn: `sql.exec()`, `kv.put()`, `storage.put()`. A throw
   * between the two rolls nothing back; if that can happen, use a transaction.
   */
  send(msg: I, options?: OutboxPutOptions): Promise<OutboxReceipt>;
  /**
   * `DurableObjectStorage.transaction`, with `txn.send`: everything written through `txn` and everything sent commits together, or not at all when the
   * closure throws or calls `txn.rollback()`. Every call of the manager while a transaction is open belongs to it. Rejects with what the closure threw.
   */
  transaction<T>(closure: (txn: OutboxTransaction<I>) => T | Promise<T>): Promise<T>;
  /**
   * `DurableObjectStorage.transactionSync`, with `send` beside `sql` and `kv`: everything commits, or nothing when the closure
   * throws. For SQLite-backed objects. Returns what the closure returned.
   *
   * @throws OutboxError `unsupported` on a KV-backed object, or while the object's constructor runs; TypeError when the closure is async;
   * whatever the closure throws.
   */
  transactionSync<T>(closure: (txn: OutboxTransactionSync<I>) => Synchronous<T>): T;
  /**
   * Checks a message with its schema, which may be async here. What it resolves to may be put in its place: it is stored as it is now, and not checked
   * again. Nothing is written.
   *
   * @throws OutboxError `invalid_message`; TypeError when the message can't be cloned.
   *
   * @example
   * const order = await outbox.validate({ type: "order_created", customer });
   * await outbox.put("order", order.msg, order);
   */
  validate(msg: I): Promise<ValidMessage<M>>;
  /** Dead letters, in put order. */
  list(options: OutboxListOptions & { state: "dead" }): Promise<OutboxDeadLetter<M>[]>;
  /** Undelivered messages: those that are due in put order, those that wait for a time or behind their key in the order in which they are stored. */
  list(options?: OutboxListOptions): Promise<OutboxListed<M>[]>;
  /** The state of the outbox at this moment, in sum and for each destination. */
  stats(): Promise<OutboxStats>;
  /**
   * Puts dead letters back, all or those with these ids: due at once, in put order, before newer messages, with attempts
   * counted from 1. Resolves to the number redriven. A call processes them in steps, each one commit.
   *
   * @throws TypeError, here and below, when the object has no destination of the given name
   */
  redrive(ids?: string[], options?: DestinationOption): Promise<number>;
  /**
   * Deletes dead letters, and messages that have failed and are waiting for their next attempt. Resolves to the number deleted. For messages that have
   * never been tried, use `cancel`.
   */
  discard(ids: string[], options?: DestinationOption): Promise<number>;
  /**
   * Withdraws a waiting message, whether or not it has been tried: it is not handed over (again). Resolves to whether it was withdrawn, from any
   * destination: false while it is being handed over, and once it is delivered or a dead letter. A message that was tried may have arrived
   * nevertheless: if that matters, check its `attempts` with `list()` first. A message with a time of its own, or behind its ordering key, is searched
   * for, which reads up to as many rows as are set aside.
   *
   * @throws OutboxError `outbox_full` when 3,000 places of the queue are open because messages behind them were taken out of order
   */
  cancel(id: string, options?: DestinationOption): Promise<boolean>;
  /**
   * Lets messages that wait for a time be due at once: for their own (`delaySeconds`, `deliverAt`), or for their next attempt. What is ahead of one with its
   * ordering key stays ahead, and a destination that is backing off, or paused, gets it afterwards. Resolves to how many there were, each counted for
   * every destination: those that are due already, or are being handed over, are none of them, nor is what a
   * destination has yet to get that the class does not have. Searches as `cancel` does.
   */
  retry(ids: string[], options?: DestinationOption): Promise<number>;
  /**
   * Stops all delivery, also across restarts of the object. A call of `sendMessages` in progress ends as usual. If `sendMessages` throws an error with
   * `pause: true`, that does the same.
   */
  pause(options?: DestinationOption): Promise<void>;
  /** Ends `pause()`: waiting messages are due at once. */
  resume(options?: DestinationOption): Promise<void>;
  /**
   * Attempts delivery now, without waiting for the alarm or the end of a backoff. Resolves when the run has ended, successfully or not. In a transaction
   * or in `sendMessages` it does nothing: messages that are due are delivered afterwards. In `blockConcurrencyWhile` it does not wait for a run that began
   * outside.
   */
  flush(options?: DestinationOption): Promise<void>;
  /**
   * Abandons a destination that the class does not have any more: deletes everything that it has yet to get, and its dead letters, and forgets
   * it. With `deadLetters: true` what it has yet to get becomes its dead letters instead, which stay until they are discarded, and it takes no
   * further message. Resolves to how many messages it had yet to get. Goes through them in steps, each one commit: after a crash, call it again.
   *
   * @throws TypeError when the object knows no such destination. @throws OutboxError `unsupported` when the class still has it, or in a
   * transaction.
   */
  dropDestination(name: string, options?: DropOptions): Promise<number>;
  /**
   * Reads a page of the log: what has been put, in put order, whatever has become of it at its destinations. A cancelled or replaced message is in it as
   * well. In a transaction it shows what that has put. Needs the option `retain`, as the next three do.
   *
   * @throws TypeError for a wrong option; OutboxError `unsupported` without `retain`
   */
  read(options?: OutboxReadOptions): Promise<OutboxLogPage<M>>;
  /**
   * Follows the log: yields what is put, each message once and in order, as soon as it is durable, until the iteration is left or `signal` is aborted.
   * Messages are read when they are asked for, so a slow consumer costs no memory. Ends with the object's life: remember the last `position` and pass it
   * as `after`.
   */
  tail(options?: OutboxTailOptions): AsyncGenerator<OutboxLogMessage<M>, void, undefined>;
  /** The same as a stream of bytes, which a method can return over RPC: one JSON object a line. */
  tailStream(options?: OutboxTailOptions): ReadableStream<Uint8Array>;
  /**
   * Deletes the log before a position, as far as every destination has got it: in steps, each one commit. Resolves to the position of the first message
   * that is left. OutboxError `unsupported` in a transaction.
   */
  trim(options: OutboxTrimOptions): Promise<number>;
  /**
   * Hands out messages of a destination with `pull: true`, under a lease: they are hidden from other consumers until they are settled or the lease
   * expires. Several consumers may ask at once. Nothing is written, unless a message or a lease has expired: leases are in memory, and end with the
   * object's life. At most 500 messages are leased at a time. Waits for a transaction that is open, so it can't be called in one.
   *
   * @throws TypeError when the object has no such destination
   */
  receive(destination: string, options?: OutboxReceiveOptions): Promise<OutboxReceived<M>>;
  /**
   * Says what has become of messages that were received, all or some of them, in one commit. @throws OutboxError `lease_expired`, and has settled nothing;
   * TypeError for an id that is not in the lease, or was settled before.
   */
  settle(lease: string, outcomes: OutboxOutcomes): Promise<void>;
  /** Lets a lease end so many seconds from now. Resolves to when that is. @throws OutboxError `lease_expired`. */
  extendLease(lease: string, options?: Pick<OutboxReceiveOptions, "visibilityTimeoutSeconds">): Promise<number>;
  /**
   * Lets a destination get again what the log has kept from a position on: after a mistake in its handler, say. What it has set aside, and its dead letters,
   * stay as they are, and other destinations go on. Waits for the end of a run of it, and ends the leases of its consumers. Resolves to how many messages
   * it has yet to get, at most.
   *
   * @throws TypeError when the object has no such destination, or for a position that is not kept or lies ahead; OutboxError `unsupported` without
   * `retain`, in a transaction, and in a handler while messages of that destination are being handed over
   */
  rewind(destination: string, options: OutboxRewindOptions): Promise<number>;
  /**
   * Begins a new epoch with the next message, counted from 1. Call it after a point-in-time restore: without it, numbers used after the restored point
   * would be used again.
   */
  newEpoch(): Promise<void>;
}

/** The manager of a class with the option `messages`: `OutboxManagerOf<typeof messages>`. It takes the schemas' inputs and lists their outputs. */
export type OutboxManagerOf<T extends MessageSchemas> = OutboxManager<MessagesOf<T>, MessageInputsOf<T>>;

/** The implementation behind the public interface. */
export function manager(parts: OutboxContext, emitAfterCommit: Transactions["emitAfterCommit"], erase: Eraser["erase"]): OutboxManager {
  const { ctx, alarm, delivery, sqlite } = parts;
  const wake = () => alarm.setWake(delivery.nextWake());
  const { accept, sendSync } = puttingOf(parts, emitAfterCommit, erase, wake, replacerOf(parts));

  const outbox = {
    put(first: string | object, second: unknown, third?: unknown, fourth?: OutboxPutOptions): Promise<unknown> {
      if (typeof first === "string") return accept({ [first]: second }, third, fourth);
      try {
        checkEntries(first, second, third, fourth);
      } catch (error) {
        return Promise.reject(error);
      }
      return accept(first, second, third as OutboxPutOptions);
    },

    async delete(first: string | string[], msg: unknown, options?: OutboxPutOptions) {
      const existed = (await accept({}, msg, options, [first].flat())) as number;
      return Array.isArray(first) ? existed : existed > 0;
    },

    deleteAll: (msg: unknown, options?: OutboxPutOptions) => accept({}, msg, options, undefined, true),

    send: (msg: unknown, options?: OutboxPutOptions) => accept({}, msg, options),

    validate: (msg: unknown) => validated(parts.settings.schemas, msg),

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
    ...pullOperations(parts),
    ...logOperations(parts, () => ctx.storage.sync()),
  };
  return outbox as unknown as OutboxManager;
}
