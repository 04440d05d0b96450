/** Pulling: what consumers of a destination with `pull: true` call. */

import { visibilityMsOf } from "../api/destinations.js";
import { expected } from "../api/errors.js";
import { known } from "../api/known.js";
import type { OutboxMessage, OutboxRetryOptions } from "../api/message.js";
import { MOST_SECONDS } from "../api/put-options.js";
import { within } from "../api/within.js";
import { type OutboxContext, untilWritable } from "../context.js";
import type { Delivery } from "../subscription/delivery.js";
import type { Verdict } from "../subscription/pull.js";

/** What a consumer asks for. */
export interface OutboxReceiveOptions {
  /** How many messages at most. Default 10, from 1 to 100. */
  maxMessages?: number;
  /** How long they are hidden from other consumers, in seconds, from 0.001 to 43,200 (twelve hours). Default: the destination's. */
  visibilityTimeoutSeconds?: number;
}

/** What a consumer gets. */
export interface OutboxReceived<M = unknown> {
  /** In order, and none of an ordering key of which an earlier message is in other hands. Empty if nothing is due. */
  readonly messages: OutboxMessage<M>[];
  /** Names these messages in `settle` and `extendLease`. */
  readonly lease: string;
  /** When they are handed out again unless they have been settled, in milliseconds since the Unix epoch. */
  readonly expiresAt: number;
}

/** What has become of messages that were received. What is left out stays leased. */
export interface OutboxOutcomes {
  /** Those that are done. One with a `reason` not to process it is reported by the event `skipped`. */
  acks?: readonly (string | { id: string; reason?: unknown })[];
  /** Those that have failed, to be handed out again after their own backoff or `delaySeconds`; others with their ordering key wait. */
  retries?: readonly (string | ({ id: string } & OutboxRetryOptions))[];
  /** Those that can never be processed: they become dead letters. */
  rejects?: readonly (string | { id: string; reason?: unknown })[];
}

const RETRY_OPTIONS = ["id", "delaySeconds", "reason", "countAttempt"];

/** What the manager does for consumers. */
export function pullOperations(parts: OutboxContext): object {
  const { delivery } = parts;

  async function untilLoaded(): Promise<void> {
    for (let first = untilWritable(parts); first; first = untilWritable(parts)) await first;
  }

  function pulled(name: unknown): Delivery {
    const one = typeof name === "string" ? delivery.of(name) : undefined;
    if (one?.reader.isPulled) return one;
    throw expected("destination", "the name of a destination with `pull: true`", name);
  }

  function holderOf(lease: unknown): Delivery {
    const one = typeof lease === "string" ? delivery.all.find(({ pull, reader }) => reader.isPulled && pull.knows(lease)) : undefined;
    if (one) return one;
    throw expected("lease", "what receive() has given out", lease);
  }

  return {
    async receive(destination: string, options?: OutboxReceiveOptions) {
      const { maxMessages, visibilityTimeoutSeconds } = known("options", options ?? {}, ["maxMessages", "visibilityTimeoutSeconds"]);
      const limit = within("options.maxMessages", maxMessages, [10, 1, 100, 1]);
      await untilLoaded();
      const { pull, visibilityMs } = pulled(destination);
      return await pull.receive(limit, visibilityMsOf("options.visibilityTimeoutSeconds", visibilityTimeoutSeconds, visibilityMs / 1000));
    },

    async settle(lease: string, outcomes: OutboxOutcomes) {
      const verdicts = verdictsOf(outcomes);
      await untilLoaded();
      await holderOf(lease).pull.settle(lease, verdicts);
    },

    async extendLease(lease: string, options?: Pick<OutboxReceiveOptions, "visibilityTimeoutSeconds">) {
      const { visibilityTimeoutSeconds } = known("options", options ?? {}, ["visibilityTimeoutSeconds"]);
      await untilLoaded();
      const { pull, visibilityMs } = holderOf(lease);
      return pull.extend(lease, visibilityMsOf("options.visibilityTimeoutSeconds", visibilityTimeoutSeconds, visibilityMs / 1000));
    },
  };
}

/** @throws TypeError that names what is wrong. */
function verdictsOf(outcomes: OutboxOutcomes): ReadonlyMap<string, Verdict> {
  const { acks = [], retries = [], rejects = [] } = known("outcomes", outcomes, ["acks", "retries", "rejects"]);
  const verdicts = new Map<string, Verdict>();
  const add = (argument: string, id: unknown, verdict: Verdict): void => {
    if (typeof id !== "string" || verdicts.has(id)) throw expected(argument, "ids, each of them once", id);
    verdicts.set(id, verdict);
  };
  for (const given of listed("outcomes.acks", acks)) {
    const { id, reason } = withReason("outcomes.acks", given);
    add("outcomes.acks", id, { type: "ack", cause: reason });
  }
  for (const given of listed("outcomes.retries", retries)) {
    const {
      id,
      delaySeconds,
      reason,
      countAttempt = true,
    } = typeof given === "string"
      ? { id: given }
      : (known("outcomes.retries", given, RETRY_OPTIONS) as { id: string } & OutboxRetryOptions);
    if (typeof countAttempt !== "boolean") throw expected("outcomes.retries.countAttempt", "a boolean", countAttempt);
    const seconds = within("outcomes.retries.delaySeconds", delaySeconds, [-1, 0, MOST_SECONDS]);
    const delayMs = seconds < 0 ? undefined : Math.ceil(seconds * 1000);
    add("outcomes.retries", id, { type: "retry", cause: reason ?? "The consumer asked for a retry.", delayMs, countAttempt });
  }
  for (const given of listed("outcomes.rejects", rejects)) {
    const { id, reason = "The consumer rejected it." } = withReason("outcomes.rejects", given);
    add("outcomes.rejects", id, { type: "reject", cause: reason });
  }
  return verdicts;
}

function withReason(
  argument: string,
  given: string | { id: string; reason?: unknown },
): { readonly id: string; readonly reason?: unknown } {
  return typeof given === "string" ? { id: given } : known(argument, given, ["id", "reason"]);
}

function listed<T>(argument: string, given: readonly T[]): readonly T[] {
  if (Array.isArray(given)) return given;
  throw expected(argument, "a list", given);
}
