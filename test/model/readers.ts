/** Stories of several destinations on the model: what happens to them, to the object and to its deployments, and what must hold at the end. */
import fc from "fast-check";
import { expect } from "vitest";
import {
  type MessageSchemas,
  type OutboxDelivery,
  type OutboxManager,
  type OutboxMessage,
  type OutboxTransaction,
  withTransactionalOutbox,
} from "../../src/index.ts";
import { accepting } from "../support/schema.ts";
import { Died, type ObjectClass, World } from "./world.ts";

interface Msg {
  readonly n: number;
  readonly type: string;
  /** The version of its type. */
  readonly v: number;
}

interface Box {
  readonly outbox: OutboxManager<Msg>;
}

/** So many steps are enough for every story. */
const MOST_STEPS = 200_000;

const NAMES = ["a", "b", "c", "d", "e"] as const;
const TYPES = ["x", "y", "z"] as const;
/** The last of these stays in its first version. */
const UNVERSIONED = "z";
const VERSIONS = [1, 2, 3] as const;

/** The row that `deadMessage` writes for a message of a destination. */
const rowOf = (name: string, n: number | ""): string => `dead:${name}:${n}`;
/** Whether `deadMessage` fails for a message. */
const failsIn = (n: number): boolean => n % 8 === 0;

/** A deployment's schemas: its types are in a version, and those of earlier ones are upcast, unless the upcasters are faulty. */
function schemasIn(version: number, isFaulty: boolean): MessageSchemas {
  const upcast = (old: Msg): Msg => {
    if (isFaulty && old.n % 7 === 0) throw new Error("faulty");
    return Object.assign(old, { v: old.v + 1 });
  };
  const chain = Object.fromEntries(VERSIONS.filter((from) => from < version).map((from) => [from, upcast]));
  const of = (type: string) => (type === UNVERSIONED ? accepting : { schema: accepting, version, upcast: chain });
  return Object.fromEntries(TYPES.map((type) => [type, of(type)]));
}

/** What a destination does with its calls until it is told otherwise. */
type Mode = "takes" | "throws" | "hangs" | "retries some" | "rejects some" | "breaks" | "slow";
const MODES = ["takes", "takes", "throws", "hangs", "retries some", "rejects some", "breaks", "slow"] as const;

export interface Destination {
  readonly types: readonly string[] | undefined;
  readonly batchSize: number;
  readonly ordering: "strict" | "batch";
}

export type Step =
  | { readonly do: "put"; readonly count: number; readonly type: number; readonly key: number; readonly delay: number }
  | { readonly do: "replace"; readonly type: number; readonly id: number; readonly delay: number; readonly waits: boolean }
  | { readonly do: "undo"; readonly count: number; readonly what: "put" | "pause" | "cancel" | "redrive" }
  | { readonly do: "mode"; readonly destination: number; readonly mode: Mode }
  | { readonly do: "limit"; readonly subrequests: number }
  | { readonly do: "crash"; readonly steps: number }
  | { readonly do: "wait"; readonly seconds: number }
  | { readonly do: "deploy"; readonly without: number; readonly version: number; readonly isFaulty: boolean }
  | { readonly do: "pause" | "resume" | "redrive" | "flush"; readonly destination: number }
  | { readonly do: "cancel"; readonly back: number; readonly destination: number }
  | { readonly do: "retry"; readonly back: number; readonly destination: number }
  | { readonly do: "evict" };

export interface ReadersStory {
  readonly backend: "sqlite" | "kv";
  readonly tempo: "joined" | "split";
  readonly immediate: boolean;
  /** How long a delivery may go unrecorded, with `dispatch: "immediate"`. */
  readonly settleWithinSeconds: number;
  readonly destinations: readonly [Destination, Destination, Destination, Destination, Destination];
  /** So many of the destinations exist. */
  readonly count: number;
  /** The class has a `deadMessage`, which writes a row, and fails for some messages. */
  readonly deadMessage: boolean;
  /** Left out: all are kept. */
  readonly deadLetters?: { readonly max?: number; readonly expiresInSeconds?: number } | undefined;
  readonly onDead: "continue" | "hold";
  readonly steps: readonly Step[];
}

