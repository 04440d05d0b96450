/** Putting: checks a message and what is written with it, and writes both in one turn. */

import type { Eraser } from "./erase.js";
import { expected, OutboxError } from "./errors.js";
import { checkKey } from "./guard.js";
import { type Draft, draft, identify, type More, type OutboxReceipt } from "./message.js";
import { gate, type Parts } from "./parts.js";
import { moreOf, type OutboxPutOptions } from "./put-options.js";
import { idKey, type KnownId } from "./rows.js";
import { contentBytes } from "./size.js";
import { FEW_KEYS, maxMessageBytes } from "./store.js";
import type { Transactions } from "./transaction.js";

/** The limits of a KV-backed object, in bytes: a key in UTF-8, and a value (Durable Objects limits page). */
const KV_KEY_BYTES = 2048;
const KV_VALUE_BYTES = 131_072;

export interface Putting {
  /**
   * Checks everything, then writes everything: once the object is loaded, nothing is written after an `await`.
   * Resolves to the receipt, or to how many of the `deleted` keys existed.
   */
  accept(given: object, msg: unknown, options?: OutboxPutOptions, deleted?: string[], erased?: true): Promise<unknown>;
  /** A message alone, on a SQLite-backed object: what it writes is written when this returns. */
  sendSync(msg: unknown, options?: OutboxPutOptions): OutboxReceipt;
}

/** @param wake arms the next wake-up, and is called in the turn of the writes */
export function puttingOf(
  parts: Parts,
  tell: Transactions["tell"],
  erase: Eraser["erase"],
  wake: () => Promise<void> | undefined,
): Putting {
  const { ctx, store, alarm, delivery, settings, sqlite } = parts;
  const { listening, immediate, maxPending, expiresInSeconds } = settings;
  const { memory } = store;
  const maxBytes = maxMessageBytes(sqlite);
  const maxValueBytes = 2 ** (sqlite ? 21 : 17);

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

  function accept(given: object, msg: unknown, options?: OutboxPutOptions, deleted?: string[], erased?: true): Promise<unknown> {
    // Not an async function: what is refused rejects all the same, and every promise in between costs each put its share.
    try {
      if (Object(given) !== given || Array.isArray(given)) throw expected("key", "a string or an object", given);
      // A copy, to which the outbox's rows are added. Every key is an own property, whatever its name.
      const entries: Record<string, unknown> = { ...given };
      const keys = Object.keys(entries);
      checkEntries(entries, deleted ?? keys);
      const now = Date.now();
      const more = moreOf(options, now, expiresInSeconds);
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

  function sendSync(msg: unknown, options?: OutboxPutOptions): OutboxReceipt {
    const now = Date.now();
    const more = moreOf(options, now, expiresInSeconds);
    const message = draft("msg", msg, maxBytes, more ?? null);
    const { kv } = parts;
    const id = more?.id;
    const known = id === undefined ? undefined : kv.get<KnownId>(idKey(id));
    if (id !== undefined && known) return { id, sequence: known[1], deduplicated: true };
    checkRoom();
    try {
      const rows: Record<string, unknown> = {};
      const position = store.append(rows, message, now, more);
      const receipt = identify(memory, position, id);
      if (id !== undefined) rows[idKey(id)] = [position, receipt.sequence];
      // The header last: nothing else counts before it stands.
      for (const key of Object.keys(rows)) if (key !== memory.key) kv.put(key, rows[key]);
      kv.put(memory.key, rows[memory.key]);
      if (memory.trouble.retryAt !== 0 || !alarm.stands(now)) void wake();
      if (listening) tell({ type: "stored", id: receipt.id, sequence: receipt.sequence });
      return receipt;
    } catch (error) {
      // Whoever catches this may let the transaction go on, and memory is ahead of what it has written.
      ctx.abort(String(error));
      throw error;
    }
  }

  return { accept, sendSync };
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
