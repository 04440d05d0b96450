/** Messages as user code sees them, and the outcomes that it reports for them. */

import type { DeadReason } from "./events.js";

/** One message as `sendMessages` gets it: plain data that survives `structuredClone`, RPC and, where `msg` does, `JSON.stringify`. */
export interface OutboxMessage<M = unknown> {
  /**
   * Identifies this message globally, the same on every attempt. The caller's own, or derived from epoch and sequence: URL-safe, 52 characters,
   * and sorting in put order among the messages of one epoch.
   */
  readonly id: string;
  /** What was put. */
  readonly msg: M;
  /** Where it comes from: the object's id and the epoch of its stream, joined by a colon. */
  readonly source: string;
  /** Its number in the stream: from 1, in put order. A number stays unused if storage refused a put that others followed in the same turn. */
  readonly sequence: number;
  /**
   * How often it has been handed to `sendMessages`, this time included: 1 at first. Nothing is written when a call begins, so it may be slightly
   * too high or too low after a crash.
   */
  readonly attempts: number;
  /** When it was put, in milliseconds since the Unix epoch. */
  readonly timestamp: number;
  /**
   * The version of its type in which `msg` is, unless that is 1: the one that the option `messages` declares. In `list`, that in which it is stored where
   * it can't be made of it: because it is newer than this deployment, or an upcaster throws.
   */
  readonly version?: number;
  /** Where its schema is published, if the option `messages` says so. */
  readonly dataschema?: string;
  /** Its ordering key, if it was put with one. */
  readonly key?: string;
  /** Its headers, if it was put with some. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** A message as `list` shows it. */
export interface OutboxListed<M = unknown> extends OutboxMessage<M> {
  /** The destination that it is for: `"default"` is `sendMessages`. */
  readonly destination: string;
  /** When it may be handed over, in milliseconds since the Unix epoch, if it waits for a time. */
  readonly deliverAt?: number;
  /** Why it failed last, where it has failed by itself (`delivery.retry`): at most 500 characters. */
  readonly error?: string;
}

/** A dead letter as `list` shows it: kept until it is redriven or discarded. */
export interface OutboxDeadLetter<M = unknown> extends OutboxMessage<M> {
  /** The destination that did not get it: `"default"` is `sendMessages`. */
  readonly destination: string;
  readonly reason: DeadReason;
  /** The last error's message, or the reason passed to `reject`: at most 500 characters. */
  readonly error: string;
  /** When it first and last failed, in milliseconds since the Unix epoch. */
  readonly firstFailedAt: number;
  readonly lastFailedAt: number;
  /** Present where later messages with its ordering key wait until it is redriven or discarded (`onDead: "hold"`). */
  readonly holdsKey?: true;
}

/** What `put` and `send` resolve to. */
export interface OutboxReceipt {
  /** The message's `id`, as `sendMessages` will see it. */
  readonly id: string;
  /** The message's `sequence`. */
  readonly sequence: number;
  /** Set if the `id` was already known: the state was stored, but no second message. `id` and `sequence` are those of the message it refers to. */
  readonly deduplicated?: true;
}

/**
 * The second argument of `sendMessages`: outcomes for single messages, like those of a Queues consumer. The first outcome for an id wins; one that
 * arrives after the call has settled or timed out changes nothing. An id that is not in the batch is a `TypeError`.
 */
export interface OutboxDelivery {
  /** Aborted when `timeoutSeconds` have passed: pass it on to `fetch`. Work that continues anyway runs beside the next call. */
  readonly signal: AbortSignal;
  /**
   * This message is delivered, whatever happens to the others. With a `reason`, an error or a string, it is skipped: done as well, and reported by the
   * event `skipped` and one line of `console.warn`.
   */
  readonly ack: (id: string, reason?: unknown) => void;
  /**
   * This message has failed and is set aside until its own backoff, or `delaySeconds`, has passed; messages with its ordering key wait behind it,
   * all others go on. After `retry.maxAttempts` counted failures it becomes a dead letter.
   */
  readonly retry: (id: string, options?: OutboxRetryOptions) => void;
  /** This message can never be delivered: it becomes a dead letter at once. */
  readonly reject: (id: string, reason?: unknown) => void;
}

/** Options of `delivery.retry`, all optional. */
export interface OutboxRetryOptions {
  /** How long the message waits, in seconds, from 0 to 315,360,000. Default: the backoff of the wrapper's `retry` options. */
  delaySeconds?: number;
  /** Why: an error or a string. It is kept with the message (up to 500 characters) and reported in `retried` and `dead` events. */
  reason?: unknown;
  /**
   * Whether this failure counts towards `retry.maxAttempts`. Default true. Pass false if the message is not to blame, because its destination is
   * down or asks for a pause. The backoff still grows with each attempt.
   */
  countAttempt?: boolean;
}

/** What a class must have: it forwards the messages, and throws if it could not. */
export interface OutboxProcessor<M = unknown> {
  sendMessages(messages: OutboxMessage<M>[], delivery: OutboxDelivery): unknown;
}
