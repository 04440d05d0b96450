/** What the inspector asks of an object, and what the object answers: plain data that travels over RPC. */

import { expected } from "../api/errors.js";
import { known } from "../api/known.js";
import type { OutboxDeadLetter, OutboxListed } from "../api/message.js";
import { within } from "../api/within.js";
import type { OutboxLogPage } from "../operate/log.js";
import { INSPECTOR_ACTIONS, type InspectorCommand, type InspectorOutcome, type InspectorOverview, type InspectorState } from "./wire.js";

/** What the inspector wants to know of an object. */
export type InspectorQuery =
  | { readonly read: "overview" }
  | {
      readonly read: "messages";
      readonly state: InspectorState;
      readonly destination: string;
      readonly limit?: number;
      readonly after?: string;
    }
  | { readonly read: "message"; readonly destination: string; readonly id: string }
  | { readonly read: "log"; readonly from?: number; readonly direction?: "forward" | "backward"; readonly limit?: number };

export type InspectorQuestion = InspectorQuery | InspectorCommand;

export type InspectedMessage = OutboxListed | OutboxDeadLetter;

/** A page of messages. */
export interface InspectorMessages {
  readonly messages: readonly InspectedMessage[];
  /** Whether there may be more: ask with the last one's id as `after`. */
  readonly more: boolean;
}

/** The answer to a question. What went wrong is an answer as well, because errors lose their properties at older compatibility dates. */
export type InspectorAnswer =
  | { readonly ok: true; readonly overview: InspectorOverview }
  | { readonly ok: true; readonly page: InspectorMessages }
  | { readonly ok: true; readonly message: InspectedMessage | null }
  | { readonly ok: true; readonly log: OutboxLogPage }
  | { readonly ok: true; readonly outcome: InspectorOutcome }
  | { readonly ok: false; readonly code: InspectorErrorCode; readonly error: string };

/**
 * Why there is no answer. `"invalid"`: the question is wrong. `"gone"`: what it is about is not there any more. `"no_outbox"`: the class has none.
 * `"failed"`: the object says why.
 */
export type InspectorErrorCode = "invalid" | "gone" | "no_outbox" | "failed";

/** What a class wrapped with `withInspector()` offers over RPC. */
export interface InspectedObject {
  /**
   * Answers what the inspector asks, and does what it is told. Rejects with nothing that the question could cause. It is an `InspectorAnswer`, which is too
   * much for the types of RPC stubs: they follow all of it, in each class that has the method.
   */
  inspectOutbox(question: InspectorQuestion): Promise<{ readonly ok: boolean }>;
}

/** The most ids of one command. */
const MOST_IDS = 1000;
/** The longest name of a destination, and the longest id, in UTF-16 units. */
const NAME_LENGTH = 256;
/** The most messages of a page. */
export const PAGE = 50;

const STATES = ["pending", "delayed", "dead"];

/** What may stand beside `action` and `read`. */
const FIELDS: Readonly<Record<string, readonly string[]>> = {
  flush: ["destination"],
  pause: ["destination"],
  resume: ["destination"],
  retry: ["destination", "ids"],
  cancel: ["destination", "ids"],
  discard: ["destination", "ids"],
  redrive: ["destination", "ids"],
  drop: ["destination", "deadLetters"],
  rewind: ["destination", "to"],
  overview: [],
  messages: ["state", "destination", "limit", "after"],
  message: ["destination", "id"],
  log: ["from", "direction", "limit"],
};

/** Those that may leave the destination out. */
const FOR_ALL = ["flush", "pause", "resume", "redrive", "overview", "log"];

/** A question that came from outside, checked and copied. @throws TypeError that names what is wrong with it. */
export function questionOf(given: unknown): InspectorQuestion {
  const { action, read } = Object(given) as { action?: unknown; read?: unknown };
  const isCommand = action !== undefined;
  const name = isCommand ? action : read;
  const isKnown = typeof name === "string" && (INSPECTOR_ACTIONS as readonly string[]).includes(name) === isCommand;
  const fields = isKnown && Object.hasOwn(FIELDS, name) ? FIELDS[name] : undefined;
  if (!fields) throw expected("action", `one of ${INSPECTOR_ACTIONS.join(", ")}`, name);
  const question = known(String(name), given as Record<string, unknown>, [isCommand ? "action" : "read", ...fields]);
  const checked: Record<string, unknown> = { [isCommand ? "action" : "read"]: name };
  for (const field of fields) {
    const value = checkedField(name as string, field, question[field]);
    if (value !== undefined) checked[field] = value;
  }
  return checked as unknown as InspectorQuestion;
}

/** The same for an action alone. */
export function commandOf(given: unknown): InspectorCommand {
  const question = questionOf(given);
  if (!("action" in question)) throw expected("action", `one of ${INSPECTOR_ACTIONS.join(", ")}`, undefined);
  return question;
}

function checkedField(name: string, field: string, value: unknown): unknown {
  switch (field) {
    case "destination":
      return value === undefined && FOR_ALL.includes(name) ? undefined : named(field, value);
    case "id":
      return named(field, value);
    case "after":
      return value === undefined ? undefined : named(field, value);
    case "ids":
      return value === undefined && name === "redrive" ? undefined : idsOf(value);
    case "state":
      if (STATES.includes(value as string)) return value;
      throw expected(field, '"pending", "delayed" or "dead"', value);
    case "direction":
      if (value === undefined || value === "forward" || value === "backward") return value;
      throw expected(field, '"forward" or "backward"', value);
    case "deadLetters":
      if (typeof value === "boolean") return value;
      throw expected(field, "a boolean", value);
    case "to":
      if (value === undefined) throw expected(field, "a position", value);
      return within(field, value, [0, 1, Number.MAX_SAFE_INTEGER, 1]);
    case "from":
      return value === undefined ? undefined : within(field, value, [0, 0, Number.MAX_SAFE_INTEGER, 1]);
    default:
      return within(field, value, [PAGE, 1, PAGE, 1]);
  }
}

function named(field: string, value: unknown): string {
  if (typeof value === "string" && value.length > 0 && value.length <= NAME_LENGTH) return value;
  throw expected(field, `a string of 1 to ${NAME_LENGTH} characters`, value);
}

function idsOf(value: unknown): string[] {
  const ids = Array.isArray(value) && value.length > 0 && value.length <= MOST_IDS ? [...value] : undefined;
  if (!ids) throw expected("ids", `a list of 1 to ${MOST_IDS} ids`, value);
  return [...new Set(ids.map((id) => named("ids", id)))];
}
