/** The envelope in which a message travels: version 1, which other producers can write as well. */

import { expected } from "./errors.js";
import { headersOf } from "./headers.js";
import type { OutboxMessage } from "./message.js";
import { within } from "./within.js";

/**
 * A message on the wire: plain data, and JSON where `msg` is. Only `v`, `id` and `msg` are required.
 * See docs/envelope.md.
 */
export interface OutboxEnvelope<M = unknown> {
  /** The version of this format. */
  readonly v: 1;
  /** Identifies the message globally, the same each time it is sent: 1 to 256 characters. */
  readonly id: string;
  /** What was put. */
  readonly msg: M;
  /** The stream to which `sequence` belongs: 1 to 256 characters. */
  readonly source?: string;
  /** The message's number in its stream: whole, from 1, never given twice. Only with `source`. */
  readonly sequence?: number;
  /** What the message is about: `msg.type`, if that is a string. Up to 256 characters. */
  readonly type?: string;
  /** The version of its type in which `msg` is: a whole number from 1 to 10,000. Absent: 1. */
  readonly version?: number;
  /** Where the schema of `msg` is published: a URI of 1 to 2,048 characters. */
  readonly dataschema?: string;
  /** When it was put: RFC 3339, in UTC. */
  readonly time?: string;
  /** Its ordering key: 1 to 256 characters. */
  readonly key?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** The longest strings, in UTF-16 units. */
const ID_LENGTH = 256;
const SOURCE_LENGTH = 256;
const URI_LENGTH = 2048;
/** The highest version. */
export const MOST_VERSIONS = 10_000;

/** The envelope of a message that `sendMessages` was given. */
export function envelopeOf<M>(message: OutboxMessage<M>): OutboxEnvelope<M> {
  const { id, msg, source, sequence, timestamp, version, dataschema, key, headers } = message;
  const { type } = Object(msg) as { type?: unknown };
  return {
    ...{ v: 1, id, source, sequence, time: new Date(timestamp).toISOString(), msg },
    ...(typeof type === "string" && type.length <= ID_LENGTH && { type }),
    ...(version !== undefined && { version }),
    ...(dataschema !== undefined && { dataschema }),
    ...(key !== undefined && { key }),
    ...(headers && { headers }),
  };
}

/** Checks an envelope from outside. Returns a copy, so that what was checked is what is used. @throws TypeError that names what is wrong with it. */
export function readEnvelope(value: unknown): OutboxEnvelope {
  if (Object(value) !== value) throw expected("envelope", "an object", value);
  const envelope: Record<string, unknown> = { ...(value as object) };
  const { v, id, msg, source, sequence, type, version, dataschema, time, key, headers } = envelope;
  if (v !== 1) throw expected("envelope.v", "1", v);
  text("id", id, 1, ID_LENGTH);
  if (msg === undefined) throw expected("envelope.msg", "a value", msg);
  if (source !== undefined) text("source", source, 1, SOURCE_LENGTH);
  if (sequence !== undefined && !(Number.isSafeInteger(sequence) && (sequence as number) > 0 && source !== undefined)) {
    throw expected("envelope.sequence", "a whole number from 1, with a source", sequence);
  }
  if (type !== undefined) text("type", type, 0, ID_LENGTH);
  within("envelope.version", version, [1, 1, MOST_VERSIONS, 1]);
  if (dataschema !== undefined) text("dataschema", dataschema, 1, URI_LENGTH);
  if (time !== undefined && !(typeof time === "string" && Number.isFinite(Date.parse(time)))) {
    throw expected("envelope.time", "an RFC 3339 time", time);
  }
  if (key !== undefined) text("key", key, 1, ID_LENGTH);
  if (headers !== undefined) envelope.headers = headersOf("envelope.headers", headers);
  return envelope as unknown as OutboxEnvelope;
}

function text(name: string, value: unknown, min: number, max: number): void {
  if (typeof value === "string" && value.length >= min && value.length <= max) return;
  throw expected(`envelope.${name}`, `a string of ${min} to ${max} characters`, value);
}