const NO_LIMIT = 1e9;
const place = fc.nat(NAMES.length - 1);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("put" as const),
      count: fc.oneof(fc.nat(4), fc.integer({ min: 20, max: 70 })),
      type: fc.nat(2),
      key: fc.nat(5),
      delay: fc.constantFrom(0, 0, 0, 2, 60),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("undo" as const),
      count: fc.nat(20),
      what: fc.constantFrom("put", "pause", "cancel", "redrive"),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("replace" as const),
      type: fc.nat(2),
      id: fc.nat(2),
      delay: fc.constantFrom(0, 0, 2),
      waits: fc.boolean(),
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant("mode" as const), destination: place, mode: fc.constantFrom(...MODES) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("limit" as const), subrequests: fc.constantFrom(3, 10, 25, NO_LIMIT) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("crash" as const), steps: fc.integer({ min: 1, max: 40 }) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("wait" as const), seconds: fc.constantFrom(0.01, 0.2, 3, 40, 400) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("deploy" as const),
      without: fc.nat(NAMES.length),
      version: fc.constantFrom(...VERSIONS),
      isFaulty: fc.constantFrom(false, false, true),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom("pause" as const, "resume" as const, "redrive" as const, "flush" as const),
      destination: fc.nat(NAMES.length),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("cancel" as const), back: fc.nat(30), destination: fc.nat(NAMES.length) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("retry" as const), back: fc.nat(30), destination: fc.nat(NAMES.length) }) },
  { weight: 1, arbitrary: fc.constant({ do: "evict" as const }) },
) as fc.Arbitrary<Step>;

const destination: fc.Arbitrary<Destination> = fc.record({
  types: fc.option(fc.subarray([...TYPES], { minLength: 1 }), { nil: undefined, freq: 2 }),
  batchSize: fc.constantFrom(1, 7, 32, 100),
  ordering: fc.constantFrom("strict" as const, "batch" as const),
});
export const story: fc.Arbitrary<ReadersStory> = fc.record({
  backend: fc.constantFrom("sqlite" as const, "kv" as const),
  tempo: fc.constantFrom("joined" as const, "split" as const),
  immediate: fc.boolean(),
  settleWithinSeconds: fc.constantFrom(0, 2),
  destinations: fc.tuple(destination, destination, destination, destination, destination),
  count: fc.integer({ min: 1, max: NAMES.length }),
  deadMessage: fc.boolean(),
  deadLetters: fc.constantFrom(undefined, undefined, undefined, { max: 2 }, { expiresInSeconds: 10 }),
  onDead: fc.constantFrom("continue" as const, "continue" as const, "hold" as const),
  steps: fc.array(step, { minLength: 1, maxLength: 25 }),
});

/**
 * Plays a story and asserts that each destination gets every message that it takes, or has it as a dead letter, and none that was rolled back.
 * Returns how many steps it took.
 *
 * @param crashAt the steps at which the object dies, besides what the story orders
 */
