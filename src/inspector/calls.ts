/** What the inspector asks of an object, and what the object answers: plain data that travels over RPC. */

import type { OutboxDeadLetter, OutboxListed } from "../api/message.js";
import type { OutboxLogPage } from "../operate/log.js";
import type { OutboxStats } from "../operate/stats.js";

/** Every action of the inspector. */
export const INSPECTOR_ACTIONS = ["flush", "pause", "resume", "retry", "cancel", "redrive", "discard", "drop", "rewind"] as const;

/** What a person may do to an object. */
export type InspectorAction = (typeof INSPECTOR_ACTIONS)[number];

/** One action on one object. `destination` left out means all of them, where that makes sense. */
export type InspectorCommand =
  | { readonly action: "flush" | "pause" | "resume"; readonly destination?: string }
  /** Makes delayed messages due at once, whether they wait for their own time or for a backoff. */
  | { readonly action: "retry"; readonly destination: string; readonly ids: readonly string[] }
  | { readonly action: "cancel"; readonly destination: string; readonly ids: readonly string[] }
  /** Without `ids`: all dead letters, of one destination or of all. */
  | { readonly action: "redrive"; readonly destination?: string; readonly ids?: readonly string[] }
  | { readonly action: "discard"; readonly destination: string; readonly ids: readonly string[] }
  | { readonly action: "drop"; readonly destination: string; readonly deadLetters: boolean }
  | { readonly action: "rewind"; readonly destination: string; readonly to: number };

/** What has become of a command. A message that somebody else has dealt with meanwhile is no error: it is counted in `gone`. */
export interface InspectorOutcome {
  readonly action: InspectorAction;
  /** How many messages it has changed; 0 for `flush`, `pause` and `resume`. */
  readonly count: number;
  /** How many of the given messages were not in the state that the action needs: delivered, dealt with, or being handed over. */
  readonly gone: number;
}

/** What the inspector asks of an object. */
export type InspectorQuestion =
  | { readonly read: "overview" }
  | {
      readonly read: "messages";
      readonly state: "pending" | "delayed" | "dead";
      readonly destination?: string;
      readonly limit?: number;
      readonly after?: string;
    }
  | { readonly read: "log"; readonly from?: number; readonly direction?: "forward" | "backward"; readonly limit?: number }
  | InspectorCommand;

/** The state of an object at a moment. */
export interface InspectorOverview {
  readonly id: string;
  readonly name?: string;
  /** The object's clock, in milliseconds since the Unix epoch. */
  readonly now: number;
  readonly stats: OutboxStats;
  /** When the object's own alarm is set for, and when the outbox wakes next. */
  readonly alarm: { readonly own: number | null; readonly outbox: number | null };
}

/** A page of messages. */
export interface InspectorMessages {
  readonly messages: readonly (OutboxListed | OutboxDeadLetter)[];
  /** Whether there may be more: ask with `after`. */
  readonly more: boolean;
}

/** The answer to a question. What went wrong is an answer as well: errors lose their properties on older compatibility dates. */
export type InspectorAnswer =
  | { readonly ok: true; readonly overview: InspectorOverview }
  | { readonly ok: true; readonly page: InspectorMessages }
  | { readonly ok: true; readonly log: OutboxLogPage }
  | { readonly ok: true; readonly outcome: InspectorOutcome }
  | { readonly ok: false; readonly error: string; readonly code?: string };

/** What a class wrapped with `withInspector()` offers over RPC. */
export interface InspectedObject {
  inspectOutbox(question: InspectorQuestion): Promise<InspectorAnswer>;
}
