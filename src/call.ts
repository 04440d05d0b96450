/** One call of `sendMessages`: its time limit, and the outcomes that it gives to single messages. */

import { expected, OutboxError } from "./errors.js";
import type { OutboxDelivery, OutboxMessage } from "./message.js";
import type { Settings } from "./options.js";
import { seconds } from "./put-options.js";
import type { Cancel, Timers } from "./timers.js";

/** The longest text of an error that is kept with a message, in UTF-16 units. */
const ERROR_LENGTH = 500;

/** The class's `sendMessages`, bound to the instance. */
export type Send = (messages: OutboxMessage<never>[], delivery: OutboxDelivery) => unknown;

/** What `sendMessages` said of one message. */
export type Outcome =
  | { readonly type: "ack" }
  | { readonly type: "retry"; readonly delayMs?: number }
  | { readonly type: "reject"; readonly reason: string };

export interface Call {
  /** What was said before the call ended, by id. */
  readonly outcomes: ReadonlyMap<string, Outcome>;
  /** Resolves when the call has ended: with the error when it failed or took too long. Never rejects. */
  readonly settled: Promise<{ error: unknown } | null>;
}

/** Calls `sendMessages` in this turn. `ids` are those of the messages, whatever becomes of the list in there. */
export function callOf(
  messages: OutboxMessage[],
  ids: readonly string[],
  { timeoutSeconds, emit }: Settings,
  timers: Timers,
  send: Send | null,
): Call {
  const outcomes = new Map<string, Outcome>();
  let known: Set<string> | undefined;
  let controller: AbortController | undefined;
  let open = true;

  const give = (id: string, outcome: Outcome): void => {
    known ??= new Set(ids);
    if (!open) emit({ type: "late_outcome", id, outcome: outcome.type });
    else if (!known.has(id)) throw expected("id", "the id of a message of this call", id);
    // The first outcome wins.
    else if (!outcomes.has(id)) outcomes.set(id, outcome);
  };
  const delivery: OutboxDelivery = {
    // Made for those who ask: most don't, and it is the dearest part of a call.
    get signal() {
      controller ??= new AbortController();
      return controller.signal;
    },
    ack: (id) => give(id, { type: "ack" }),
    retry(id, { delaySeconds } = {}) {
      if (delaySeconds === undefined) give(id, { type: "retry" });
      else give(id, { type: "retry", delayMs: seconds("delaySeconds", delaySeconds, 0) });
    },
    reject: (id, reason) => give(id, { type: "reject", reason: textOf(reason) }),
  };

  let cancel: Cancel = () => {};
  const tooLong = (): Promise<never> =>
    new Promise((_, reject) => {
      cancel = timers.after(timeoutSeconds * 1000, () => {
        open = false;
        const error = new OutboxError("timeout", `sendMessages took over ${timeoutSeconds} s.`);
        reject(error);
        controller ??= new AbortController();
        controller.abort(error);
      });
    });

  const settled = (async () => {
    if (!send) throw new OutboxError("send_messages_missing", "The class has no sendMessages().");
    let ended = false;
    const sent = (async () => {
      try {
        await send(messages as OutboxMessage<never>[], delivery);
      } finally {
        ended = true;
      }
    })();
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

/** An error, or whatever was thrown in its place, as a text that is short enough to be kept. */
export function textOf(error: unknown): string {
  try {
    return String((error as Error | null | undefined)?.message ?? error ?? "").slice(0, ERROR_LENGTH);
  } catch {
    return "An error that has no text.";
  }
}
