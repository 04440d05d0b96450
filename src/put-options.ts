/** The options of one message: their meaning, their checks, and what of them is stored with it. */

import { expected } from "./errors.js";
import type { More } from "./message.js";
import { within } from "./options.js";

/** Options of `put`, `delete` and `send`: those of `DurableObjectStorage.put`, which reach the storage call unchanged, and the message's own. */
export interface OutboxPutOptions extends DurableObjectPutOptions {
  /**
   * An idempotency key, and the message's `id`: putting the same again, while it is pending, delayed or dead, stores the
   * state and no second message. 1 to 256 characters. On a KV-backed object the put reads before it writes.
   */
  id?: string;
  /** An ordering key: messages of one key are handed over in put order, and none overtakes one that waits. 1 to 256 characters. */
  key?: string;
  /** Not handed over before so many seconds have passed, from 0 to 315,360,000 (ten years). */
  delaySeconds?: number;
  /** Not handed over before this time. One that has passed is now. */
  deliverAt?: Date | number;
  /** A dead letter if it has not been delivered after so many seconds, from 0.001 to 315,360,000. Default: the option of the wrapper. */
  expiresInSeconds?: number;
  /** Texts that go with the message: correlation and causation ids, `traceparent`. They count towards its size. */
  headers?: Record<string, string>;
}

/** The longest id or ordering key, in UTF-16 units: as a part of a storage key it stays under the 2,048 bytes that one may have, whatever its characters. */
const NAME_LENGTH = 256;

/** Ten years, in seconds. */
export const MOST_SECONDS = 315_360_000;

/** @throws TypeError that names the option. Gives nothing where there is nothing to store. */
export function moreOf(options: OutboxPutOptions | undefined, now: number, expiresInSeconds: number): More | undefined {
  const given = options !== undefined && options !== null;
  if (!given && expiresInSeconds === 0) return undefined;
  if (given && Object(options) !== options) throw expected("options", "an object", options);
  const { id, key, delaySeconds, deliverAt, expiresInSeconds: expiry, headers } = options ?? {};
  const more: More = {};
  if (id !== undefined) more.id = named("options.id", id);
  // Two messages of one id could not be told apart.
  if (/^.{36}-\d{15}$/.test(id ?? "")) throw expected("options.id", "no id that the outbox has made", id);
  if (key !== undefined) more.key = named("options.key", key);
  const until = seconds("options.delaySeconds", delaySeconds, 0, 0);
  if (until > 0) more.due = now + until;
  if (deliverAt !== undefined) {
    const time = Number(deliverAt);
    if (delaySeconds !== undefined) throw expected("options.deliverAt", "absent beside delaySeconds", deliverAt);
    const known = typeof deliverAt === "number" || deliverAt instanceof Date;
    if (!known || !(time <= now + MOST_SECONDS * 1000)) throw expected("options.deliverAt", "a time", deliverAt);
    if (time > now) more.due = Math.ceil(time);
  }
  const life = seconds("options.expiresInSeconds", expiry, 0.001, expiresInSeconds);
  if (life > 0) more.expires = now + life;
  if (headers !== undefined) {
    if (Object(headers) !== headers || Array.isArray(headers) || !Object.values(headers).every((value) => typeof value === "string")) {
      throw expected("options.headers", "an object of strings", headers);
    }
    more.headers = { ...headers };
  }
  return Object.keys(more).length > 0 ? more : undefined;
}

/** In milliseconds, whole. */
export function seconds(name: string, value: unknown, min: number, standard = 0): number {
  return value === undefined ? Math.ceil(standard * 1000) : Math.ceil(within(name, value, [0, min, MOST_SECONDS]) * 1000);
}

function named(name: string, value: unknown): string {
  if (typeof value === "string" && value && value.length <= NAME_LENGTH) return value;
  throw expected(name, `a text of 1 to ${NAME_LENGTH} characters`, value);
}
