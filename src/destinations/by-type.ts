/** The destination that combines several: each message takes the route of its type. */

import { expected } from "../api/errors.js";
import type { OutboxMessage } from "../api/message.js";
import { checkDelivery, type Destination, settleGroups } from "./destination.js";

type TypeOf<M> = M extends { readonly type: infer T extends string } ? T : never;

/** The messages that may have this type. */
type OfType<M, T> = M extends { readonly type: infer U } ? (T extends U ? M : never) : never;

/** A destination for each type. */
type EachType<M> = { readonly [T in TypeOf<M>]: Destination<OfType<M, T>> };

/** Whether every message has a type, and the types are known. */
type AreTyped<M> = [M] extends [{ readonly type: string }] ? (string extends TypeOf<M> ? false : true) : false;

/** A destination for each `msg.type`, and `default` for messages with another type or none. */
export type Routes<M = unknown> = unknown extends M
  ? { readonly [type: string]: Destination<never> }
  :
      | (Partial<EachType<M>> & { readonly default: Destination<M> })
      | (AreTyped<M> extends true ? EachType<M> & { readonly default?: never } : never);

/**
 * Routes each message by `msg.type`. The routes are served side by side, each with its messages in order; types that share one destination go there
 * together. A message without a route becomes a dead letter. When a route throws while another succeeds, its unsettled messages are retried one by one,
 * because throwing would hold the other routes back as well; when every route of the call throws, the first error is thrown.
 *
 * @throws TypeError when a route is not a function.
 *
 * @example
 * class Orders extends DurableObject<Env> {
 *   sendMessages = byType({ order_created: toQueue(this.env.ORDERS_QUEUE), default: toQueue(this.env.AUDIT_QUEUE) });
 * }
 */
export function byType<M = unknown>(routes: NoInfer<Routes<M>>): Destination<M> {
  if (Object(routes) !== routes) throw expected("routes", "an object", routes);
  // A copy by own names: no type reaches what an object inherits.
  const ways = new Map(Object.entries(routes) as [string, Destination<M>][]);
  for (const [type, way] of ways) if (typeof way !== "function") throw expected(`routes.${type}`, "a function", way);
  const otherwise = ways.get("default");

  return async function (this: unknown, messages, delivery) {
    checkDelivery(delivery);
    const groups = new Map<Destination<M>, OutboxMessage<M>[]>();
    for (const message of messages) {
      const { type } = Object(message.msg) as { type?: unknown };
      const named = typeof type === "string";
      const way = (named && ways.get(type)) || otherwise;
      if (!way) {
        delivery.reject(
          message.id,
          named ? `No route for type ${JSON.stringify(type.slice(0, 60))}.` : "No route for a message without a type.",
        );
        continue;
      }
      const group = groups.get(way);
      if (group) group.push(message);
      else groups.set(way, [message]);
    }
    const sent = [...groups].map(([way, messages]) => ({
      messages,
      // Awaited, so that a rejection is handled in its own turn: before the compatibility date 2026-03-10 a later one comes too late.
      send: async () => void (await way.call(this, messages, delivery)),
    }));
    await settleGroups(sent, delivery);
  };
}
