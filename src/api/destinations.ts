/** Named destinations as a class declares them: their form, their checks, and what applies to each. */

import { expected } from "./errors.js";
import { DEFAULT_DESTINATION } from "./events.js";
import { known } from "./known.js";
import { type DeadLetterOptions, type LetterLimits, letterLimitsOf } from "./letter-limits.js";
import type { OutboxDelivery, OutboxMessage } from "./message.js";
import { type ClassSettings, checkOnDead, checkOrdering, numberOf, type OnDead, type Ordering, policyOf } from "./options.js";
import type { RetryOptions, RetryPolicy } from "./retry.js";
import { within } from "./within.js";

/** A handler: what `toQueue` and the other ready-made destinations return, or a function of one's own. It is called like `sendMessages`. */
export interface OutboxHandler<M = unknown> {
  (messages: OutboxMessage<M>[], delivery: OutboxDelivery): unknown;
  /** `"batch"` where it sets no single message aside: see the option of this name. */
  readonly ordering?: Ordering;
}

/** The values of `msg.type` that messages have. */
type TypeOf<M> = M extends { readonly type: infer T extends string } ? T : unknown extends M ? string : never;

/** Options of a named destination, all optional. Those that are left out are the wrapper's. */
export interface OutboxDestinationOptions {
  /** How many messages one call gets at most, from 1 to 1,000. */
  batchSize?: number;
  /** How long one call may take, in seconds, from 0.001 to 600. */
  timeoutSeconds?: number;
  /**
   * A message that this destination has not got so many seconds after it could first be handed over is its dead letter. From 0.001 to
   * 315,360,000. A shorter time that the message itself has holds as well.
   */
  expiresInSeconds?: number;
  /** The most messages a second that it gets, from 0.001 to 100,000: as the wrapper's option. */
  maxPerSecond?: number;
  /** Its backoff and attempts. What is left out is the wrapper's. */
  retry?: RetryOptions;
  /** `"strict"` or `"batch"`: as the wrapper's option. */
  ordering?: Ordering;
  /** When its dead letters are deleted. What is left out is the wrapper's. */
  deadLetters?: DeadLetterOptions;
  /** `"continue"` or `"hold"`: as the wrapper's option. */
  onDead?: OnDead;
  /**
   * Where a destination begins that the object sees for the first time: `"new"` (default) with the next message that is put, `"start"` with the
   * first message that the log still has, and a position with that message, or the first that is kept behind it; one that does not exist yet is `"new"`.
   */
  from?: "new" | "start" | number;
  /** Names that it had in earlier deployments: it goes on where the first of them stopped that the object knows. */
  formerly?: readonly string[];
}

/** What takes every message. */
interface TakesAll<M> extends OutboxDestinationOptions {
  /** Sends messages: looked up at each call, so that a spy or a reassignment works. */
  send: OutboxHandler<M>;
  types?: undefined;
  pull?: undefined;
}

/** What takes messages of some types. Its handler is not checked against them. */
interface TakesTypes<T extends string> extends OutboxDestinationOptions {
  send: OutboxHandler<never>;
  /** The values of `msg.type` that it takes: 1 to 1,000 strings of 1 to 256 characters. Default: every message. */
  types: readonly T[];
  pull?: undefined;
}

/** A destination whose consumers ask for messages, with `receive` and `settle`: no handler is called, and no alarm is set for it. */
export interface OutboxPulled<T extends string = string>
  extends Omit<OutboxDestinationOptions, "batchSize" | "timeoutSeconds" | "maxPerSecond"> {
  pull: true;
  send?: undefined;
  /** How long a message that was received is hidden from other consumers, in seconds, unless `receive` says otherwise. Default 30, from 0.001 to 43,200. */
  visibilityTimeoutSeconds?: number;
  /** The values of `msg.type` that it takes. Default: every message. */
  types?: readonly T[];
}

/** A named destination with options of its own. */
export type OutboxDestination<M = unknown, T extends string = TypeOf<M>> = TakesAll<M> | TakesTypes<T> | OutboxPulled<T>;

