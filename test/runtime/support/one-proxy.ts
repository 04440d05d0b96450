/** Keeps the start of an object as quick as the first: the pool puts one more proxy around a class's prototype at every start, and each lookup passes through all of them. */

const Native = Proxy;

/** What each of the pool's proxies stands around. */
const within = new WeakMap<object, object>();

globalThis.Proxy = new Native(Native, {
  construct(_, [target, handler]: [object, ProxyHandler<object>]) {
    if (!String(handler?.get).includes("getUnknownPrototypeKey")) return new Native(target, handler);
    const prototype = within.get(target) ?? target;
    const proxy = new Native(prototype, handler);
    within.set(proxy, prototype);
    return proxy;
  },
});
