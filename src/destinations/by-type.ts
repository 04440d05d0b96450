/** The destination that is several: each message goes the way of its type. */

import { expected } from "../errors.js";
import type { OutboxMessage } from "../message.js";
import { checkDelivery, type Destination, settleGroups } from "./destination.js";

type TypeOf<M> = M extends { readonly type: infer T extends string } ? T : never;

/** A destination for each `msg.type`, and `default` for those that have none of their own, or no type. */
export type Routes<M = unknown> = unknown extends M
  ? { readonly [type: string]: Destination<never> }
  : { readonly [T in TypeOf<M>]?: Destination<Extract<M, { readonly type: T }>> } & { readonly default?: Destination<M> };

/**
 * Routes each message by `msg.type`. The routes are sent to side by side, each with its messages in order; types that
 * share one destination go there together. A message without a route becomes a dead letter. When a route throws and
 * another one has come through, what is unsettled of it is retried, message by message, because throwing would hold
 * the other routes back as well; when every route of the call throws, the first error is thrown.
 *
 * @throws TypeError when a route is no function.
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

  // Two declared parameters: a route may set a message aside, and the next of its ordering key must not be under way.
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
          named ? `No route for type ${JSON.stringify(type.slice(0, 60))}.` : "No route for a message without type.",
        );
        continue;
      }
      const group = groups.get(way);
      if (group) group.push(message);
      else groups.set(way, [message]);
    }
    const sent = [...groups].map(([way, messages]) => ({ messages, send: async () => way.call(this, messages, delivery) }));
    await settleGroups(sent, delivery);
  };
}
