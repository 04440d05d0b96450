/** The errors of the outbox: one class, matched by its `code`, and the form in which programmer's mistakes are told. */

/**
 * What went wrong, as a stable word.
 *
 * - `message_too_large`: the message does not fit in one stored value of this object's backend.
 * - `key_too_large`: a key is longer than this object's backend allows.
 * - `reserved_key`: a key begins with U+10FFFF, the range in which the outbox keeps its rows.
 * - `timeout`: `sendMessages` did not settle within `timeoutSeconds`.
 * - `send_messages_missing`: the running class has no `sendMessages`; messages stay stored until one is deployed.
 */
export type OutboxErrorCode = "message_too_large" | "key_too_large" | "reserved_key" | "timeout" | "send_messages_missing";

/**
 * Something that can go wrong while a correct program runs.
 *
 * Match it by `code`, never by text and never by `instanceof` across RPC: an error that crosses RPC keeps its own
 * properties only where the runtime is told to serialise them.
 */
export class OutboxError extends Error {
  readonly code: OutboxErrorCode;

  constructor(code: OutboxErrorCode, message: string, options?: ErrorOptions) {
    super(told(message), options);
    this.name = "OutboxError";
    this.code = code;
  }
}

/** A `TypeError` that names the argument, what was expected and what was got. */
export function expected(argument: string, expectation: string, got: unknown, cause?: unknown): TypeError {
  return new TypeError(
    told(`Expected \`${argument}\` to be ${expectation}, got ${shown(got)}.`),
    cause === undefined ? undefined : { cause },
  );
}

/** Puts the package's name in front, so that a log line says whose error it is. */
export function told(message: string): string {
  return `[do-transactional-outbox] ${message}`;
}

/** A value as an error shows it: short, and safe for every type. */
function shown(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (typeof value === "function") return "a function";
  if (typeof value === "object" && value !== null) return Array.isArray(value) ? "an array" : "an object";
  return String(value);
}
