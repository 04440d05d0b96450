/** A message as a CloudEvent: version 1.0, in the JSON format. */

import { digits, type OutboxMessage } from "../message.js";

/** The extension attributes that are taken from headers, if these are there. */
const FROM_HEADERS: readonly (readonly [attribute: string, header: string])[] = [
  ["traceparent", "traceparent"],
  ["tracestate", "tracestate"],
  ["correlationid", "correlation-id"],
  ["causationid", "causation-id"],
];

/**
 * The event as JSON text.
 *
 * @param source the event's `source`; by default the path of the object and its epoch
 * @param type the event's `type` where the message has none of its own
 * @throws Error when JSON can't hold the message.
 */
export function cloudEvent(
  { id, msg, source, sequence, timestamp, key, headers }: OutboxMessage,
  given?: string,
  type = "message",
): string {
  const own = (Object(msg) as { type?: unknown }).type;
  const event: Record<string, unknown> = {
    specversion: "1.0",
    id,
    source: given ?? `/durable-objects/${source.replace(":", "/")}`,
    type: typeof own === "string" && own ? own : type,
    time: new Date(timestamp).toISOString(),
    datacontenttype: "application/json",
    // Text of fixed width, because the sequence extension wants it to sort.
    sequence: digits(sequence),
  };
  if (key !== undefined) event.subject = key;
  for (const [attribute, header] of FROM_HEADERS) if (headers?.[header]) event[attribute] = headers[header];
  event.data = msg;
  return JSON.stringify(event, held);
}

/** What JSON would empty without a word. */
const EMPTIED = [Map, Set, ArrayBuffer];

function held(_: string, value: unknown): unknown {
  for (const kind of EMPTIED) if (value instanceof kind) throw new Error(`JSON does not hold ${kind.name}s.`);
  return value;
}
