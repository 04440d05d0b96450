/** The errors of the outbox: one class, matched by its `code`, and the form of errors for a programmer's mistakes. */

import type { MessageIssue } from "./messages.js";

/**
 * What went wrong, as a stable identifier.
 *
 * - `too_large`: the message, a key or a value does not fit in what this object's backend stores.
 * - `reserved_key`: a key begins with U+10FFFF, the range in which the outbox keeps its rows.
 * - `unsupported`: this object does not support the call, or not in its current state: `transactionSync` on a KV-backed one, for example.
 * - `outbox_full`: `maxPending` messages are already undelivered, or messages were taken out of the queue at too many places; nothing was written.
 * - `no_destination`: the class has no destination that takes messages of this type; nothing was written.
 * - `sequence_conflict`: `expectedSequence` is not the number of the last message, which `actual` says; nothing was written.
 * - `history_trimmed`: events of an aggregate are gone that its latest snapshot does not contain; nothing was written.
 * - `lease_expired`: the lease of `receive` has expired, or the object has restarted since; nothing was settled.
 * - `invalid_message`: the message is not what the option `messages` says of its type; nothing was written. `issues` says what is wrong with it.
 * - `version_ahead`: an inbox has got a message in a version that its deployment does not know yet; nothing was written, and the sender should send again
 *   later.
 * - `inbox_full`: an inbox has reached its limit of remembered ids or waiting messages; nothing was written, and the sender should send again later.
 * - `timeout`: `sendMessages` did not settle within `timeoutSeconds`.
 * - `send_messages_missing`: the running class has no `sendMessages`; messages stay stored until one is deployed.
 */
export type OutboxErrorCode =
  | "too_large"
  | "reserved_key"
  | "unsupported"
  | "outbox_full"
  | "no_destination"
  | "sequence_conflict"
  | "history_trimmed"
  | "lease_expired"
  | "invalid_message"
  | "version_ahead"
  | "inbox_full"
  | "timeout"
  | "send_messages_missing";

/** What comes with an error of some codes. */
export interface OutboxErrorDetails {
  readonly issues?: readonly MessageIssue[];
  readonly actual?: number;
}

/**
 * Something that can go wrong while a correct program runs. Match it by `code`, never by `instanceof`, which does not survive RPC.
 * At compatibility dates before 2026-04-21 `code` does not survive it either: there the caller of a stub finds it at the end of the message, in
 * parentheses.
 */
export class OutboxError extends Error {
  override readonly name: string = "OutboxError";
  readonly code: OutboxErrorCode;
  /** What is wrong with a message, if `code` is `invalid_message`: the first 100 issues. */
  declare readonly issues?: readonly MessageIssue[];
  /** The `sequence` of the object's last message, if `code` is `sequence_conflict`. */
  declare readonly actual?: number;

  constructor(code: OutboxErrorCode, message: string, cause?: unknown, details?: OutboxErrorDetails) {
    // In the message as well: at compatibility dates before 2026-04-21 an error that goes through a stub loses its properties.
    super(`${told(message)} (${code})`, cause === undefined ? undefined : { cause });
    this.code = code;
    Object.assign(this, details);
  }
}

/**
 * A `TypeError` that names the argument, what was expected and what it got.
 *
 * @param end the end of the sentence: a reason, or what to do
 */
export function expected(argument: string, expectation: string, got: unknown, cause?: unknown, end = "."): TypeError {
  return new TypeError(told(`Expected \`${argument}\` to be ${expectation}, got ${shown(got)}${end}`), { cause });
}

/** The value that was passed, for a person to read: a short value itself, and otherwise its kind. */
function shown(got: unknown): string {
  if (typeof got === "string") return JSON.stringify(cut(got, 60));
  if (typeof got === "function") return "a function";
  if (Object(got) !== got) return String(got);
  const kind = kindOf(got);
  if (kind === "Promise") return "a promise (is an `await` missing?)";
  return `${/^[AEIO]/.test(kind) ? "an" : "a"} ${kind === "Object" || kind === "Array" ? kind.toLowerCase() : kind}`;
}

/** The built-in kind of an object: `"Object"` for a plain one, and for an instance of a class. */
export function kindOf(value: unknown): string {
  try {
    return Object.prototype.toString.call(value).slice(8, -1);
  } catch {
    // A revoked one.
    return "Proxy";
  }
}

const PREFIX = "[do-transactional-outbox] ";

/** Puts the package's name in front, once, so that a log line says where the error comes from. */
export function told(message: string): string {
  return PREFIX + message.replaceAll(PREFIX, "");
}

/** The first `length` UTF-16 units, or one less if the cut would leave half of a surrogate pair. */
export function cut(text: string, length: number): string {
  const last = text.length > length ? text.charCodeAt(length - 1) : 0;
  return text.slice(0, last >= 0xd800 && last < 0xdc00 ? length - 1 : length);
}

/** The longest error that is stored with a message, in UTF-16 units. */
const ERROR_LENGTH = 500;

/** An error, or whatever was thrown instead, as a string that is short enough to be stored. */
export function textOf(error: unknown): string {
  try {
    // The text around it names the package, if anything does.
    const message = String((error as Error | null | undefined)?.message ?? error ?? "").replaceAll(PREFIX, "");
    const text = cut(message, ERROR_LENGTH);
    // Control characters take six as JSON, and every row has room for half as many.
    return JSON.stringify(text).length > 3 * ERROR_LENGTH ? cut(text, ERROR_LENGTH / 2) : text;
  } catch {
    return "An error without a message.";
  }
}
