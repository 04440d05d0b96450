/** Putting: checks a message and what is written with it, and writes both in one turn. */

import { expected, OutboxError } from "../api/errors.js";
import { eventMessage } from "../api/events.js";
import type { OutboxReceipt } from "../api/message.js";
import type { MessageMeta } from "../api/meta.js";
import { expectedSequenceOf, moreOf, type OutboxPutOptions, storageOptions } from "../api/put-options.js";
import { type Checked, checked, ValidMessage } from "../api/schemas.js";
import { type OutboxContext, untilWritable } from "../context.js";
import type { Found } from "../log/ids.js";
import type { Replace, Replacement } from "../operate/replace.js";
import { checkKey } from "../storage/guard.js";
import { isGone, NEVER } from "../storage/memory.js";
import { type Draft, draft, identify } from "../storage/message.js";
import { maxMessageBytes } from "../storage/size.js";
import { FEW_KEYS } from "../storage/store.js";
import type { Reader } from "../subscription/reader.js";
import type { Eraser } from "./delete-all.js";
import { checkKeyBytes, checkKvValue, KV_KEY_BYTES } from "./limits.js";
import type { Put } from "./one-put.js";
import { refusal } from "./refusal.js";
import type { Transactions } from "./transaction.js";

/** Where so much of `maxPending` waits, an event says so; and again only after less than that has waited. */
const FILLING = 0.8;
const EASED = 0.5;

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
  parts: OutboxContext,
  emitAfterCommit: Transactions["emitAfterCommit"],
  erase: Eraser["erase"],
  wake: () => Promise<void> | undefined,
  replace: Replace,
): Putting {
  const { ctx, store, alarm, delivery, settings, sqlite } = parts;
  const { listening, maxPending, expiresInSeconds, retain, aheadMs, schemas } = settings;
  const { memory } = store;
  const maxBytes = maxMessageBytes(sqlite);
  let isFilling = false;
  const maxValueBytes = 2 ** (sqlite ? 21 : 17);

  /** @throws TypeError, or OutboxError `reserved_key` or `too_large`. */
  function checkKeys(keys: readonly unknown[]): void {
    for (const key of keys) {
      if (typeof key !== "string") throw expected("key", "a string", key);
      checkKey(key);
      checkKeyBytes(key, sqlite ? maxValueBytes : KV_KEY_BYTES);
    }
  }

  /** Values of keys that have been checked. @throws TypeError, or OutboxError `too_large`. */
  function checkValues(entries: Record<string, unknown>, keys: readonly string[]): void {
    for (const key of keys) {
      if (entries[key] === undefined) continue;
      // The runtime holds a SQLite-backed object to its limits, locally as well, and a KV-backed one only in production.
      if (!sqlite) checkKvValue(key, entries[key]);
      // More entries than one put takes go down as several. A bad value among them must be found before the first is written, and what
      // was read of it then is what is written: a second read may find something else, or throw.
      if (keys.length > FEW_KEYS) entries[key] = draft(key.slice(0, 60), entries[key], maxValueBytes - (sqlite ? 3 * key.length : 0)).msg;
    }
  }

  /** @throws OutboxError when a message can't be stored now. */
  function checkRoom(message: Draft, expectedSequence: number | undefined): void {
    takersOf(message);
    const actual = memory.position - memory.base;
    if (expectedSequence !== undefined && expectedSequence !== actual) {
      const text = `expectedSequence is ${expectedSequence}, and the last message has ${actual}: read the state again, and decide anew.`;
      throw new OutboxError("sequence_conflict", text, undefined, { actual });
    }
    if (store.undelivered() >= maxPending) throw new OutboxError("outbox_full", `The outbox is full: maxPending is ${maxPending}.`);
  }

  /** Callers see that it fills before it is full. */
  function watchRoom(): void {
    if (maxPending === NEVER) return;
    const waiting = store.undelivered();
    if (!isFilling && waiting >= maxPending * FILLING) {
      isFilling = true;
      emitAfterCommit({ type: "filling", waiting, maxPending });
    } else if (waiting < maxPending * EASED) isFilling = false;
  }

  /** A message as it is to be stored, and what goes with it. @throws what is wrong with it, or with an option. */
  function admit(given: unknown, options: OutboxPutOptions | undefined, now: number): Admitted {
    const more = moreOf(options, now, expiresInSeconds, aheadMs?.());
    if (schemas === null && !(given instanceof ValidMessage)) return { msg: given, more };
    const { msg, version }: Checked = checked(schemas, given);
    return { msg, more: version > 1 ? { ...more, version } : more };
  }

  function accept(given: object, message: unknown, options?: OutboxPutOptions, deleted?: string[], erased?: true): Promise<unknown> {
    // Not an async function: what is refused rejects all the same, and every promise in between costs each put its share.
    try {
      // A copy, to which the outbox's rows are added. Every key is an own property, whatever its name.
      const entries: Record<string, unknown> = { ...given };
      const keys = Object.keys(entries);
      checkKeys(deleted ?? keys);
      checkValues(entries, keys);
      const now = store.now();
      const { msg, more } = admit(message, options, now);
      const about = listening ? eventMessage("", more?.key, msg) : undefined;
      const put: Put = {
        entries,
        keys,
        now,
        more,
        message: draft("msg", msg, maxBytes, more ?? null),
        about,
        options: storageOptions(options),
        deleted,
        erased,
        replaces: options?.replace === true,
        expectedSequence: expectedSequenceOf(options),
      };
      return untilWritable(parts) ? whenReady(put) : begin(put);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** What has to wait is written as it is at the call, whatever the caller does with it meanwhile. */
  function hold({ entries, keys }: Put): void {
    try {
      const copy = structuredClone({ ...entries });
      for (const key of keys) entries[key] = copy[key];
    } catch (error) {
      throw refusal(error, entries, keys);
    }
  }

  async function whenReady(put: Put): Promise<unknown> {
    hold(put);
    for (let first = untilWritable(parts); first; first = untilWritable(parts)) await first;
    return begin(put);
  }

  function begin(put: Put): Promise<unknown> {
    const id = put.more?.id;
    const { options, erased, replaces } = put;
    if (replaces && id !== undefined) {
      const within = store.native;
      if (erased) return Promise.reject(new OutboxError("unsupported", "deleteAll() can't replace a message."));
      return inTurn(put, () =>
        replace(id, (replacement) => {
          if (store.native !== within) throw new OutboxError("unsupported", "The transaction has been rolled back.");
          return commit(put, undefined, replacement);
        }),
      );
    }
    if (erased && !sqlite) {
      return erase(
        options,
        (found) => write(put, found),
        async () => {
          const found = id === undefined ? undefined : await store.ids.lookup(id);
          if (!isKnown(found)) checkRoom(put.message, put.expectedSequence);
          return found;
        },
      );
    }
    if (parts.turn === null && id === undefined) return commit(put);
    if (parts.turn === null && id !== undefined && sqlite) return commit(put, store.ids.lookupSync(parts.kv, id));
    const within = store.native;
    return inTurn(put, () =>
      Promise.resolve(id === undefined ? undefined : store.ids.lookup(id)).then((found) => {
        // Only rollback() ends a transaction that still has something to write.
        if (store.native !== within) throw new OutboxError("unsupported", "The transaction has been rolled back.");
        return commit(put, found);
      }),
    );
  }

  /** What reads before it writes: whatever is put meanwhile takes its turn behind. */
  function inTurn(put: Put, work: () => Promise<unknown>): Promise<unknown> {
    hold(put);
    const done = Promise.resolve(parts.turn).then(work);
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

  /** `found` is what is known of an earlier message with the same id. Where that is still known, this one is not stored, and its state is. */
  function commit(put: Put, found?: Found, replacement?: Replacement): Promise<unknown> {
    if (!isKnown(found)) checkRoom(put.message, put.expectedSequence);
    return put.erased ? erase(put.options, () => write(put, found)) : write(put, found, replacement);
  }

  // What is in the hands of a handler has left: a newer message of its id has to be stored.
  const isKnown = (found: Found | undefined): found is Found => found !== undefined && !found.over && !delivery.isInHand(found.row[0]);

  /** The readers that take a message. @throws OutboxError `no_destination`. */
  function takersOf(message: Draft): readonly Reader[] {
    const takers = store.takers(message);
    if (takers.some(({ isMissing }) => !isMissing) || retain) return takers;
    throw new OutboxError("no_destination", "No destination takes this message: see the types of each in destinations.");
  }

  /** Stores a message whose id is not known, or is still another one's: then it gets one of its own. */
  function append(
    rows: Record<string, unknown>,
    message: Draft,
    now: number,
    more: MessageMeta | undefined,
    takers: readonly Reader[],
    found?: Found,
    isSecond = found !== undefined && delivery.isInHand(found.row[0]),
  ): Stored {
    const id = more?.id;
    if (id === undefined || !found || !(isSecond || found.first !== undefined)) {
      const position = store.append(rows, message, now, more, takers);
      const receipt = identify(memory, position, id);
      if (id !== undefined) store.ids.name(rows, id, [position, receipt.sequence]);
      return { position, receipt };
    }
    const rest = { ...more, as: id };
    delete rest.id;
    const position = store.append(rows, message, now, rest, takers);
    const receipt = identify(memory, position);
    const [named, , , reissued] = found.row;
    const first = reissued ? found.first : named;
    store.ids.name(rows, id, [position, receipt.sequence, 0, { ...(first !== undefined && { first }), id: receipt.id }]);
    return { position, receipt };
  }

  async function write(put: Put, found?: Found, replacement?: Replacement): Promise<unknown> {
    const { entries, keys, message, about, now, more, options, deleted, erased } = put;
    const { scope } = memory;
    const first = isKnown(found) ? repeated(more, found) : undefined;
    const takers = first ? [] : takersOf(message);
    const replaced: Record<string, unknown> = {};
    replacement?.change(replaced);
    const gone = Object.keys(replaced).filter((key) => replaced[key] === undefined);
    for (const key of Object.keys(replaced)) if (replaced[key] !== undefined) entries[key] = replaced[key];
    const { position, receipt } = first
      ? { position: 0, receipt: first }
      : append(entries, message, now, more, takers, replacement?.found ?? found, replacement?.isSecond);
    const { sequence } = receipt;
    const isLarge = keys.length > FEW_KEYS || replacement !== undefined;
    try {
      if (!first) entries[memory.key] = store.header();
      const { headers } = store;
      const existed = deleted && store.delete(deleted, options);
      // Should the put refuse at once, nobody waits for this one.
      existed?.catch(() => {});
      const cleared = gone.length > 0 ? store.delete(gone, options) : undefined;
      cleared?.catch(() => {});
      const written = (isLarge ? store : store.native).put(entries, options);
      // A getter of a value has had the outbox write something: that was overwritten by the header that was made before.
      if (store.headers !== headers) store.saveHeader();
      if (options?.allowUnconfirmed) store.unconfirmed = true;
      const armed = first || (!replacement && delivery.isClosed() && alarm.isSetFor(now)) ? undefined : wake();
      if (about && !first) emitAfterCommit({ type: "stored", sequence, ...about, id: receipt.id });
      watchRoom();
      await written;
      await cleared;
      if (armed) await armed;
      if (!first) delivery.kick();
      // Where nobody gets it, no run follows that would delete what is kept no longer.
      if (!first && retain && store.log.sweeps && !store.waits()) store.tidy().catch(() => {});
      return existed ?? receipt;
    } catch (error) {
      // Storage refused the batch, so nothing of it was written: neither may the message go down with a later one.
      // Should it have gone down already, what is not yet committed is dropped, and the object begins again from what is stored.
      // Where its transaction has been rolled back meanwhile it is gone, and its position may be another message's.
      const isLeft = !first && !isGone(scope);
      if (erased || replacement || (isLeft && !store.retract(position, entries, more, takers))) ctx.abort(String(error));
      void wake();
      throw refusal(error, entries, keys);
    }
  }

  function sendSync(given: unknown, options?: OutboxPutOptions): OutboxReceipt {
    if (options?.replace) throw new OutboxError("unsupported", "transactionSync() can't replace a message: use transaction().");
    const now = store.now();
    const { msg, more } = admit(given, options, now);
    const message = draft("msg", msg, maxBytes, more ?? null);
    const expectedSequence = expectedSequenceOf(options);
    const { kv } = parts;
    const found = more?.id === undefined ? undefined : store.ids.lookupSync(kv, more.id);
    if (isKnown(found)) return repeated(more, found);
    checkRoom(message, expectedSequence);
    const takers = takersOf(message);
    try {
      const rows: Record<string, unknown> = {};
      const { receipt } = append(rows, message, now, more, takers, found);
      for (const key of Object.keys(rows)) kv.put(key, rows[key]);
      // The header last: nothing else counts before it is written.
      kv.put(memory.key, store.header());
      if (!delivery.isClosed() || !alarm.isSetFor(now)) void wake();
      if (listening) emitAfterCommit({ type: "stored", sequence: receipt.sequence, ...eventMessage(receipt.id, more?.key, msg) });
      watchRoom();
      return receipt;
    } catch (error) {
      // A caller that catches this may let the transaction go on, and memory is ahead of what it has written.
      ctx.abort(String(error));
      throw error;
    }
  }

  return { accept, sendSync };
}

/** The receipt of a put whose message is known. */
function repeated(more: MessageMeta | undefined, { row: [, sequence, , reissued] }: Found): OutboxReceipt {
  return { id: reissued?.id ?? more?.id ?? "", sequence, deduplicated: true };
}

interface Admitted {
  readonly msg: unknown;
  readonly more: MessageMeta | undefined;
}

interface Stored {
  readonly position: number;
  readonly receipt: OutboxReceipt;
}
