/** The manager: what a Durable Object's own code calls, at `env.OUTBOX_MANAGER`. */

import type { AlarmSlot } from "./alarm.js";
import type { Delivery } from "./delivery.js";
import { expected, OutboxError } from "./errors.js";
import type { Emit } from "./events.js";
import { draft, identify, type OutboxMessage, type OutboxReceipt, positionOf, present } from "./message.js";
import { within } from "./options.js";
import { RESERVED } from "./rows.js";
import { MAX_KEYS, maxMessageBytes, type Store } from "./store.js";

/** Options of `put`, `delete` and `send`: those of `DurableObjectStorage.put`, which reach the storage call unchanged. */
export interface OutboxPutOptions extends DurableObjectPutOptions {}

/** What `list` shows: the oldest messages. */
export interface OutboxListOptions {
  /** Which messages. Default `"pending"`: stored and not yet delivered. */
  state?: "pending";
  /** How many at most. Default 100, from 1 to 1,000. */
  limit?: number;
}

/** The state of the outbox at this moment. Reading it costs nothing, whatever the backlog. */
export interface OutboxStats {
  /** Messages that wait for delivery. */
  pending: number;
  /** Failed calls of `sendMessages` in a row. */
  failures: number;
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
   * @throws TypeError when the message is `undefined` or can't be cloned; OutboxError `too_large`,
   * `reserved_key`; whatever `storage.put` throws. In every case nothing was written.
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
  /** The oldest messages, in put order. */
  list(options?: OutboxListOptions): Promise<OutboxMessage<M>[]>;
  stats(): Promise<OutboxStats>;
  /** Attempts delivery now, without waiting for the alarm or the end of a backoff. Resolves when the run has ended, well or not. */
  flush(): Promise<void>;
}

/** What one object's outbox is made of. */
export interface Parts {
  readonly ctx: DurableObjectState;
  readonly store: Store;
  readonly alarm: AlarmSlot;
  readonly delivery: Delivery;
  readonly emit: Emit;
  /** Settles when the outbox has read what the object left behind: `null` from then on. */
  loading: Promise<void> | null;
}

/** The implementation behind the public interface. */
export function manager(parts: Parts): OutboxManager {
  const { ctx, store, alarm, delivery, emit } = parts;
  const maxBytes = maxMessageBytes(ctx.storage);

  /**
   * Checks everything, then writes everything: once the object is loaded, nothing is written after an `await`.
   * Resolves to the receipt, or to how many of the `deleted` keys existed.
   */
  async function write(given: object, msg: unknown, options?: OutboxPutOptions, deleted?: string[]): Promise<unknown> {
    if (Object(given) !== given || Array.isArray(given)) throw expected("key", "a string or an object", given);
    // Without a prototype no key means anything but itself, and a key can be added at no cost.
    const entries: Record<string, unknown> = Object.assign(Object.create(null), given);
    const keys = Object.keys(entries);
    for (const key of deleted ?? keys) {
      if (typeof key !== "string") throw expected("key", "a string", key);
      if (key.startsWith(RESERVED)) throw new OutboxError("reserved_key", "Keys from U+10FFFF on are the outbox's own.");
      // More entries than one put takes go down as several. A bad value among them must be found before the first is written.
      if (keys.length >= MAX_KEYS && entries[key] !== undefined) draft(key, entries[key], maxBytes, false);
    }
    const checked = draft("msg", msg, maxBytes);
    if (parts.loading) await parts.loading;
    const position = store.append(entries, checked, Date.now());
    const receipt = identify(store.memory, position);
    try {
      const existed = deleted && store.delete(deleted, options);
      const written = store.put(entries, options);
      const armed = alarm.setWake(delivery.nextWake());
      emit({ type: "stored", id: receipt.id, sequence: receipt.sequence });
      await written;
      if (armed) await armed;
      return existed ?? receipt;
    } catch (error) {
      // Storage refused the batch, so nothing of it was written: neither may the message go down with a later one.
      // Should it have gone down already, what is not yet committed is dropped, and the object begins again from what is stored.
      if (!store.retract(position, entries)) ctx.abort(String(error));
      void alarm.setWake(delivery.nextWake());
      throw error;
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

    async list({ state = "pending", limit }: OutboxListOptions = {}) {
      if (state !== "pending") throw expected("options.state", '"pending"', state);
      const most = within("options.limit", limit, [100, 1, 1000, 1]);
      await parts.loading;
      const { messages } = await store.read(most, false);
      return messages.map(({ stream, stored }) => present(stream, stored, delivery.attempts(positionOf(stored))));
    },

    async stats() {
      await parts.loading;
      return { pending: store.pending(), failures: store.memory.trouble.failures };
    },

    async flush() {
      await parts.loading;
      if (store.pending()) await delivery.run(false);
    },
  };
  return outbox as OutboxManager;
}
