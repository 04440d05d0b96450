/** The errors of the outbox: one class, matched by its `code`, and the form in which programmer's mistakes are told. */

/**
 * What went wrong, as a stable word.
 *
 * - `too_large`: the message, a key or a value does not fit in what this object's backend stores.
 * - `reserved_key`: a key begins with U+10FFFF, the range in which the outbox keeps its rows.
 * - `unsupported`: this object, or the state in which it is, does not have what was called: `transactionSync` on a KV-backed one, say.
 * - `outbox_full`: `maxPending` messages wait already; nothing was written.
 * - `inbox_full`: an inbox remembers or holds as much as it may; nothing was written, and the sender should send again later.
 * - `timeout`: `sendMessages` did not settle within `timeoutSeconds`.
 * - `send_messages_missing`: the running class has no `sendMessages`; messages stay stored until one is deployed.
 */
export type OutboxErrorCode =
  | "too_large"
  | "reserved_key"
  | "unsupported"
  | "outbox_full"
  | "inbox_full"
  | "timeout"
  | "send_messages_missing";

/**
 * Something that can go wrong while a correct program runs. Match it by `code`, never by text and never by
 * `instanceof`, which does not survive RPC.
 */
export class OutboxError extends Error {
  override readonly name: string = "OutboxError";
  readonly code: OutboxErrorCode;

  constructor(code: OutboxErrorCode, message: string) {
    super(told(message));
    this.code = code;
  }
}

/** A `TypeError` that names the argument, what was expected and what was got. */
export function expected(argument: string, expectation: string, got: unknown, cause?: unknown): TypeError {
  const shown = typeof got === "string" ? JSON.stringify(got.slice(0, 60)) : Object(got) === got ? typeof got : String(got);
  return new TypeError(told(`Expected \`${argument}\` to be ${expectation}, got ${shown}.`), { cause });
}

/** Puts the package's name in front, so that a log line says whose error it is. */
export function told(message: string): string {
  return `[do-transactional-outbox] ${message}`;
}
