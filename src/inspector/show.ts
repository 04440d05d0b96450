/** Messages as the page shows them: redacted first, then as text. */

import { kindOf } from "../api/errors.js";
import { typeOf } from "../api/events.js";
import type { OutboxDeadLetter, OutboxListed, OutboxMessage } from "../api/message.js";
import type { OutboxLogMessage } from "../operate/log.js";
import { encode } from "./encode.js";
import type { ShownMessage } from "./wire.js";

/** A message on its way to the page: what of it may hold what not everyone should see. */
export interface RedactableMessage {
  readonly namespace: string;
  /** The name of the destination; left out in the log. */
  readonly destination?: string;
  readonly id: string;
  readonly msg: unknown;
  readonly key?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** The last error of the message. */
  readonly error?: string;
}

/** What the page shows in place of it. What is left out is not shown. */
export type RedactedMessage = Partial<Pick<RedactableMessage, "msg" | "key" | "headers" | "error">>;

/** Called for each message before anything of it is shown. It gets a copy, which it may change and return. */
export type Redact = (message: RedactableMessage) => RedactedMessage;

/** So many characters of a payload are in a list, and so many where one message is asked for. */
export const LIST_LIMIT = 2000;
export const MESSAGE_LIMIT = 200_000;

type Given = OutboxMessage | OutboxListed | OutboxDeadLetter | OutboxLogMessage;

/** A message as the page shows it. */
export function show(given: Given, namespace: string, redact: Redact | undefined, limit: number): ShownMessage {
  const { id, msg, sequence, timestamp, key, headers, version, ...rest } = given as OutboxDeadLetter & OutboxListed & OutboxLogMessage;
  const { position, attempts, deliverAt, error, reason, firstFailedAt, lastFailedAt, holdsKey, destination } = rest;
  const visible = redacted({ namespace, id, msg, ...present({ destination, key, headers, error }) }, redact);
  const isHidden = !("msg" in visible);
  const type = isHidden ? undefined : typeOf(visible.msg);
  return {
    id,
    sequence,
    timestamp,
    payload: isHidden ? { text: "", cut: "nothing: redact() has hidden it" } : encode(visible.msg, limit),
    ...present({ position, attempts, version, deliverAt, reason, firstFailedAt, lastFailedAt, holdsKey, type }),
    ...present({ key: visible.key, headers: visible.headers, error: visible.error }),
  };
}

/** Whatever goes wrong in `redact`, what it should have hidden is not shown. */
function redacted(message: RedactableMessage, redact: Redact | undefined): RedactedMessage {
  if (!redact) return message;
  try {
    const visible = redact(message);
    return kindOf(visible) === "Object" ? visible : {};
  } catch {
    return {};
  }
}

/** Without what is `undefined`. */
function present<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as never;
}
