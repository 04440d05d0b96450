/** Lines: the messages of a row as the one text that goes to storage. */

import type { StoredMessage } from "./message.js";
import { serializedBytes } from "./size.js";

/** Messages in order, never changed in place: every put adds one, and a text that grows costs less than a list that is copied. */
export interface Lines {
  /** A line for each message; empty where there is none, and where `list` has them. */
  readonly text: string;
  /** The messages where JSON does not hold all of them. */
  readonly list: readonly StoredMessage[] | null;
  readonly count: number;
  /** What they take in a row, in bytes, never less. */
  readonly bytes: number;
}

export const NO_LINES: Lines = { text: "", list: null, count: 0, bytes: 0 };

export function linesOf(messages: readonly StoredMessage[]): Lines {
  const plain = messages.every((stored) => typeof stored === "string");
  return {
    text: plain ? messages.join("\n") : "",
    list: plain ? null : messages,
    count: messages.length,
    bytes: serializedBytes(messages),
  };
}

export function messagesIn({ text, list, count }: Lines): readonly StoredMessage[] {
  return list ?? (count > 0 ? text.split("\n") : []);
}

/** One after the other. */
export function joined(first: Lines, second: Lines): Lines {
  if (first.count === 0) return second;
  if (second.count === 0) return first;
  const plain = !first.list && !second.list;
  return {
    text: plain ? `${first.text}\n${second.text}` : "",
    list: plain ? null : [...messagesIn(first), ...messagesIn(second)],
    count: first.count + second.count,
    bytes: first.bytes + second.bytes,
  };
}

/** A message alone. `bytes` is what it takes. */
export function lineOf(stored: StoredMessage, bytes: number): Lines {
  return typeof stored === "string" ? { text: stored, list: null, count: 1, bytes } : { text: "", list: [stored], count: 1, bytes };
}

/**
 * A row as it is stored: one text of lines, the first for `head`, which is JSON, and one for each message. Every put writes a row, and
 * storage writes one text much faster than a structure of many parts. A structure only where JSON does not hold a message.
 */
export function encoded(head: string, { text, list, count }: Lines): unknown {
  return list ? { ...JSON.parse(head), messages: list } : count > 0 ? `${head}\n${text}` : head;
}
