/** Crash points: an operation is aborted at every point that it names, in a fresh object each, and judged by what its next life finds. */
import { expect } from "vitest";
import type { OutboxManager } from "../../../src/index.ts";
import { numbers } from "./batches.ts";
import { type Backend, crashAfter, fresh, inside, type Stub, sent } from "./harness.ts";
import { waiting } from "./standing.ts";

/** A point at which the object may die: nothing that stands behind the call is run then. */
export type Point = () => void;

export type Operation = (outbox: OutboxManager, state: DurableObjectState, point: Point) => unknown;

/** What an operation leaves when all of it is committed. */
export interface Whole {
  /** The object's own keys and rows, as `found` reads them. */
  readonly own: readonly unknown[];
  readonly messages: readonly unknown[];
  /** Whether the object's own alarm stands. */
  readonly alarm?: boolean;
}

const NOTHING: Whole = { own: [], messages: [], alarm: false };

/** Turns of the microtask queue behind which nothing of an operation is left to run without input or output. */
const TURNS = 8;

/** Awaits a call, with a point in the turn of the call and one when it has settled. */
export async function step<R>(point: Point, call: () => R): Promise<Awaited<R>> {
  const result = call();
  point();
  const settled = await result;
  point();
  return settled;
}

/** A point in each of the next turns of the microtask queue. */
export async function turns(point: Point): Promise<void> {
  for (let turn = 0; turn < TURNS; turn++) {
    await null;
    point();
  }
}

/** What the object's own code finds: its keys, and the rows of the table `orders`, where there is one. */
async function found({ storage }: DurableObjectState, backend: Backend): Promise<unknown[]> {
  const keys = [...(await storage.list()).keys()];
  if (backend.name === "kv" || [...storage.sql.exec("SELECT 1 FROM sqlite_master WHERE name = 'orders'")].length === 0) return keys;
  return [...keys, ...[...storage.sql.exec("SELECT id FROM orders ORDER BY id")].map(({ id }) => id)];
}

/**
 * Runs the operation to its end, and once for each of its points, where the object dies. Each time the object's next life
 * must hold all of one of `wholes`, or nothing, deliver those messages and no other, and go on with the next number.
 *
 * @param before so many messages wait, in a paused outbox, when the operation begins
 * @returns how often each outcome was found: that of nothing first
 */
export async function atEveryPoint(backend: Backend, before: number, operation: Operation, wholes: readonly Whole[]): Promise<number[]> {
  const outcomes = [0, ...wholes.map(() => 0)];
  const run = async (at: number): Promise<number> => {
    // Each start takes the longer the more objects its namespace has.
    const stub = fresh({ ...backend, namespace: at % 2 === 0 ? backend.namespace : backend.other });
    if (before > 0) await inside(stub, (_, outbox) => Promise.all([outbox.pause(), ...numbers(before).map((n) => outbox.send(n))]));
    let points = 0;
    const next = await crashAfter(stub, async (outbox, state) => {
      await operation(outbox, state, () => {
        if (points++ === at) state.abort("the crash that the test wants");
      });
      await state.storage.sync();
    });
    const outcome = await judge(backend, next, before, [NOTHING, ...wholes], at);
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    return points;
  };
  const points = await run(-1);
  // What has ended well must be there.
  expect(outcomes[0]).toBe(wholes.length > 0 ? 0 : 1);
  await Promise.all(Array.from({ length: points }, (_, at) => run(at)));
  return outcomes;
}

/** Asserts that what the object's next life finds is one of these, and gives which. */
async function judge(backend: Backend, stub: Stub, before: number, wholes: readonly Whole[], at: number): Promise<number> {
  const [own, alarm] = await inside(stub, async (_, outbox, state) => {
    const seen = [await found(state, backend), (await state.storage.getAlarm()) !== null];
    await Promise.all([outbox.send("next"), outbox.resume()]);
    // A run that died with its isolate is followed by smaller ones.
    do await outbox.flush();
    while (waiting(await outbox.stats()) > 0);
    return seen;
  });
  // A crash may come between a delivery and its clearing.
  const delivered = [...new Map(sent(stub).map(({ sequence, msg }) => [sequence, msg]))];
  const expected = wholes.map((whole) => ({
    at,
    own: whole.own,
    alarm: whole.alarm ?? false,
    delivered: [...numbers(before), ...whole.messages, "next"].map((msg, n) => [n + 1, msg]),
  }));
  const seen = { at, own, alarm, delivered };
  const index = expected.findIndex((whole) => JSON.stringify(whole) === JSON.stringify(seen));
  if (index < 0) expect(expected).toContainEqual(seen);
  return index;
}
