/** The options of `withTransactionalInbox`: their meaning, their defaults and their checks. */

import { expected } from "../errors.js";
import { within } from "../options.js";
import type { Rules } from "./verdict.js";

/** Options of `withTransactionalInbox`, all optional. */
export interface InboxOptions<B extends string = string> {
  /** The name under which the manager stands in the object's `env`. Default `"INBOX_MANAGER"`. */
  binding?: B;
  /**
   * Process the messages of a sender in the order of their numbers, from 1: one that comes early is stored and waits for those before it.
   * For senders that send every message here. Default false.
   */
  ordered?: boolean;
  /** So many messages of a sender may wait; one more is refused with `inbox_full`. Default 100, from 1 to 10,000. */
  maxWaiting?: number;
  /** How long an `id` without a number is remembered, in seconds. Default 1,209,600 (14 days), from 1 to 315,360,000. */
  retentionSeconds?: number;
  /** So many ids without a number are remembered; one more is refused with `inbox_full`. Default 100,000, from 1 to 10,000,000. */
  maxIds?: number;
  /** Told of what came in. What it throws is ignored. */
  onEvent?: (event: InboxEvent) => void;
}

/** What an inbox tells. */
export type InboxEvent =
  | { readonly type: "processed" | "duplicate" | "waiting"; readonly id: string }
  /** A message came before its predecessor. */
  | { readonly type: "gap"; readonly id: string; readonly source: string; readonly expected: number; readonly got: number }
  /** The handler threw, or the message could not be taken. It leaves no mark. */
  | { readonly type: "failed"; readonly id: string; readonly error: unknown };

/** The options with every default filled in. */
export interface InboxSettings extends Rules {
  readonly binding: string;
  readonly maxIds: number;
  readonly emit: (event: InboxEvent) => void;
}

/** @throws TypeError that names the option, when one is unknown or out of range. */
export function inboxSettings(options: InboxOptions = {}): InboxSettings {
  if (Object(options) !== options) throw expected("options", "an object", options);
  const { binding = "INBOX_MANAGER", ordered = false, maxWaiting, retentionSeconds, maxIds, onEvent, ...unknown } = options;
  for (const name of Object.keys(unknown)) throw expected("options", "an object of inbox options", name);
  if (typeof binding !== "string" || !binding) throw expected("options.binding", "a name", binding);
  if (typeof ordered !== "boolean") throw expected("options.ordered", "a boolean", ordered);
  if (onEvent !== undefined && typeof onEvent !== "function") throw expected("options.onEvent", "a function", onEvent);
  return {
    binding,
    ordered,
    maxWaiting: within("options.maxWaiting", maxWaiting, [100, 1, 10_000, 1]),
    retentionSeconds: within("options.retentionSeconds", retentionSeconds, [1_209_600, 1, 315_360_000]),
    maxIds: within("options.maxIds", maxIds, [100_000, 1, 10_000_000, 1]),
    emit(event) {
      try {
        onEvent?.(event);
      } catch {
        // Whoever listens must not change what happens.
      }
    },
  };
}