export async function played(
  { backend, tempo, immediate, settleWithinSeconds, destinations, count, deadMessage, deadLetters, onDead, steps }: ReadersStory,
  crashAt: readonly number[] = [],
): Promise<number> {
  let last = 0;
  const stored = new Map<number, { type: string; key: number; id: string; chain?: number }>();
  /** The last message that was put in the place of others of its id. */
  const latest = new Map<number, number>();
  /** Nobody knows whether these were stored. */
  const maybe = new Set<number>();
  const undone = new Set<number>();
  const cancelled = new Map<string, Set<number>>(NAMES.map((name) => [name, new Set()]));
  const taken = new Map<string, number[]>(NAMES.map((name) => [name, []]));
  const modes = new Map<string, Mode>();
  let left: ReadonlySet<string> = new Set();
  let version = 1;
  let isFaulty = false;
  /** What was handed over in another version than that of the deployment. */
  const strange: Msg[] = [];
  const versionOf = (type: string): number => (type === UNVERSIONED ? 1 : version);
  /** The platform lets each invocation make so many subrequests, for all destinations together: each message needs one. */
  let limit = NO_LIMIT;
  const used = { invocation: -1, count: 0 };
  const spend = (wanted: number): number => {
    if (used.invocation !== world.invocations) Object.assign(used, { invocation: world.invocations, count: 0 });
    const made = Math.max(0, Math.min(wanted, limit - used.count));
    used.count += made;
    return made;
  };
  const names = NAMES.slice(0, count);
  const optionsOf = (name: string): Destination => destinations[NAMES.indexOf(name as "a")] as Destination;

  const sendOf = (name: string) => async (messages: OutboxMessage<Msg>[], delivery: OutboxDelivery) => {
    const mode = modes.get(name) ?? "takes";
    const numbers = messages.map(({ msg }) => msg.n);
    strange.push(
      ...messages.filter((each) => each.msg.v !== versionOf(each.msg.type) || (each.version ?? 1) !== each.msg.v).map(({ msg }) => msg),
    );
    // A handler may change its copies.
    for (const { msg } of messages) Object.assign(msg, { v: 99 });
    if (mode === "hangs") await new Promise<void>(() => {});
    if (mode === "throws") {
      await world.outside(() => {});
      throw new Error("down");
    }
    if (mode === "breaks" && numbers.some((n) => n % 5 === 0)) throw new Error("broken");
    const served = spend(messages.length);
    if (served < messages.length) {
      await world.outside(() => void taken.get(name)?.push(...numbers.slice(0, served)));
      for (const { id } of messages.slice(0, served)) delivery.ack(id);
      throw new Error("Too many subrequests by single Worker invocation.");
    }
    const kept = new Set<number>();
    for (const { id, msg } of messages) {
      if (mode === "retries some" && msg.n % 3 === 0) delivery.retry(id, { delaySeconds: 1 + (msg.n % 2), countAttempt: false });
      else if (mode === "rejects some" && msg.n % 4 === 0) delivery.reject(id, "no");
      else continue;
      kept.add(msg.n);
    }
    await world.outside(() => void taken.get(name)?.push(...numbers.filter((n) => !kept.has(n))), mode === "slow" ? 500 : 0);
  };
  /** Writes a row for each, in the transaction of the dead letter, and fails for some. */
  const buried = async ({ msg: { n } }: OutboxMessage<Msg>, name: string, txn: OutboxTransaction<Msg>): Promise<void> => {
    await txn.put(rowOf(name, n), n);
    if (failsIn(n)) throw new Error("no row for this one");
  };
  const classOf = () => {
    const Plain = class {
      readonly outbox: OutboxManager<Msg>;
      readonly destinations = Object.fromEntries(
        names
          .filter((name) => !left.has(name))
          .map((name) => {
            const { types, ...options } = optionsOf(name);
            return [name, { send: sendOf(name), from: "start", ...options, ...(types && { types }) }];
          }),
      );
      constructor(
        readonly ctx: DurableObjectState,
        env: { OUTBOX_MANAGER: OutboxManager<Msg> },
      ) {
        this.outbox = env.OUTBOX_MANAGER;
      }
      // Takes what no other does.
      async sendMessages(): Promise<void> {}
    };
    // With limits of dead letters its rows tell which there were.
    if (deadMessage || deadLetters) Object.assign(Plain.prototype, { deadMessage: buried });
    const retry = { minDelaySeconds: 1, maxDelaySeconds: 8, jitter: 0 };
    return withTransactionalOutbox(Plain as never, {
      retry,
      ...(immediate ? { dispatch: "immediate", settleWithinSeconds } : {}),
      messages: schemasIn(version, isFaulty),
      onDead,
      ...(deadLetters && { deadLetters }),
    }) as unknown as ObjectClass<Box>;
  };
  const world = new World<Box>({ backend, tempo, seed: 1, crashAt }, classOf);
  // Nothing goes on for ever.
  world.committed = () => {
    if (world.steps > MOST_STEPS) world.loop.fail(new Error(`The object always has something to do: ${world.trace.slice(-20)}`));
  };
  const act = async <R>(body: (outbox: Box["outbox"]) => Promise<R>): Promise<R | undefined> => {
    try {
      return await world.act(({ outbox }) => body(outbox));
    } catch (error) {
      if (error instanceof Died) return undefined;
      throw error;
    }
  };
  const nameOf = (place: number): { destination: string } | undefined => {
    const name = NAMES[place];
    return name !== undefined && names.includes(name) && !left.has(name) ? { destination: name } : undefined;
  };

  // The header names every destination from the first message on.
  const begun: Step = { do: "put", count: 1, type: 0, key: 0, delay: 0 };
  for (const step of [begun, ...steps]) {
    if (step.do === "put") {
      const type = TYPES[step.type] as string;
      const mine = Array.from({ length: step.count }, () => ++last);
      for (const n of mine) maybe.add(n);
      const options = { ...(step.key > 2 && { key: `k${step.key}` }), ...(step.delay > 0 && { delaySeconds: step.delay }) };
      const receipts = await act((outbox) =>
        Promise.all(mine.map((n) => outbox.put(`n:${n}`, n, { n, type, v: versionOf(type) }, options))),
      );
      for (const [i, { id }] of (receipts ?? []).entries()) {
        stored.set(mine[i] as number, { type, key: step.key, id });
        maybe.delete(mine[i] as number);
      }
    } else if (step.do === "replace") {
      const type = TYPES[step.type] as string;
      const n = ++last;
      maybe.add(n);
      latest.set(step.id, n);
      const options = { id: `r${step.id}`, replace: true, ...(step.delay > 0 && { delaySeconds: step.delay }) };
      const call = world.begin(({ outbox }) => outbox.put(`n:${n}`, n, { n, type, v: versionOf(type) }, options));
      call.result.then(
        ({ id }) => {
          stored.set(n, { type, key: 0, id, chain: step.id });
          maybe.delete(n);
        },
        () => {},
      );
      if (step.waits) await world.ending(call);
    } else if (step.do === "undo") {
      const mine = Array.from({ length: step.count }, () => ++last);
      for (const n of mine) undone.add(n);
      const id = stored.get(last - step.count - 1)?.id ?? "none";
      await act((outbox) =>
        outbox
          .transaction(async (txn) => {
            await Promise.all(mine.map((n) => txn.send({ n, type: "x", v: versionOf("x") })));
            if (step.what === "pause") await outbox.pause();
            if (step.what === "cancel") await outbox.cancel(id);
            if (step.what === "redrive") await outbox.redrive();
            throw new Error("undone");
          })
          .catch(() => {}),
      );
    } else if (step.do === "mode") {
      modes.set(NAMES[step.destination] as string, step.mode);
    } else if (step.do === "crash") world.crashIn(step.steps);
    else if (step.do === "wait") await world.advance(step.seconds * 1000);
    else if (step.do === "limit") limit = step.subrequests;
    else if (step.do === "evict") world.evict();
    else if (step.do === "deploy") {
      const without = NAMES[step.without];
      left = new Set(without === undefined ? [] : [without]);
      ({ version, isFaulty } = step);
      world.crash("a deployment");
    } else if (step.do === "cancel") {
      const n = last - step.back;
      const id = stored.get(n)?.id ?? "none";
      for (const name of names) {
        if (left.has(name) || (nameOf(step.destination)?.destination ?? name) !== name) continue;
        // Whether it was is not known where the object dies meanwhile.
        const done = await act((outbox) => outbox.cancel(id, { destination: name }));
        // An id names the last message that was put in the place of others.
        const chain = stored.get(n)?.chain;
        if (done !== false) cancelled.get(name)?.add(chain === undefined ? n : (latest.get(chain) ?? n));
      }
    } else if (step.do === "retry") {
      const id = stored.get(last - step.back)?.id ?? "none";
      await act((outbox) => outbox.retry([id], nameOf(step.destination)));
    } else {
      const options = nameOf(step.destination);
      if (step.do === "flush" && [...modes.values()].includes("hangs")) continue;
      await act(async (outbox) => void (step.do === "redrive" ? await outbox.redrive(undefined, options) : await outbox[step.do](options)));
    }
  }

  // All is well again, and everything is there again.
  modes.clear();
  if (world.crashes === 0) await world.rest();
  left = new Set();
  version = 3;
  isFaulty = false;
  world.crash("the last deployment");
  // A crash that was ordered may come as late as here, and then it is not the end yet.
  for (let round = 0, before = -1; round < 3 || before < world.crashes; round++) {
    before = world.crashes;
    await act((outbox) => outbox.resume());
    await world.rest();
  }
  // What is held goes on once its dead letters are put back, and nothing dies any more.
  for (let round = 0; onDead === "hold" && round < 3; round++) {
    for (const name of [...names, "default"]) await act((outbox) => outbox.redrive(undefined, { destination: name }));
    await world.rest();
  }
  // A crash that was ordered may come as late as here.
  const surely = async <R>(body: (outbox: Box["outbox"]) => Promise<R>): Promise<R> => (await act(body)) ?? (await surely(body));
  const dead = new Map<string, Set<number>>();
  for (const name of [...names, "default"]) {
    const letters = await surely((outbox) => outbox.list({ state: "dead", destination: name, limit: 1000 }));
    dead.set(name, new Set(letters.map(({ msg }) => msg.n)));
  }
  expect(strange).toEqual([]);
  const stats = await surely((outbox) => outbox.stats());
  await world.rest();
  for (const name of names) {
    const { types } = optionsOf(name);
    const rowsOf = [...world.disk.rows.keys()].flatMap((key) => (key.startsWith(rowOf(name, "")) ? [Number(key.split(":")[2])] : []));
    const seen = new Set([...(taken.get(name) ?? []), ...(dead.get(name) ?? []), ...(cancelled.get(name) ?? [])]);
    if (deadMessage || deadLetters) {
      const isWritten = (n: number): boolean => rowsOf.includes(n);
      expect([name, [...(dead.get(name) ?? [])].filter((n) => isWritten(n) === failsIn(n))]).toEqual([name, []]);
      const isDeadStill = (n: number): boolean => dead.get(name)?.has(n) === true;
      // What was put back, and what was deleted, has left its row.
      const isAllThere = !deadLetters && onDead === "continue" && steps.every((step) => step.do !== "redrive" && step.do !== "cancel");
      if (isAllThere) expect([name, rowsOf.filter((n) => !isDeadStill(n))]).toEqual([name, []]);
    }
    // Dead letters that were deleted: their rows stay, and those without a row are not known.
    if (deadLetters) for (const n of stored.keys()) if (rowsOf.includes(n) || (n % 4 === 0 && failsIn(n))) seen.add(n);
    const mine = [...stored].filter(([, { type }]) => types === undefined || types.includes(type)).map(([n]) => n);
    // One that was replaced in time nobody gets.
    const isReplaced = (n: number): boolean => {
      const chain = stored.get(n)?.chain;
      return chain !== undefined && (latest.get(chain) ?? 0) > n;
    };
    expect([name, mine.filter((n) => !seen.has(n) && !isReplaced(n))]).toEqual([name, []]);
    const known = new Set([...mine, ...maybe]);
    expect([name, (taken.get(name) ?? []).filter((n) => undone.has(n) || !known.has(n))]).toEqual([name, []]);
    expect([name, stats.destinations[name]]).toMatchObject([name, { pending: 0, delayed: 0, blocked: 0, dead: dead.get(name)?.size }]);
    // The first time that each was taken, those of one key in the order in which they were put.
    for (const key of [3, 4, 5]) {
      const first = [...new Set(taken.get(name))].filter((n) => stored.get(n)?.key === key && !dead.get(name)?.has(n));
      const isRedriven = steps.some((step) => step.do === "redrive");
      // With full batches the next of its key is in hand with one that is set aside or rejected, and that one may come again.
      const isPart = (mode: Mode): boolean => mode === "retries some" || mode === "rejects some";
      const isBatch = optionsOf(name).ordering === "batch" && steps.some((step) => step.do === "mode" && isPart(step.mode));
      if (!isRedriven && !isBatch) expect([name, key, first]).toEqual([name, key, [...first].sort((a, b) => a - b)]);
    }
    // Without a failure nothing comes twice.
    const isEvicted = immediate && steps.some((step) => step.do === "evict");
    const isCalm = world.crashes === 1 && !isEvicted && steps.every((step) => step.do !== "mode" || NAMES[step.destination] !== name);
    if (isCalm) expect([name, (taken.get(name) ?? []).length]).toEqual([name, new Set(taken.get(name)).size]);
  }
  expect(world.disk.alarm).toBeNull();
  // Ids are remembered for five minutes.
  const rows = [...world.disk.rows.keys()].filter((key) => key.startsWith("\u{10FFFF}") && !/^.{1,2}outbox\/[ir]/su.test(key));
  const letters = [...dead.values()].reduce((sum, { size }) => sum + size, 0);
  expect(rows.length - letters).toBeLessThanOrEqual(1);
  return world.steps;
}
