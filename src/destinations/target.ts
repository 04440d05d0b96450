/** One target of a destination: whether it is failing, since when, and which message may be to blame. */

import type { OutboxMessage } from "../api/message.js";
import type { Clock } from "./clock.js";
import { DAY_SECONDS } from "./destination.js";
import { remember } from "./remember.js";

/** A failing target is left alone for 2 s, doubling up to this, in seconds; up to a fifth is added at random. */
const MOST_BACKOFF_SECONDS = 3600;

/** What is known of a target. */
export interface Target {
  readonly name: string;
  /** Failures in a row for which no message is to blame: while there are any, it is tried with one request at a time. */
  failures: number;
  /** When the last of them was counted: requests that were in flight then and fail as well prove nothing new. */
  failedAt: number;
  /** No request before this, in milliseconds since the Unix epoch. */
  retryAt: number;
  probing: boolean;
  /** How often it was probed while failing: each time with a different message, in case one of them is to blame. */
  probes: number;
  /** When it last succeeded; 0 for never. */
  succeededAt: number;
  /** How long that took, in milliseconds. */
  tookMs: number;
  error: unknown;
  /** When single messages last failed there, by id. */
  readonly failedMessages: Map<string, number>;
}

/** A target about which nothing is known. */
export function newTarget(name: string): Target {
  return {
    name,
    failures: 0,
    failedAt: 0,
    retryAt: 0,
    probing: false,
    probes: 0,
    succeededAt: 0,
    tookMs: 0,
    error: undefined,
    failedMessages: new Map(),
  };
}

/** A request succeeded. */
export function noteSuccess(target: Target, startedAt: number, now: number): void {
  target.failures = target.retryAt = 0;
  target.succeededAt = now;
  target.tookMs = Math.max(now - startedAt, target.tookMs / 2);
}

/**
 * Notes a request that failed. Returns whether its one message is to blame, because the target has succeeded since the message failed
 * there before; otherwise the target backs off.
 */
export function noteFailure(
  target: Target,
  [message, ...others]: readonly OutboxMessage[],
  error: unknown,
  begunAt: number,
  { now, random }: Clock,
): boolean {
  const before = message && target.failedMessages.get(message.id);
  if (message && others.length === 0) remember(target.failedMessages, message.id, now());
  // Later than now it was before the clock was set back: that proves nothing.
  const succeededSince = before !== undefined && target.succeededAt >= before && target.succeededAt <= now();
  if (succeededSince && others.length === 0) return true;
  const asked = now() + Math.min(secondsOf(error), DAY_SECONDS) * 1000;
  // The clock has been set back since: nothing that was in flight then tells anything of it.
  const isNew = target.failures === 0 || begunAt > target.failedAt || target.failedAt > now();
  if (isNew || secondsOf(error) > secondsOf(target.error)) target.error = error;
  if (isNew) {
    target.failures++;
    target.failedAt = now();
    target.retryAt = now() + Math.min(2 ** target.failures, MOST_BACKOFF_SECONDS) * (1 + random() / 5) * 1000;
  }
  target.retryAt = Math.max(target.retryAt, asked);
  return false;
}

/** How long an error asks to be left alone, in seconds: 0 when it does not. */
export function secondsOf(error: unknown): number {
  return Number((error as { retryAfterSeconds?: unknown } | null | undefined)?.retryAfterSeconds) || 0;
}
