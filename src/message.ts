/** A message: as a caller sees it, as it is stored, and how its identity is made. */

import { expected, OutboxError } from "./errors.js";
import { isJson, serializedBytes } from "./size.js";

/** One message as `sendMessages` gets it: plain data that survives `structuredClone`, RPC and, where `msg` does, `JSON.stringify`. */
export interface OutboxMessage<M = unknown> {
  /**
   * Names this message globally, the same on every attempt. Derived from epoch and sequence: URL-safe, 52 characters,
   * and sorts in put order among the messages of one epoch.
   */
  readonly id: string;
  /** What was put. */
  readonly msg: M;
  /** Where it comes from: the object's id and the epoch of its stream, joined by a colon. */
  readonly source: string;
  /** Its number in the stream: from 1, without gaps, in put order. */
  readonly sequence: number;
  /** How often it has been handed to `sendMessages`, this time included: 1 at first. */
  readonly attempts: number;
  /** When it was put, in milliseconds since the Unix epoch. */
  readonly timestamp: number;
}

/** What `put` and `send` give back. */
export interface OutboxReceipt {
  /** The message's `id`, as `sendMessages` will see it. */
  readonly id: string;
  /** The message's `sequence`. */
  readonly sequence: number;
}

/** The second argument of `sendMessages`. */
export interface OutboxDelivery {
  /** Aborted when `timeoutSeconds` have passed: pass it on to `fetch`. */
  readonly signal: AbortSignal;
}

/** What a class must have: it forwards the messages, and throws when it could not. */
export interface OutboxProcessor<M = unknown> {
  sendMessages(messages: OutboxMessage<M>[], delivery: OutboxDelivery): unknown;
}

/**
 * A message at rest: its position, which counts all messages that the object ever stored, the time at which it was put,
 * in milliseconds since the Unix epoch, and the message itself. Nearly always JSON without the brackets around, because
 * every put writes up to sixteen of these again, and texts cost storage next to nothing; a list where JSON does not hold
 * the message.
 */
export type StoredMessage = string | readonly [position: number, at: number, msg: unknown];

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

/** A value that has been checked and copied, ready to be written: as JSON where that holds all of it. */
export interface Draft {
  readonly json: string | undefined;
  readonly msg: unknown;
  readonly bytes: number;
}

/**
 * Checks a value and takes a copy, so that what is stored is what it was at the call.
 *
 * @param name the argument that errors name
 * @param asJson whether it will be stored as JSON where that holds it; storage itself takes more bytes for some numbers
 * @throws TypeError when it is `undefined` or can't be cloned. @throws OutboxError `too_large`.
 */
export function draft(name: string, value: unknown, maxBytes: number, asJson = true): Draft {
  let msg: unknown;
  const json = asJson && isJson(value) ? JSON.stringify(value) : undefined;
  try {
    if (!json) msg = structuredClone(value);
  } catch (cause) {
    throw expected(name, "a value that can be cloned", value, cause);
  }
  if (value === undefined) throw expected(name, "a value", value);
  const bytes = serializedBytes(json ?? msg);
  if (bytes > maxBytes) throw new OutboxError("too_large", `${name} takes ${bytes} bytes, the limit is ${maxBytes}: send a key to it.`);
  return { json, msg, bytes };
}

/** A number in fifteen digits, so that text sorts as numbers do. */
export function digits(number: number): string {
  return String(1e15 + number).slice(1);
}

/** What names the message at this position. */
export function identify(stream: Stream, position: number): OutboxReceipt {
  const sequence = position - stream.base;
  return { id: `${stream.epoch}-${digits(sequence)}`, sequence };
}

/** A stored message as `sendMessages` and `list` show it. */
export function present(stream: Stream, stored: StoredMessage, attempts: number): OutboxMessage {
  const [position, timestamp, msg] = typeof stored === "string" ? JSON.parse(`[${stored}]`) : stored;
  return { ...identify(stream, position), msg, source: `${stream.object}:${stream.epoch}`, attempts, timestamp };
}
