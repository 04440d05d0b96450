/** The wrapper: lets the inspector reach an object's outbox, by one RPC method. */

import { expected } from "../api/errors.js";
import { coreIn, coreOf, isDecorator, outboxOf, type Wrappable } from "../compose.js";
import { answer } from "./answer.js";
import type { InspectedObject, InspectorAnswer } from "./calls.js";

/** A class that can be wrapped. */
export type InspectedClass = new (ctx: DurableObjectState, env: never, ...rest: never[]) => object;

/** The wrapped class: with the statics and the constructor of its class, and one more method. */
export type WithInspector<C extends InspectedClass> = { readonly [K in keyof C]: C[K] } & (new (
  ...args: ConstructorParameters<C>
) => InstanceType<C> & InspectedObject);

const WRAPPED: unique symbol = Symbol();
/** Where an instance keeps what its `inspectOutbox` calls: a proxy around it finds that as well. */
const ANSWER: unique symbol = Symbol();

/**
 * Wraps a Durable Object class, so that `inspector()` can show its outbox and act on it, through the RPC method `inspectOutbox`. Without this wrapper nothing
 * of an outbox can be reached from outside. Combines with `withTransactionalOutbox` and `withTransactionalInbox` in any order. Writes nothing.
 *
 * Whatever has a binding to the namespace can call the method, as any other of the class; browsers reach it through `inspector()` alone, which asks
 * `authorize` first.
 *
 * @throws TypeError when the class has an `inspectOutbox` of its own
 *
 * @example
 * export class Orders extends withInspector(withTransactionalOutbox(OrdersBase)) {}
 */
export function withInspector<C extends InspectedClass>(cls: C, context?: ClassDecoratorContext): WithInspector<C> {
  if (typeof cls !== "function") throw expected("cls", "a class", cls);
  if (context !== undefined && !isDecorator(context)) throw expected("context", "left out", context);
  if ((cls as { [WRAPPED]?: true })[WRAPPED]) return cls as unknown as WithInspector<C>;
  if ("inspectOutbox" in cls.prototype) throw expected("cls", "a class without an inspectOutbox() of its own", cls.name);
  const Base = cls as unknown as Wrappable;
  const Wrapped = class extends Base {
    static readonly [WRAPPED] = true;
    static override readonly name = cls.name;
    constructor(...args: unknown[]) {
      const [ctx] = args as [DurableObjectState];
      const chosen = outboxOf(cls);
      // A wrapper in between may hand on a state of its own: what the outbox within puts there could not be found from here.
      const core = chosen && coreOf(ctx, chosen);
      super(...args);
      // A wrapper in between may have constructed its class as if nothing extended it (Sentry 10.8 did).
      if (!Object.prototype.isPrototypeOf.call(Wrapped.prototype, this)) Object.setPrototypeOf(this, new.target.prototype);
      Object.defineProperty(this, ANSWER, { value: (question: unknown) => answer(core ?? coreIn(ctx), question) });
    }

    inspectOutbox(question: unknown): Promise<InspectorAnswer> {
      const ask = (this as { [ANSWER]?: (question: unknown) => Promise<InspectorAnswer> })[ANSWER];
      if (!ask) throw expected("this", "a wrapped object", this);
      return ask(question);
    }
  };
  return Wrapped as unknown as WithInspector<C>;
}
