/** What is stored with a message, beside the message itself. */

import type { DeadReason } from "./events.js";

/** What goes with a message, as far as it is not the usual. Durations are over once this is made: times are milliseconds since the Unix epoch. */
export interface MessageMeta {
  /** The caller's own id. */
  id?: string;
  /** The caller's own id, which names this message from now on: another one with that id was in the hands of `sendMessages`. */
  as?: string;
  /** The version of its type in which it is stored, unless that is 1. */
  version?: number;
  key?: string;
  headers?: Record<string, string>;
  /** Not handed over before this. */
  due?: number;
  /** When it could first be handed over, where that was its own time and a backoff has taken its place since. */
  from?: number;
  /** Not handed over from this on. */
  expires?: number;
  /** How often it was handed over. Only outside the queue: there, the header tells. */
  attempts?: number;
  /** How often it has failed by itself, and not with its batch. */
  tries?: number;
  /** It has been found to break its batch, and is handed over alone. */
  alone?: true;
  /** How often the isolate died while it was handed over alone. */
  deaths?: number;
  /** Of a dead letter: later messages of its key wait for it. */
  holds?: true;
  error?: string;
  /** Of a dead letter, or of a message that is about to become one. */
  reason?: DeadReason;
  first?: number;
  last?: number;
}
