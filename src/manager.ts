/** The manager: what a Durable Object's own code calls, at `env.OUTBOX_MANAGER`. */

import type { AlarmSlot } from "./alarm.js";
import type { Delivery } from "./delivery.js";
import { expected, OutboxError } from "./errors.js";
import type { Emit } from "./events.js";
import { type Draft, draft, messageId, type OutboxMessage, type OutboxReceipt, present } from "./message.js";
import { RESERVED } from "./rows.js";
import { MAX_KEYS, type Store } from "./store.js";

/** Options of `put`, `delete` and `send`: those of `DurableObjectStorage.put`, which reach the storage call unchanged. */
export interface OutboxPutOptions extends DurableObjectPutOptions {}

/** What `list` shows. */
export interface OutboxListOptions {
  /** Which messages. Default `"pending"`: stored and not yet delivered. */
  state?: "pending";
  /** How many at most. Default 100, from 1 to 1,000. */
  limit?: number;
  /** Begin after the message with this `id`: the last one of the page before. */
  after?: string;
}

/** The state of the outbox at this moment. Reading it costs at most one storage read, whatever the backlog. */
export interface OutboxStats {
  /** Messages that wait for delivery. */
  pending: number;
  /** Age of the oldest pending message, in seconds; `null` when nothing is pending. */
  oldestAgeSeconds: number | null;
  /** When the next attempt is due, in milliseconds since the Unix epoch; `null` when nothing is pending. */
  nextAttemptAt: number | null;
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
   * @throws TypeError when the message is `undefined` or can't be cloned; OutboxError `message_too_large`,
   * `reserved_key`, `key_too_large`; whatever `storage.put` throws. In every case nothing was written.
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
  /** Messages in put order, a page at a time. */
  list(options?: OutboxListOptions): Promise<OutboxMessage<M>[]>;
  stats(): Promise<OutboxStats>;
  /** Attempts delivery now, without waiting for the alarm or the end of a backoff. Resolves when the run has ended, well or not. */
  flush(): Promise<void>;
}

/** What the manager is made of. */
export interface Parts {
  readonly ctx: DurableObjectState;
  readonly store: Store;
  readonly alarm: AlarmSlot;
  readonly delivery: Delivery;
  readonly emit: Emit;
  /** Settles when the outbox has read what the object left behind: `null` from then on. */
  loading: Promise<void> | null;
}

interface Writing {
  readonly draft: Draft;
  readonly entries: Record<string, unknown>;
  readonly deleted: readonly string[];
  readonly options: DurableObjectPutOptions | undefined;
}

/** The implementation behind the public interface. */
export class Manager implements OutboxManager {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  async put(first: string | Record<string, unknown>, second: unknown, third?: unknown, fourth?: OutboxPutOptions): Promise<OutboxReceipt> {
    const single = typeof first === "string";
    if (!single && (typeof first !== "object" || first === null)) throw expected("key", "a string, or an object of entries", first);
    const entries = single ? { [first]: second } : { ...first };
    const written = this.#write(entries, [], single ? third : second, (single ? fourth : third) as OutboxPutOptions | undefined);
    return (await written).receipt;
  }

  async delete(keys: string, msg: unknown, options?: OutboxPutOptions): Promise<boolean>;
  async delete(keys: string[], msg: unknown, options?: OutboxPutOptions): Promise<number>;
  async delete(keys: string | string[], msg: unknown, options?: OutboxPutOptions): Promise<boolean | number> {
    const single = typeof keys === "string";
    if (!single && !Array.isArray(keys)) throw expected("keys", "a string or an array of strings", keys);
    const { deleted } = await this.#write({}, single ? [keys] : [...keys], msg, options);
    return single ? deleted > 0 : deleted;
  }

  async send(msg: unknown, options?: OutboxPutOptions): Promise<OutboxReceipt> {
    return (await this.#write({}, [], msg, options)).receipt;
  }

  /** Checks everything, then writes everything: nothing is written after an `await` once the object is loaded. */
  #write(entries: Record<string, unknown>, deleted: string[], msg: unknown, options: OutboxPutOptions | undefined): Promise<Written> {
    const { store, loading } = this.#parts;
    for (const key of Object.keys(entries)) this.#checkKey(key);
    for (const key of deleted) this.#checkKey(key);
    const writing = {
      draft: draft(msg, store.maxMessageBytes),
      // More entries than one put takes go down as several. One bad value among them must be found before the first is written.
      entries: Object.keys(entries).length < MAX_KEYS ? entries : cloned(entries),
      deleted,
      options: storageOptions(options),
    };
    return loading === null ? this.#commit(writing) : loading.then(() => this.#commit(writing));
  }

