/** Reporting: adds to each event where it happened, calls the listener, and logs on one line what nobody should have to listen for. */

import { textOf, told } from "./errors.js";
import type { Emit, OutboxEvent } from "./events.js";

/** How many lines of one kind an object writes at once, and then the milliseconds for each further one. */
const LINES = 5;
const LINE_MS = 60_000;
/** The same for all objects of the isolate together. */
const ALL_LINES = 100;
const ALL_LINE_MS = 1000;

/** Whether a line may be written. */
type Limit = () => boolean;

function limitOf(lines: number, lineMs: number): Limit {
  let left = lines;
  let at = Date.now();
  return () => {
    const now = Date.now();
    const more = Math.floor((now - at) / lineMs);
    // A clock that was set back adds none.
    if (more !== 0) [left, at] = [Math.min(lines, left + Math.max(0, more)), now];
    return left > 0 && left-- > 0;
  };
}

const isolate: Limit = limitOf(ALL_LINES, ALL_LINE_MS);

/** Writes lines of one kind, and says how many were left out. */
export type Log = (what: string, cause: string, about: object, next: string) => void;

export function logOf(level: "warn" | "error", lines: number = LINES): Log {
  const allowed = limitOf(lines, LINE_MS);
  let omitted = 0;
  return (what, cause, about, next) => {
    if (!allowed() || !isolate()) {
      omitted++;
      return;
    }
    const names = Object.entries(about).flatMap(([name, value]) => (value === undefined ? [] : `${name}=${JSON.stringify(value)}`));
    // Whatever the cause says, it stays on the line, and the package is named once.
    const why = cause
      .replaceAll(told(""), "")
      .replace(/[\s\p{Cc}]+/gu, " ")
      .trim()
      .replace(/\.$/, "");
    const rest = omitted > 0 ? ` ${omitted} more since the last line of this kind.` : "";
    omitted = 0;
    const parts = [`${what}: ${why || "no reason was given"}`, names.join(" "), next].filter(Boolean);
    console[level](told(parts.join(". ") + rest));
  };
}

/**
 * Calls the listener. What it throws never reaches the outbox: a failing listener must not turn a stored message into a failed put.
 */
export function notify<E extends object>(listener: ((event: E) => unknown) | undefined, event: E): void {
  if (!listener) return;
  // Not enumerable, so that the event stays plain data.
  if ("cause" in event) Object.defineProperty(event, "toJSON", { value: () => ({ ...event, cause: plain(event.cause) }) });
  void (async () => {
    try {
      await listener(event);
    } catch {}
  })();
}

/** A thrown value as JSON can represent it, including the parts of an error that JSON would leave out. */
function plain(thrown: unknown): unknown {
  const seen = new Set<unknown>();
  const readable = (_: string, value: unknown): unknown => {
    if (value === null || typeof value === "string" || typeof value === "boolean" || Number.isFinite(value)) return value;
    if (Object(value) !== value || typeof value === "function" || seen.has(value)) return value === undefined ? value : String(value);
    seen.add(value);
    const { name, message, stack, cause, errors } = value as { [name: string]: unknown };
    return typeof message === "string" ? { name, message, stack, cause, errors, ...(value as object) } : value;
  };
  try {
    return JSON.parse(JSON.stringify(thrown, readable));
  } catch {
    return textOf(thrown);
  }
}

function waitingOf({ waiting }: { readonly waiting: number }): string {
  return `${waiting} message${waiting === 1 ? " is" : "s are"} waiting`;
}

/** The emitter of one object's outbox. */
export function emitterOf(object: string, listener: ((event: OutboxEvent) => unknown) | undefined, now: () => number): Emit {
  const warn = logOf("warn");
  const error = logOf("error");
  const secondsTo = (time: number): number => Math.max(0, Math.ceil((time - now()) / 1000));

  function log(event: OutboxEvent): void {
    const { destination, id, key, messageType: type, attempts, row } = event as { [name: string]: unknown };
    const about = { object, destination, id, key, type, attempts, row };
    if (event.type === "breaker_opened") {
      const next = `${waitingOf(event)}; the next attempt is in ${secondsTo(event.retryAt)} s. Fix the destination, or call flush() to try now.`;
      warn("Delivery failed", event.error, about, next);
    } else if (event.type === "paused") {
      error("Delivery is paused", event.error, about, `${waitingOf(event)}, none is lost. Fix the destination, then call resume().`);
    } else if (event.type === "failed" && event.ids.length === 0) {
      warn("sendMessages failed", event.error, about, "Every message already had its outcome.");
    } else if (event.type === "retried" && event.attempts === 1) {
      const next = `Its next attempt is in ${secondsTo(event.retryAt)} s; other messages go on.`;
      warn("A message failed", event.error, about, next);
    } else if (event.type === "version_ahead") {
      const next = `It is looked at again in ${secondsTo(event.retryAt)} s; other messages go on. Deploy the version that knows it.`;
      warn("A message is newer than this deployment", event.error, about, next);
    } else if (event.type === "dead") {
      const next = "Fix the cause, then call redrive() to send it again, or discard() to delete it.";
      error(`A message became a dead letter (${event.reason})`, event.error, about, next);
    } else if (event.type === "skipped") {
      warn("A message was skipped", event.error, about, "It is done, and does not come again.");
    } else if (event.type === "dead_letters_deleted") {
      const { ids, limit, dead } = event;
      const cause = `${ids.length} by deadLetters.${limit}, the first is ${ids[0]}`;
      warn("Dead letters were deleted", cause, about, `${dead} ${dead === 1 ? "is" : "are"} left.`);
    } else if (event.type === "dead_message_failed") {
      error("deadMessage failed", event.error, about, "Nothing that it wrote is kept. The message is a dead letter all the same.");
    } else if (event.type === "destination_missing") {
      const waiting = `${event.waiting} message${event.waiting === 1 ? "" : "s"} and ${event.dead} dead letter${event.dead === 1 ? "" : "s"}`;
      const next = `${waiting} of it are kept. Bring it back, name it in formerly of another, or call dropDestination().`;
      warn("A destination is missing", "the class does not have it any more", about, next);
    } else if (event.type === "unreadable") {
      error("A stored row can't be read", event.error, about, "It is kept as it is and passed over.");
    }
  }

  return (occurrence) => {
    const event: OutboxEvent = { object, ...occurrence };
    log(event);
    notify(listener, event);
  };
}
