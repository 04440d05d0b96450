/** An object that can't set an alarm, as facets can't in production: what would never be delivered is refused, and leaves nothing. */
import { evictDurableObject } from "cloudflare:test";
import { expect, it } from "vitest";
import { type OutboxManager, type OutboxOptions, withTransactionalOutbox } from "../../../src/index.ts";
import { again, type Backend, declared, expectUntouched, inside, onBothBackends, type Stub } from "../support/harness.ts";
import { Box, type BoxEnv, options, stageOf } from "../support/worker.ts";

const wrapped = (chosen: OutboxOptions<"OUTBOX_MANAGER">) => withTransactionalOutbox(class extends Box {}, { ...options, ...chosen });

/** An object whose platform refuses alarms, below the outbox. */
function withoutAlarm(backend: Backend, chosen: OutboxOptions<"OUTBOX_MANAGER"> = {}): Stub {
  return declared(
    backend,
    class extends wrapped(chosen) {
      constructor(ctx: DurableObjectState, env: BoxEnv) {
        const { storage } = ctx;
        const define = (target: object, name: string, value: unknown) =>
          Object.defineProperty(target, name, { value, configurable: true, writable: true });
        const refuse = () => Promise.reject(new Error("Alarms are refused here."));
        const transaction = storage.transaction.bind(storage);
        define(storage, "setAlarm", refuse);
        define(storage, "transaction", <T>(closure: (txn: DurableObjectTransaction) => Promise<T>) =>
          transaction((txn) => closure(define(txn, "setAlarm", refuse) as DurableObjectTransaction)),
        );
        super(ctx, env);
      }
    },
  );
}

/** What the object is reset with: it says what is wrong, what to do, and what the platform said. */
const RESET = /\[do-transactional-outbox\] This object can't set an alarm \(facets can't\): put the outbox in .*Alarms are refused here/;

onBothBackends("an object that can't set an alarm", (backend) => {
  const WRITES: [string, (outbox: OutboxManager, storage: DurableObjectStorage) => Promise<unknown>][] = [
    ["put", (outbox) => outbox.put("a", 1, "lost")],
    ["delete", (outbox) => outbox.delete("mine", "lost")],
    ["send", (outbox) => outbox.send("lost")],
    ["send with a delay", (outbox) => outbox.send("lost", { delaySeconds: 60 })],
    ["put of 300 entries", (outbox) => outbox.put(Object.fromEntries(Array.from({ length: 300 }, (_, n) => [`${n}`, n])), "lost")],
    ["a transaction", (outbox) => outbox.transaction((txn) => Promise.all([txn.put("a", 1), txn.send("lost")]))],
    ["deleteAll", (outbox) => outbox.deleteAll("lost")],
    ["send beside a write", (outbox, storage) => Promise.all([storage.put("a", 1), outbox.send("lost")])],
  ];

  it.each(WRITES)("is reset by %s with a text that says what to do, and neither state nor message stays", async (_, write) => {
    for (const dispatch of ["alarm", "immediate"] as const) {
      const stub = withoutAlarm(backend, { dispatch });
      await inside(stub, async (_, __, { storage }) => {
        await storage.put("mine", 1);
        await storage.sync();
      });
      const writing = inside(stub, async (_, outbox, { storage }) => {
        await write(outbox, storage);
        await storage.sync();
        return "written";
      });
      await expect(writing).rejects.toThrow(/Alarms are refused here/);
      await expect(inside(stub, () => {})).rejects.toThrow(RESET);
      await inside(again(stub), (_, __, state) => expectUntouched(state, { mine: 1 }));
      expect(stageOf(stub).calls).toEqual([]);
    }
  });

  it("starts and uses its storage as long as the outbox is not used", async () => {
    const stub = withoutAlarm(backend);
    await inside(stub, async (_, outbox, { storage }) => {
      await storage.put("mine", 1);
      await storage.transaction((txn) => txn.put("other", 2));
      expect(await outbox.stats()).toMatchObject({ pending: 0 });
    });
    await evictDurableObject(stub);
    await inside(again(stub), (_, __, state) => expectUntouched(state, { mine: 1, other: 2 }));
  });
});
