/** Draining and moving the clock: what an object would do over time, done at once. */

import { expected, told } from "../api/errors.js";
import { inside, stubOf, type TestStub } from "./inside.js";
import { elapse, lastEvent, storedSince, type Watched, watched } from "./probe.js";
import { dueAt, isBusy, moveTo, settle } from "./step.js";

/** Options of `drain`, all optional. */
export interface DrainOptions {
  /** Follow the messages: also drain the objects that store messages of their own in the process. Default false. */
  recursive?: boolean;
  /**
   * How far to go. A number of seconds, or a time: the clock advances to that time, stopping at everything that is due on the way (delays, backoffs,
   * expiry, the object's own alarm). A function: until it returns true, or nothing is left to do; it is called before each step. Default: what is due
   * now.
   */
  until?: number | Date | (() => boolean | Promise<boolean>);
  /** The most messages to deliver. One more is an error: objects may send to each other forever. Default 10,000. */
  limit?: number;
}

/** What an object has done since it was last drained. */
export interface Drained {
  /** How many messages were delivered. */
  readonly delivered: number;
  /** How many became dead letters. */
  readonly dead: number;
}

const MOST_SECONDS = 315_360_000;
const LIMIT = 10_000;

/**
 * Delivers what is due now. Rejects with what the object's own alarm handler throws.
 *
 * @throws TypeError when the stub or an option is wrong; Error when a handler does not settle, or `limit` is reached.
 *
 * @example
 * await stub.create(1);
 * await drain(stub);
 * expect(await sent(stub)).toMatchObject([{ msg: { type: "order_created", order: 1 } }]);
 */
export async function drain(stub: TestStub, options: DrainOptions = {}): Promise<Drained> {
  const { recursive, until, limit = LIMIT, ...unknown } = options;
  for (const name of Object.keys(unknown)) throw expected("options", "an object of recursive, until, limit", name);
  if (!(Number.isInteger(limit) && limit > 0)) throw expected("options.limit", "a whole number from 1", limit);
  const isOver = typeof until === "function" ? until : () => false;
  let leftMs = 1000 * secondsUntil(until);
  const begun = lastEvent();
  const first = watched(stub.id);
  const drained = new Set<Watched>();
  const failures: unknown[] = [];
  let room = limit;

  /** Does what is due in one object. Returns in how many milliseconds the next is: 0 where something was. */
  const step = (object: Watched): Promise<number> =>
    inside(stubOf(object.id), async (life, instance) => {
      life.timers.run();
      const wait = dueAt(life) - object.now;
      if (wait > 0 && !isBusy(life)) return wait;
      object.room = room;
      const done = await settle(life, instance, object, failures);
      room = object.room;
      object.room = Number.POSITIVE_INFINITY;
      if (room < 0)
        throw new Error(told(`drain() has delivered ${limit} messages, and there are more. Do objects send to each other forever?`));
      if (!done) throw new Error(told(`A handler of ${object.id} has not settled. advance() past its timeout ends the call.`));
      return 0;
    });

  for (;;) {
    for (const object of recursive ? [first, ...storedSince(begun)] : [first]) drained.add(object);
    let next = Number.POSITIVE_INFINITY;
    for (const object of drained) {
      if (await isOver()) return total(drained, failures);
      next = Math.min(next, await step(object));
    }
    if (next === 0 || (recursive && storedSince(begun).some((object) => !drained.has(object)))) continue;
    if (!(next <= leftMs)) break;
    leftMs -= next;
    elapse(next);
    for (const object of drained) await inside(stubOf(object.id), (life) => moveTo(life, object, object.now + next));
  }
  // The rest of the time passes as well.
  if (leftMs > 0 && leftMs < Number.POSITIVE_INFINITY && typeof until !== "function") {
    elapse(leftMs);
    for (const object of drained) await inside(stubOf(object.id), (life) => moveTo(life, object, object.now + leftMs));
  }
  return total(drained, failures);
}

function secondsUntil(until: DrainOptions["until"]): number {
  if (until === undefined) return 0;
  if (typeof until === "function") return MOST_SECONDS;
  const seconds = until instanceof Date ? Math.max(0, until.getTime() - Date.now()) / 1000 : until;
  if (typeof seconds === "number" && seconds >= 0 && seconds <= MOST_SECONDS) return seconds;
  throw expected("options.until", `a number of seconds from 0 to ${MOST_SECONDS}, a time or a function`, until);
}

/** What these objects have done since they were last asked. */
function total(objects: Iterable<Watched>, failures: readonly unknown[]): Drained {
  let [delivered, dead] = [0, 0];
  for (const object of objects) {
    delivered += object.delivered.length - object.told.delivered;
    dead += object.dead - object.told.dead;
    object.told = { delivered: object.delivered.length, dead: object.dead };
  }
  if (failures.length > 0) throw failures[0];
  return { delivered, dead };
}

/**
 * Lets this many seconds pass for this object: delays, backoffs, timeouts, expiry and its own alarm happen at their times, one after the other.
 * Rejects, at the end, with what the object's own alarm handler throws.
 *
 * @throws TypeError when an argument is wrong.
 */
export async function advance(stub: TestStub, seconds: number): Promise<void> {
  if (!(typeof seconds === "number" && seconds >= 0 && seconds <= MOST_SECONDS)) {
    throw expected("seconds", `a number from 0 to ${MOST_SECONDS}`, seconds);
  }
  const failures: unknown[] = [];
  await inside(stubOf(stub.id.toString()), async (life, instance, object) => {
    const end = object.now + seconds * 1000;
    for (;;) {
      const done = await settle(life, instance, object, failures);
      // A handler that hangs ends with its timeout, which is a timer.
      const next = Math.max(object.now, Math.min(done ? dueAt(life) : Number.POSITIVE_INFINITY, life.timers.next()));
      if (object.now >= end && next > object.now) break;
      const time = Math.min(next, end);
      elapse(time - object.now);
      moveTo(life, object, time);
    }
  });
  if (failures.length > 0) throw failures[0];
}
