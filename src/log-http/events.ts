/** Server-sent events: the log as a stream that stays open for a while. */

import { arrives, type Chunk, chunkAfter, type LogSource } from "./chunk.js";
import type { Form } from "./content.js";
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
  const encoder = new TextEncoder();
  const chunks = chunksFrom(source, form, first, signal);
  return new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await chunks.next();
        if (!done) return controller.enqueue(encoder.encode(eventsOf(value, form, cursor())));
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

async function* chunksFrom(source: LogSource, form: Form, first: Chunk, signal: AbortSignal): AsyncGenerator<Chunk, void, undefined> {
  for (let chunk: Chunk | null = first; chunk; chunk = await chunkAfter(source, chunk.next, form)) {
    yield chunk;
    if (signal.aborted || (chunk.isUpToDate && !(await arrives(source, chunk.next.position, signal)))) return;
  }
}

/** Each event has the offset behind it as its id: what an `EventSource` sends as `Last-Event-ID` when it connects again. */
function eventsOf({ parts, next, isUpToDate }: Chunk, form: Form, streamCursor: string): string {
  const streamNextOffset = textOf(next);
  const control = JSON.stringify({ streamNextOffset, streamCursor, ...(isUpToDate && { upToDate: true }) });
  const data = parts.length > 0 ? event("data", dataOf(form.join(parts)), streamNextOffset) : "";
  return data + event("control", control, streamNextOffset);
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
