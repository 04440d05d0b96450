/** Server-sent events: the log as a stream that stays open for a while. */

import { CLOCK } from "../destinations/clock.js";
import { arrives, type Chunk, chunkAfter, type LogSource } from "./chunk.js";
import { eventDataOf, type Form } from "./content.js";
import { cursorAfter } from "./cursor.js";
import { textOf } from "./offset.js";

/**
 * The body of a response. It reads on when it is read, so that a slow client costs no memory, and ends when the signal is aborted.
 *
 * @param first what the stream begins with
 * @param cursor the cursor of the next event
 * @param end called once, when the stream is over or its client has gone
 */
export function eventStream(
  source: LogSource,
  form: Form,
  first: Chunk,
  cursor: () => string,
  signal: AbortSignal,
  end: () => void,
): ReadableStream<Uint8Array> {
  return streamOf(textsFrom(source, form, first, cursor, signal), end);
}

/**
 * A body whose strings are requested as it is read.
 *
 * @param end called once they are over, or the client has gone
 */
export function streamOf(texts: AsyncGenerator<string, void, undefined>, end: () => void): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  return new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await texts.next();
        if (!done) return controller.enqueue(encoder.encode(value));
        end();
        controller.close();
      } catch (error) {
        end();
        controller.error(error);
      }
    },
    cancel: end,
  });
}

async function* textsFrom(
  source: LogSource,
  form: Form,
  first: Chunk,
  cursor: () => string,
  signal: AbortSignal,
): AsyncGenerator<string, void, undefined> {
  for (let chunk: Chunk | null = first; chunk; chunk = await chunkAfter(source, chunk.next, form)) {
    yield eventsOf(writtenOf(chunk, form), cursor());
    if (signal.aborted || (chunk.isUpToDate && !(await arrives(source, chunk.next.position, signal)))) return;
  }
}

/** What one event carries, as it is written. */
export interface Written {
  /** Messages: `null` where there are none. Bytes are written in base64. */
  readonly data: Uint8Array | string | null;
  /** The offset behind them. */
  readonly next: string;
  readonly isUpToDate: boolean;
}

/** Each event has the offset behind it as its id: what an `EventSource` sends as `Last-Event-ID` when it connects again. */
export function eventsOf({ data, next, isUpToDate }: Written, streamCursor: string): string {
  const control = JSON.stringify({ streamNextOffset: next, streamCursor, ...(isUpToDate && { upToDate: true }) });
  return (data === null ? "" : event("data", dataOf(data), next)) + event("control", control, next);
}

/** The cursors of one stream: the first is later than the client's own. */
export function cursors(given: string | null): () => string {
  let last = given;
  return () => {
    last = cursorAfter(last === given ? given : null, CLOCK.now(), CLOCK.random());
    return last;
  };
}

function writtenOf({ parts, next, isUpToDate }: Chunk, form: Form): Written {
  return { data: parts.length > 0 ? eventDataOf(form.join(parts), form.contentType) : null, next: textOf(next), isUpToDate };
}

function event(name: string, data: string, id: string): string {
  // Whatever ends a line in the data begins another line of it, and never another field.
  const lines = data.split(/\r\n|\r|\n/).map((line) => (line.startsWith(" ") ? `data: ${line}` : `data:${line}`));
  return `event: ${name}\n${lines.join("\n")}\nid: ${id}\n\n`;
}

function dataOf(data: Uint8Array | string): string {
  if (typeof data === "string") return data;
  let binary = "";
  for (const byte of data) binary += String.fromCharCode(byte);
  return btoa(binary);
}
