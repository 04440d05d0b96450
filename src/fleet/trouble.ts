/** Trouble: what of a destination is worth a report, how bad it is, and when one that waits has waited too long. Pure. */

import type { FleetTrouble } from "../inspector/fleet-api.js";
import { NEVER } from "../storage/memory.js";
import { type Reader, undelivered } from "../subscription/reader.js";

/** One bit each: the greater, the worse. */
const BITS: Readonly<Record<FleetTrouble, number>> = { dead: 8, stuck: 4, breaker: 2, paused: 1 };
const TROUBLES = Object.keys(BITS) as FleetTrouble[];

/** The bit of a trouble, in `flagsOf` and in the registry's rows. */
export function bitOf(trouble: FleetTrouble): number {
  return BITS[trouble];
}

/** Troubles as names, worst first. */
export function troublesIn(flags: number): FleetTrouble[] {
  return TROUBLES.filter((trouble) => flags & BITS[trouble]);
}

/** Messages beyond this make nothing worse. */
const MOST_MESSAGES = 999_999;

/** How bad it is: first by what it is, then by how many messages it is about. */
export function scoreOf(flags: number, messages: number): number {
  return flags === 0 ? 0 : flags * (MOST_MESSAGES + 1) + Math.min(MOST_MESSAGES, messages);
}

/** What is wrong with a destination; 0 when nothing is. A breaker that is open and a pause matter while something waits for them. */
export function flagsOf(reader: Reader, isStuck: boolean): number {
  const waits = undelivered(reader) > 0;
  return (
    (reader.deadCount > 0 ? BITS.dead : 0) +
    (isStuck && waits ? BITS.stuck : 0) +
    (waits && reader.breaker.failures > 0 ? BITS.breaker : 0) +
    (waits && reader.paused ? BITS.paused : 0)
  );
}

/** What a report would say, but for exact numbers: `""` when all is well. Another power of ten of dead letters is another matter. */
export function signatureOf(readers: readonly Reader[], stuck: readonly number[]): string {
  let text = "";
  for (const reader of readers) {
    const flags = flagsOf(reader, stuck.length > 0 && stuck.includes(reader.slot));
    if (flags > 0) text += `${text && ","}${reader.slot}:${flags}.${reader.deadCount > 0 ? String(reader.deadCount).length : 0}`;
  }
  return text;
}

/** Those of the stuck that may still be. */
export function stillStuck(readers: readonly Reader[], stuck: readonly number[]): readonly number[] {
  const left = stuck.filter((slot) => readers.some((reader) => reader.slot === slot && undelivered(reader) > 0 && !reader.paused));
  return left.length < stuck.length ? left : stuck;
}

/**
 * When a reader is to be looked at, because what waits may be stuck by then; `NEVER` when nothing waits that has a time to be late for. May be too early:
 * the look asks for the exact age.
 */
export function looksAt(reader: Reader, stuckMs: number, now: number): number {
  if (reader.paused) return NEVER;
  const { queuedCount, timedCount, queueDueAt, delayedCount, blockedCount, oldestDelayedAt } = reader;
  // Since when the head of the queue waits is not known without reading: it counts from the first look.
  const queue = queuedCount === 0 ? NEVER : queuedCount > timedCount ? now : Math.max(now, queueDueAt);
  const aside = delayedCount + blockedCount === 0 ? NEVER : oldestDelayedAt || now;
  return Math.min(queue, aside) + stuckMs;
}
