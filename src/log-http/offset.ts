/** Offsets: the names of places in the log, which sort as the log does for its whole life. */

import { epochTime } from "../log/epoch.js";
import type { OutboxLogMessage, OutboxLogPage } from "../operate/log.js";

/** The place behind a message. */
export interface Offset {
  /** The time of the message's epoch, in digits of fixed width. */
  readonly time: string;
  /** The message's position: 0 before the first. */
  readonly position: number;
}

const OFFSET = /^([0-9a-f]{12})_([0-9]{16})$/;

/** Reads an offset: `undefined` where it is none. */
export function offsetIn(text: string): Offset | undefined {
  const [, time, digits] = OFFSET.exec(text) ?? [];
  const position = Number(digits);
  return time !== undefined && Number.isSafeInteger(position) ? { time, position } : undefined;
}

/** The time first: after a restore and `newEpoch()` positions are used again, and what is put then still sorts behind all that was. */
export function textOf({ time, position }: Offset): string {
  return `${time}_${String(position).padStart(16, "0")}`;
}

/** The place behind a message. */
export function behind({ source, position }: OutboxLogMessage): Offset {
  return { time: timeOf(source), position };
}

/** The place behind all that there is, of a page that reaches the end. */
export function endOf({ next, epoch }: OutboxLogPage): Offset {
  return { time: epochTime(epoch), position: next - 1 };
}

/**
 * Whether a reader who has got everything up to an offset can go on there: nothing that follows it has been deleted, and what it has got has
 * not been undone by a restore.
 *
 * @param own the message at the position of the offset, if it is there still
 * @param next the first message behind it, if there is one
 */
export function isThere(
  { time, position }: Offset,
  own: OutboxLogMessage | undefined,
  next: OutboxLogMessage | undefined,
  page: OutboxLogPage,
): boolean {
  if (position < page.earliest - 1) return false;
  const ownTime = own ? timeOf(own.source) : "";
  if (ownTime === time) return true;
  if (ownTime > time) return false;
  // The epoch of the offset began behind its position, or its message is gone.
  if (!next) return position === page.next - 1 && time <= epochTime(page.epoch);
  const base = next.position - next.sequence;
  return position > base ? time === timeOf(next.source) : time <= timeOf(next.source);
}

function timeOf(source: string): string {
  return epochTime(source.slice(source.lastIndexOf(":") + 1));
}
