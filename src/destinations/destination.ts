/** What a destination is, and what several of them share: groups of messages that fail by themselves, and limits. */

import { expected } from "../errors.js";
import type { OutboxDelivery, OutboxMessage } from "../message.js";

/**
 * A ready-made `sendMessages`: `sendMessages = toQueue(this.env.QUEUE)` as an instance property, or called from a method
 * with the same two arguments. It gives each message its outcome, and throws when the destination as a whole is in trouble.
 */
export type Destination<M = unknown> = (messages: OutboxMessage<M>[], delivery: OutboxDelivery) => Promise<void>;

/** The messages of one call that go one way, and fail together when the way is blocked. */
export interface Group {
  readonly messages: readonly OutboxMessage[];
  /** Gives outcomes to messages; throws when the way is blocked. */
  readonly send: () => Promise<void>;
}

/** A delay between retries grows to this at most, in seconds, where the destination has asked for one at all. */
const HOUR_SECONDS = 3600;
/** A destination that asks to be left alone for longer, in seconds, is asked again nevertheless. */
const DAY_SECONDS = 86_400;

/**
 * Sends all groups side by side. When every one of them throws, the first error is thrown: nothing tells that a message
 * is to blame, so no attempts are counted. When another one has come through, throwing would hold that one's later
 * messages back as well; so what is unsettled of those that threw is retried, message by message.
 */
export async function settleGroups(groups: readonly Group[], delivery: OutboxDelivery): Promise<void> {
  const blocked: { group: Group; error: unknown }[] = [];
  await Promise.all(groups.map((group) => group.send().catch((error: unknown) => void blocked.push({ group, error }))));
  const [first] = blocked;
  if (!first) return;
  // After the timeout outcomes count for nothing.
  if (blocked.length === groups.length || delivery.signal.aborted) throw first.error;
  for (const { group, error } of blocked) {
    const asked = (error as { retryAfterSeconds?: number } | null | undefined)?.retryAfterSeconds;
    // The first outcome of a message wins, so what was settled before the throw stays settled.
    for (const message of group.messages) retryLater(message, delivery, asked);
  }
}

/**
 * Retries one message, not before the destination wants it. A delay that is given takes the place of the outbox's own
 * backoff, so it grows with the attempts: one second asked for twenty times would use up all attempts in twenty seconds.
 */
export function retryLater({ id, attempts }: OutboxMessage, delivery: OutboxDelivery, askedSeconds?: number): void {
  const asked = Math.min(Number(askedSeconds ?? 0), DAY_SECONDS);
  if (asked > 0) delivery.retry(id, { delaySeconds: Math.max(asked, Math.min(2 ** attempts, HOUR_SECONDS)) });
  else delivery.retry(id);
}

/** Runs at most so many tasks at a time, in the order in which they come. */
export function limiter(limit: number): (task: () => Promise<void>) => Promise<void> {
  const waiting: (() => void)[] = [];
  let running = 0;
  return async (task) => {
    // Who ends hands its place to the next, so that nobody can step in between.
    if (running >= limit) await new Promise<void>((enter) => waiting.push(enter));
    else running++;
    try {
      await task();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else running--;
    }
  };
}

/** Splits a list, in order, into parts of at most so many items and bytes. An item that is larger stands alone. */
export function chunks<T extends { readonly bytes: number }>(items: Iterable<T>, maxItems: number, maxBytes: number): T[][] {
  const all: T[][] = [];
  let bytes = 0;
  for (const item of items) {
    const last = all.at(-1);
    bytes += item.bytes;
    if (last && last.length < maxItems && bytes <= maxBytes) last.push(item);
    else {
      all.push([item]);
      bytes = item.bytes;
    }
  }
  return all;
}

/** @throws TypeError when these are no options, or one has none of the names. */
export function known<T extends object>(options: T, ...names: (keyof T & string)[]): T {
  if (Object(options) !== options) throw expected("options", "an object", options);
  for (const name of Object.keys(options)) {
    if (!(names as string[]).includes(name)) throw expected("options", `an object of ${names.join(", ")}`, name);
  }
  return options;
}

/** A call without `delivery` is refused before anything is sent. */
export function checkDelivery(delivery: OutboxDelivery | undefined): void {
  if (typeof delivery?.ack !== "function") throw expected("delivery", "the second argument of sendMessages", delivery);
}
