/** A message: as a caller sees it, as it is stored, and how its identity is made. */

import { expected, OutboxError } from "./errors.js";
import type { DeadReason } from "./events.js";
import { isJson, isWide, serializedBytes } from "./size.js";

/** One message as `sendMessages` gets it: plain data that survives `structuredClone`, RPC and, where `msg` does, `JSON.stringify`. */
export interface OutboxMessage<M = unknown> {
  /**
   * Names this message globally, the same on every attempt. The caller's own, or derived from epoch and sequence:
   * URL-safe, 52 characters, and sorting in put order among the messages of one epoch.
   */
  readonly id: string;
  /** What was put. */
  readonly msg: M;
  /** Where it comes from: the object's id and the epoch of its stream, joined by a colon. */
  readonly source: string;
  /** Its number in the stream: from 1, in put order. One stays unused where storage refused a put that others of its turn followed. */
  readonly sequence: number;
  /**
   * How often it has been handed to `sendMessages`, this time included: 1 at first. Nothing is written when a call begins, so after a crash
   * it may be a little too high or too low.
   */
  readonly attempts: number;
  /** When it was put, in milliseconds since the Unix epoch. */
  readonly timestamp: number;
  /** Its ordering key, if it was put with one. */
  readonly key?: string;
  /** Its headers, if it was put with some. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** A message as `list` shows it. */
export interface OutboxListed<M = unknown> extends OutboxMessage<M> {
  /** When it may be handed over, in milliseconds since the Unix epoch, if it waits for a time. */
  readonly deliverAt?: number;
}

/** A dead letter as `list` shows it: kept until it is redriven or discarded. */
export interface OutboxDeadLetter<M = unknown> extends OutboxMessage<M> {
  readonly reason: DeadReason;
  /** The text of the last error, or the reason given to `reject`: at most 500 characters. */
  readonly error: string;
  /** The first and the last time that it failed, in milliseconds since the Unix epoch. */
  readonly firstFailedAt: number;
  readonly lastFailedAt: number;
}

/** What `put` and `send` give back. */
export interface OutboxReceipt {
  /** The message's `id`, as `sendMessages` will see it. */
  readonly id: string;
  /** The message's `sequence`. */
  readonly sequence: number;
  /** The `id` is known already: the state was stored, and no second message. */
  readonly deduplicated?: true;
}

/**
 * The second argument of `sendMessages`: outcomes for single messages, as a Queues consumer gives them. The first
 * outcome for an id wins; what is given after the call has settled or run out of time changes nothing. An id that is
 * not in the batch is a `TypeError`.
 */
export interface OutboxDelivery {
  /** Aborted when `timeoutSeconds` have passed: pass it on to `fetch`. */
  readonly signal: AbortSignal;
  /** This message is delivered, whatever becomes of the others. */
  readonly ack: (id: string) => void;
  /**
   * This message has failed and is set aside, until its own backoff or `delaySeconds` (seconds, from 0 to 315,360,000)
   * have passed; those with its ordering key wait behind it, all others go on. After `retry.maxAttempts` it is a dead letter.
   */
  readonly retry: (id: string, options?: { delaySeconds?: number }) => void;
  /** This message can never be delivered: it becomes a dead letter at once. */
  readonly reject: (id: string, reason?: unknown) => void;
}

/** What a class must have: it forwards the messages, and throws when it could not. */
export interface OutboxProcessor<M = unknown> {
  sendMessages(messages: OutboxMessage<M>[], delivery: OutboxDelivery): unknown;
}

/** What goes with a message, as far as it is not the usual. Durations are over once this is made: times are milliseconds since the Unix epoch. */
export interface More {
  /** The caller's own id. */
  id?: string;
  key?: string;
  headers?: Record<string, string>;
  /** Not handed over before this. */
  due?: number;
  /** Not handed over from this on. */
  expires?: number;
  /** How often it was handed over. Only outside the queue: there, the header tells. */
  attempts?: number;
  /** How often it has failed by itself, and not with its batch. */
  tries?: number;
  /** It has been found to break its batch, and is handed over alone. */
  alone?: true;
  /** How often the isolate died while it was handed over alone. */
  deaths?: number;
  error?: string;
  reason?: DeadReason;
  first?: number;
  last?: number;
}

/**
 * A message at rest: its position, which counts all messages that the object ever stored, the time at which it was put,
 * the message itself, and what goes with it. Nearly always JSON without the brackets around; a list where JSON does not
 * hold the message.
 */
export type StoredMessage = string | readonly [position: number, at: number, msg: unknown, more?: More];

export function positionOf(stored: StoredMessage): number {
  return typeof stored === "string" ? Number.parseInt(stored, 10) : stored[0];
}

/** The stream to which a stored message belongs. */
export interface Stream {
  /** The id of the object that stored it. */
  readonly object: string;
  /** The epoch under which it was stored. */
  readonly epoch: string;
  /** The position before the epoch's first message: `sequence` is position minus this. */
  readonly base: number;
}

/** A stored message, read. */
export interface Read {
  readonly stream: Stream;
  readonly stored: StoredMessage;
  readonly position: number;
  readonly at: number;
  readonly msg: unknown;
  readonly more: More;
}

/** What stands in a stored message. */
export type Parts = readonly [position: number, at: number, msg: unknown, more?: More];

/** What stands in the messages of a row: one parse for all of them takes half the time. */
export function partsOf(messages: readonly StoredMessage[]): readonly Parts[] {
  if (messages.length === 0) return [];
  if (messages.every((stored) => typeof stored === "string")) return JSON.parse(`[[${messages.join("],[")}]]`);
  return messages.map((stored) => (typeof stored === "string" ? JSON.parse(`[${stored}]`) : stored));
}

export function readMessage(stream: Stream, stored: StoredMessage): Read {
  const [position, at, msg, more = {}] = partsOf([stored])[0] as Parts;
  return { stream, stored, position, at, msg, more };
}

/** The message at rest again, with something else going with it. */
export function restored({ stored, position, at, msg }: Read, more: More): StoredMessage {
  return atRest(position, at, typeof stored === "string" ? JSON.stringify(msg) : undefined, msg, more);
}

/** A message as it is stored: `json` is `msg` where JSON holds it. */
export function atRest(position: number, at: number, json: string | undefined, msg: unknown, more?: More): StoredMessage {
  if (json === undefined) return more ? [position, at, msg, more] : [position, at, msg];
  return `${position},${at},${json}${more ? `,${moreText(json, more)}` : ""}`;
}

/** As JSON, and of one byte a character where the message is: one wide character would make storage take two for each of the whole row. */
function moreText(json: string, more: More): string {
  const text = JSON.stringify(more);
  if (isWide(json) || !isWide(text)) return text;
  // Put together anew from its characters: what is cut out of a wide text is kept as wide, whatever it holds.
  const escaped = (character: string) => (character > "\xff" ? `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}` : character);
  return text.split("").map(escaped).join("");
}

/** A value that has been checked and copied, ready to be written: as JSON where that holds all of it. */
export interface Draft {
  readonly json: string | undefined;
  readonly msg: unknown;
  /** With what goes with it. */
  readonly bytes: number;
}

/**
 * Checks a value and takes a copy, so that what is stored is what it was at the call.
 *
 * @param name the argument that errors name
 * @param more what goes with a message; without it nothing is stored as JSON, which takes fewer bytes for some numbers
 * @throws TypeError when it is `undefined` or can't be cloned. @throws OutboxError `too_large`.
 */
export function draft(name: string, value: unknown, maxBytes: number, more?: More | null): Draft {
  let msg: unknown;
  const json = more !== undefined && isJson(value) ? JSON.stringify(value) : undefined;
  try {
    if (!json) msg = structuredClone(value);
  } catch (cause) {
    throw expected(name, "a value that can be cloned", value, cause);
  }
  if (value === undefined) throw expected(name, "a value", value);
  let bytes = serializedBytes(json ?? msg);
  // The ordering key stands in the keys of rows, too, and there every character may take six bytes.
  if (more) bytes += serializedBytes(moreText(json ?? "", more)) * (isWide(json ?? "") ? 2 : 1) + 6 * (more.key?.length ?? 0);
  if (bytes > maxBytes) throw new OutboxError("too_large", `${name} takes ${bytes} bytes, the limit is ${maxBytes}: send a key to it.`);
  return { json, msg, bytes };
}

const ZEROS = "000000000000000";

/** A number in fifteen digits, so that text sorts as numbers do. */
export function digits(number: number): string {
  const text = String(number);
  // `padStart` takes three times as long, and every message pays for it twice.
  return text.length < ZEROS.length ? ZEROS.slice(text.length) + text : text;
}

/** What names the message at this position. */
export function identify(stream: Stream, position: number, id?: string): OutboxReceipt {
  const sequence = position - stream.base;
  return { id: id ?? `${stream.epoch}-${digits(sequence)}`, sequence };
}

/** The source of the messages of a stream. */
export function sourceOf({ object, epoch }: Stream): string {
  return `${object}:${epoch}`;
}

/** A stored message as `sendMessages` and `list` show it. */
export function present(
  { stream, position, at, msg, more: { id, key, headers } }: Read,
  attempts: number,
  source: string = sourceOf(stream),
): OutboxMessage {
  const message: { -readonly [K in keyof OutboxMessage]: OutboxMessage[K] } = {
    id: identify(stream, position, id).id,
    msg,
    source,
    sequence: position - stream.base,
    attempts,
    timestamp: at,
  };
  if (key !== undefined) message.key = key;
  if (headers) message.headers = headers;
  return message;
}
