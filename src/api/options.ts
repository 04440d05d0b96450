/** The options of `withTransactionalOutbox`: their meaning, their defaults and their checks. */

import { expected } from "./errors.js";
import type { Emit, OutboxEvent } from "./events.js";
import { known } from "./known.js";
import { type DeadLetterOptions, type LetterLimits, letterLimitsOf } from "./letter-limits.js";
import type { MessageSchemas } from "./messages.js";
import { type OutboxRetain, type Retention, retentionOf } from "./retain.js";
import type { RetryOptions, RetryPolicy } from "./retry.js";
import { type Schemas, schemasOf } from "./schemas.js";
import type { Around } from "./seam.js";
import { type Spec, within } from "./within.js";

/** Options of `withTransactionalOutbox`, all optional. Durations are seconds and may be fractions. */
export interface OutboxOptions<B extends string = string, S extends MessageSchemas = MessageSchemas> {
  /** The manager's name in the object's `env`. Default `"OUTBOX_MANAGER"`. */
  binding?: B;
  /** The most messages in one call of `sendMessages`. Default 100 (the limit of `Queue.sendBatch`), from 1 to 1,000. */
  batchSize?: number;
  /**
   * How long one call of `sendMessages` may take, in seconds, before it counts as failed. Nothing can stop it: it may go on beside its retry.
   * Default 30, from 0.001 to 600.
   */
  timeoutSeconds?: number;
  /**
   * Whether one call of `sendMessages` may hold several messages with one ordering key. `"strict"` (default): one at most, because the handler may
   * set a single message aside, and the next one with its key must not be in flight at the same time. `"batch"`: full batches, for a handler that
   * fails as a whole. A function with a property `ordering` of its own, as `toQueue` returns, needs no option.
   */
  ordering?: Ordering;
  /**
   * How much of the log is kept after every destination has got it: `"all"`, or limits by count, age and size. Default: nothing. What is kept can be
   * read and followed (`read`, `tail`), and a new destination with `from: "start"` begins there.
   */
  retain?: OutboxRetain;
  /** How long to wait after a failure, and after how many failures of its own a message becomes a dead letter. */
  retry?: RetryOptions;
  /**
   * `"alarm"` (default): an alarm that is due at once calls `sendMessages`. `"immediate"`: the first attempt starts as soon as the write is durable,
   * with an alarm ten seconds later as its safety net.
   */
  dispatch?: "alarm" | "immediate";
  /**
   * A message that has not been delivered this long after it could first be (after its `deliverAt` or `delaySeconds`, else after the put)
   * becomes a dead letter. Default: never. From 0.001 to 315,360,000 (ten years).
   */
  expiresInSeconds?: number;
  /**
   * How long the `id` of a message is remembered after its delivery, in seconds: until then, putting it again stores the state but no second
   * message. Default 300, from 0 (forgotten at delivery) to 604,800 (a week).
   */
  idempotencySeconds?: number;
  /**
   * Once this many messages are undelivered, `put`, `delete` and `send` reject with `outbox_full`. Default: no limit. A whole number from 1 to
   * 1,000,000,000.
   */
  maxPending?: number;
  /**
   * Schemas of the messages, by `msg.type`, of any library that implements Standard Schema: see `MessageSchemas`. A message is checked before anything
   * is written, and the schema's output is what is stored. A message with a type that is not declared is refused; one without a type is not checked.
   * Default: messages are not checked.
   */
  messages?: S;
  /**
   * When dead letters are deleted although nobody has discarded them, for each destination. Default: never. Each deletion is reported in an event and
   * counted in `stats()`.
   */
  deadLetters?: DeadLetterOptions;
  /**
   * What becomes of later messages with the ordering key of one that has become a dead letter. `"continue"` (default): they are delivered.
   * `"hold"`: they wait until the dead letter is redriven, and then follow it, or until it is discarded. Messages without a key are never held.
   */
  onDead?: OnDead;
  /**
   * How long a delivery may go unrecorded, in seconds, with `dispatch: "immediate"`: it is recorded together with what is written next, a put as a rule, or
   * by itself when this time is over. So a message of a steady stream costs one row in place of two. A crash in that time repeats what was delivered in it,
   * with the same ids; what failed, was set aside or became a dead letter is recorded at once. A timer keeps the object in memory meanwhile.
   * Default 0 (at once), at most 60: the platform keeps an object that has a timer in memory for at least 70 s (Durable Objects lifecycle page). Without
   * effect with `dispatch: "alarm"`, where each alarm both delivers and records: to put the record off would cost another alarm.
   */
  settleWithinSeconds?: number;
  /**
   * The most messages a second that `sendMessages` gets: a destination that is asked more often would refuse some. A second's worth may come at once. What is
   * beyond waits without a failure. Counted in memory, so another second's worth may come after a restart. Default: no limit. From 0.001 to 100,000.
   */
  maxPerSecond?: number;
  /** Called for everything that an operator would count. What it throws is ignored; what it returns is not awaited. */
  onEvent?: (event: OutboxEvent) => void;
}

/** How many messages with one ordering key one call of a handler may hold: one, or as many as there are. */
export type Ordering = "strict" | "batch";

/** Whether later messages with the ordering key of a dead letter are delivered, or wait until it is redriven or discarded. */
export type OnDead = "continue" | "hold";

