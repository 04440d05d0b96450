/** The real runtime's side of the conformance suite: what stands in `recorded.ts` is what Durable Object storage gives. */
import { DurableObject } from "cloudflare:workers";
import { expect, it } from "vitest";
import { ALARM_FACTS, type AlarmResult, handle, start } from "../model/alarm-facts.ts";
import { FACTS } from "../model/backend-facts.ts";
import { begin, perform } from "../model/operations.ts";
import { RECORDED } from "../model/recorded.ts";
import { again, declared, eventually, inside, onBothBackends, type Stub } from "./harness.ts";

/** Set VITE_RECORD, and what the runtime gives is printed in place of being compared. */
const record = (import.meta as unknown as { env: Record<string, string | undefined> }).env.VITE_RECORD !== undefined;

function compare(title: string, given: unknown): void {
  if (record) console.log(`RECORDED ${JSON.stringify([title, given])}`);
  else expect(given).toEqual(RECORDED[title]);
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

onBothBackends("Durable Object storage", (backend) => {
  const facts = FACTS.filter(({ only = backend.name, production }) => only === backend.name && !production);
  it.each(facts)("$title", async ({ title, chapters }) => {
    const base = Date.now() + 1000;
    let stub = declared(
      backend,
      class extends DurableObject {
        override alarm() {}
      },
    );
    const results: unknown[] = [];
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
    compare(title, results);
  });

  it.concurrent.each(ALARM_FACTS)(
    "$title",
    async (fact) => {
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
      await inside(stub, (_, __, { storage }) => storage.setAlarm(base + fact.firstMs));
      if (fact.dies) await life(stub, ({ storage }) => storage.sync(), true);
      await eventually(() => seen.length >= fact.calls.length, 20);
      await scheduler.wait(fact.restMs);
      const after = await inside(again(stub), async (_, __, { storage }) => {
        const alarm = await storage.getAlarm();
        return alarm && alarm - base;
      });
      compare(fact.title, [seen, after, starts]);
    },
    30_000,
  );
});
