/** The real runtime's side of the conformance suite: what stands in `recorded.ts` is what Durable Object storage gives. */
import { DurableObject } from "cloudflare:workers";
import { expect, it } from "vitest";
import { ALARM_FACTS, type AlarmFact, type AlarmResult, handle, hold, start } from "../../model/alarm-facts.ts";
import { FACTS } from "../../model/backend-facts.ts";
import { begin, perform } from "../../model/operations.ts";
import { RECORDED } from "../../model/recorded.ts";
import { again, by, declared, eventually, inside, onBothBackends, type Stub, unhurried } from "../support/harness.ts";

/** Set VITE_RECORD, and what the runtime gives is printed in place of being compared. */
const record = (import.meta as unknown as { env: Record<string, string | undefined> }).env.VITE_RECORD !== undefined;

function compare(title: string, given: unknown): void {
  if (record) console.log(`RECORDED ${JSON.stringify([title, given])}`);
  else expect(given).toEqual(RECORDED[title]);
}

/** The platform repeats a call that has thrown no earlier than after so many milliseconds. */
const RETRY_MS = 1800;
/** Whether such a repetition is still to come when the fact is complete. */
const retries = ({ calls, restMs }: AlarmFact): boolean => calls.at(-1)?.ends === "throw" && restMs < RETRY_MS;

/** The first of the times that a fact sets after its first alarm. */
function nextOf({ calls, firstMs, moves }: Pick<AlarmFact, "calls" | "firstMs" | "moves">): number {
  const set = calls.flatMap(({ does }) => does.flatMap(([operation, ms]) => (operation === "set alarm" ? [ms as number] : [])));
  return Math.min(...[...set, moves ?? Number.POSITIVE_INFINITY].filter((ms) => ms > firstMs), 600_000);
}

/** A life of the object, and a stub of the next. */
async function life(stub: Stub, body: (state: DurableObjectState) => unknown, dies: boolean): Promise<Stub> {
  const done = inside(stub, async (_, __, state) => {
    const result = body(state);
    if (result instanceof Promise) await result;
    if (dies) state.abort("the life ends");
  });
  if (!dies) await done;
  else await expect(done).rejects.toThrow("the life ends");
  return again(stub);
}

/** The times of a fact are fixed: it is tried about a dozen times. */
const RETRY_GROWTH = 1.4;

onBothBackends("Durable Object storage", (backend) => {
  const facts = FACTS.filter(({ only = backend.name, production }) => only === backend.name && !production);
  // Before any of its times has passed: one that has would be set as the present.
  it.each(facts)("$title", ({ title, chapters }) =>
    unhurried(1000, async (ms) => {
      const base = Date.now() + ms;
      let stub = declared(
        backend,
        class extends DurableObject {
          override alarm() {}
        },
      );
      const results: unknown[] = [];
      await by(base, async () => {
        for (const { does, ends } of chapters) {
          const body = async ({ storage }: DurableObjectState): Promise<void> => {
            results.push(await perform(storage, does, base));
            if (ends === "sync") await storage.sync();
          };
          const dying = ({ storage }: DurableObjectState): void => {
            results.push([]);
            for (const operation of does) void begin(storage, operation, base);
          };
          stub = await life(stub, ends === "abort" ? dying : body, ends !== undefined);
        }
      });
      compare(title, results);
    }),
  );

  it.concurrent.each(ALARM_FACTS)("$title", (fact) =>
    unhurried(
      1000,
      async () => {
        const seen: AlarmResult[] = [];
        const starts: unknown[] = [];
        const base = Date.now();
        const stub = declared(
          backend,
          class extends DurableObject {
            constructor(ctx: DurableObjectState, env: never) {
              super(ctx, env);
              void ctx.blockConcurrencyWhile(() => start(fact, starts, ctx, base));
            }
            override alarm(info: AlarmInvocationInfo) {
              return handle(fact, seen, this.ctx, info, base);
            }
          },
        );
        await by(base + fact.firstMs, async () => {
          await inside(stub, (_, __, { storage }) => storage.setAlarm(base + fact.firstMs));
          if (fact.dies) await life(stub, ({ storage }) => storage.sync(), true);
        });
        const { holds, calls } = fact;
        if (holds) {
          // No timer of the object's own but the one that it waits for: it would be held back as well.
          let begun = 0;
          const held = inside(stub, (_, __, ctx) => {
            begun = Date.now();
            return hold(fact, ctx, base);
          });
          await by(base + nextOf({ ...fact, calls: [holds] }), () => held);
          await by(begun < base + fact.firstMs ? Number.POSITIVE_INFINITY : 0, () => {});
        }
        if (calls.length > 0) await by(base + nextOf(fact), () => eventually(() => seen.length > 0));
        await eventually(() => seen.length >= fact.calls.length);
        const after = await by(retries(fact) ? Date.now() + RETRY_MS : Number.MAX_SAFE_INTEGER, async () => {
          await scheduler.wait(fact.restMs);
          return inside(again(stub), async (_, __, { storage }) => {
            const alarm = await storage.getAlarm();
            return alarm && alarm - base;
          });
        });
        compare(fact.title, [seen, after, starts]);
      },
      RETRY_GROWTH,
    ),
  );
});
