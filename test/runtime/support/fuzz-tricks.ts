/** The tricks of the destination fuzzer: what user code does within `sendMessages`, what it throws, and what it returns. */
import type { OutboxDelivery, OutboxManager, OutboxMessage } from "../../../src/index.ts";
import { type Draw, JUNK, Planted } from "./fuzz-draw.ts";

/** What the object is reset with. */
export const ABORTED = "the crash that the fuzzer wants";

export type Outcome = "ack" | "retry" | "reject";

/** One call, as its tricks see it. */
export interface Trick {
  readonly draw: Draw;
  readonly outbox: OutboxManager;
  readonly state: DurableObjectState;
  readonly messages: OutboxMessage[];
  /** As they were at the call. */
  readonly ids: readonly string[];
  readonly delivery: OutboxDelivery;
  /** What has counted: the first outcome of each. */
  readonly outcomes: Map<string, Outcome>;
  /** What earlier calls were given, and some of their ids: outcomes that come too late. */
  readonly late: readonly { readonly delivery: OutboxDelivery; readonly ids: readonly string[] }[];
  /** The destination has taken a message. */
  readonly took: (id: string) => void;
  /** A message has been stored meanwhile, or taken back. */
  readonly stored: (id: string) => void;
  readonly withdrawn: (id: string) => void;
}

const THEN = "then";

const raise = (): never => {
  throw new Planted("planted");
};

/** An outcome that counts where the call takes it. */
function give({ delivery, outcomes, ids, took }: Trick, kind: Outcome, id: unknown, more?: unknown): void {
  try {
    (delivery[kind] as (...args: unknown[]) => void)(id, more);
  } catch {
    // What is refused has not counted.
    return;
  }
  if (typeof id !== "string" || !ids.includes(id) || outcomes.has(id)) return;
  outcomes.set(id, kind);
  // It counts whatever becomes of the call.
  if (kind === "ack") took(id);
}

const KINDS = ["ack", "retry", "reject"] as const;

/** What is done to the list must not matter. */
function vandalise(draw: Draw, messages: OutboxMessage[]): void {
  const list = messages as unknown as Record<string, unknown>[];
  const ways: (() => unknown)[] = [
    () => list.splice(0, 1 + draw.below(3)),
    () => list.reverse(),
    () => list.push({ id: "invented", msg: 1 }),
    () => Object.freeze(list),
    () => list.forEach(Object.freeze),
    () => {
      list.length = 0;
    },
    () => {
      for (const message of list) Object.assign(message, { id: "changed", msg: null, sequence: -1, attempts: "many", key: {} });
    },
    () => {
      for (const message of list) for (const name of Object.keys(message)) delete message[name];
    },
    () => list.fill(raise as never),
  ];
  try {
    draw.pick(ways)();
  } catch {
    // It has been frozen before.
  }
}

/** Calls of the manager that are not waited for: what they store is told when it is stored. */
const quietly = (call: Promise<unknown>): void => void call.catch(() => {});

export const TRICKS: Readonly<Record<string, (trick: Trick) => unknown>> = {
  settle: (trick) => {
    for (const id of trick.ids) if (trick.draw.chance(0.5)) give(trick, trick.draw.pick(KINDS), id);
  },
  settleTwice: (trick) => {
    for (const id of trick.ids.slice(0, 2)) for (let i = 0; i < 3; i++) give(trick, trick.draw.pick(KINDS), id);
  },
  settleJunk: (trick) => give(trick, trick.draw.pick(KINDS), trick.draw.named(JUNK), trick.draw.named(JUNK)),
  optionsJunk: (trick) => give(trick, trick.draw.pick(["retry", "reject"]), trick.ids[0], trick.draw.named(JUNK)),
  retrySoon: (trick) => give(trick, "retry", trick.ids[0], { delaySeconds: 0.002 }),
  delayJunk: (trick) => give(trick, "retry", trick.ids.at(-1), { delaySeconds: trick.draw.named(JUNK) }),
  unknownId: (trick) => give(trick, trick.draw.pick(KINDS), "own:unknown"),
  late: ({ draw, late }) => {
    const { delivery, ids } = late.length > 0 ? draw.pick(late) : { delivery: undefined, ids: [] };
    for (const id of ids) {
      try {
        delivery?.[draw.pick(KINDS)](id);
      } catch {
        // An outcome that comes too late is told of, and not thrown.
      }
    }
  },
  vandalise: ({ draw, messages }) => vandalise(draw, messages),
  overwrite: ({ delivery }) => Object.assign(delivery as object, { ack: raise, retry: raise, reject: raise }),
  freeze: ({ delivery }) => Object.freeze(delivery),
  signal: ({ delivery }) => delivery.signal.aborted,
  wait: ({ draw }) => scheduler.wait(draw.below(3)),
  put: ({ outbox, stored }) => quietly(outbox.put("within", 1, "within").then(({ id }) => stored(id))),
  putAwaited: async ({ outbox, stored }) => stored((await outbox.put("within", 1, "within")).id),
  putRefused: ({ outbox }) => quietly(outbox.put("within", raise, "refused")),
  sendKeyed: ({ outbox, stored }) => quietly(outbox.send("within", { key: "a" }).then(({ id }) => stored(id))),
  transaction: async ({ outbox, draw }) => {
    const thrown = outbox.transaction(async (txn) => {
      await txn.put("within", 2);
      if (draw.chance(0.5)) txn.rollback();
      else raise();
    });
    await thrown.catch(() => {});
  },
  stats: ({ outbox }) => outbox.stats(),
  list: ({ outbox, draw }) => outbox.list({ state: draw.pick(["pending", "delayed"]), limit: 5 }),
  cancel: async ({ outbox, ids, withdrawn, draw }) => {
    const [pending] = draw.chance(0.5) ? await outbox.list({ limit: 3 }) : [];
    const id = pending?.id ?? ids[0] ?? "";
    if (await outbox.cancel(id)) withdrawn(id);
  },
  redrive: ({ outbox }) => quietly(outbox.redrive()),
  pause: ({ outbox }) => quietly(outbox.pause()),
  resume: ({ outbox }) => quietly(outbox.resume()),
  flush: ({ outbox }) => quietly(outbox.flush()),
  newEpoch: ({ outbox, draw }) => draw.chance(0.2) && outbox.newEpoch(),
  setAlarm: ({ state, draw }) => quietly(state.storage.setAlarm(Date.now() + draw.below(20))),
  deleteAlarm: ({ state }) => state.storage.deleteAlarm(),
  deleteAll: ({ state }) => state.storage.deleteAll(),
  deleteAllWith: ({ outbox, stored }) => quietly(outbox.deleteAll("last").then(({ id }) => stored(id))),
  list2: async ({ state }) => void (await state.storage.list()),
};

