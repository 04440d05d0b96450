/** One call of `sendMessages`: its time limit, and the outcomes that it gives to single messages. */

import { expected, OutboxError } from "../api/errors.js";
import { DEFAULT_DESTINATION } from "../api/events.js";
import { known } from "../api/known.js";
import type { OutboxDelivery, OutboxMessage, OutboxRetryOptions } from "../api/message.js";
import { seconds } from "../api/put-options.js";
import type { Around } from "../api/seam.js";
import type { Cancel, Timers } from "../timers.js";

/** So many frames of a stack are looked through. */
const STACK_FRAMES = 200;

/** The class's `sendMessages`, bound to the instance. */
export interface Send {
  (messages: OutboxMessage<never>[], delivery: OutboxDelivery): unknown;
  /** Whether a call may hold several messages of one ordering key, where the function itself says so. */
  readonly ordering?: unknown;
}

/** What `sendMessages` said of one message. */
export type Outcome =
  | { readonly type: "ack"; readonly cause: unknown }
  | { readonly type: "retry"; readonly delayMs: number | undefined; readonly cause: unknown; readonly countAttempt: boolean }
  | { readonly type: "reject"; readonly cause: unknown };

export interface Call {
  /** What was said before the call ended, by id. */
  readonly outcomes: ReadonlyMap<string, Outcome>;
  /** Resolves when the call has ended: with the error when it failed or took too long. Never rejects. */
  readonly settled: Promise<{ error: unknown } | null>;
}

/**
 * Calls `sendMessages` in this turn. `ids` are those of the messages, because the handler may change the list. `late` is called with outcomes that come
 * too late.
 */
export function callOf(
  messages: OutboxMessage[],
  ids: readonly string[],
  destination: string,
  timeoutSeconds: number,
  around: Around | undefined,
  timers: Timers,
  send: Send | null,
  late: (id: string, outcome: Outcome["type"]) => void,
): Call {
  const outcomes = new Map<string, Outcome>();
  let known: Set<string> | undefined;
  let controller: AbortController | undefined;
  let open = true;

  const give = (id: string, outcome: Outcome): void => {
    known ??= new Set(ids);
    if (!open) late(id, outcome.type);
    else if (!known.has(id)) throw expected("id", "the id of a message of this call", id);
    // The first outcome wins.
    else if (!outcomes.has(id)) outcomes.set(id, outcome);
  };
  const delivery: OutboxDelivery = {
    // Made when it is asked for: most handlers do not use it, and it is the most expensive part of a call.
    get signal() {
      controller ??= new AbortController();
      return controller.signal;
    },
    ack: (id, reason) => give(id, { type: "ack", cause: reason }),
    retry: (id, options) => give(id, retryOf(options)),
    reject: (id, reason) => give(id, { type: "reject", cause: reason }),
  };

  const name = destination === DEFAULT_DESTINATION ? "sendMessages" : `The destination ${JSON.stringify(destination)}`;
  let cancel: Cancel = () => {};
  const tooLong = (): Promise<never> =>
    new Promise((_, reject) => {
      cancel = timers.after(timeoutSeconds * 1000, () => {
        open = false;
        const error = new OutboxError("timeout", `${name} took over ${timeoutSeconds} s.`);
        reject(error);
        controller ??= new AbortController();
        controller.abort(error);
      });
    });

  const settled = (async () => {
    if (!send) {
      const missing = destination === DEFAULT_DESTINATION ? "The class has no sendMessages()." : `${name} has no function to send.`;
      throw new OutboxError("send_messages_missing", missing);
    }
    let ended = false;
    const sent = named(async () => {
      try {
        await (around ? around(messages, delivery, send, destination) : send(messages as OutboxMessage<never>[], delivery));
      } finally {
        ended = true;
      }
    });
    // At once: one that throws immediately would be an unhandled rejection before it is looked at (at compatibility dates before 2026-03-10).
    sent.catch(() => {});
    // One that ends at once needs no timer, which costs more than all the rest of a call.
    await null;
    await null;
    if (ended) await sent;
    else await Promise.race([sent, tooLong()]).finally(() => cancel());
    return null;
  })().catch((error: unknown) => ({ error }));

  return {
    outcomes,
    settled: settled.finally(() => {
      open = false;
    }),
  };
}

/** @throws TypeError that names the option. */
function retryOf(options: OutboxRetryOptions = {}): Outcome {
  const { delaySeconds, reason, countAttempt = true } = known("options", options, ["delaySeconds", "reason", "countAttempt"]);
  if (typeof countAttempt !== "boolean") throw expected("options.countAttempt", "a boolean", countAttempt);
  return {
    type: "retry",
    delayMs: delaySeconds === undefined ? undefined : seconds("options.delaySeconds", delaySeconds, 0),
    cause: reason === undefined ? "sendMessages asked for a retry." : reason,
    countAttempt,
  };
}

/** The function from which every handler is called. Its name is kept when code is minified. */
const FRAME = "outbox: sendMessages";
const named = { [FRAME]: async (body: () => Promise<void>): Promise<void> => await body() }[FRAME] as (
  body: () => Promise<void>,
) => Promise<void>;

/**
 * Whether the code that runs was called by `sendMessages`, also after it has waited. V8 keeps the functions that await one another in the
 * stack of an error, and there is nothing else that needs no compatibility flag. Code in a callback of a timer, say, is not recognised.
 */
export function inHandler(): boolean {
  const { stackTraceLimit } = Error as { stackTraceLimit?: number };
  try {
    Object.assign(Error, { stackTraceLimit: STACK_FRAMES });
    return String(new Error().stack).includes(FRAME);
  } finally {
    Object.assign(Error, { stackTraceLimit });
  }
}