/** The options with every default filled in. */
export interface ClassSettings {
  readonly binding: string;
  readonly batchSize: number;
  readonly timeoutSeconds: number;
  readonly retry: RetryPolicy;
  readonly ordering: Ordering;
  readonly immediate: boolean;
  /** 0: never. */
  readonly expiresInSeconds: number;
  readonly idempotencySeconds: number;
  /** 0: at once. */
  readonly settleWithinSeconds: number;
  readonly maxPerSecond: number;
  readonly maxPending: number;
  /** What is kept of the log after delivery; `null`: nothing. */
  readonly retain: Retention | null;
  readonly deadLetters: LetterLimits;
  readonly onDead: OnDead;
  /** `null`: messages are not checked. */
  readonly schemas: Schemas | null;
  readonly onEvent: OutboxOptions["onEvent"] | undefined;
  /** Whether there is a listener. */
  readonly listening: boolean;
}

/** The same for one object, whose events name it. */
export interface Settings extends ClassSettings {
  readonly emit: Emit;
  /** What a test has put around its handlers. */
  readonly around: Around | undefined;
  /** How far a test has moved its clock ahead, in milliseconds. */
  readonly aheadMs: (() => number) | undefined;
}

const NEVER = Number.POSITIVE_INFINITY;
const WEEK_SECONDS = 604_800;
const NUMBERS: Record<string, Spec> = {
  batchSize: [100, 1, 1000, 1],
  timeoutSeconds: [30, 0.001, 600],
  maxPending: [NEVER, 1, 1e9, 1],
  expiresInSeconds: [0, 0.001, 315_360_000],
  idempotencySeconds: [300, 0, WEEK_SECONDS],
  settleWithinSeconds: [0, 0, 60],
  maxPerSecond: [NEVER, 0.001, 100_000],
};
/** About nine hours for a failing message: 2 s doubling to 2,048 s (4,094 s and jitter), then eight times an hour. */
const RETRY_NUMBERS: Record<string, Spec> = {
  minDelaySeconds: [2, 0.001, WEEK_SECONDS],
  maxDelaySeconds: [3600, 0.001, WEEK_SECONDS],
  factor: [2, 1, 10],
  jitter: [0.2, 0, 1],
  maxAttempts: [20, 1, 1000, 1],
};

const OPTIONS = [
  ...Object.keys(NUMBERS),
  "binding",
  "dispatch",
  "ordering",
  "retry",
  "retain",
  "messages",
  "deadLetters",
  "onDead",
  "onEvent",
];

/** @throws TypeError that names the option, when one is unknown or out of range. */
export function settings(options: OutboxOptions = {}): ClassSettings {
  const {
    binding = "OUTBOX_MANAGER",
    dispatch = "alarm",
    ordering = "strict",
    retry = {},
    retain,
    messages,
    deadLetters,
    onDead = "continue",
    onEvent,
    ...given
  } = known("options", options, OPTIONS);
  type Given =
    | ("batchSize" | "timeoutSeconds" | "maxPending" | "expiresInSeconds" | "idempotencySeconds")
    | ("settleWithinSeconds" | "maxPerSecond");
  const numbers = filled("options", given, NUMBERS) as Record<Given, number>;
  const policy = policyOf("options.retry", retry);
  if (typeof binding !== "string" || !binding) throw expected("options.binding", "a name", binding);
  if (dispatch !== "alarm" && dispatch !== "immediate") throw expected("options.dispatch", '"alarm" or "immediate"', dispatch);
  if (dispatch === "alarm") numbers.settleWithinSeconds = 0;
  checkOrdering("options.ordering", ordering);
  checkOnDead("options.onDead", onDead);
  if (onEvent !== undefined && typeof onEvent !== "function") throw expected("options.onEvent", "a function", onEvent);
  const schemas = messages === undefined ? null : schemasOf("options.messages", messages);
  const limits = letterLimitsOf("options.deadLetters", deadLetters);
  return {
    ...{ binding, ordering, immediate: dispatch === "immediate", ...numbers, retry: policy },
    ...{ retain: retentionOf(retain), schemas, deadLetters: limits, onDead, onEvent, listening: !!onEvent },
  };
}

/** A retry policy over the defaults. @throws TypeError that names the option. */
export function policyOf(name: string, retry: RetryOptions): RetryPolicy {
  const policy = filled(name, known(name, retry, Object.keys(RETRY_NUMBERS)), RETRY_NUMBERS) as unknown as RetryPolicy;
  within(`${name}.maxDelaySeconds`, policy.maxDelaySeconds, [0, policy.minDelaySeconds, WEEK_SECONDS]);
  return policy;
}

/** @throws TypeError that names the option. */
export function checkOrdering(name: string, ordering: unknown): asserts ordering is Ordering {
  if (ordering !== "strict" && ordering !== "batch") throw expected(name, '"strict" or "batch"', ordering);
}

/** @throws TypeError that names the option. */
export function checkOnDead(name: string, onDead: unknown): asserts onDead is OnDead {
  if (onDead !== "continue" && onDead !== "hold") throw expected(name, '"continue" or "hold"', onDead);
}

/** The number of one option: `fallback` when it is not given. @throws TypeError that names it. */
export function numberOf(name: keyof typeof NUMBERS, argument: string, value: unknown, fallback: number): number {
  const [, min, max, integer] = NUMBERS[name] as Spec;
  return within(argument, value, [fallback, min, max, ...(integer ? ([1] as const) : ([] as const))]);
}

/** The given numbers, with defaults for the rest; `undefined` counts as not given. */
function filled(name: string, given: object, specs: Record<string, Spec>): Record<string, number> {
  const all: Record<string, number> = {};
  for (const [key, spec] of Object.entries(specs)) all[key] = within(`${name}.${key}`, (given as Record<string, unknown>)[key], spec);
  return all;
}
