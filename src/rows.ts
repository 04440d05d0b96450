/** The layout at rest: which keys the outbox keeps in storage and what stands under them. */

import { digits, type StoredMessage, type Stream } from "./message.js";

/**
 * Every key of the outbox begins with this. U+10FFFF is the last code point, so these rows sort after every key that
 * a user would choose, and `list({ end: RESERVED })` leaves them out.
 */
export const RESERVED = "\u{10FFFF}";

/** The key of the header. One that can't be read stays where it is, and the next has this key and a hyphen more. */
export const HEADER: string = `${RESERVED}outbox/h`;

const SEGMENTS: string = `${RESERVED}outbox/s`;

/** The key of a segment. */
export function segmentKey(number: number): string {
  return SEGMENTS + digits(number);
}

/** The number in a segment's key. */
export function segmentNumber(key: string): number {
  return Number(key.slice(SEGMENTS.length));
}

/** The object's own alarm, while the outbox has the platform's one slot. */
export interface OwnAlarm {
  /** When the object asked to be woken, in milliseconds since the Unix epoch. */
  readonly time: number;
  /** When it is to be called: later than `time` only while it is retried. */
  readonly due: number;
  /** How often it has thrown. */
  readonly retryCount: number;
}

/** How the destination fares. */
export interface Trouble {
  /** Failed calls of `sendMessages` in a row, those included that died with their isolate. */
  readonly failures: number;
  /** No attempt before this time, in milliseconds since the Unix epoch; 0 when all is well. */
  readonly retryAt: number;
  /** A run that saw an earlier one die has begun, and has not ended. */
  readonly lease: boolean;
  /** The last position that was handed over in vain, and how often at most a message up to it has been. */
  readonly through: number;
  readonly attempts: number;
}

/** One row: up to sixteen messages that wait, in order. */
export interface SegmentRow extends Stream {
  readonly v: 1;
  readonly messages: readonly StoredMessage[];
}

/**
 * The header: the newest messages, and all that is small and must survive. That costs nothing, because every put writes
 * this row anyway; and a row that is written again and again costs storage less than ever new ones. Once it is full its
 * messages move to a segment. When all is delivered it stays, without messages, as the marker.
 */
export interface HeaderRow extends SegmentRow {
  /** The last position given out. */
  readonly position: number;
  /** The last segment that was written. Those that are delivered are gone. */
  readonly last: number;
  /** The object's own alarm, while the outbox has the slot. */
  readonly own: OwnAlarm | null;
  /** How the destination fares, when it has refused anything. */
  readonly trouble: Trouble | null;
  /** In a marker: the alarm that was firing for the outbox when the last message was cleared, or 0. It is not the object's own. */
  readonly firing: number;
}
