/** Ends: what is known of the segments of a log without reading them again. */

import { messagesIn } from "../storage/lines.js";
import type { Memory, SealedRow } from "../storage/memory.js";
import { atOf, positionOf, type StoredMessage } from "../storage/message.js";
import { serializedBytes } from "../storage/size.js";

/** Where a segment ends. One with lines that can't be read is never deleted. */
export interface End {
  readonly last: number;
  /** When its last message was put. */
  readonly at: number;
  /** What its messages take, about. */
  readonly bytes: number;
  readonly isDamaged: boolean;
  /** The number of the segment that follows. */
  next: number;
}

/** Where a segment ends that this life has sealed. */
export function sealedEnd({ last, lines }: SealedRow, next: number): End {
  const messages = messagesIn(lines);
  const [stored] = messages.slice(-1);
  return { last, at: stored === undefined ? 0 : atOf(stored), bytes: bytesOf(messages), isDamaged: false, next };
}

/** The position of the first message of the tail. */
export function firstOf(tail: Memory["tail"]): number | undefined {
  const [first] = messagesIn(tail);
  return first === undefined ? undefined : positionOf(first);
}

/** What messages take in a row, in characters where they are text. */
export function bytesOf(messages: readonly StoredMessage[]): number {
  return messages.reduce((sum, stored) => sum + (typeof stored === "string" ? stored.length + 1 : serializedBytes(stored)), 0);
}
