/** One call of a destination with several targets: every message gets its outcome here, or is remembered as one that outlived the call. */

import { textOf } from "../api/errors.js";
import type { OutboxDelivery, OutboxMessage } from "../api/message.js";
import type { Clock } from "./clock.js";
import { secondsUntil } from "./destination.js";
import { remember } from "./remember.js";
import { secondsOf, type Target } from "./target.js";
import type { TargetGroup, TargetRequest } from "./targets.js";

/** How long a call waits for its remaining requests once they linger, in milliseconds. */
const GRACE_MS = 100;
/** A message whose request is in flight is retried after this long at the latest, in seconds. */
const LOOK_SECONDS = 5;
const NO_ANSWER = "The target has not answered yet.";

type Outcome = (delivery: OutboxDelivery) => void;

/** A request that has outlived its call: when it ends at the latest, and its outcome, once that is known. */
export interface Outlived {
  readonly until: number;
  readonly outcome?: Outcome;
}

/** What a request that outlives its call is remembered by. Not the id: once a message is cancelled, another may be put with it. */
export function placeOf({ source, sequence }: OutboxMessage): string {
  return `${source}:${sequence}`;
}

export interface Call {
  /** Used by requests to settle their messages. An outcome after the call has ended is kept until the message is handed over again. */
  readonly delivery: OutboxDelivery;
  /** Returns whether the request may be sent. */
  begin(request: TargetRequest): boolean;
  finish(request: TargetRequest): void;
  /** The target is failing: its messages wait for it. */
  block(target: Target, requests: readonly TargetRequest[]): void;
  /** The invocation has no subrequests left: nothing more is sent, and what has no outcome comes again in the next. */
  spent(error: unknown): void;
  /** Resolves when everything has ended, or only lingers. */
  ended(runs: readonly ((late: () => void) => Promise<void>)[]): Promise<void>;
  /**
   * @param through whether a known target succeeds
   * @throws the destination's error, if none does
   */
  end(through: boolean): void;
}

/**
 * @param outlived requests left by earlier calls, by `placeOf` their messages
 * @param timeoutSeconds how long one request may take
 */
export function callOf(
  groups: readonly TargetGroup[],
  delivery: OutboxDelivery,
  outlived: Map<string, Outlived>,
  timeoutSeconds: number,
  { now, after }: Clock,
): Call {
  const all = groups.flatMap(({ requests }) => requests.flatMap(({ messages }) => messages));
  const unsettled = new Set(all.map(({ id }) => id));
  const placesById = new Map(all.map((message) => [message.id, placeOf(message)]));
  const sending = new Map<string, number>();
  const blocked = new Map<string, Target>();
  let open = true;
  let spent: { readonly error: unknown } | null = null;

  const give = (id: string, outcome: Outcome): void => {
    const place = placesById.get(id) ?? "";
    if (open && unsettled.delete(id)) outcome(delivery);
    else if (!open && outlived.has(place)) outlived.set(place, { until: 0, outcome });
  };

  return {
    delivery: {
      signal: delivery.signal,
      ack: (id, reason) => give(id, (delivery) => delivery.ack(id, reason)),
      retry: (id, options) => give(id, (delivery) => delivery.retry(id, options)),
      reject: (id, reason) => give(id, (delivery) => delivery.reject(id, reason)),
    },

    begin({ messages }) {
      if (spent) return false;
      if (open) for (const { id } of messages) sending.set(id, now() + timeoutSeconds * 1000);
      return open;
    },

    spent(error) {
      spent ??= { error };
    },

    finish({ messages }) {
      for (const message of messages) {
        sending.delete(message.id);
        // It failed after its call: it may be sent again.
        if (!open && outlived.get(placeOf(message))?.outcome === undefined) outlived.delete(placeOf(message));
      }
    },

    block(target, requests) {
      for (const { messages } of requests) for (const { id } of messages) if (unsettled.has(id)) blocked.set(id, target);
    },

    ended: (runs) => allBut(runs, delivery.signal, after),

    end(through) {
      const troubled = new Set(blocked.values());
      const [first] = troubled;
      open = false;
      for (const [id, until] of sending) if (unsettled.has(id)) remember(outlived, placesById.get(id) ?? "", { until });
      // Outcomes no longer count.
      delivery.signal.throwIfAborted();
      if (spent) throw errorOf(spent.error);
      if (first && blocked.size === unsettled.size && !through) {
        // The outbox waits for all of them together, and all of them are tried again then. At least as long as the first of them would be left alone: its own
        // backoff does not grow while they hang, since a call that waits for an answer is none that failed.
        const own = Math.min(...[...troubled].map(({ retryAt }) => secondsUntil(retryAt, now())));
        const waits = Math.max(own, ...[...troubled].map(({ error }) => secondsOf(error)));
        for (const target of troubled) target.retryAt = 0;
        throw Object.assign(errorOf(first.error), waits > 0 && { retryAfterSeconds: waits });
      }
      for (const id of unsettled) {
        const target = blocked.get(id);
        const delaySeconds = target && Math.max(1, secondsUntil(target.retryAt, now()));
        if (delaySeconds !== undefined) delivery.retry(id, { delaySeconds, countAttempt: false, reason: target?.error });
        else delivery.retry(id, notYet((sending.get(id) ?? now()) - now()));
      }
    },
  };
}

/** Runs everything, and resolves when all of it has ended or only lingers, or when the signal is aborted. */
function allBut(runs: readonly ((late: () => void) => Promise<void>)[], signal: AbortSignal, after: Clock["after"]): Promise<void> {
  return new Promise<void>((done) => {
    const running = new Set(runs);
    const lingering = new Set<unknown>();
    let cancel = (): void => {};
    const look = (): void => {
      if (running.size === 0) done();
      else if (lingering.size === running.size) cancel = after(GRACE_MS, done);
    };
    for (const run of runs) {
      const late = (): void => {
        if (lingering.has(run)) return;
        lingering.add(run);
        look();
      };
      void run(late).then(() => {
        running.delete(run);
        lingering.delete(run);
        cancel();
        look();
      });
    }
    signal.addEventListener("abort", () => done());
    look();
  });
}

/** The retry of a message whose request is in flight. */
export function notYet(leftMs: number): { delaySeconds: number; countAttempt: false; reason: string } {
  return { delaySeconds: Math.min(LOOK_SECONDS, Math.max(1, leftMs / 1000)), countAttempt: false, reason: NO_ANSWER };
}

/** An error that is thrown for the destination as a whole. One target's error never pauses the others. */
function errorOf(error: unknown): Error {
  return error instanceof Error && !("pause" in error) ? error : new Error(textOf(error), { cause: error });
}
