/** A message at rest: how it is stored, read again, and named. */

import { expected, OutboxError } from "../api/errors.js";
import type { OutboxDeadLetter, OutboxMessage, OutboxReceipt } from "../api/message.js";
import type { MessageMeta } from "../api/meta.js";
import type { Current } from "../api/schemas.js";
import { uncloneable } from "../api/uncloneable.js";
import { isWide, jsonOf, SHALLOW, serializedBytes, unreadable } from "./size.js";

/**
 * A message at rest: its position, which counts all messages that the object ever stored, the time at which it was put,
 * the message itself, and what goes with it. Nearly always JSON without the brackets around; a list where JSON does not
 * hold the message.
 */
export type StoredMessage = string | readonly [position: number, at: number, msg: unknown, more?: MessageMeta];

export function positionOf(stored: StoredMessage): number {
  return typeof stored === "string" ? Number.parseInt(stored, 10) : stored[0];
}

/** When it was put. */
export function atOf(stored: StoredMessage): number {
  return typeof stored === "string" ? Number.parseInt(stored.slice(stored.indexOf(",") + 1), 10) : stored[1];
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
  readonly more: MessageMeta;
}

/** The parts of a stored message. */
export type Parts = readonly [position: number, at: number, msg: unknown, more?: MessageMeta];

/** What was read of a row's messages when the row was, until it is used: one parse is enough. */
const known = new WeakMap<readonly StoredMessage[], readonly Parts[]>();

/** What the messages of a row hold. */
export function partsOf(messages: readonly StoredMessage[]): readonly Parts[] {
  const parts = known.get(messages);
  // The next reader gets values of its own.
  known.delete(messages);
  return parts ?? parse(messages);
}

/** One parse for all messages of a row takes half the time. */
function parse(messages: readonly unknown[]): readonly Parts[] {
  if (messages.length === 0) return [];
  if (messages.every((stored) => typeof stored === "string")) return JSON.parse(`[[${messages.join("],[")}]]`);
  return messages.map((stored) => (typeof stored === "string" ? JSON.parse(`[${stored}]`) : stored));
}

/** Those messages of a row that can be read, and what is left. The row is parsed once, and line by line only where that fails. */
export function readable(stored: readonly unknown[]): { messages: readonly StoredMessage[]; damaged?: readonly unknown[] } {
  try {
    const parts = parse(stored);
    if (parts.length === stored.length && parts.every((each, i) => isMessage(each, stored[i]))) {
      known.set(stored as readonly StoredMessage[], parts);
      return { messages: stored as readonly StoredMessage[] };
    }
  } catch {
    // One of them is no JSON.
  }
  const messages: StoredMessage[] = [];
  const damaged: unknown[] = [];
  for (const each of stored) {
    try {
      const [parts] = parse([each]);
      (isMessage(parts, each) ? messages : damaged).push(each as StoredMessage);
    } catch {
      damaged.push(each);
    }
  }
  return { messages, damaged };
}

/** Whether these are the parts of a stored message. */
function isMessage(parts: unknown, stored: unknown): boolean {
  if (!Array.isArray(parts) || parts.length < 3 || parts.length > 4) return false;
  const [position, at, , more = {}] = parts;
  return (
    Number.isSafeInteger(position) &&
    position > 0 &&
    Number.isFinite(at) &&
    Object(more) === more &&
    positionOf(stored as StoredMessage) === position
  );
}

/** The messages of a row. */
export function readAll(stream: Stream, messages: readonly StoredMessage[]): Read[] {
  return partsOf(messages).map(([position, at, msg, more = {}], i) => ({
    stream,
    stored: messages[i] as StoredMessage,
    position,
    at,
    msg,
    more,
  }));
}

export function readMessage(stream: Stream, stored: StoredMessage): Read {
  const [position, at, msg, more = {}] = partsOf([stored])[0] as Parts;
  return { stream, stored, position, at, msg, more };
}

/** When a message could first be handed over: since it was put, or since its own time. */
export function startOf({ at, more }: Pick<Read, "at" | "more">): number {
  return more.from ?? (isScheduled(more) ? more.due : at);
}

