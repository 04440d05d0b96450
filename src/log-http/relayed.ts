/** The object's side of a relay: a class whose sockets to relays may hibernate, and are no business of its own handlers. */

import { CORE } from "../api/core.js";
import { expected } from "../api/errors.js";
import { isAttaching } from "./attach.js";
import type { LogSource } from "./chunk.js";
import { type Relays, relaysOf } from "./relays.js";

/** A class whose log can be relayed: its `fetch` answers with `serveLog`. */
export type RelayedClass = new (ctx: DurableObjectState, env: never, ...rest: never[]) => object;

/** Where an object, and its state, keep its relays: a dev server constructs another instance for the same state. */
const RELAYS: unique symbol = Symbol.for("do-transactional-outbox relays 1") as never;

type Related = { [RELAYS]?: Relays };
type Own = (...args: unknown[]) => unknown;
type Handler = (relays: Relays, own: Own, ...args: never[]) => unknown;

/** What is called in place of the class's own handlers. */
const HANDLERS: Readonly<Record<string, Handler>> = {
  fetch: (relays, own, request: Request) => (isAttaching(request) ? relays.attach(request, own) : own(request)),
  webSocketMessage: (relays, own, socket: WebSocket, ...rest) => (relays.owns(socket) ? undefined : own(socket, ...rest)),
  webSocketClose: (relays, own, socket: WebSocket, ...rest) => (relays.owns(socket) ? relays.close(socket) : own(socket, ...rest)),
  webSocketError: (relays, own, socket: WebSocket, ...rest) => (relays.owns(socket) ? undefined : own(socket, ...rest)),
};

/**
 * Lets readers wait for the next message of a log without keeping its object in memory. A worker that calls `relayLog` holds their requests, and for each
 * of them one WebSocket to the object, with which the object can hibernate. Pages are read by the object's own `fetch`, which must answer with
 * `serveLog`: its `authorize` decides on every one.
 *
 * The class's own WebSockets stay as they are. Its handlers are not called for those of relays, and `ctx.getWebSockets()` leaves them out. They count
 * towards the platform's limit of WebSockets for an object.
 *
 * @throws TypeError when it is given no class, or, when an object starts, one that is not wrapped by `withTransactionalOutbox` as well: within this or
 * around it
 *
 * @example
 * export class Feed extends withLogRelay(withTransactionalOutbox(FeedBase, { retain: "all" })) {}
 */
export function withLogRelay<C extends RelayedClass>(cls: C): C {
  if (typeof cls !== "function") throw expected("cls", "a class", cls);
  const Base = cls as unknown as new (...args: unknown[]) => object;
  const Relayed = class extends Base {
    static override readonly name = cls.name;
    constructor(...args: unknown[]) {
      const ctx = args[0] as DurableObjectState & Related;
      // Before the class's own constructor asks for its WebSockets.
      if (!ctx[RELAYS]) Object.defineProperty(ctx, RELAYS, { value: relaysOf(ctx) });
      super(...args);
      const { [RELAYS]: relays, [CORE]: core } = ctx as Related & { [CORE]?: { readonly manager: LogSource } };
      if (!core || !relays) throw expected("cls", "a class that is wrapped withTransactionalOutbox(), too", cls);
      Object.defineProperty(this, RELAYS, { value: relays, configurable: true });
      adopt(this, Relayed.prototype);
      relays.start(core.manager);
    }
  };
  for (const [name, handler] of Object.entries(HANDLERS)) {
    install(Relayed.prototype, name, handler, (instance) => Reflect.get(Base.prototype, name, instance));
  }
  return Relayed as unknown as C;
}

/** Puts ours before what the class's constructor, or a class that extends this one, has in the place of the prototype's. */
function adopt(instance: object, prototype: object): void {
  for (const [name, handler] of Object.entries(HANDLERS)) {
    const own: unknown = Reflect.get(instance, name);
    if (own !== Reflect.get(prototype, name)) install(instance, name, handler, () => own);
  }
}

function install(target: object, name: string, handler: Handler, ownOf: (instance: object) => unknown): void {
  function value(this: object, ...args: never[]): unknown {
    const own: Own = (...given) => {
      const called = ownOf(this);
      if (typeof called === "function") return Reflect.apply(called, this, given);
      if (name === "fetch") throw expected("cls", "a class with fetch(), which calls serveLog()", called);
      // A class without the handler has no use for the event.
      return undefined;
    };
    const { [RELAYS]: relays } = this as Related;
    return relays ? handler(relays, own, ...args) : own(...args);
  }
  Object.defineProperty(target, name, { value, writable: true, configurable: true });
}
