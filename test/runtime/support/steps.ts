/** Steps: the native storage calls of an object, below the outbox's shadows, at any one of which a test can let the object die. */
import { expect } from "vitest";
import { type OutboxManager, withTransactionalOutbox } from "../../../src/index.ts";
import { inside, type Stub } from "./harness.ts";
import { Box, type BoxEnv, type Form, options } from "./worker.ts";

/** Where an object dies, or what becomes of its storage. It stands beside the object, so that it can be set before a life begins. */
export interface Plan {
  /** At this step: the making of a storage call is one, and its end is one. 0 is never. */
  step: number;
  /** So many microtasks after it. */
  microtasks: number;
  /** The step makes its call reject instead. */
  rejects: boolean;
  /** Steps since the plan was made. */
  seen: number;
  /** The step has come. */
  reached: boolean;
}

export function plan(): Plan {
  return { step: 0, microtasks: 0, rejects: false, seen: 0, reached: false };
}

/** From now on the plan is this one. */
export function planned(plan: Plan, step: number, microtasks = 0, rejects = false): void {
  Object.assign(plan, { step, microtasks, rejects, seen: 0, reached: false });
}

/** The text of the abort, by which tests know it. */
export const DIED = "the crash that the test wants";

/** A wrapped box whose native storage calls are steps of a plan, from its constructor on. `planOf` gives each life its own. */
export function stepping(planOf: () => Plan): Form {
  return class extends withTransactionalOutbox(class extends Box {}, options) {
    constructor(ctx: DurableObjectState, env: BoxEnv) {
      const plan = planOf();
      watch(ctx, ctx.storage, plan, ["get", "list", "put", "delete", "getAlarm", "setAlarm", "deleteAlarm", "deleteAll"]);
      // One call for each key that is deleted would be many steps of one turn.
      watch(ctx, ctx.storage.kv, plan, ["get", "put", "list"]);
      super(ctx, env);
    }
  };
}

/** Defines own methods that count and pass on. Called before the outbox defines its own. */
function watch(ctx: DurableObjectState, target: object, plan: Plan, names: readonly string[]): void {
  const step = async (name?: string): Promise<void> => {
    // What storage can refuse is a row. Where it fails as a whole the object is reset, and that is the other kind of step.
    if (plan.rejects && !["get", "list", "put"].includes(name ?? "")) return;
    if (++plan.seen !== plan.step || plan.reached) return;
    plan.reached = true;
    if (plan.rejects) return;
    for (let n = 0; n < plan.microtasks; n++) await null;
    ctx.abort(DIED);
  };
  for (const name of names) {
    const native = (target as Record<string, (...args: unknown[]) => unknown>)[name]?.bind(target);
    const value = (...args: unknown[]): unknown => {
      const before = plan.reached;
      void step(name);
      if (plan.rejects && plan.reached && !before) {
        if (target === ctx.storage) return Promise.reject(new Error(DIED));
        throw new Error(DIED);
      }
      const result = native?.(...args);
      return result instanceof Promise ? result.finally(() => void step()) : result;
    };
    Object.defineProperty(target, name, { value, configurable: true, writable: true });
  }
}

/**
 * Calls `operation` again and again, each time in a life that dies a little later: in the same turn, then after each
 * microtask, then at each storage call and after each microtask that follows it, until the operation has ended before its
 * crash. `before` prepares each, and `after` looks at the next life.
 *
 * @param microtasks how many microtasks behind each step are tried; behind the call itself it is ten times as many
 */
export async function dyingEverywhere(
  stub: () => Stub,
  plan: Plan,
  microtasks: number,
  operation: (outbox: OutboxManager, state: DurableObjectState) => Promise<unknown>,
  before: () => Promise<unknown>,
  after: (moment: string) => Promise<unknown>,
): Promise<number> {
  let lives = 0;
  const dies = async (step: number, tasks: number): Promise<boolean> => {
    await before();
    let ended = false;
    const life = inside(stub(), async (_, outbox, state) => {
      planned(plan, step, tasks);
      const done = operation(outbox, state).then(() => {
        ended = true;
      });
      if (step > 0) await done.then(() => state.storage.sync());
      else for (let n = 0; n < tasks && !ended; n++) await null;
      done.catch(() => {});
      state.abort(DIED);
    });
    await expect(life).rejects.toThrow(DIED);
    const reached = plan.reached || (step === 0 && !ended);
    planned(plan, 0);
    lives++;
    await after(`step ${step}, microtask ${tasks}`);
    return reached;
  };
  for (let task = 0; task < microtasks * 10 && (await dies(0, task)); task++);
  for (let step = 1; ; step++) {
    for (let task = 0; task < microtasks; task++) if (!(await dies(step, task)) && task === 0) return lives;
  }
}