  async #commit({ draft, entries, deleted, options }: Writing): Promise<Written> {
    const { store, alarm, delivery, emit } = this.#parts;
    const now = Date.now();
    const { rows, stored, stream } = store.append(draft, now);
    try {
      const deletes = chunks(deleted).map((keys) => store.delete(keys, options));
      const written = this.#put({ ...entries, ...rows }, options);
      alarm.setWake(delivery.nextWake(now));
      const sequence = stored.n - stream.base;
      const receipt = { id: messageId(stream.epoch, sequence), sequence };
      emit({ type: "stored", ...receipt });
      await written;
      let existed = 0;
      for (const count of deletes) existed += await count;
      return { receipt, deleted: existed };
    } catch (error) {
      this.#retract(stored.n, error);
      throw error;
    }
  }

  #put(entries: Record<string, unknown>, options: DurableObjectPutOptions | undefined): Promise<unknown> {
    const { store } = this.#parts;
    const all = Object.entries(entries);
    if (all.length <= MAX_KEYS) return store.put(entries, options);
    return Promise.all(chunks(all).map((chunk) => store.put(Object.fromEntries(chunk), options)));
  }

  /** Storage refused the batch, so nothing of it was written: neither may the message go down with a later one. */
  #retract(position: number, error: unknown): void {
    const { ctx, store, alarm, delivery } = this.#parts;
    try {
      const rows = store.retract(position);
      if (rows !== null) void store.put(rows);
      alarm.moveWake(delivery.nextWake(Date.now()));
    } catch {
      // Memory and storage differ in a way that can't be mended: begin again from what is stored.
      ctx.abort(String(error));
    }
  }

  #checkKey(key: unknown): void {
    if (typeof key !== "string") throw expected("keys", "strings", key);
    if (key.startsWith(RESERVED)) {
      throw new OutboxError(
        "reserved_key",
        "A key that begins with U+10FFFF is in the range that the outbox keeps for itself. Choose another key.",
      );
    }
    const { maxKeyBytes } = this.#parts.store;
    if (key.length * 3 <= maxKeyBytes) return;
    const bytes = new TextEncoder().encode(key).byteLength;
    if (bytes > maxKeyBytes)
      throw new OutboxError("key_too_large", `A key takes ${bytes} bytes, and ${maxKeyBytes} are the limit on this object.`);
  }

  async list(options: OutboxListOptions = {}): Promise<OutboxMessage[]> {
    const { state = "pending", limit = 100, after = "" } = options;
    if (state !== "pending") throw expected("options.state", '"pending"', state);
    if (!Number.isInteger(limit) || limit < 1 || limit > 1000) throw expected("options.limit", "an integer from 1 to 1,000", limit);
    if (typeof after !== "string") throw expected("options.after", "the id of a message", after);
    const { store, delivery } = this.#parts;
    await this.#parts.loading;
    const found = await store.list(limit, after);
    return found.map(({ stream, stored }) => present(stream, stored, delivery.attempts(stored.n)));
  }

  async stats(): Promise<OutboxStats> {
    const { store, delivery } = this.#parts;
    await this.#parts.loading;
    const [oldest] = await store.list(1, "");
    const now = Date.now();
    return {
      pending: store.pending,
      oldestAgeSeconds: oldest === undefined ? null : Math.max(0, now - oldest.stored.at) / 1000,
      nextAttemptAt: delivery.nextWake(now),
      failures: store.trouble?.failures ?? 0,
    };
  }

  async flush(): Promise<void> {
    await this.#parts.loading;
    if (this.#parts.store.pending > 0) await this.#parts.delivery.run(false);
  }
}

interface Written {
  readonly receipt: OutboxReceipt;
  readonly deleted: number;
}

function chunks<T>(items: readonly T[]): T[][] {
  const cut: T[][] = [];
  for (let i = 0; i < items.length; i += MAX_KEYS) cut.push(items.slice(i, i + MAX_KEYS));
  return cut;
}

function cloned(entries: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(entries).map(([key, value]) => [key, structuredClone(value)]));
}

/** Only what storage knows reaches storage. */
function storageOptions(options: OutboxPutOptions | undefined): DurableObjectPutOptions | undefined {
  if (options === undefined) return undefined;
  if (typeof options !== "object" || options === null) throw expected("options", "an object", options);
  const { allowConcurrency, allowUnconfirmed, noCache } = options;
  return {
    ...(allowConcurrency !== undefined && { allowConcurrency }),
    ...(allowUnconfirmed !== undefined && { allowUnconfirmed }),
    ...(noCache !== undefined && { noCache }),
  };
}
