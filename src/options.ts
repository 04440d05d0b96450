/** The options of `withTransactionalOutbox`: their meaning, their defaults and their checks. */

import { expected, told } from "./errors.js";
import { type Emit, emitter, type OutboxEvent } from "./events.js";
import { DEFAULT_RETRY, type RetryOptions, type RetryPolicy } from "./retry.js";

/** Options of `withTransactionalOutbox`, all optional. Durations are seconds and may be fractions. */
export interface OutboxOptions<B extends string = string> {
  /** The name under which the manager stands in the object's `env`. Default `"OUTBOX_MANAGER"`. */
  binding?: B;
  /** How many messages one call of `sendMessages` gets at most. Default 100 (what `Queue.sendBatch` takes), from 1 to 1,000. */
  batchSize?: number;
  /** How long one call of `sendMessages` may take, in seconds, before it counts as failed. Default 30, at least 0.001, at most 600. */
  timeoutSeconds?: number;
  /** How long to wait after a failure. */
  retry?: RetryOptions;
  /** Told of everything an operator would count. What it throws is ignored; what it returns is not awaited. */
  onEvent?: (event: OutboxEvent) => void;
}

/** The options with every default filled in. */
export interface Settings {
  readonly binding: string;
  readonly batchSize: number;
  readonly timeoutMs: number;
  readonly retry: RetryPolicy;
  readonly emit: Emit;
}

const KNOWN = ["binding", "batchSize", "timeoutSeconds", "retry", "onEvent"];

/** @throws TypeError or RangeError that names the option, when one is unknown or out of range. */
export function settings(options: OutboxOptions = {}): Settings {
  object("options", options, KNOWN);
  const { binding = "OUTBOX_MANAGER", batchSize = 100, timeoutSeconds = 30, retry = {}, onEvent } = options;
  if (typeof binding !== "string" || binding === "") throw expected("options.binding", "a non-empty string", binding);
  if (onEvent !== undefined && typeof onEvent !== "function") throw expected("options.onEvent", "a function", onEvent);
  integer("options.batchSize", batchSize, 1, 1000);
  number("options.timeoutSeconds", timeoutSeconds, 0.001, 600);
  return { binding, batchSize, timeoutMs: timeoutSeconds * 1000, retry: policy(retry), emit: emitter(onEvent) };
}

function policy(retry: RetryOptions): RetryPolicy {
  object("options.retry", retry, Object.keys(DEFAULT_RETRY));
  const given = Object.fromEntries(Object.entries(retry).filter(([, value]) => value !== undefined));
  const filled: RetryPolicy = { ...DEFAULT_RETRY, ...given };
  number("options.retry.minDelaySeconds", filled.minDelaySeconds, 0.001, 604_800);
  number("options.retry.maxDelaySeconds", filled.maxDelaySeconds, 0.001, 604_800);
  number("options.retry.factor", filled.factor, 1, 10);
  number("options.retry.jitter", filled.jitter, 0, 1);
  integer("options.retry.maxAttempts", filled.maxAttempts, 1, 1000);
  if (filled.maxDelaySeconds < filled.minDelaySeconds) {
    throw new RangeError(
      told(
        `Expected \`options.retry.maxDelaySeconds\` to be at least \`minDelaySeconds\` (${filled.minDelaySeconds}), got ${filled.maxDelaySeconds}.`,
      ),
    );
  }
  return filled;
}

function object(name: string, value: unknown, known: string[]): void {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw expected(name, "an object", value);
  for (const key of Object.keys(value)) {
    if (!known.includes(key)) throw new TypeError(told(`Unknown option \`${name}.${key}\`. Known are: ${known.join(", ")}.`));
  }
}

function number(name: string, value: unknown, min: number, max: number): void {
  if (typeof value !== "number") throw expected(name, "a number", value);
  if (!(value >= min && value <= max)) throw new RangeError(told(`Expected \`${name}\` to be from ${min} to ${max}, got ${value}.`));
}

function integer(name: string, value: unknown, min: number, max: number): void {
  number(name, value, min, max);
  if (!Number.isInteger(value)) throw new RangeError(told(`Expected \`${name}\` to be an integer, got ${value}.`));
}
