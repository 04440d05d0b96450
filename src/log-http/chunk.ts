/** Chunks: what of the log one response, or one event, carries. */

import type { OutboxLogMessage, OutboxLogPage, OutboxReadOptions, OutboxTailOptions } from "../operate/log.js";
import type { Form } from "./content.js";
import { behind, endOf, isThere, type Offset } from "./offset.js";

/** What is read of a log: an `OutboxManager` is one. */
export interface LogSource {
  read(options?: OutboxReadOptions): Promise<OutboxLogPage>;
  tail(options?: OutboxTailOptions): AsyncIterable<OutboxLogMessage>;
}

/** So many messages go into a chunk. A page of the log has 4 MB at most. */
const MOST_MESSAGES = 1000;

export interface Chunk {
  /** The messages in their form. */
  readonly parts: readonly (Uint8Array | string)[];
  /** Where the next chunk begins. */
  readonly next: Offset;
  /** Whether that was the end of the log. */
  readonly isUpToDate: boolean;
}

/** A message that its form cannot represent. */
export class UnreadableMessage extends Error {}

/**
 * Reads what follows an offset, or what is retained where there is none.
 *
 * @returns `null` where the log has not what follows it any more
 * @throws UnreadableMessage when the first message can't be represented. A later one ends the chunk.
 */
export async function chunkAfter(source: LogSource, offset: Offset | undefined, form: Form): Promise<Chunk | null> {
  const position = offset?.position ?? 0;
  let own: OutboxLogMessage | undefined;
  // With the message of the offset itself, which says of which epoch it is. Rows that can't be read may leave a page without messages.
  for (let from = Math.max(1, position); ; ) {
    const page = await source.read({ from, limit: MOST_MESSAGES, committed: true });
    own ??= page.messages.find((message) => message.position === position);
    const messages = page.messages.filter((message) => message.position > position);
    const [first] = messages;
    if (!first && !page.upToDate) {
      from = page.next;
      continue;
    }
    if (offset && !isThere(offset, own, first, page)) return null;
    return chunkOf(page, messages, form);
  }
}

/** The end of the log, as it is now. */
export async function endOfLog(source: LogSource): Promise<Offset> {
  const page = await source.read({ direction: "backward", limit: 1, committed: true });
  return endOf({ ...page, next: (page.messages[0]?.position ?? page.next) + 1 });
}

function chunkOf(page: OutboxLogPage, messages: readonly OutboxLogMessage[], form: Form): Chunk {
  const parts: (Uint8Array | string)[] = [];
  let last: OutboxLogMessage | undefined;
  for (const message of messages) {
    try {
      parts.push(form.part(message));
    } catch (cause) {
      // Readers get what is before it.
      if (last) return { parts, next: behind(last), isUpToDate: false };
      throw new UnreadableMessage(`The message at position ${message.position} can't be served as ${form.contentType}.`, { cause });
    }
    last = message;
  }
  return { parts, next: page.upToDate || !last ? endOf(page) : behind(last), isUpToDate: page.upToDate };
}

/** Waits for a message behind a position. Returns whether there is one before the signal is aborted. */
export async function arrives(source: LogSource, position: number, signal: AbortSignal): Promise<boolean> {
  for await (const _ of source.tail({ after: position, signal })) return !signal.aborted;
  return false;
}
