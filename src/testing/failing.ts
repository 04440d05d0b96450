/** Failing destinations: a handler that throws, hangs or rejects as a test requests, and otherwise behaves as before. */

import { expected } from "../api/errors.js";
import type { OutboxDelivery, OutboxMessage } from "../api/message.js";
import { hang } from "./probe.js";

/** A `sendMessages`, or the handler of a destination. */
export type Handler<M = never> = (messages: OutboxMessage<M>[], delivery: OutboxDelivery) => unknown;

/** A handler that fails on request. It takes the arguments of the one it replaces, so it can be assigned where that was. */
export type FailingHandler<H extends Handler = Handler> = (...args: Parameters<H>) => Promise<void>;

/** The messages that a handler takes. */
export type HandledBy<H extends Handler> = Parameters<H> extends [OutboxMessage<infer M>[], ...unknown[]] ? M : never;

/** What fails: everything (`true`), the first n, or those for which a function returns true. */
export type Failing<T> = true | number | ((given: T) => boolean);

/** How a destination fails. The first option that applies counts. */
export interface Failures<M = never> {
  /** Calls that throw. A function gets the messages of the call. */
  throws?: Failing<OutboxMessage<M>[]>;
  /** Calls that never settle, so that they time out. */
  hangs?: Failing<OutboxMessage<M>[]>;
  /** Messages that are rejected, so that they become dead letters; the others are passed on. */
  rejects?: Failing<OutboxMessage<M>>;
}

/**
 * Returns a handler that fails as requested, and passes everything else on.
 *
 * @throws TypeError when an argument is wrong.
 *
 * @example
 * await runInDurableObject(stub, (instance) => {
 *   instance.sendMessages = failing(instance.sendMessages, { throws: 2 });
 * });
 */
export function failing<H extends Handler>(destination: H, failures: Failures<HandledBy<H>>): FailingHandler<H> {
  if (typeof destination !== "function") throw expected("destination", "a function", destination);
  if (Object(failures) !== failures) throw expected("failures", "an object", failures);
  const { throws, hangs, rejects, ...unknown } = failures;
  for (const name of Object.keys(unknown)) throw expected("failures", "an object of throws, hangs, rejects", name);
  const isThrowing = chooser("failures.throws", throws);
  const isHanging = chooser("failures.hangs", hangs);
  const isRejected = chooser("failures.rejects", rejects);

  async function handler(this: unknown, messages: OutboxMessage<HandledBy<H>>[], delivery: OutboxDelivery): Promise<void> {
    if (isThrowing(messages)) throw new Error("failing(): this call throws.");
    if (isHanging(messages)) return await hang();
    const rest: typeof messages = [];
    for (const message of messages) {
      if (isRejected(message)) delivery.reject(message.id, "failing(): this message is rejected.");
      else rest.push(message);
    }
    if (rest.length > 0) await destination.call(this, rest as OutboxMessage<never>[], delivery);
  }
  return handler as FailingHandler<H>;
}

function chooser<T>(name: string, chosen: Failing<T> | undefined): (given: T) => boolean {
  if (typeof chosen === "function") return chosen;
  if (chosen === undefined) return () => false;
  if (chosen === true) return () => true;
  if (!(Number.isInteger(chosen) && chosen >= 0)) throw expected(name, "true, a whole number or a function", chosen);
  let left = chosen;
  return () => left > 0 && left-- > 0;
}
