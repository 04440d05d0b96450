/** Handlers: installs the outbox's over the class's own on an instance, and finds at each call which function a name means. */

import { expected } from "./api/errors.js";
import { define } from "./storage/native.js";

export interface Handler {
  (...args: unknown[]): unknown;
  /** Whether a call may hold several messages of one ordering key, where the function itself says so. */
  readonly ordering?: unknown;
}

/** Returns what a name means now, bound to the instance: `null` when that is no function. */
export type Lookup = () => Handler | null;

/** What a class that extends a wrapped one may do with `alarm`. */
const NO_FIELD =
  "a method, or assigned in the constructor: as a field of a class that extends the wrapped one it is called in place of the outbox";

/** Marks a getter that hides a handler from a caller that reads it past the instance. */
const HIDES: unique symbol = Symbol.for("do-transactional-outbox hides") as never;
/** The read is our own. */
let asking = false;

/**
 * For a handler that only the outbox or the inbox calls. It becomes an own property of the instance, which the platform refuses over RPC.
 * The lookup returns the property as it is at the call: a wrapper that a subclass or an instrumentation library has installed reaches the
 * class's own handler through ours, and a replacement is called instead of it.
 *
 * @param missing throws: a wrapper has called a handler that the class does not have
 */
export function closed(instance: object, name: string, missing: () => never): Lookup {
  const own = ownOf(instance, name);
  const ours: Handler = (...args) => (own() ?? missing)(...args);
  // A wrapper may look at both.
  Object.defineProperties(ours, { name: { value: name }, length: { value: own()?.length ?? 0 }, ordering: { get: () => own()?.ordering } });
  define(instance, { [name]: ours });
  hide(Object.getPrototypeOf(instance), name);
  return () => {
    const current: unknown = Reflect.get(instance, name);
    return current === ours ? own() : bound(current, instance);
  };
}

/** The property of an instance as it is at each call. */
export function lookupOf(instance: object, name: string): Lookup {
  return () => bound(Reflect.get(instance, name), instance);
}

/** The handler of a named destination: the function there, or the `send` of what is there, as it is at each call. */
export function handlerIn(instance: object, property: string, name: string): Lookup {
  return () => {
    const destination: unknown = Reflect.get(Object(Reflect.get(instance, property)), name);
    if (typeof destination === "function") return bound(destination, instance);
    return bound(Reflect.get(Object(destination), "send"), Object(destination));
  };
}

/** The instance's `alarm`. */
export interface Alarm {
  /** The object's own handler, with everything that has been wrapped around it. */
  readonly own: Lookup;
  /** Whether this is the instance. */
  isOn(given: object): boolean;
  /** Takes over what a subclass has defined in place of ours, before the platform reads it. */
  adopt(): void;
  /** @throws TypeError when a subclass has defined its own in place of ours: the platform has read that one and calls it. */
  check(): void;
}

/**
 * For `alarm`, which the platform calls. It reads the property once, when the constructor has returned (tried on workerd 1.20260730), and
 * must find ours. So an assignment goes beneath ours, which calls the assigned function as the object's own handler. If that is a wrapper
 * around what it has read, it calls ours again within that call: ours then passes the call on to the handler that the wrapper replaced.
 *
 * @param enter takes the platform's call
 */
export function alarmOf(instance: object, enter: Handler): Alarm {
  /** Calls of the object's own handler under way. */
  let running = 0;
  /** The property has been read since it was last set: the next value may be a wrapper. */
  let seen = false;
  /** The handler behind each function that a read has returned. */
  const behind = new WeakMap<object, Lookup>();

  const shown = (handler: Lookup): Handler => {
    const view: Handler = (...args) => (running > 0 ? handler()?.(...args) : enter(...args));
    behind.set(view, handler);
    return view;
  };
  let handler = ownOf(instance, "alarm");
  let view = shown(handler);

  const get = (): Handler => {
    seen = true;
    return view;
  };
  const set = (value: unknown): void => {
    handler = behind.get(Object(value)) ?? (() => bound(value, instance));
    view = behind.has(Object(value)) ? (value as Handler) : shown(handler);
    seen = false;
  };
  const place = (): void => void Object.defineProperty(instance, "alarm", { get, set, configurable: true });
  place();

  /** The property that has replaced ours, if one has. */
  const other = (): PropertyDescriptor | undefined => {
    const property = Object.getOwnPropertyDescriptor(instance, "alarm");
    return property?.get === get ? undefined : (property ?? {});
  };

  return {
    own() {
      const current = handler();
      return (
        current &&
        (async (...args) => {
          running++;
          try {
            return await current(...args);
          } finally {
            running--;
          }
        })
      );
    },

    isOn: (given) => given === instance || Object.getOwnPropertyDescriptor(given, "alarm")?.get === get,

    adopt() {
      const property = other();
      if (!property) return;
      set(property.get ? property.get.call(instance) : property.value);
      place();
    },

    check() {
      if (!other() || seen) return;
      throw expected("alarm", NO_FIELD, Reflect.get(instance, "alarm"));
    },
  };
}

/** The class's own: an own property as it is now, or whatever the prototypes have when it is called. */
function ownOf(instance: object, name: string): Lookup {
  const found: unknown = Reflect.get(instance, name);
  const property = Object.getOwnPropertyDescriptor(instance, name);
  if (property?.get) return () => bound(property.get?.call(instance), instance);
  const inherited = (): unknown => {
    const outer = asking;
    asking = true;
    try {
      return Reflect.get(Object.getPrototypeOf(instance) ?? {}, name, instance);
    } finally {
      asking = outer;
    }
  };
  // A proxy may return something else than its prototypes have.
  return property || inherited() !== found ? () => bound(found, instance) : () => bound(inherited(), instance);
}

function bound(value: unknown, instance: object): Handler | null {
  // Not the function's own `bind`: a stub's method would be called for it.
  if (typeof value !== "function") return null;
  const { ordering } = value as Handler;
  const handler: Handler = Function.prototype.bind.call(value, instance);
  return ordering === undefined ? handler : Object.assign(handler, { ordering });
}

/**
 * Vite's dev server reads a method from the prototype of an object's class, past the instance's own properties. Nothing else does: the
 * object's own code finds the own property first, and `super` in a subclass reads for an instance of that subclass.
 */
function hide(prototype: object | null, name: string): void {
  if (!prototype || prototype === Object.prototype) return;
  const before = Object.getOwnPropertyDescriptor(prototype, name);
  if ((before?.get && HIDES in before.get) || before?.configurable === false || !Object.isExtensible(prototype)) return;
  const real = (instance: unknown): unknown => {
    if (!before) return Reflect.get(Object.getPrototypeOf(prototype), name, instance);
    return before.get ? before.get.call(instance) : before.value;
  };
  const get = function (this: unknown): unknown {
    // A spy calls the getter by itself.
    const past = !asking && Object(this) === this && Object.getPrototypeOf(this) === prototype && Object.hasOwn(this as object, name);
    return past ? undefined : real(this);
  };
  // As an assignment to a property that has no accessor.
  const set = function (this: object, value: unknown): void {
    const enumerable = this === prototype ? (before?.enumerable ?? true) : true;
    Object.defineProperty(this, name, { value, enumerable, writable: true, configurable: true });
  };
  Object.defineProperty(prototype, name, {
    get: Object.assign(get, { [HIDES]: true }),
    set,
    enumerable: before?.enumerable ?? false,
    configurable: true,
  });
}
