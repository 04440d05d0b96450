/** The options of one message: their meaning, their checks, and what is stored of them. */

import { expected } from "./errors.js";
import { headersOf } from "./headers.js";
import { known } from "./known.js";
import type { MessageMeta } from "./meta.js";
import { within } from "./within.js";

/** Options of `put`, `delete` and `send`: those of `DurableObjectStorage.put`, which reach the storage call unchanged, and the message's own. */
export interface OutboxPutOptions extends DurableObjectPutOptions {
  /**
   * An idempotency key, and the message's `id`. While its message is pending, delayed or dead, and for `idempotencySeconds` after its delivery,
   * putting it again stores the state but no second message. While `sendMessages` has the message in hand, its content has already left: a second
   * message is stored under an id of its own, and the key refers to that one from then on. 1 to 256 characters. On a KV-backed object the put reads
   * before it writes.
   */
  id?: string;
  /**
   * With an `id`: a message of that id which no handler has had yet is replaced by this one, in the same commit: to debounce, postpone or
   * reschedule. One that has been handed over, or is a dead letter, stays, and this one is stored as a second message, under an id of its own. Once
   * it has been delivered, this one is stored as well, whatever `idempotencySeconds` says. The put reads before it writes. Default false.
   */
  replace?: boolean;
  /** An ordering key: messages with one key are handed over in put order, and none overtakes one that is waiting. 1 to 256 characters. */
  key?: string;
  /** Not handed over before this many seconds have passed, from 0 to 315,360,000 (ten years). */
  delaySeconds?: number;
  /** Not handed over before this time. A time in the past means now. */
  deliverAt?: Date | number;
  /**
   * The message becomes a dead letter if it is not delivered within this many seconds after it could first be: after `deliverAt` or `delaySeconds`,
   * else after the put. From 0.001 to 315,360,000. Default: the option of the wrapper.
   */
  expiresInSeconds?: number;
  /**
   * Write only if this is the `sequence` of the object's last message: 0 before the first message, and after `newEpoch()`. Otherwise the call rejects with
   * `sequence_conflict`, whose `actual` is the last one, and nothing is written. A put whose `id` is known stores no message, and is not checked. A
   * whole number from 0 on.
   */
  expectedSequence?: number;
  /**
   * Strings that travel with the message: correlation and causation ids, `traceparent`. A plain object; names are case-insensitive. They count
   * towards its size.
   */
  headers?: Record<string, string>;
}

/** The longest id or ordering key, in UTF-16 units: as part of a storage key it stays below the limit of 2,048 bytes, whatever its characters. */
const NAME_LENGTH = 256;

const PUT_OPTIONS = [
  ...["id", "replace", "key", "delaySeconds", "deliverAt", "expiresInSeconds", "expectedSequence", "headers"],
  ...["allowConcurrency", "allowUnconfirmed", "noCache"],
];

/** Whether this is the name of an option. */
export function isPutOption(name: string): boolean {
  return PUT_OPTIONS.includes(name);
}

/** Ten years, in seconds. */
export const MOST_SECONDS = 315_360_000;

/**
 * @param now the object's clock
 * @param aheadMs how far it is ahead of the clock by which the caller counts: only in a test
 * @returns nothing if there is nothing to store
 * @throws TypeError that names the option
 */
export function moreOf(options: OutboxPutOptions | undefined, now: number, expiresInSeconds: number, aheadMs = 0): MessageMeta | undefined {
  const given = options !== undefined && options !== null;
  if (!given && expiresInSeconds === 0) return undefined;
  if (given) known("options", options, PUT_OPTIONS);
  const { id, replace, key, delaySeconds, deliverAt, expiresInSeconds: expiry, headers } = options ?? {};
  const more: MessageMeta = {};
  if (id !== undefined) more.id = named("options.id", id);
  if (replace !== undefined && typeof replace !== "boolean") throw expected("options.replace", "a boolean", replace);
  if (replace && id === undefined) throw expected("options.replace", "beside an id", replace);
  // Two messages with one id could not be told apart.
  if (/^.{36}-\d{15}$/.test(id ?? "")) throw expected("options.id", "an id of your own, not one that the outbox derived", id);
  if (key !== undefined) more.key = named("options.key", key);
  const until = seconds("options.delaySeconds", delaySeconds, 0, 0);
  if (until > 0) more.due = now + until;
  if (deliverAt !== undefined) {
    const time = Number(deliverAt) + aheadMs;
    if (delaySeconds !== undefined) throw expected("options.deliverAt", "left out when delaySeconds is set", deliverAt);
    const known = typeof deliverAt === "number" || deliverAt instanceof Date;
    if (!known || !(time <= now + MOST_SECONDS * 1000)) throw expected("options.deliverAt", "a time", deliverAt);
    if (time > now) more.due = Math.ceil(time);
  }
  const life = seconds("options.expiresInSeconds", expiry, 0.001, expiresInSeconds);
  if (life > 0) more.expires = (more.due ?? now) + life;
  if (headers !== undefined) more.headers = headersOf("options.headers", headers);
  return Object.keys(more).length > 0 ? more : undefined;
}

/** The `sequence` that must be the last one: none where it does not matter. @throws TypeError. */
export function expectedSequenceOf(options: OutboxPutOptions | undefined): number | undefined {
  const sequence = options?.expectedSequence;
  return sequence === undefined ? undefined : within("options.expectedSequence", sequence, [0, 0, Number.MAX_SAFE_INTEGER, 1]);
}

/** The options of the storage call, each read once: a put of many entries passes them to several calls. */
export function storageOptions(options: OutboxPutOptions | undefined): DurableObjectPutOptions | undefined {
  if (!options) return undefined;
  const { allowConcurrency, allowUnconfirmed, noCache } = options;
  return { allowConcurrency, allowUnconfirmed, noCache } as DurableObjectPutOptions;
}

/** In milliseconds, whole. */
export function seconds(name: string, value: unknown, min: number, standard = 0): number {
  return value === undefined ? Math.ceil(standard * 1000) : Math.ceil(within(name, value, [0, min, MOST_SECONDS]) * 1000);
}

function named(name: string, value: unknown): string {
  if (typeof value === "string" && value && value.length <= NAME_LENGTH) return value;
  throw expected(name, `a string of 1 to ${NAME_LENGTH} characters`, value);
}
