/** The targets of one destination: each has its own breaker and time limit, so that one that hangs does not delay the others. */

import type { OutboxDelivery, OutboxMessage } from "../api/message.js";
import { isOutOfSubrequests } from "../api/verdict.js";
import { CLOCK, type Clock } from "./clock.js";
import { secondsUntil } from "./destination.js";
import { placesOf } from "./places.js";
import { remember } from "./remember.js";
import { newTarget, noteFailure, type Target } from "./target.js";
import { type Call, callOf, notYet, type Outlived, placeOf } from "./target-call.js";

/** One request to a target. */
export interface TargetRequest {
  readonly messages: readonly OutboxMessage[];
  /** Gives each message its outcome. Rejects when the target is failing, with `retryAfterSeconds` if it asked for a delay. */
  readonly send: (delivery: OutboxDelivery) => Promise<void>;
}

/** The requests of one call for one target. */
export interface TargetGroup {
  readonly target: string;
  readonly requests: readonly TargetRequest[];
  /** One request after the other. */
  readonly inOrder: boolean;
}

export interface Targets {
  /**
   * Gives the message its outcome if a request with it has outlived an earlier call: the outcome of that request, or a retry while it is in flight.
   * Returns whether there was one. Otherwise the message may be sent.
   */
  settleKnown(message: OutboxMessage, delivery: OutboxDelivery): boolean;
  /**
   * Sends what can be sent, and gives every message an outcome. Rejects when no known target succeeds: then the destination as a whole
   * is failing.
   */
  send(groups: readonly TargetGroup[], delivery: OutboxDelivery): Promise<void>;
}

/**
 * @param concurrency requests in flight at a time
 * @param timeoutSeconds how long one request may take
 */
export function targetsOf(concurrency: number, timeoutSeconds: number, clock: Clock = CLOCK): Targets {
  const { now } = clock;
  const targets = new Map<string, Target>();
  const outlived = new Map<string, Outlived>();
  const places = placesOf(concurrency, timeoutSeconds, clock);

  /** Sends the requests of a call for one target. Never rejects. */
  async function run({ target: name, requests, inOrder }: TargetGroup, call: Call, late: () => void): Promise<void> {
    const target = targets.get(name) ?? remember(targets, name, newTarget(name));
    let rest = requests;
    if (target.failures > 0) {
      const probe = requests[inOrder ? 0 : target.probes++ % requests.length];
      const busy = [...targets.values()].filter(({ probing }) => probing).length >= Math.max(1, places.spare);
      if (secondsUntil(target.retryAt, now()) > 0 || target.probing || busy || !probe) return call.block(target, requests);
      late();
      target.probing = true;
      const through = await attempt(target, probe, call, late, true);
      target.probing = false;
      // With the one that was tried: it has failed as the others would.
      if (!through) return call.block(target, requests);
      rest = requests.filter((request) => request !== probe);
    }
    const one = async (request: TargetRequest): Promise<void> => {
      if (target.failures > 0 || !(await attempt(target, request, call, late))) call.block(target, [request]);
    };
    if (inOrder) for (const request of rest) await one(request);
    else await Promise.all(rest.map(one));
  }

  /** Returns whether its messages have their outcomes, or will have. */
  async function attempt(target: Target, request: TargetRequest, call: Call, late: () => void, probe = false): Promise<boolean> {
    await places.enter();
    // Nothing more is sent if the target has failed in the meantime, or the call has ended.
    const troubled = target.failures > 0 && !probe;
    if (troubled || !call.begin(request)) {
      places.leave();
      return !troubled;
    }
    const begunAt = now();
    try {
      await places.perform(target, request.send, call.delivery, late);
      for (const { id } of request.messages) target.failedMessages.delete(id);
      return true;
    } catch (error) {
      // No target is to blame, and no message.
      if (isOutOfSubrequests(error)) {
        call.spent(error);
        return true;
      }
      if (!noteFailure(target, request.messages, error, begunAt, clock)) return false;
      const [message] = request.messages;
      if (message) call.delivery.retry(message.id, { reason: error });
      return true;
    } finally {
      call.finish(request);
    }
  }

  return {
    settleKnown(message, delivery) {
      const place = placeOf(message);
      const known = outlived.get(place);
      if (!known) return false;
      if (known.outcome) {
        outlived.delete(place);
        known.outcome(delivery);
      } else delivery.retry(message.id, notYet(known.until - now()));
      return true;
    },

    async send(groups, delivery) {
      const call = callOf(groups, delivery, outlived, timeoutSeconds, clock);
      await call.ended(groups.map((group) => (late) => run(group, call, late)));
      call.end([...targets.values()].some(({ failures, succeededAt }) => failures === 0 && succeededAt > 0));
    },
  };
}
