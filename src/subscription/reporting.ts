/** What delivery reports of messages: their events, and what those say of each. */

import { textOf } from "../api/errors.js";
import { type EventError, type EventMessage, eventMessage, type Occurrence } from "../api/events.js";
import { identify, payloadOf } from "../storage/message.js";
import type { Entry } from "./batch.js";

export function idOf({ stream, position, more }: Entry): string {
  return identify(stream, position, more.id).id;
}

/** What went wrong, as events have it. */
export function failure(cause: unknown): EventError {
  return { error: textOf(cause), ...(cause !== undefined && { cause }) };
}

/** What events say of a message. What user code has had in hand is read again. */
export function about(entry: Entry): EventMessage {
  return eventMessage(idOf(entry), entry.more.key, entry.given ? payloadOf(entry.stored) : entry.msg);
}

/** What the fates of these messages tell an operator. `all`: also what went well. */
export function eventsOf(destination: string, entries: Entry[], all: boolean): Occurrence[] {
  const events: Occurrence[] = [];
  const delivered: string[] = [];
  const aside: string[] = [];
  for (const entry of entries) {
    const { fate, more, cause } = entry;
    if (fate === "gone") {
      if (cause !== undefined) events.push({ type: "skipped", destination, ...about(entry), ...failure(cause) });
      else if (all) delivered.push(idOf(entry));
      continue;
    }
    const { attempts = 0, error = "", due = 0, reason } = more;
    const failed = { destination, attempts, error, ...(cause !== undefined && { cause }) };
    if (fate === "dead" && reason) events.push({ type: "dead", ...about(entry), reason, ...failed });
    else if (fate === "aside" && more.last && entry.attempts && !reason)
      events.push({ type: "retried", ...about(entry), retryAt: due, ...failed });
    else if (all && fate === "aside") aside.push(idOf(entry));
  }
  if (aside.length > 0) events.unshift({ type: "set_aside", destination, ids: aside });
  if (delivered.length > 0) events.unshift({ type: "delivered", destination, ids: delivered });
  return events;
}
