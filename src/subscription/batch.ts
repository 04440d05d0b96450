/** A batch: the messages of one step of delivery, where they stand, and what becomes of each. */

import type { MessageMeta } from "../api/meta.js";
import type { Current } from "../api/schemas.js";
import type { Delivered } from "../log/ids.js";
import type { Row } from "../storage/memory.js";
import { isScheduled, type Parts, partsOf, type Read, type StoredMessage, type Stream } from "../storage/message.js";
import { tried } from "./breaker.js";
import type { Reader } from "./reader.js";

/** Where a message goes: out of the store, to wait for a time or behind its key, or among the dead letters. */
export type Fate = "gone" | "aside" | "dead";

/** A message that was read to be handed over, and what becomes of it. */
export interface Entry extends Read {
  /** The row in which it stands; `null` is the log. */
  readonly row: Row | null;
  more: MessageMeta;
  /** It was put with a time. */
  readonly late: boolean;
  /** It waits for that, and nobody has tried it. */
  readonly scheduled: boolean;
  /** How often it has been handed over, this call included. */
  attempts?: number;
  /** Without one it stays where it is. */
  fate?: Fate;
  /** Why it failed, as it was thrown or given. */
  cause?: unknown;
  /** It stays, and `more` has changed. */
  changed?: boolean;
  /** `msg` has been in the hands of user code, which may have changed it. */
  given?: boolean;
  /** What has been made of it for this deployment, until it is handed over. */
  current?: Current | undefined;
}

/** A message and what goes with it from now on. */
export type Waiting = Pick<Entry, keyof Read>;

/** One step of delivery: what is handed over, and what has to move first. */
export interface Batch {
  /** Everything that was read, in put order. */
  entries: Entry[];
  /** Those of them that can be handed over. */
  handed: Entry[];
  /** The rows outside the log from which they come, as they were read: what they hold now is in `Reader.held`. */
  readonly rows: Row[];
  /** The positions of the log that were looked at and hold a message: what is between them holds none, or is acked. Ascending. */
  readonly looked: number[];
  /** The position up to which messages were looked at that the reader does not take. */
  passed: number;
  /** It ended there: more may follow. */
  isCut: boolean;
  /** Everything that goes into it has been read. Until then nobody knows what of it is due. */
  isRead: boolean;
  /** Messages in a version that this deployment does not know yet: they wait. */
  readonly ahead: Entry[];
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

/** A batch of nothing. */
export function emptyBatch(): Batch {
  return { entries: [], handed: [], rows: [], looked: [], passed: 0, isCut: false, isRead: false, ahead: [], lanes: [] };
}

/** Whether a message stands outside the queue. */
export function isAside({ row }: Entry): boolean {
  return row !== null;
}

/** The messages of a row; `null` is the log. */
export function entriesOf(row: Row | null, stream: Stream, messages: readonly StoredMessage[]): Entry[] {
  const all = partsOf(messages);
  const entries: Entry[] = [];
  for (let i = 0; i < all.length; i++) {
    const parts = all[i] as Parts;
    const more = parts[3] ?? NOTHING;
    const stored = messages[i] as StoredMessage;
    entries.push({
      stream,
      stored,
      position: parts[0],
      at: parts[1],
      msg: parts[2],
      more,
      row,
      late: more.due !== undefined,
      scheduled: isScheduled(more),
    });
  }
  return entries;
}

/** Nothing goes with most messages. Never changed in place: code that changes `more` replaces it. */
const NOTHING: MessageMeta = Object.freeze({});

/** How often a message that was read has been handed over: never too few. */
export function handedOver({ breaker }: Reader, entry: Entry): number {
  return isAside(entry) ? (entry.more.attempts ?? 0) : tried(breaker, entry.position);
}

/** The callers' own ids of what is delivered. */
export function deliveredIn(entries: readonly Entry[]): Delivered[] {
  const delivered: Delivered[] = [];
  for (const entry of entries) {
    const { fate, more, position, stream } = entry;
    const id = more.id ?? more.as;
    if (fate === "gone" && id !== undefined) delivered.push({ id, position, sequence: position - stream.base, late: isAside(entry) });
  }
  return delivered;
}
