/** The options of `withTransactionalInbox`: their meaning, their defaults and their checks. */

import { expected } from "../api/errors.js";
import type { EventError, EventMessage } from "../api/events.js";
import { known } from "../api/known.js";
import type { MessageSchemas } from "../api/messages.js";
import { type Schemas, schemasOf } from "../api/schemas.js";
import { within } from "../api/within.js";
import type { Rules } from "./verdict.js";

/** Options of `withTransactionalInbox`, all optional. */
export interface InboxOptions<B extends string = string, S extends MessageSchemas = MessageSchemas> {
  /** The manager's name in the object's `env`. Default `"INBOX_MANAGER"`. */
  binding?: B;
  /**
   * Process the messages of a sender in the order of their numbers, from 1: one that arrives early is stored and waits for those before it. For
   * senders that send every message here. Default false.
   */
  ordered?: boolean;
  /** How many messages of a sender may wait; one more is rejected with `inbox_full`. Default 100, from 1 to 10,000. */
  maxWaiting?: number;
  /** How long an `id` without a number is remembered, in seconds. Default 1,209,600 (14 days), from 1 to 315,360,000. */
  retentionSeconds?: number;
  /** How many ids without a number are remembered; one more is rejected with `inbox_full`. Default 100,000, from 1 to 10,000,000. */
  maxIds?: number;
  /**
   * Schemas of the messages that arrive, by `msg.type`: see `MessageSchemas`. A message is brought to the current version and checked before its handler
   * runs, which gets the schema's output. One that is invalid, or whose type is not declared, fails with the schema's issues; one in a newer version fails
   * until a deployment knows it; one without a type is not checked. Default: messages are not checked.
   */
  messages?: S;
  /** Called for each message that arrives. What it throws is ignored. */
  onEvent?: (event: InboxEvent) => void;
}

/** What an inbox reports. `object` is the object's name, if the platform knows it, and otherwise its id. */
export type InboxEvent = { readonly object: string } & InboxOccurrence;

/** The same without the object. */
export type InboxOccurrence = EventMessage &
  (
    | { readonly type: "processed" | "duplicate" | "waiting" }
    /** A message arrived before its predecessor. */
    | { readonly type: "gap"; readonly source: string; readonly expected: number; readonly got: number }
    /** The handler threw or rolled back, or the message could not be accepted. It leaves no mark. */
    | ({ readonly type: "failed" } & EventError)
  );

/** The options with every default filled in. */
export interface InboxSettings extends Rules {
  readonly binding: string;
  readonly maxIds: number;
  /** `null`: messages are not checked. */
  readonly schemas: Schemas | null;
  readonly onEvent: InboxOptions["onEvent"] | undefined;
}

const OPTIONS = ["binding", "ordered", "maxWaiting", "retentionSeconds", "maxIds", "messages", "onEvent"];

/** @throws TypeError that names the option, when one is unknown or out of range. */
export function inboxSettings(options: InboxOptions = {}): InboxSettings {
  const {
    binding = "INBOX_MANAGER",
    ordered = false,
    maxWaiting,
    retentionSeconds,
    maxIds,
    messages,
    onEvent,
  } = known("options", options, OPTIONS);
  if (typeof binding !== "string" || !binding) throw expected("options.binding", "a name", binding);
  if (typeof ordered !== "boolean") throw expected("options.ordered", "a boolean", ordered);
  if (onEvent !== undefined && typeof onEvent !== "function") throw expected("options.onEvent", "a function", onEvent);
  return {
    binding,
    ordered,
    maxWaiting: within("options.maxWaiting", maxWaiting, [100, 1, 10_000, 1]),
    retentionSeconds: within("options.retentionSeconds", retentionSeconds, [1_209_600, 1, 315_360_000]),
    maxIds: within("options.maxIds", maxIds, [100_000, 1, 10_000_000, 1]),
    schemas: messages === undefined ? null : schemasOf("options.messages", messages),
    onEvent,
  };
}
