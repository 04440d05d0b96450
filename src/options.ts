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
  /** How long to wait after a failure. */
  retry?: RetryOptions;
  /** Told of everything an operator would count. What it throws is ignored; what it returns is not awaited. */
  onEvent?: (event: OutboxEvent) => void;
}

/** The options with every default filled in. */
export interface Settings {
  readonly binding: string;
  readonly batchSize: number;
  readonly timeoutSeconds: number;
  readonly retry: RetryPolicy;
  readonly emit: Emit;
}

/** Default, least, greatest, and whether it must be an integer. */
type Spec = readonly [standard: number, min: number, max: number, integer?: 1];

const WEEK_SECONDS = 604_800;
const NUMBERS: Record<string, Spec> = { batchSize: [100, 1, 1000, 1], timeoutSeconds: [30, 0.001, 600] };
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
  const { binding = "OUTBOX_MANAGER", retry = {}, onEvent, ...rest } = object("options", options);
  const { batchSize, timeoutSeconds } = filled("options", rest, NUMBERS) as { batchSize: number; timeoutSeconds: number };
  const policy = filled("options.retry", object("options.retry", retry), RETRY_NUMBERS) as unknown as RetryPolicy;
  if (typeof binding !== "string" || !binding) throw expected("options.binding", "a name", binding);
  if (onEvent && typeof onEvent !== "function") throw expected("options.onEvent", "a function", onEvent);
  within("options.retry.maxDelaySeconds", policy.maxDelaySeconds, [0, policy.minDelaySeconds, WEEK_SECONDS]);
  return { binding, batchSize, timeoutSeconds, retry: policy, emit: emitter(onEvent) };
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

/** @throws TypeError when it is no number, or out of range. */
export function within(name: string, value: unknown, [standard, min, max, integer]: Spec): number {
  const number = value ?? standard;
  if (typeof number === "number" && number >= min && number <= max && !(integer && number % 1)) return number;
  throw expected(name, `a ${integer ? "whole " : ""}number from ${min} to ${max}`, value);
}
