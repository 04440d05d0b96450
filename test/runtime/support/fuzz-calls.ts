/** The calls of the argument fuzzer: each method of the manager, and of storage beside it, with sane and with malicious arguments. */
import type { OutboxManager, OutboxPutOptions, OutboxReceipt } from "../../../src/index.ts";
import { type Draw, JUNK, PLAIN, Planted, print, TOO_LARGE } from "./fuzz-draw.ts";

/** What one call came to. */
export interface Result {
  /** Messages that were stored. `null` where the call does not tell whether it found the id known. */
  readonly stored: number | null;
  readonly receipts: readonly OutboxReceipt[];
  /** The object's own keys that it has written (their values as a text, `null` where that can't be known) or deleted (`undefined`). */
  readonly own: readonly (readonly [key: string, print: string | null | undefined])[];
  /** All own keys are gone, before those of `own` were written. */
  readonly cleared?: boolean;
  /** This message has been taken back. */
  readonly cancelled?: string;
  readonly error?: unknown;
}

export interface Target {
  readonly outbox: OutboxManager;
  readonly storage: DurableObjectStorage;
  readonly sqlite: boolean;
  /** What getters of arguments have stored meanwhile. */
  readonly meanwhile: Promise<OutboxReceipt>[];
}

type Any = (...args: unknown[]) => Promise<unknown>;

const NOTHING = { stored: 0, receipts: [], own: [] } as const;

const KEYS = ["a", "b", "c", "__proto__", "constructor", "toString", "", " ", "key:✓", "k".repeat(2000)];

const junk = (draw: Draw): unknown => (draw.chance(0.0005) ? draw.named(TOO_LARGE) : draw.named(JUNK));

/** Of an argument that is to be checked, half of all draws are junk. */
const either = <T>(draw: Draw, sane: (draw: Draw) => T): T => (draw.chance(0.5) ? sane(draw) : (junk(draw) as T));

/** A message: half of them plain, some with a getter that stores another message while this one is looked at. */
function messageOf(draw: Draw, { outbox, meanwhile }: Target, within = false): unknown {
  if (draw.chance(0.6)) return draw.named(PLAIN);
  // In a transaction it would be a part of that, and roll back with it.
  if (draw.chance(0.9) || within) return junk(draw);
  draw.drawn.push("reentrant");
  let reads = 0;
  return {
    get a() {
      if (reads++ === 0) meanwhile.push(outbox.send("meanwhile"));
      return 1;
    },
  };
}

const OPTION: Readonly<Record<string, (draw: Draw) => unknown>> = {
  id: (draw) => either(draw, () => `own:${draw.below(8)}`),
  key: (draw) => either(draw, () => draw.pick(["a", "b", '"', "\u{10FFFF}"])),
  delaySeconds: (draw) => either(draw, () => draw.pick([0, 0.001, 600])),
  deliverAt: (draw) => either(draw, () => draw.pick([0, 1e12, new Date(0)])),
  expiresInSeconds: (draw) => either(draw, () => draw.pick([0.001, 600, 315_360_000])),
  headers: (draw) => either(draw, () => draw.pick([{}, { traceparent: "00-x" }, { "✓": "✓" }])),
  allowConcurrency: (draw) => either(draw, () => true),
  allowUnconfirmed: (draw) => either(draw, () => false),
  noCache: (draw) => either(draw, () => true),
  unknown: junk,
};

function optionsOf(draw: Draw): OutboxPutOptions | undefined {
  if (draw.chance(0.4)) return undefined;
  if (draw.chance(0.15)) return junk(draw) as OutboxPutOptions;
  const names = Object.keys(OPTION).filter(() => draw.chance(0.2));
  return Object.fromEntries(
    names.map((name) => {
      draw.drawn.push(`${name}=`);
      return [name, OPTION[name]?.(draw)];
    }),
  );
}

/** What stands when a value has been written. Undefined is not written. */
function written(key: unknown, value: unknown): Result["own"] {
  if (typeof key !== "string" || value === undefined) return [];
  return [[key, textOf(value)]];
}

function textOf(value: unknown): string | null {
  try {
    // What says something else each time that it is read can't be known.
    if (Object.values(Object.getOwnPropertyDescriptors(Object(value))).some(({ get }) => get)) return null;
    return print(structuredClone(value));
  } catch {
    return null;
  }
}

