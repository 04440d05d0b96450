/** The type of a destination, and what several of them share: groups of messages that fail independently, and limits. */

import { expected } from "../api/errors.js";
import type { OutboxDelivery, OutboxMessage } from "../api/message.js";
import { isOutOfSubrequests, isThrottled } from "../api/verdict.js";

/**
 * A ready-made `sendMessages`: `sendMessages = toQueue(this.env.QUEUE)` as an instance property, or called from a method
 * with the same two arguments. It reports an outcome for each message, and throws when the destination as a whole is failing.
 */
export interface Destination<M = unknown> {
  (messages: OutboxMessage<M>[], delivery: OutboxDelivery): Promise<void>;
  /** `"batch"` if it never sets a single message aside, so that a call may hold several messages with one ordering key. */
  readonly ordering?: "batch";
}

/** The messages of one call that take one route, and fail together when the route is blocked. */
export interface Group {
  readonly messages: readonly OutboxMessage[];
  /** Gives outcomes to messages; throws when the route is blocked. */
  readonly send: () => Promise<void>;
}

/** The longest delay between retries, in seconds, if the destination has asked for one at all. */
export const HOUR_SECONDS = 3600;
/** A destination that asks to be left alone for longer than this, in seconds, is tried again nevertheless. */
export const DAY_SECONDS = 86_400;

/**
 * How long it is until a time, in seconds: 0 when that has come. When it is longer than any destination was ever told to wait, the clock has been set back
 * since, and the wait is over: a delay that a message gets is stored.
 */
export function secondsUntil(time: number, now: number): number {
  const seconds = (time - now) / 1000;
  return seconds > 0 && seconds <= 2 * DAY_SECONDS ? seconds : 0;
}

/**
 * Sends all groups side by side. When every one of them throws, the first error is thrown: nothing suggests that a message is to blame, so no attempts are
 * counted. When another one has succeeded, throwing would also hold back that one's later messages, so the unsettled messages of those that threw are
 * retried one by one, without counting an attempt where the group is only asked too often. If a group asks to pause (`pause: true`), its messages wait for
 * an hour without counting an attempt, and nothing else is paused.
 */
export async function settleGroups(groups: readonly Group[], delivery: OutboxDelivery): Promise<void> {
  const blocked: { group: Group; error: unknown }[] = [];
  await Promise.all(groups.map((group) => group.send().catch((error: unknown) => void blocked.push({ group, error }))));
  // After the timeout, outcomes no longer count.
  if (blocked[0] && delivery.signal.aborted) throw blocked[0].error;
  // No way is to blame, and the next invocation goes on.
  const spent = blocked.find(({ error }) => isOutOfSubrequests(error));
  if (spent) throw spent.error;
  // A way that asks to pause must not stop the others: it is left alone for an hour at a time.
  const pausing = blocked.filter(({ error }) => (error as { pause?: unknown } | null | undefined)?.pause === true);
  for (const { group, error } of pausing) for (const message of group.messages) waitFor(message, delivery, error, HOUR_SECONDS);
  const others = blocked.filter((each) => !pausing.includes(each));
  const [first] = others;
  if (first && blocked.length === groups.length) throw first.error;
  for (const { group, error } of others) {
    // It works and is asked too often: no message is to blame.
    const isBusy = isThrottled(error);
    const asked = (error as { retryAfterSeconds?: number } | null | undefined)?.retryAfterSeconds;
    // The first outcome of a message wins, so messages settled before the throw stay settled.
    for (const message of group.messages) {
      if (isBusy) waitFor(message, delivery, error, Math.min(Number(asked) || 0, DAY_SECONDS));
      else retryLater(message, delivery, error, asked);
    }
  }
}

/**
 * Retries one message, not before the destination wants it. The given delay replaces the outbox's own backoff, so it grows with the attempts: one second,
 * requested twenty times, would use up all attempts in twenty seconds.
 */
export function retryLater({ id, attempts }: OutboxMessage, delivery: OutboxDelivery, reason: unknown, askedSeconds?: number): void {
  const asked = Math.min(Number(askedSeconds ?? 0), DAY_SECONDS);
  if (asked > 0) delivery.retry(id, { delaySeconds: Math.max(asked, Math.min(2 ** attempts, HOUR_SECONDS)), reason });
  else delivery.retry(id, { reason });
}

/** Lets one message wait for its route, for at least this many seconds and longer each time: it is not to blame, so no attempt counts. */
export function waitFor({ id, attempts }: OutboxMessage, delivery: OutboxDelivery, reason: unknown, seconds: number): void {
  delivery.retry(id, { delaySeconds: Math.max(seconds, Math.min(2 ** attempts, HOUR_SECONDS)), countAttempt: false, reason });
}

/** Runs a limited number of tasks at a time, in the order in which they arrive. */
export function limiter(limit: number): (task: () => Promise<void>) => Promise<void> {
  const waiting: (() => void)[] = [];
  let running = 0;
  return async (task) => {
    // A task that ends hands its place to the next, so that no other can step in between.
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

/** Splits a list, in order, into parts with a limited number of items and bytes. A larger item gets a part of its own. */
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

/** A call without `delivery` is rejected before anything is sent. */
export function checkDelivery(delivery: OutboxDelivery | undefined): void {
  if (typeof delivery?.ack !== "function") throw expected("delivery", "the second argument of sendMessages", delivery);
}
