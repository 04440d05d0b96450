/** A message as a CloudEvent: version 1.0, in the JSON format. */

import { headerOf } from "../api/headers.js";
import type { OutboxMessage } from "../api/message.js";
import { digits } from "../storage/message.js";
import { jsonText } from "./json.js";

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
 * @throws Error that names what JSON cannot represent in the message.
 */
export function cloudEvent(
  { id, msg, source, sequence, timestamp, dataschema, key, headers }: OutboxMessage,
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
  if (dataschema !== undefined) event.dataschema = dataschema;
  if (key !== undefined) event.subject = key;
  for (const [attribute, name] of FROM_HEADERS) {
    const header = headerOf(headers, name);
    if (header) event[attribute] = header;
  }
  event.data = msg;
  return jsonText(event);
}