const stored = (receipt: unknown): Pick<Result, "stored" | "receipts"> => {
  const one = receipt as OutboxReceipt;
  return { stored: one.deduplicated ? 0 : 1, receipts: [one] };
};

type Call = (draw: Draw, target: Target) => Promise<Result>;

async function put(draw: Draw, target: Target): Promise<Result> {
  // Nothing large: a buffer in place of a key is two million entries.
  const drawn = draw.chance(0.8) ? draw.pick(KEYS) : draw.named(JUNK);
  // Of half a character storage makes something else.
  const key = drawn === "\udc00" ? "a" : drawn;
  const value = draw.chance(0.7) ? draw.named(PLAIN) : junk(draw);
  const [msg, options] = [messageOf(draw, target), optionsOf(draw)];
  const own = written(key, value);
  // What is no text is taken for entries, and then the message is one place further on.
  const receipt = await (target.outbox.put as Any)(key, value, msg, options);
  return { ...stored(receipt), own: typeof key === "string" ? own : ownOf(key) };
}

function ownOf(entries: unknown): Result["own"] {
  try {
    return Object.entries(Object.getOwnPropertyDescriptors(entries as object)).flatMap(([key, { value, get, enumerable }]) => {
      if (!enumerable) return [];
      return get ? [[key, null] as const] : written(key, value);
    });
  } catch {
    return [];
  }
}

async function putEntries(draw: Draw, target: Target): Promise<Result> {
  const count = draw.chance(0.007) ? 130 : draw.below(4);
  const rows = Array.from({ length: count }, (_, n) => [count > 4 ? `wide:${n}` : draw.pick(KEYS), draw.named(PLAIN)]);
  if (draw.chance(0.3)) rows.push([draw.pick(KEYS), junk(draw)]);
  if (draw.chance(0.05)) rows.push(["\u{10FFFF}x", 1]);
  const entries = Object.fromEntries(rows);
  const [msg, options] = [messageOf(draw, target), optionsOf(draw)];
  const own = ownOf(entries);
  return { ...stored(await (target.outbox.put as Any)(entries, msg, options)), own };
}

async function remove(draw: Draw, target: Target): Promise<Result> {
  const key = draw.chance(0.4) ? draw.pick(KEYS) : draw.chance(0.6) ? [draw.pick(KEYS), draw.pick(KEYS)] : junk(draw);
  const [msg, options] = [messageOf(draw, target), optionsOf(draw)];
  await (target.outbox.delete as Any)(key, msg, options);
  const keys = [key].flat().filter((one) => typeof one === "string");
  return { ...NOTHING, stored: options?.id === undefined ? 1 : null, own: keys.map((one) => [one, undefined] as const) };
}

const send: Call = async (draw, target) => {
  const [msg, options] = [messageOf(draw, target), optionsOf(draw)];
  return { ...NOTHING, ...stored(await (target.outbox.send as Any)(msg, options)) };
};

const deleteAll: Call = async (draw, target) => {
  const [msg, options] = [messageOf(draw, target), optionsOf(draw)];
  return { ...NOTHING, ...stored(await (target.outbox.deleteAll as Any)(msg, options)), cleared: true };
};

/** How a closure ends. */
const ENDS: Readonly<Record<string, (draw: Draw) => unknown>> = {
  returns: () => 1,
  throws: () => {
    throw new Planted("planted");
  },
  throwsJunk: (draw) => {
    throw junk(draw);
  },
};

async function transaction(draw: Draw, target: Target): Promise<Result> {
  if (draw.chance(0.1)) {
    await (target.outbox.transaction as unknown as Any)(junk(draw));
    return NOTHING;
  }
  const receipts: OutboxReceipt[] = [];
  const own: [string, string | null][] = [];
  let undone = false;
  await target.outbox.transaction(async (txn) => {
    for (let step = 1 + draw.below(3); step > 0; step--) {
      const key = draw.pick(KEYS);
      if (draw.chance(0.5)) {
        await txn.put(key, step);
        own.push([key, print(step)]);
      }
      const [msg, options] = [messageOf(draw, target, true), optionsOf(draw)];
      const sent = (txn.send as Any)(msg, options);
      if (draw.chance(0.3)) await sent.then((receipt) => receipts.push(receipt as OutboxReceipt));
      // A closure that minds no error.
      else await sent.then((receipt) => receipts.push(receipt as OutboxReceipt)).catch(() => {});
    }
    if (draw.chance(0.2)) {
      txn.rollback();
      undone = true;
    } else draw.named(ENDS);
  });
  if (undone) return NOTHING;
  return { stored: receipts.filter(({ deduplicated }) => !deduplicated).length, receipts, own };
}