/** What is thrown. */
export const THROWS: Readonly<Record<string, () => unknown>> = {
  undefined: () => undefined,
  null: () => null,
  number: () => 0,
  text: () => "text",
  symbol: () => Symbol("thrown"),
  function: () => () => {},
  error: () => new Planted("planted"),
  longError: () => new Error("e".repeat(100_000)),
  noText: () => ({ toString: raise, valueOf: raise }),
  badMessage: () => ({
    get message() {
      return raise();
    },
  }),
  symbolMessage: () => ({ message: Symbol("message") }),
  objectMessage: () => ({ message: { toString: raise } }),
  hostile: () => JUNK.hostile?.(undefined as never),
  revoked: () => JUNK.revoked?.(undefined as never),
  noPrototype: () => Object.create(null),
  retryAfter: () => Object.assign(new Error("busy"), { retryAfterSeconds: 0.003 }),
  retryAfterSymbol: () => ({ retryAfterSeconds: Symbol("seconds") }),
  retryAfterThrows: () => ({
    get retryAfterSeconds() {
      return raise();
    },
  }),
  retryAfterEndless: () => ({ retryAfterSeconds: Number.POSITIVE_INFINITY }),
  retryAfterBefore: () => ({ retryAfterSeconds: -1e9 }),
  retryAfterBigint: () => ({ retryAfterSeconds: 1n }),
  frozen: () => Object.freeze(new Error("frozen")),
  domException: () => new DOMException("aborted", "AbortError"),
};

/** What is returned, and whether that is a success. */
export const RETURNS: Readonly<Record<string, (draw: Draw) => readonly [value: unknown, settles: boolean]>> = {
  nothing: () => [undefined, true],
  plainly: () => [1, true],
  text: () => ["garbage", true],
  error: () => [new Error("returned, not thrown"), true],
  outcomes: () => [{ ack: "all" }, true],
  list: () => [[undefined, null], true],
  function: () => [() => {}, true],
  symbol: () => [Symbol("returned"), true],
  response: () => [new Response("garbage"), true],
  promise: () => [Promise.resolve(), true],
  later: (draw) => [scheduler.wait(draw.below(4)), true],
  notThenable: () => [thenable(1), true],
  thenable: () => [thenable((resolve: () => void) => resolve()), true],
  twice: () => [
    thenable((resolve: () => void, reject: (error: unknown) => void) => {
      resolve();
      reject(new Planted());
      raise();
    }),
    true,
  ],
  nested: () => [thenable((resolve: (inner: unknown) => void) => resolve(thenable((inner: () => void) => inner()))), true],
  throwing: () => [thenable(raise), false],
  rejecting: () => [thenable((_: unknown, reject: (error: unknown) => void) => reject(undefined)), false],
  nestedRejecting: () => [thenable((resolve: (inner: unknown) => void) => resolve(Promise.reject(null))), false],
  getter: () => [Object.defineProperty({}, THEN, { get: raise }), false],
  hostile: () => [JUNK.hostile?.(undefined as never), false],
  revoked: () => [JUNK.revoked?.(undefined as never), false],
  rejected: () => [Promise.reject(new Planted()), false],
  rejectedWithSymbol: () => [Promise.reject(Symbol("rejected")), false],
  never: (draw) => (draw.chance(0.3) ? [new Promise(() => {}), false] : [undefined, true]),
  neverThenable: (draw) => (draw.chance(0.3) ? [thenable(() => {}), false] : [undefined, true]),
};

function thenable(then: unknown): object {
  return Object.fromEntries([[THEN, then]]);
}