/** Whether a message waits for a time of its own, before which nobody has tried it. */
export function isScheduled(more: MessageMeta): more is MessageMeta & { due: number } {
  return more.due !== undefined && more.last === undefined;
}

/** What was put, read from storage's form: a value of its own each time, whatever user code has done to an earlier one. */
export function payloadOf(stored: StoredMessage): unknown {
  return typeof stored === "string" ? (partsOf([stored])[0] as Parts)[2] : structuredClone(stored[2]);
}

/** The message at rest again, with something else going with it. It is made from what was stored, never from what was handed out. */
export function restored({ stored, position, at }: Pick<Read, "stored" | "position" | "at">, more: MessageMeta): StoredMessage {
  if (typeof stored !== "string") return atRest(position, at, undefined, stored[2], more);
  return atRest(position, at, JSON.stringify(payloadOf(stored)), undefined, more);
}

/** A message as it is stored: `json` is `msg` where JSON holds it. */
export function atRest(position: number, at: number, json: string | undefined, msg: unknown, more?: MessageMeta): StoredMessage {
  if (json === undefined) return more ? [position, at, msg, more] : [position, at, msg];
  return `${position},${at},${json}${more ? `,${moreText(json, more)}` : ""}`;
}

/** As JSON, and of one byte a character where the message is: one wide character would make storage take two for each of the whole row. */
function moreText(json: string, more: MessageMeta): string {
  const text = JSON.stringify(more);
  return isWide(json) ? text : narrowed(text);
}

/** JSON in characters of one byte each. */
export function narrowed(text: string): string {
  if (!isWide(text)) return text;
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
export function draft(name: string, value: unknown, maxBytes: number, more?: MessageMeta | null): Draft {
  let msg: unknown;
  const json = more !== undefined ? jsonOf(value) : undefined;
  try {
    if (!json) msg = structuredClone(value);
  } catch (cause) {
    if (cause instanceof RangeError) throw expected(name, SHALLOW, value, cause);
    throw uncloneable(name, value, cause);
  }
  if (value === undefined) throw expected(name, "a value", value);
  const instead = more === undefined || json ? undefined : unreadable(msg);
  if (instead) throw expected(name, instead, value);
  let bytes = serializedBytes(json ?? msg);
  // The ordering key is part of the keys of rows, too, and there every character may take six bytes.
  if (more) bytes += serializedBytes(moreText(json ?? "", more)) * (isWide(json ?? "") ? 2 : 1) + 6 * (more.key?.length ?? 0);
  if (bytes > maxBytes)
    throw new OutboxError("too_large", `${name} takes ${bytes} bytes; the limit is ${maxBytes}. Store it elsewhere and send a key to it.`);
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

/** A stored message as `sendMessages` and `list` show it: in the version in which it is stored, unless `current` is what became of it. */
export function present(
  { stream, stored, position, at, msg, more: { id, version: storedVersion = 1, key, headers } }: Read,
  attempts: number,
  source: string = sourceOf(stream),
  current?: Current,
): OutboxMessage {
  const version = current?.version ?? storedVersion;
  const message: { -readonly [K in keyof OutboxMessage]: OutboxMessage[K] } = {
    id: identify(stream, position, id).id,
    // Memory holds what JSON does not: user code gets a copy of it.
    msg: current?.made ? current.made.msg : typeof stored === "string" ? msg : payloadOf(stored),
    source,
    sequence: position - stream.base,
    attempts,
    timestamp: at,
  };
  if (version > 1) message.version = version;
  if (current?.dataschema !== undefined) message.dataschema = current.dataschema;
  if (key !== undefined) message.key = key;
  if (headers) message.headers = { ...headers };
  return message;
}

/** A dead letter as `list` and `deadMessage` show it. */
export function presentDead(read: Read, destination: string, current?: Current): OutboxDeadLetter {
  const { attempts = 0, reason = "rejected", error = "", first = 0, last = 0, holds } = read.more;
  const failed = { reason, error, firstFailedAt: first, lastFailedAt: last, ...(holds && { holdsKey: true as const }) };
  return { ...present(read, attempts, undefined, current), destination, ...failed };
}