async function transactionSync(draw: Draw, target: Target): Promise<Result> {
  if (draw.chance(0.1)) {
    (target.outbox.transactionSync as (closure: unknown) => unknown)(draw.chance(0.3) ? async () => {} : junk(draw));
    return NOTHING;
  }
  const receipts: OutboxReceipt[] = [];
  const own: [string, string | null][] = [];
  target.outbox.transactionSync(({ kv, send }) => {
    for (let step = 1 + draw.below(3); step > 0; step--) {
      const key = draw.pick(KEYS);
      kv.put(key, step);
      own.push([key, print(step)]);
      const [msg, options] = [messageOf(draw, target, true), optionsOf(draw)];
      const minds = draw.chance(0.3);
      try {
        receipts.push((send as (...args: unknown[]) => OutboxReceipt)(msg, options));
      } catch (error) {
        if (minds) throw error;
      }
    }
    draw.named(ENDS);
  });
  return { stored: receipts.filter(({ deduplicated }) => !deduplicated).length, receipts, own };
}

/** Calls that store nothing, whatever becomes of them; one takes back. */
async function look(draw: Draw, { outbox }: Target): Promise<Result> {
  let cancelled: string | undefined;
  const calls: Record<string, () => unknown> = {
    list: () =>
      (outbox.list as Any)(draw.chance(0.3) ? junk(draw) : { state: either(draw, () => "pending"), limit: junk(draw), after: junk(draw) }),
    listAll: () => outbox.list({ limit: 1 + draw.below(1000), state: draw.pick(["pending", "delayed"]) }),
    redrive: () => (outbox.redrive as Any)(draw.chance(0.5) ? junk(draw) : [junk(draw)]),
    discard: () => (outbox.discard as Any)(draw.chance(0.5) ? junk(draw) : [junk(draw)]),
    cancel: async () => {
      const id = draw.chance(0.9) ? junk(draw) : "own:unknown";
      // An option's junk may have become somebody's id.
      if ((await (outbox.cancel as Any)(id)) === true) cancelled = id as string;
    },
    stats: () => (outbox.stats as Any)(junk(draw)),
  };
  draw.drawn.push("look");
  await draw.named(calls as Record<string, () => unknown>);
  return cancelled === undefined ? NOTHING : { ...NOTHING, stored: -1, cancelled };
}

/** The object's own storage, with the outbox's keys among the arguments: nothing of it may be touched. */
async function reach(draw: Draw, { storage, sqlite }: Target): Promise<Result> {
  const key = (): unknown =>
    draw.pick<unknown>(["\u{10FFFF}outbox/h", "\u{10FFFF}", ["\u{10FFFF}outbox/h"], { toString: () => "\u{10FFFF}outbox/h" }]);
  const calls: Record<string, () => unknown> = {
    get: () => (storage.get as Any)(key()),
    put: () => (storage.put as Any)(key(), 1),
    putEntries: () => (storage.put as Any)({ "\u{10FFFF}outbox/h": 1 }),
    delete: () => (storage.delete as Any)(key()),
    list: () => (storage.list as Any)(either(draw, () => ({ prefix: "\u{10FFFF}" }))),
    setAlarm: () => (storage.setAlarm as Any)(draw.pick<unknown>([undefined, null, Number.NaN, -1, "soon", {}, Symbol()])),
    transaction: () => (storage.transaction as unknown as Any)((txn: DurableObjectTransaction) => (txn.put as Any)(key(), 1)),
    kv: () => (sqlite ? (storage.kv.put as (...args: unknown[]) => void)(key(), 1) : undefined),
    kvDelete: () => (sqlite ? (storage.kv.delete as (...args: unknown[]) => void)(key()) : undefined),
  };
  draw.drawn.push("reach");
  await draw.named(calls as Record<string, () => unknown>);
  return NOTHING;
}

export const CALLS: readonly [share: number, name: string, call: Call][] = [
  [25, "put", put],
  [15, "putEntries", putEntries],
  [10, "delete", remove],
  [17, "send", send],
  [8, "transaction", transaction],
  [8, "transactionSync", transactionSync],
  [1, "deleteAll", deleteAll],
  [8, "look", look],
  [8, "reach", reach],
];
