/** The model's side of the conformance suite: for each list of operations it must give what the real runtime gave. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ALARM_FACTS, type AlarmResult, handle, hold, start } from "./alarm-facts.ts";
import type { AlarmCall } from "./alarms.ts";
import { FACTS } from "./backend-facts.ts";
import { begin, type Chapter, perform } from "./operations.ts";
import { RECORDED } from "./recorded.ts";
import type { Backend } from "./rules.ts";
import { type Choice, World } from "./world.ts";

/** Only for these tests: other files may run in the same process, and play with a platform whose `deleteAll()` leaves the alarm. */
const platform = globalThis as { Cloudflare?: unknown };
beforeAll(() => {
  platform.Cloudflare = { compatibilityFlags: { delete_all_deletes_alarm: true } };
});
afterAll(() => {
  delete platform.Cloudflare;
});

class Plain {
  constructor(readonly ctx: DurableObjectState) {}
  alarm(_: AlarmCall): unknown {
    return undefined;
  }
}

const BACKENDS: Backend[] = ["sqlite", "kv"];
const TEMPOS: Choice["tempo"][] = ["split", "joined"];
const worlds = BACKENDS.flatMap((backend) => TEMPOS.map((tempo): Choice => ({ backend, tempo, seed: 1 })));

async function played(choice: Choice, chapters: readonly Chapter[]): Promise<unknown[]> {
  const world = new World<Plain>(choice, () => Plain as never);
  const base = world.loop.now + 1000;
  const results: unknown[] = [];
  for (const { does, ends } of chapters) {
    await world
      .act(async (_, ctx) => {
        if (ends === "abort") {
          results.push([]);
          for (const operation of does) void begin(ctx.storage, operation, base);
          ctx.abort("the life ends");
        }
        results.push(await perform(ctx.storage, does, base));
        if (ends === "sync") await ctx.storage.sync();
        if (ends) ctx.abort("the life ends");
      })
      .catch((error) => expect(error.name).toBe("Died"));
  }
  return JSON.parse(JSON.stringify(results));
}

describe.each(worlds)("the model ($backend, $tempo)", (choice) => {
  it.each(FACTS.filter(({ only = choice.backend }) => only === choice.backend))("$title", async ({ title, chapters, production }) => {
    expect(await played(choice, chapters)).toEqual(production ? [production] : RECORDED[title]);
  });

  it.each(ALARM_FACTS)("$title", async (fact) => {
    const seen: AlarmResult[] = [];
    const starts: unknown[] = [];
    let base = 0;
    class Handling extends Plain {
      constructor(ctx: DurableObjectState) {
        super(ctx);
        void ctx.blockConcurrencyWhile(() => start(fact, starts, ctx, base));
      }
      override alarm(info: AlarmCall): unknown {
        return handle(fact, seen, this.ctx, info, base);
      }
    }
    const world = new World<Plain>(choice, () => Handling as never);
    base = world.loop.now;
    await world.act((_, { storage }) => storage.setAlarm(base + fact.firstMs));
    if (fact.dies) world.crash("as the fact says");
    if (fact.holds) await world.act((_, ctx) => hold(fact, ctx, base));
    for (let ms = 0; ms < 20_000 && seen.length < fact.calls.length; ms += 10) await world.advance(10);
    await world.advance(fact.restMs);
    const after = await world.act(async (_, { storage }) => {
      const alarm = await storage.getAlarm();
      return alarm && alarm - base;
    });
    expect(JSON.parse(JSON.stringify([seen, after, starts]))).toEqual(RECORDED[fact.title]);
  });

  it("loses an alarm that its handler sets at the firing alarm's own millisecond (the runtime does at times)", async () => {
    const fired: number[] = [];
    class Lost extends Plain {
      override async alarm({ scheduledTime }: AlarmCall): Promise<void> {
        fired.push(scheduledTime);
        await this.ctx.storage.setAlarm(scheduledTime);
      }
    }
    const world = new World<Plain>(choice, () => Lost as never);
    const time = world.loop.now + 50;
    await world.act((_, { storage }) => storage.setAlarm(time));
    await world.advance(60_000);
    expect(fired).toEqual([time]);
    expect(await world.act((_, { storage }) => storage.getAlarm())).toBe(time);
  });
});