/**
 * The destinations of a class, by name: an own property of the instance, so that it is closed over RPC. Each has its own position in the log,
 * its own retries and its own dead letters. Names have 1 to 64 characters, and there may be 32.
 *
 * @example
 * destinations = {
 *   search: toQueue(this.env.SEARCH),
 *   billing: { send: toWebhook(url, { secret }), types: ["order_paid"], timeoutSeconds: 15 },
 * } satisfies OutboxDestinations<OrderMessage>;
 */
export type OutboxDestinations<M = unknown, T extends string = TypeOf<M>> = {
  readonly [name: string]: OutboxHandler<M> | OutboxDestination<M, T>;
};

/** One destination, checked, with every default filled in. */
export interface DestinationSpec {
  readonly name: string;
  /** `null`: every message. */
  readonly types: ReadonlySet<string> | null;
  /** The first position that a new destination gets, as far as the log has it: infinite for the next one. */
  readonly from: number;
  readonly formerly: readonly string[];
  readonly batchSize: number;
  readonly timeoutSeconds: number;
  /** Infinity where there is no limit. */
  readonly maxPerSecond: number;
  /** In milliseconds; Infinity where only messages themselves say. */
  readonly expiresMs: number;
  readonly retry: RetryPolicy;
  readonly ordering: Ordering;
  readonly deadLetters: LetterLimits;
  readonly onDead: OnDead;
  /** How long what was received is hidden from other consumers, in milliseconds; `null`: it has a handler. */
  readonly pull: { readonly visibilityMs: number } | null;
}

/** Of one that is pulled. */
const PULL_OPTIONS = [
  "pull",
  "visibilityTimeoutSeconds",
  "types",
  "expiresInSeconds",
  "retry",
  "ordering",
  "deadLetters",
  "onDead",
  "from",
  "formerly",
];

const OPTIONS = [
  "send",
  "types",
  "batchSize",
  "timeoutSeconds",
  "maxPerSecond",
  "expiresInSeconds",
  "retry",
  "ordering",
  "deadLetters",
  "onDead",
  "from",
  "formerly",
];
/** Twelve hours: the longest visibility timeout of SQS and of Queues. */
const MOST_HIDDEN_SECONDS = 43_200;
const NAME_LENGTH = 64;
const TYPE_LENGTH = 256;
const MOST_DESTINATIONS = 32;
const MOST_TYPES = 1000;
const MOST_FORMER = 32;

/** `sendMessages` as a destination. */
export function defaultSpec({
  batchSize,
  timeoutSeconds,
  maxPerSecond,
  retry,
  ordering,
  deadLetters,
  onDead,
}: ClassSettings): DestinationSpec {
  const settings = { batchSize, timeoutSeconds, maxPerSecond, retry, ordering, deadLetters, onDead };
  return {
    name: DEFAULT_DESTINATION,
    types: null,
    from: Number.POSITIVE_INFINITY,
    formerly: [],
    expiresMs: Number.POSITIVE_INFINITY,
    pull: null,
    ...settings,
  };
}

/**
 * The destinations of an instance.
 *
 * @param given its property `destinations`
 * @param hasSend whether it has a `sendMessages` as well, which is the destination named `default`
 * @throws TypeError that names what is wrong
 */
export function specsOf(given: unknown, hasSend: boolean, settings: ClassSettings): DestinationSpec[] {
  if (given === undefined) return [defaultSpec(settings)];
  if (Object(given) !== given || typeof given === "function" || Array.isArray(given)) throw expected("destinations", "an object", given);
  const entries = Object.entries(given as object);
  if (entries.length > MOST_DESTINATIONS) throw expected("destinations", `at most ${MOST_DESTINATIONS} destinations`, entries.length);
  const specs = entries.map(([name, destination]) => specOf(name, destination, settings));
  if (!hasSend) {
    if (specs.length === 0 && settings.retain === null)
      throw expected("destinations", "at least one destination, in a class without sendMessages() whose log is not retained", given);
    return specs;
  }
  if (specs.some(({ name }) => name === DEFAULT_DESTINATION)) {
    throw expected(`destinations.${DEFAULT_DESTINATION}`, "absent beside sendMessages(), which has this name", "a destination");
  }
  return [defaultSpec(settings), ...specs];
}

