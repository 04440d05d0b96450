/** The manager: what a Durable Object's own code calls, at `env.OUTBOX_MANAGER`. */

import { envelope, type OutboxPutOptions } from "./envelope.js";
import { expected, OutboxError } from "./errors.js";
import { draft, identify, type OutboxDeadLetter, type OutboxListed, type OutboxReceipt } from "./message.js";
import { type OutboxListOptions, operations } from "./operations.js";
import type { Parts } from "./parts.js";
import { idKey, type KnownId, RESERVED } from "./rows.js";
import { FEW_KEYS, isSqlite, maxMessageBytes } from "./store.js";

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
  /** A message alone. It commits with everything else that the caller writes in the same turn. */
  send(msg: M, options?: OutboxPutOptions): Promise<OutboxReceipt>;
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
export function manager(parts: Parts): OutboxManager {
  const { ctx, store, alarm, delivery, settings } = parts;
  const { emit, listening, immediate, maxPending, expiresInSeconds } = settings;
  const { memory } = store;
  const sqlite = isSqlite(ctx.storage);
  const maxBytes = maxMessageBytes(sqlite);
  const wake = () => alarm.setWake(delivery.nextWake());
  /** Where reading is asynchronous, puts take turns behind one with an id. */
  let turn: Promise<void> | null = null;

  /**
   * Checks everything, then writes everything: once the object is loaded, nothing is written after an `await`.
   * Resolves to the receipt, or to how many of the `deleted` keys existed.
   */
  function write(given: object, msg: unknown, options?: OutboxPutOptions, deleted?: string[]): Promise<unknown> {
    // Not an async function: what is refused rejects all the same, and every promise in between costs each put its share.
    try {
      return checked(given, msg, options, deleted);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  function checked(given: object, msg: unknown, options?: OutboxPutOptions, deleted?: string[]): Promise<unknown> {
    if (Object(given) !== given || Array.isArray(given)) throw expected("key", "a string or an object", given);
    // Without a prototype no key means anything but itself, and a key can be added at no cost.
    const entries: Record<string, unknown> = Object.assign(Object.create(null), given);
    const keys = Object.keys(entries);
    for (const key of deleted ?? keys) {
      if (typeof key !== "string") throw expected("key", "a string", key);
      if (key.startsWith(RESERVED)) throw new OutboxError("reserved_key", "Keys from U+10FFFF on are the outbox's own.");
      // More entries than one put takes go down as several. A bad value among them must be found before the first is written.
      if (keys.length > FEW_KEYS && entries[key] !== undefined) draft(key, entries[key], maxBytes);
    }
    const now = Date.now();
    const more = envelope(options, now, expiresInSeconds);
    const message = draft("msg", msg, maxBytes, more ?? null);
    const id = more?.id;
    const known = id === undefined ? undefined : idKey(id);
    const begin = (): Promise<unknown> => {
      if (turn === null && known === undefined) return commit();
      if (turn === null && known !== undefined && sqlite) return commit(ctx.storage.kv.get<KnownId>(known));
      // A KV-backed object reads before it writes: whatever is put meanwhile takes its turn behind, as it is at the call.
      const copy = structuredClone(given);
      for (const key of keys) entries[key] = (copy as typeof entries)[key];
      const done = Promise.resolve(turn)
        .then(() => (known ? store.native.get<KnownId>(known) : undefined))
        .then(commit);
      const mine = done
        .then(
          () => {},
          () => {},
        )
        .then(() => {
          if (turn === mine) turn = null;
        });
      turn = mine;
      return done;
    };
    return parts.loading ? parts.loading.then(begin) : begin();

    async function commit(first?: KnownId): Promise<unknown> {
      if (store.undelivered() >= maxPending && !first) {
        throw new OutboxError("outbox_full", `${maxPending} messages wait already (maxPending).`);
      }
      const position = first ? 0 : store.append(entries, message, now, more);
      const receipt = identify(memory, position, id);
      const { sequence } = receipt;
      if (known && !first) entries[known] = [position, sequence];
      try {
        const existed = deleted && store.delete(deleted, options);
        const written = keys.length > FEW_KEYS ? store.put(entries, options) : store.native.put(entries, options);
        const armed = first ? undefined : wake();
        if (listening && !first) emit({ type: "stored", id: receipt.id, sequence });
        await written;
        if (armed) await armed;
        if (immediate && !first) delivery.kick();
        return existed ?? (first ? { id, sequence: first[1], deduplicated: true } : receipt);
      } catch (error) {
        // Storage refused the batch, so nothing of it was written: neither may the message go down with a later one.
        // Should it have gone down already, what is not yet committed is dropped, and the object begins again from what is stored.
        if (!first && !store.retract(position, entries)) ctx.abort(String(error));
        void wake();
        throw error;
      }
    }
  }

  const outbox = {
    put: (first: string | object, second: unknown, third?: unknown, fourth?: OutboxPutOptions) =>
      typeof first === "string" ? write({ [first]: second }, third, fourth) : write(first, second, third as OutboxPutOptions),

    async delete(first: string | string[], msg: unknown, options?: OutboxPutOptions) {
      const existed = (await write({}, msg, options, [first].flat())) as number;
      return Array.isArray(first) ? existed : existed > 0;
    },

    send: (msg: unknown, options?: OutboxPutOptions) => write({}, msg, options),
    ...operations(parts, wake),
  };
  return outbox as OutboxManager;
}
