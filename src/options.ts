/** The options of `withTransactionalOutbox`: their meaning, their defaults and their checks. */

import { expected } from "./errors.js";
import { type Emit, emitter, type OutboxEvent } from "./events.js";
import type { RetryOptions, RetryPolicy } from "./retry.js";

/** Options of `withTransactionalOutbox`, all optional. Durations are seconds and may be fractions. */
export interface OutboxOptions<B extends string = string> {
  /** The name under which the manager stands in the object's `env`. Default `"OUTBOX_MANAGER"`. */
  binding?: B;
  /** How many messages one call of `sendMessages` gets at most. Default 100 (what `Queue.sendBatch` takes), from 1 to 1,000. */
  batchSize?: number;
  /** How long one call of `sendMessages` may take, in seconds, before it counts as failed. Default 30, from 0.001 to 600. */
  timeoutSeconds?: number;
  /** How long to wait after a failure, and after how many failures of its own a message becomes a dead letter. */
  retry?: RetryOptions;
  /**
   * `"alarm"` (default): an alarm that is due at once calls `sendMessages`. `"immediate"`: a first attempt starts as soon
   * as the write is durable, and the alarm, ten seconds later, is its safety net.
   */
  dispatch?: "alarm" | "immediate";
  /** A message that has not been delivered so long after it was put becomes a dead letter. Default: never. From 0.001 to 315,360,000 (ten years). */
  expiresInSeconds?: number;
  /** `put`, `delete` and `send` reject with `outbox_full` while so many messages wait. Default: no limit. A whole number from 1 to 1,000,000,000. */
  maxPending?: number;
  /** Told of everything an operator would count. What it throws is ignored; what it returns is not awaited. */
  onEvent?: (event: OutboxEvent) => void;
}

/** The options with every default filled in. */
export interface Settings {
  readonly binding: string;
  readonly batchSize: number;
  readonly timeoutSeconds: number;
  readonly retry: RetryPolicy;
  readonly immediate: boolean;
  /** 0: never. */
  readonly expiresInSeconds: number;
  readonly maxPending: number;
  readonly emit: Emit;
  /** Whether anybody is told. */
  readonly listening: boolean;
}

/** Default, least, greatest, and whether it must be an integer. */
type Spec = readonly [standard: number, min: number, max: number, integer?: 1];

const NEVER = Number.POSITIVE_INFINITY;
const WEEK_SECONDS = 604_800;
const NUMBERS: Record<string, Spec> = {
  batchSize: [100, 1, 1000, 1],
  timeoutSeconds: [30, 0.001, 600],
  maxPending: [NEVER, 1, 1e9, 1],
  expiresInSeconds: [0, 0.001, 315_360_000],
};
/** About nine hours for a failing message: 2 s doubling to 2,048 s (4,094 s and jitter), then eight times an hour. */
const RETRY_NUMBERS: Record<string, Spec> = {
  minDelaySeconds: [2, 0.001, WEEK_SECONDS],
  maxDelaySeconds: [3600, 0.001, WEEK_SECONDS],
  factor: [2, 1, 10],
  jitter: [0.2, 0, 1],
  maxAttempts: [20, 1, 1000, 1],
};

/** @throws TypeError that names the option, when one is unknown or out of range. */
export function settings(options: OutboxOptions = {}): Settings {
  const { binding = "OUTBOX_MANAGER", dispatch = "alarm", retry = {}, onEvent, ...rest } = object("options", options);
  const numbers = filled("options", rest, NUMBERS) as unknown as Pick<
    Settings,
    "batchSize" | "timeoutSeconds" | "maxPending" | "expiresInSeconds"
  >;
  const policy = filled("options.retry", object("options.retry", retry), RETRY_NUMBERS) as unknown as RetryPolicy;
  if (typeof binding !== "string" || !binding) throw expected("options.binding", "a name", binding);
  if (dispatch !== "alarm" && dispatch !== "immediate") throw expected("options.dispatch", '"alarm" or "immediate"', dispatch);
  if (onEvent && typeof onEvent !== "function") throw expected("options.onEvent", "a function", onEvent);
  within("options.retry.maxDelaySeconds", policy.maxDelaySeconds, [0, policy.minDelaySeconds, WEEK_SECONDS]);
  return { binding, immediate: dispatch === "immediate", ...numbers, retry: policy, emit: emitter(onEvent), listening: !!onEvent };
}

function object<T>(name: string, given: T): T {
  if (Object(given) !== given) throw expected(name, "an object", given);
  return given;
}

/** The given numbers over the defaults; `undefined` counts as not given. */
function filled(name: string, given: object, specs: Record<string, Spec>): Record<string, number> {
  const all: Record<string, number> = {};
  for (const key of Object.keys(given)) if (!specs[key]) throw expected(name, `an object of ${Object.keys(specs).join(", ")}`, key);
  for (const [key, spec] of Object.entries(specs)) all[key] = within(`${name}.${key}`, (given as Record<string, unknown>)[key], spec);
  return all;
}

/** The default when nothing is given. @throws TypeError when it is no number, or out of range. */
export function within(name: string, value: unknown, [standard, min, max, integer]: Spec): number {
  if (value === undefined) return standard;
  if (typeof value === "number" && value >= min && value <= max && !(integer && value % 1)) return value;
  throw expected(name, `a ${integer ? "whole " : ""}number from ${min} to ${max}`, value);
}
