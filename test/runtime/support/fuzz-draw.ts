/** What a fuzzer draws: numbers from a seed, and values of every kind that a program can hand over, the malicious ones included. */

/** Numbers and choices from a seed; it remembers the names of what was drawn, so that a case can be told. */
export class Draw {
  #state: number;
  readonly drawn: string[] = [];

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** From 0 to below 1 (mulberry32). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  chance(share: number): boolean {
    return this.next() < share;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }

  /** One of several makers of values, by name. */
  named<T>(makers: Readonly<Record<string, (draw: Draw) => T>>): T {
    const name = this.pick(Object.keys(makers));
    this.drawn.push(name);
    return (makers[name] as (draw: Draw) => T)(this);
  }
}

/** What user code throws here, so that it is known again. */
export class Planted extends Error {}

const raise = (): never => {
  throw new Planted("planted");
};

function revoked(): object {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

/** A proxy of which every use throws. */
function hostile(target: object = {}): object {
  const traps = ["get", "has", "ownKeys", "getOwnPropertyDescriptor", "getPrototypeOf", "set", "defineProperty", "isExtensible"];
  return new Proxy(target, Object.fromEntries(traps.map((trap) => [trap, raise])));
}

function detached(): ArrayBuffer {
  const buffer = new ArrayBuffer(8);
  structuredClone(buffer, { transfer: [buffer] });
  return buffer;
}

function cyclic(inner: unknown = 1): object {
  const cycle: Record<string, unknown> = { inner };
  cycle.self = cycle;
  return cycle;
}

function deep(levels: number): object {
  let value: object = {};
  for (let level = 0; level < levels; level++) value = level % 2 ? [value] : { value };
  return value;
}

/** Values that storage can hold: what they are when they come back is compared. */
export const PLAIN: Readonly<Record<string, (draw: Draw) => unknown>> = {
  number: (draw) => draw.below(1000),
  text: (draw) => "x".repeat(draw.below(40)),
  wide: () => "✓ outside Latin-1 \u{1F600}",
  lines: () => "one\ntwo\r\n\u2028three",
  quotes: () => '"],["\\',
  surrogate: () => "\ud800 alone",
  null: () => null,
  boolean: () => true,
  object: (draw) => ({ n: draw.below(10), list: [1, "two", null], deep: { er: true } }),
  list: () => [[], {}, [1, [2]]],
  date: () => new Date(1e12),
  map: () =>
    new Map<unknown, unknown>([
      ["a", 1],
      [{ b: 2 }, new Set([1])],
    ]),
  bytes: () => new Uint8Array([1, 2, 3]),
  bigint: () => 2n ** 70n,
  minusZero: () => -0,
  nan: () => Number.NaN,
  infinity: () => Number.POSITIVE_INFINITY,
  holes: () => Object.assign([], { 0: 1, 2: 3 }),
  undefinedInside: () => ({ a: undefined, b: [undefined] }),
  error: () => new RangeError("stored"),
  cyclic: () => cyclic(),
  boxed: () => Object("boxed"),
  regexp: () => /x+/giu,
  proto: () => JSON.parse('{"__proto__": {"polluted": true}, "constructor": 1, "toJSON": 2}'),
  toJson: () => new Date(5),
  deep: () => deep(50),
  bigList: () => Array.from({ length: 1200 }, (_, n) => n % 3),
  kilobytes: () => "y".repeat(5000),
};

/** Everything else. Some of it can be stored as well. */
export const JUNK: Readonly<Record<string, (draw: Draw) => unknown>> = {
  undefined: () => undefined,
  null: () => null,
  zero: () => 0,
  negative: () => -1,
  fraction: () => 0.1,
  nan: () => Number.NaN,
  infinity: () => Number.NEGATIVE_INFINITY,
  huge: () => 1e300,
  bigint: () => 5n,
  false: () => false,
  emptyText: () => "",
  text: () => "text",
  longText: () => "k".repeat(300),
  reserved: () => "\u{10FFFF}outbox/h",
  beyond: () => "\u{10FFFF}",
  surrogate: () => "\udc00",
  nul: () => "a\0b",
  proto: () => "__proto__",
  symbol: () => Symbol("s"),
  function: () => () => {},
  asyncFunction: () => async () => {},
  class: () => class Wrong {},
  array: () => [],
  mixed: () => ["a", 1, null, undefined, {}, Symbol()],
  reservedInside: () => ["a", "\u{10FFFF}outbox/h"],
  object: () => ({}),
  noPrototype: () => Object.create(null),
  frozen: () => Object.freeze({ a: Object.freeze([1]) }),
  date: () => new Date(),
  badDate: () => new Date(Number.NaN),
  map: () => new Map([["id", "x"]]),
  promise: () => Promise.resolve(1),
  // biome-ignore lint/suspicious/noThenProperty: a thenable is what is drawn here.
  thenable: () => ({ then: raise }),
  revoked: () => revoked(),
  hostile: () => hostile(),
  hostileList: () => hostile([]),
  hostileFunction: () => hostile(() => {}),
  getter: () => ({
    get a() {
      return raise();
    },
  }),
  throwingText: () => ({ toString: raise, valueOf: raise }),
  primitive: () => ({ [Symbol.toPrimitive]: () => "\u{10FFFF}outbox/h" }),
  toJson: () => ({ toJSON: raise }),
  cyclicBad: () => cyclic(() => {}),
  detached: () => detached(),
  weak: () => new WeakMap(),
  iterator: () => [1, 2][Symbol.iterator](),
  generator: () =>
    (function* () {
      yield 1;
    })(),
  arguments: (...args) => args,
  response: () => new Response("body"),
  stream: () => new ReadableStream(),
  request: () => new Request("http://127.0.0.1/"),
  headers: () => new Headers({ a: "b" }),
  signal: () => new AbortController().signal,
  boxed: () => Object(Symbol("boxed")),
  sparse: () => {
    const sparse: number[] = [];
    sparse[5000] = 1;
    return sparse;
  },
  deep: () => deep(300),
  counting: () => {
    let reads = 0;
    return {
      get id() {
        return reads++ === 0 ? "first" : "\u{10FFFF}";
      },
    };
  },
};

/** Too large for either backend: seldom, because it takes long. */
export const TOO_LARGE: Readonly<Record<string, (draw: Draw) => unknown>> = {
  megabytes: () => "z".repeat(2_200_000),
  bytes: () => new Uint8Array(2_200_000),
};

/** Every part of a value as one text: equal when storage gives back what it was given. */
export function print(value: unknown, seen: Set<unknown> = new Set()): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (Object(value) !== value) return Object.is(value, -0) ? "-0" : `${typeof value} ${String(value)}`;
  if (seen.has(value)) return "again";
  seen.add(value);
  const part = (inner: unknown): string => print(inner, seen);
  if (value instanceof Date) return `Date ${value.getTime()}`;
  if (value instanceof RegExp || value instanceof Error) return String(value);
  if (value instanceof Map) return `Map ${[...value].map(([key, inner]) => `${part(key)}:${part(inner)}`).join()}`;
  if (value instanceof Set) return `Set ${[...value].map(part).join()}`;
  if (value instanceof ArrayBuffer) return `Bytes ${new Uint8Array(value).join()}`;
  if (ArrayBuffer.isView(value))
    return `${value.constructor.name} ${new Uint8Array(value.buffer, value.byteOffset, value.byteLength).join()}`;
  if (value instanceof String || value instanceof Number || value instanceof Boolean) return `boxed ${part(value.valueOf())}`;
  const names = Object.keys(value as object);
  return `${Array.isArray(value) ? value.length : ""}{${names.map((name) => `${JSON.stringify(name)}:${part((value as Record<string, unknown>)[name])}`).join()}}`;
}
