/** The forms in which messages are written into a response. */

import { expected } from "../api/errors.js";
import { cloudEvent } from "../destinations/cloud-event.js";
import { jsonText } from "../destinations/json.js";
import type { OutboxLogMessage } from "../operate/log.js";

/** One form. */
export interface Form {
  readonly contentType: string;
  /** Whether server-sent events carry it in base64. */
  readonly isBinary: boolean;
  /** One message. @throws Error that names what this form cannot represent. */
  part(message: OutboxLogMessage): Uint8Array | string;
  /** Messages, as the body of a response or the data of an event. */
  join(parts: readonly (Uint8Array | string)[]): Uint8Array | string;
}

const JSON_TYPE = "application/json";
const EVENTS_TYPE = "application/cloudevents-batch+json";

const MEDIA_TYPE = /^[\w!#$&^.+-]+\/[\w!#$&^.+-]+(\s*;.*)?$/;

const list = (parts: readonly (Uint8Array | string)[]): string => `[${parts.join(",")}]`;

/** A batch of CloudEvents, for who asks for it: JSON, with what else is known of each message. */
const EVENTS: Form = {
  contentType: EVENTS_TYPE,
  isBinary: false,
  part: ({ position: _, ...message }) => cloudEvent({ ...message, attempts: 0 }),
  join: list,
};

/**
 * The form of a response.
 *
 * @param contentType what the log is served as
 * @param accept what the client asks for
 */
export function formOf(contentType: string, accept: string | null): Form {
  const type = mediaTypeOf(contentType);
  if (type === JSON_TYPE) {
    const asked = (accept ?? "").split(",").map(mediaTypeOf);
    return asked.includes(EVENTS_TYPE) ? EVENTS : { contentType, isBinary: false, part: ({ msg }) => jsonText(msg), join: list };
  }
  // Text as well: a character may be in two messages, and its bytes are what was put.
  const isBinary = !type.startsWith("text/");
  return { contentType, isBinary, part: ({ msg }) => bytes(msg), join: (parts) => joined(parts as Uint8Array[]) };
}

/** The data of a response, as an event carries it: only text has a form of its own there. */
export function eventDataOf(data: Uint8Array | string, contentType: string): Uint8Array | string {
  return typeof data === "string" || isBinary(contentType)
    ? data
    : new TextDecoder("utf-8", { fatal: false, ignoreBOM: true }).decode(data);
}

/** Whether this is the type of a list of messages. */
export function isJson(contentType: string): boolean {
  return [JSON_TYPE, EVENTS_TYPE].includes(mediaTypeOf(contentType));
}

/** Whether server-sent events carry what has this type in base64. */
export function isBinary(contentType: string): boolean {
  return !isJson(contentType) && !mediaTypeOf(contentType).startsWith("text/");
}

/** @throws TypeError when it is no media type. */
export function checkContentType(contentType: unknown): string {
  if (typeof contentType === "string" && MEDIA_TYPE.test(contentType)) return contentType;
  throw expected("options.contentType", "a media type", contentType);
}

function mediaTypeOf(contentType: string): string {
  return (contentType.split(";")[0] ?? "").trim().toLowerCase();
}

function bytes(msg: unknown): Uint8Array {
  if (typeof msg === "string") return new TextEncoder().encode(msg);
  if (msg instanceof ArrayBuffer) return new Uint8Array(msg);
  if (ArrayBuffer.isView(msg)) return new Uint8Array(msg.buffer, msg.byteOffset, msg.byteLength);
  throw new Error("A log that is not served as JSON has strings and bytes alone.");
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let end = 0;
  for (const part of parts) {
    all.set(part, end);
    end += part.length;
  }
  return all;
}
