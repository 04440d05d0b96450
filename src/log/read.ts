/** Reading the log: pages of what has been stored, forwards and backwards, whatever has become of it at its destinations. */

import { messagesIn } from "../storage/lines.js";
import type { Row } from "../storage/memory.js";
import { positionOf, type Read, readAll, type StoredMessage, type Stream } from "../storage/message.js";
import { segmentNumber } from "../storage/rows.js";
import { serializedBytes } from "../storage/size.js";
import type { Store } from "../storage/store.js";
import { PAGE_ROWS, ROW_MESSAGES } from "./log.js";

/** A page ends once the rows that were read for it hold this many bytes. */
const PAGE_BYTES = 2 ** 22;
/** So many segments are read for one page, however few messages are found in them. */
const MOST_SEGMENTS = 128;

/** What is wanted of the log. */
export interface Range {
  /** The position to begin at, which belongs to the page. */
  readonly from: number;
  readonly isBackward: boolean;
  /** How many messages at most. */
  readonly limit: number;
  /** Whether a message belongs to the page. */
  wants(message: Read): boolean;
}

/** What was found. */
export interface Page {
  readonly messages: readonly Read[];
  /** Where the next page begins. */
  readonly next: number;
  /** Whether there is nothing more in this direction at the moment. */
  readonly isWhole: boolean;
  /** The first position that is retained. */
  readonly earliest: number;
  /** The epoch of the next message. */
  readonly epoch: string;
  /** The `sequence` of the object's last message in that epoch: 0 before the first. */
  readonly sequence: number;
}

/**
 * Reads one page of what is committed and durable: what an open transaction has stored may yet be rolled back. Not to be called in one, whose end it
 * waits for.
 *
 * @param durable resolves when everything that was written is durable
 */
export async function committedPage(store: Store, range: Range, durable: () => Promise<void>): Promise<Page> {
  for (;;) {
    while (store.open) await store.open;
    const { rollbacks, retractions, transactions } = store;
    const page = await pageOf(store, range);
    if (page.messages.length > 0) await durable();
    if (!store.open && store.transactions === transactions && store.rollbacks === rollbacks && store.retractions === retractions)
      return page;
  }
}

/** Reads one page. */
export async function pageOf(store: Store, { from, isBackward, limit, wants }: Range): Promise<Page> {
  const { memory, log } = store;
  const messages: Read[] = [];
  let segments = 0;
  let bytes = 0;
  /** The position to look at next. */
  let next = from;

  /** Takes what a row has from `next` on. Returns whether the page goes on behind it. */
  function look(stream: Stream, stored: readonly StoredMessage[]): boolean {
    const ahead = stored.filter((each) => (isBackward ? positionOf(each) <= next : positionOf(each) >= next));
    const read = readAll(stream, ahead);
    for (const message of isBackward ? read.reverse() : read) {
      const { position } = message;
      if (position < log.earliest()) {
        if (isBackward) return true;
        continue;
      }
      if (messages.length >= limit) return false;
      next = isBackward ? position - 1 : position + 1;
      if (!memory.holes.includes(position) && wants(message)) messages.push(message);
    }
    return messages.length < limit;
  }

  /** Whether a page that has read so much goes on. */
  function lookIn(row: Row): boolean {
    const { data } = log.current(row);
    segments++;
    for (const stored of data.messages) bytes += typeof stored === "string" ? stored.length : serializedBytes(stored);
    return look(data, data.messages) && segments < MOST_SEGMENTS && bytes < PAGE_BYTES;
  }

  const lookInTail = (): boolean => {
    const { object, epoch, base, tail } = memory;
    return look({ object, epoch, base }, messagesIn(tail));
  };
  /** How many rows to read: not many more than the page needs. */
  const rowsFor = (): number => Math.min(PAGE_ROWS, Math.max(1, Math.ceil((limit - messages.length) / ROW_MESSAGES)));
  const page = (isWhole: boolean): Page => {
    const { epoch, position, base } = memory;
    return { messages, next, isWhole, earliest: log.earliest(), epoch, sequence: position - base };
  };
  const cut = (): Page => page(isBackward ? next < log.earliest() : next > memory.position);

  if (isBackward) {
    if (!lookInTail()) return cut();
    const [first] = messagesIn(memory.tail);
    if (first !== undefined && positionOf(first) <= next) next = positionOf(first) - 1;
    for (let number = Math.min(memory.last, await log.around(next)); number >= memory.first; ) {
      const lowest = Math.max(memory.first, number - rowsFor() + 1);
      const rows = await log.page(lowest, number, number - lowest + 1);
      for (const row of rows.reverse()) if (!lookIn(row)) return cut();
      number = lowest - 1;
    }
    next = Math.min(next, log.earliest() - 1);
    return page(true);
  }
  next = Math.max(next, log.earliest());
  for (let number = await log.around(next); ; ) {
    const { last } = memory;
    const rows = await log.page(number, last, rowsFor());
    for (const row of rows) {
      if (!lookIn(row)) return cut();
      number = segmentNumber(row.key) + 1;
    }
    if (rows.length === 0) number = last + 1;
    if (number <= memory.last) continue;
    // No await since the last segment was seen to be the last, and as it is now.
    if (!lookInTail()) return cut();
    next = Math.max(next, memory.position + 1);
    return page(true);
  }
}
