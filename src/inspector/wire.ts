/** What the page and its JSON API speak of: plain data, and types that know nothing of the runtime, so that the page's own script can use them. */

/** Every action of the inspector. */
export const INSPECTOR_ACTIONS = ["flush", "pause", "resume", "retry", "cancel", "redrive", "discard", "drop", "rewind"] as const;

/** What a person may do to an object. */
export type InspectorAction = (typeof INSPECTOR_ACTIONS)[number];

/** One action on one object. Where `destination` may be left out, that means all of them. */
export type InspectorCommand =
  | { readonly action: "flush" | "pause" | "resume"; readonly destination?: string }
  /** Messages are `retry`: due at once; `cancel`: withdrawn; `discard`: dead letters deleted. Up to 1,000 ids. */
  | { readonly action: "retry" | "cancel" | "discard"; readonly destination: string; readonly ids: readonly string[] }
  /** Without `ids`: all dead letters, of one destination or of all. */
  | { readonly action: "redrive"; readonly destination?: string; readonly ids?: readonly string[] }
  /** A destination that the class does not have any more. `deadLetters`: what it has yet to get becomes its dead letters. */
  | { readonly action: "drop"; readonly destination: string; readonly deadLetters: boolean }
  /** The destination gets again what the log has kept from this position on. */
  | { readonly action: "rewind"; readonly destination: string; readonly to: number };

/** What has become of a command. A message that another person has dealt with meanwhile is no error: it is counted in `gone`. */
export interface InspectorOutcome {
  readonly action: InspectorAction;
  /** How many messages it has changed; of `pause` and `resume` how many destinations; of `flush` by how many fewer messages wait. */
  readonly count: number;
  /** How many of the named messages were not in the state that the action needs: delivered, dealt with, or being handed over. */
  readonly gone: number;
  /** It has begun, and goes on: a `flush` that takes long. */
  readonly running?: true;
}

/** The state of messages, as `list` has it. */
export type InspectorState = "pending" | "delayed" | "dead";

/** One destination. The numbers are those of `stats()`. */
export interface InspectorDestination {
  readonly name: string;
  /** The position in the log up to which it has got everything, but for what is set aside. */
  readonly position: number;
  readonly pending: number;
  readonly delayed: number;
  readonly scheduled: number;
  readonly blocked: number;
  readonly held: number;
  readonly dead: number;
  readonly deadDeleted: number;
  readonly oldestAgeSeconds: number;
  readonly nextAttemptAt: number | null;
  readonly breaker: "closed" | "open";
  readonly failures: number;
  readonly error?: string;
  readonly paused: boolean;
  readonly missing?: true;
  readonly leased?: number;
  /** The types that it takes: `null` is every message. */
  readonly types: readonly string[] | null;
}

/** The state of an object at a moment. Times are in milliseconds since the Unix epoch. */
export interface InspectorOverview {
  readonly id: string;
  readonly name?: string;
  /** The object's clock. */
  readonly now: number;
  /** The position of the last message that was put. */
  readonly position: number;
  readonly destinations: readonly InspectorDestination[];
  /** The log, where it is retained: the positions of its first and last message, and about how many bytes it takes. */
  readonly log?: { readonly first: number; readonly last: number; readonly bytes: number };
  /** When the object's own alarm is set for, and when the outbox wakes next: `null` for not at all. */
  readonly alarm: { readonly own: number | null; readonly outbox: number | null };
}

/** A value as text. */
export interface ShownValue {
  readonly text: string;
  /** Present where something was left out, and says what is shown. */
  readonly cut?: string;
}

/** A message as the page shows it. */
export interface ShownMessage {
  readonly id: string;
  readonly sequence: number;
  /** In the log alone. */
  readonly position?: number;
  /** Its `msg.type`, if that is a string. */
  readonly type?: string;
  readonly timestamp: number;
  readonly attempts?: number;
  readonly version?: number;
  readonly key?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly payload: ShownValue;
  readonly deliverAt?: number;
  readonly error?: string;
  readonly reason?: string;
  readonly firstFailedAt?: number;
  readonly lastFailedAt?: number;
  readonly holdsKey?: true;
}

/** `GET ?api=start`: what the page needs to know of the one who looks at it. */
export interface StartAnswer {
  readonly namespaces: readonly string[];
  readonly actions: readonly InspectorAction[];
  readonly fleet: boolean;
}

/** `GET ?api=messages` */
export interface MessagesAnswer {
  readonly messages: readonly ShownMessage[];
  /** Whether there may be more: ask with the last one's id as `after`. */
  readonly more: boolean;
}

/** `GET ?api=log` */
export interface LogAnswer {
  readonly messages: readonly ShownMessage[];
  /** Where the next page begins; left out where there is none. */
  readonly next?: number;
  readonly earliest: number;
}

/** What every answer with a status from 400 on holds. */
export interface ErrorAnswer {
  readonly error: { readonly code: string; readonly message: string };
}