function specOf(name: string, given: unknown, settings: ClassSettings): DestinationSpec {
  const argument = `destinations.${name}`;
  if (name === "" || name.length > NAME_LENGTH) throw expected("destinations", `named with 1 to ${NAME_LENGTH} characters`, name);
  const isPulled = (given as { pull?: unknown } | null | undefined)?.pull !== undefined;
  const options = typeof given === "function" ? { send: given } : known(argument, given as object, isPulled ? PULL_OPTIONS : OPTIONS);
  const {
    send,
    types,
    batchSize,
    timeoutSeconds,
    maxPerSecond,
    expiresInSeconds,
    retry,
    ordering,
    deadLetters,
    onDead = settings.onDead,
    from = "new",
    formerly = [],
    pull,
    visibilityTimeoutSeconds,
  } = options as {
    [Option in keyof OutboxDestinationOptions | "send" | "types" | "pull" | "visibilityTimeoutSeconds"]?: unknown;
  };
  if (isPulled && pull !== true) throw expected(`${argument}.pull`, "true, or left out", pull);
  if (!isPulled && typeof send !== "function") throw expected(`${argument}.send`, "a function", send);
  // A ready-made destination may bring settings of its own.
  const own = (send ?? {}) as { readonly [Option in "batchSize" | "timeoutSeconds" | "ordering"]?: unknown };
  const chosen = ordering ?? own.ordering ?? settings.ordering;
  checkOrdering(`${argument}.ordering`, chosen);
  checkOnDead(`${argument}.onDead`, onDead);
  const expires = expiresInSeconds === undefined ? 0 : numberOf("expiresInSeconds", `${argument}.expiresInSeconds`, expiresInSeconds, 0);
  return {
    name,
    types: types === undefined ? null : new Set(namesIn(`${argument}.types`, types, MOST_TYPES, TYPE_LENGTH, 1)),
    from: positionOf(`${argument}.from`, from),
    formerly: namesIn(`${argument}.formerly`, formerly, MOST_FORMER, NAME_LENGTH, 0),
    batchSize: numberOf("batchSize", `${argument}.batchSize`, batchSize ?? own.batchSize, settings.batchSize),
    timeoutSeconds: numberOf("timeoutSeconds", `${argument}.timeoutSeconds`, timeoutSeconds ?? own.timeoutSeconds, settings.timeoutSeconds),
    maxPerSecond: numberOf("maxPerSecond", `${argument}.maxPerSecond`, maxPerSecond, settings.maxPerSecond),
    expiresMs: expires > 0 ? Math.ceil(expires * 1000) : Number.POSITIVE_INFINITY,
    retry: retry === undefined ? settings.retry : policyOf(`${argument}.retry`, { ...settings.retry, ...(retry as object) }),
    ordering: chosen,
    pull: isPulled ? { visibilityMs: visibilityMsOf(`${argument}.visibilityTimeoutSeconds`, visibilityTimeoutSeconds) } : null,
    deadLetters: letterLimitsOf(`${argument}.deadLetters`, deadLetters as DeadLetterOptions | undefined, settings.deadLetters),
    onDead,
  };
}

/** How long what was received is hidden, in milliseconds. @throws TypeError that names the option. */
export function visibilityMsOf(argument: string, seconds: unknown, standard = 30): number {
  return within(argument, seconds, [standard, 0.001, MOST_HIDDEN_SECONDS]) * 1000;
}

function namesIn(argument: string, given: unknown, most: number, length: number, least: number): string[] {
  const isName = (name: unknown): boolean => typeof name === "string" && name.length > 0 && name.length <= length;
  if (Array.isArray(given) && given.length >= least && given.length <= most && given.every(isName)) return [...given];
  throw expected(argument, `a list of ${least} to ${most} strings of 1 to ${length} characters`, given);
}

/** Where a new destination begins. */
function positionOf(argument: string, from: unknown): number {
  if (from === "new") return Number.POSITIVE_INFINITY;
  if (from === "start") return 1;
  if (Number.isSafeInteger(from) && (from as number) > 0) return from as number;
  throw expected(argument, '"new", "start" or a position', from);
}
