/** A batch: the messages of one step of delivery, where they stand, and what becomes of each. */

import type { Memory, Row } from "./memory.js";
import { type More, type Parts, partsOf, type Read, type StoredMessage, type Stream } from "./message.js";
import { kindOf } from "./rows.js";
import { tried } from "./trouble.js";

/** Where a message goes: out of the store, to wait for a time or behind its key, or among the dead letters. */
export type Fate = "gone" | "aside" | "dead";

/** A message that was read to be handed over, and what becomes of it. */
export interface Entry extends Read {
  /** The row in which it stands; `null` is the header. */
  readonly row: Row | null;
  more: More;
  /** It was put with a time. */
  readonly late: boolean;
  /** How often it has been handed over, this call included. */
  attempts?: number;
  /** Without one it stays where it is. */
  fate?: Fate;
  /** It stays, and `more` has changed. */
  changed?: boolean;
}

/** A message and what goes with it from now on. */
export type Waiting = Pick<Entry, keyof Read>;

/** One step of delivery: what is handed over, and what has to move first. */
export interface Batch {
  /** Everything that was read, in put order. */
  entries: Entry[];
  /** Those of them that can be handed over. */
  handed: Entry[];
  /** The rows from which they come. */
  readonly rows: Row[];
  /** The ordering keys of which the next message was due. */
  readonly lanes: Lane[];
}

/** What was read of a lane: `seen` is what memory said of it, `whole` whether these are all of its rows. */
export interface Lane {
  readonly key: string;
  readonly seen: object;
  readonly rows: Row[];
  readonly whole: boolean;
}

/** Whether a message stands outside the queue. */
export function isAside({ row }: Entry): boolean {
  return row !== null && kindOf(row.key) !== "s";
}

/** The messages of a row; `null` is the header, and its stream and messages are given. */
export function entriesOf(row: Row | null, stream: Stream, messages: readonly StoredMessage[]): Entry[] {
  const all = partsOf(messages);
  const entries: Entry[] = [];
  for (let i = 0; i < all.length; i++) {
    const parts = all[i] as Parts;
    const more = parts[3] ?? NOTHING;
    const stored = messages[i] as StoredMessage;
    entries.push({ stream, stored, position: parts[0], at: parts[1], msg: parts[2], more, row, late: more.due !== undefined });
  }
  return entries;
}

/** Nothing goes with most messages. Never changed: whoever changes `more` replaces it. */
const NOTHING: More = Object.freeze({});

/** How often a message that was read has been handed over: never too few. */
export function handedOver({ trouble }: Memory, entry: Entry): number {
  return isAside(entry) ? (entry.more.attempts ?? 0) : tried(trouble, entry.position);
}
