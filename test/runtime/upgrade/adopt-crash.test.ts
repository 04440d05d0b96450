/** The upgrade from version 0.1.0 and crashes: wherever an adoption is cut off, the next start goes on, and each message is delivered once, in order. */
import { expect, it } from "vitest";
import { some } from "../../support/random.ts";
import { callsOf, numbers } from "../support/batches.ts";
import { again, type Backend, eventually, inside, onBothBackends, sent } from "../support/harness.ts";
import { keysOf, laidDown, putAt, rowsLeft, type Version } from "../support/original-rows.ts";
import { idle } from "../support/standing.ts";
import { DIED, type Plan, plan, stepping } from "../support/steps.ts";
import type { BoxEnv, Form } from "../support/worker.ts";
import { alarmsOf, getAlarm } from "../support/worlds.ts";

/** Enough for two steps of the adoption. */
const MESSAGES = 17;
/** Lives that die beside each other. */
const AT_ONCE = 15;

const TASK = { id: "mine", attempt: 0, type: "SINGLE", context: "mine", scheduledAt: 1e12 };
const STATE = { mine: 1, "$$_tasks::01H00000000000000000000000": TASK };

/** A class whose first lives die by these plans while they start: at a step, or with none so many microtasks after the constructor. */
function startingBy(plans: readonly Plan[]): Form {
  let lives = 0;
  let steps = plan();
  const next = () => {
    steps = plans[lives++] ?? plan();
    return steps;
  };
  return class extends stepping(next) {
    constructor(ctx: DurableObjectState, env: BoxEnv) {
      super(ctx, env as never);
      const mine = steps;
      const { step, microtasks } = mine;
      let started = false;
      ctx.blockConcurrencyWhile(async () => {
        mine.step = 0;
        started = true;
      });
      if (step > 0 || microtasks === 0) return;
      void (async () => {
        for (let n = 1; n < microtasks; n++) await null;
        if (started) return;
        mine.reached = true;
        ctx.abort(DIED);
      })();
    }
  };
}

/** Lets the first `deaths` starts of an object die at this moment, and returns whether it came. */
async function upgradeDying(backend: Backend, version: Version, step: number, microtasks: number, deaths: number): Promise<boolean> {
  const plans = Array.from({ length: deaths }, () => ({ ...plan(), step, microtasks }));
  const own = Date.now() + 600_000;
  const rows = rowsLeft({ version, messages: numbers(MESSAGES), own, state: STATE });
  const stub = await laidDown(backend, rows, startingBy(plans), version === "first" ? own : undefined);
  // Whoever starts it: a request, or the alarm that an earlier start has set. The platform repeats a call that died after two seconds.
  await eventually(() => inside(again(stub), () => true).catch((error) => !String(error).includes(DIED)));
  const life = again(stub);
  await idle(life);
  const moment = `step ${step}, microtask ${microtasks}`;
  expect([moment, callsOf(life).flat()]).toEqual([moment, numbers(MESSAGES)]);
  expect(sent(life).map(({ sequence, timestamp, attempts }) => [sequence, timestamp, attempts])).toEqual(
    numbers(MESSAGES).map((n) => [n, putAt(n - 1), 1]),
  );
  expect(new Set(sent(life).map(({ source }) => source)).size).toBe(1);
  expect([moment, await getAlarm(life), alarmsOf(life)]).toEqual([moment, own, []]);
  expect([moment, await keysOf(life)]).toEqual([moment, Object.keys(STATE).sort()]);
  return plans.every(({ reached }) => reached);
}

onBothBackends("an adoption that is cut off", (backend) => {
  const WAYS: [Version, number, number][] = [
    ["first", 1, 0],
    ["later", 1, 1],
    ["later", 2, 0],
  ];

  it.concurrent.each(some(2, WAYS))(
    "of what the %s task manager left, %i times at any of its storage calls, %i microtasks behind it, loses nothing and sends nothing twice",
    async (version, deaths, microtasks) => {
      let steps = 0;
      for (let first = 1; ; first += AT_ONCE) {
        const lives = Array.from({ length: AT_ONCE }, (_, n) => upgradeDying(backend, version, first + n, microtasks, deaths));
        const reached = await Promise.all(lives);
        steps += reached.filter(Boolean).length;
        if (reached.includes(false)) break;
      }
      console.log(`${backend.name}, ${version}: ${steps} steps`);
      expect(steps).toBeGreaterThan(12);
    },
  );

  it.concurrent("after any microtask of the constructor loses nothing and sends nothing twice", async () => {
    const lives = Array.from({ length: 8 }, (_, n) => upgradeDying(backend, "later", 0, n + 1, 1));
    expect(await Promise.all(lives)).toContain(true);
  });
});
