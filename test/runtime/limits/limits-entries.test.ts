/** More entries than one call of storage takes commit as one, and no call is given more than the platform takes in production. */
import { describe, expect, it } from "vitest";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { PROOF } from "../../support/random.ts";
import { numbers } from "../support/batches.ts";
import { atEveryPoint, type Operation, turns } from "../support/crashpoints.ts";
import {
  again,
  type Backend,
  crash,
  crashAfter,
  declared,
  expectFirst,
  expectUntouched,
  inside,
  native,
  numbered,
  onBothBackends,
  type Stub,
  sent,
} from "../support/harness.ts";
import { resumed } from "../support/standing.ts";
import { Box, type BoxEnv, options } from "../support/worker.ts";

/** Around the limit of 128, also with the rows that the outbox adds, and far beyond it. */
const COUNTS = [125, 126, 127, 128, 129, 257, ...(PROOF ? [123, 124, 130, 256, 1000] : [])];

/** How many keys each call of `put` and `delete` was given. */
const calls = new Map<string, number[]>();

/** An object that notes how many keys reach the platform at a time. It is paused, and so many messages wait in it. */
async function measured(backend: Backend, before: number): Promise<Stub> {
  const stub = declared(
    backend,
    class extends withTransactionalOutbox(class extends Box {}, options) {
      constructor(ctx: DurableObjectState, env: BoxEnv) {
        const { storage } = ctx;
        const put = storage.put.bind(storage) as (...args: unknown[]) => Promise<void>;
        const remove = storage.delete.bind(storage) as (...args: unknown[]) => Promise<never>;
        const note = (given: unknown) =>
          calls.get(ctx.id.toString())?.push(typeof given === "string" ? 1 : Object.keys(Object(given)).length);
        const watch =
          (method: (...args: unknown[]) => Promise<unknown>) =>
          (...args: unknown[]) => {
            note(args[0]);
            return method(...args);
          };
        Object.assign(storage, { put: watch(put), delete: watch(remove) });
        super(ctx, env);
      }
    },
  );
  await inside(stub, async (_, outbox) => {
    await outbox.pause();
    await Promise.all(numbers(before).map((n) => outbox.send(n)));
  });
  calls.set(stub.id.toString(), []);
  return stub;
}

onBothBackends("entries", (backend) => {
  const keys = (stub: Stub) => inside(stub, async (_, __, { storage }) => [...(await storage.list()).keys()]);

  /** Asserts that these keys are there, in the next life as well, and that these messages are delivered in put order. */
  async function expectKept(stub: Stub, own: string[], messages: unknown[]): Promise<void> {
    expect(Math.max(...(calls.get(stub.id.toString()) ?? []))).toBeLessThanOrEqual(128);
    const next = await crashAfter(stub, (_, state) => state.storage.sync());
    expect(await keys(next)).toEqual(own);
    await resumed(next);
    expect(sent(next).map(({ sequence, msg }) => [sequence, msg])).toEqual(messages.map((msg, n) => [n + 1, msg]));
  }

  // With sixteen messages in the row, the next one closes it: the put carries one more row of the outbox.
  describe.each([0, 16])("beside %i messages", (before) => {
    it.each(COUNTS)("%i are put with a message, and with an id, as one", async (count) => {
      const stub = await measured(backend, before);
      await inside(stub, (_, outbox) => outbox.put(numbered(count), "message", { id: "mine" }));
      await expectKept(stub, Object.keys(numbered(count)), [...numbers(before), "message"]);
    });
  });

  it.each(COUNTS)("%i are put and deleted as one: a crash at once leaves nothing of either", async (count) => {
    const empty = await crash(await measured(backend, 0), (outbox) => outbox.put(numbered(count), "lost"));
    expect(await keys(empty)).toEqual([]);
    await inside(empty, (_, outbox) => outbox.put(numbered(count), "put"));
    const held = await crash(empty, (outbox) => outbox.delete(Object.keys(numbered(count)), "lost"));
    expect(await keys(held)).toHaveLength(count);
    expect(await inside(held, (_, outbox) => outbox.delete([...Object.keys(numbered(count)), "none"], "deleted"))).toBe(count);
    await expectKept(held, [], ["put", "deleted"]);
  });

  it.each(COUNTS)("%i in a transaction are put when it commits, and none when it does not", async (count) => {
    const stub = await measured(backend, 0);
    await inside(stub, async (_, outbox, state) => {
      const rows = await native(state).list();
      for (const end of ["throws", "is rolled back"]) {
        const done = outbox.transaction(async (txn) => {
          await outbox.put(numbered(count), "lost");
          await outbox.delete(Object.keys(numbered(count)).slice(1), "lost");
          if (end === "throws") throw new Error("the test wants it");
          txn.rollback();
        });
        await done.catch(({ message }) => expect(message).toBe("the test wants it"));
        expect(await native(state).list()).toEqual(rows);
      }
      await outbox.transaction(() => outbox.put(numbered(count), "put"));
      await outbox.delete("none", "after");
    });
    await expectKept(stub, Object.keys(numbered(count)), ["put", "after"]);
  });

  it("300 with a message: a crash at every point leaves all of them, or nothing", async () => {
    const operation: Operation = async (outbox, _, point) => {
      const put = outbox.put(numbered(300), "message");
      point();
      await turns(point);
      for (let turn = 0; turn < 5; turn++) {
        await scheduler.wait(0);
        point();
      }
      await put;
    };
    const [nothing, all] = await atEveryPoint(backend, 0, operation, [{ own: Object.keys(numbered(300)), messages: ["message"] }]);
    expect([nothing, all].map((count = 0) => count > 0)).toEqual([true, true]);
  });

  /** A value with a getter that throws from this read on. */
  const readable = (times: number) => {
    let reads = 0;
    return {
      get n() {
        if (++reads > times) throw new Error("read again");
        return 1;
      },
    };
  };

  describe.each([1, 2, 3])("of which one has a getter that throws after %i reads", (times) => {
    it.each([1, 126, 130, 300])("are stored with the message, or nothing is: among %i", async (count) => {
      const stub = await measured(backend, 0);
      const put = inside(stub, (_, outbox) => outbox.put({ ...numbered(count), last: readable(times) }, "message"));
      const stored = await put.then(
        () => true,
        () => false,
      );
      expect(await keys(again(stub))).toEqual(stored ? [...Object.keys(numbered(count)), "last"] : []);
      await resumed(again(stub));
      expect(sent(stub).map(({ msg }) => msg)).toEqual(stored ? ["message"] : []);
    });
  });

  it("and options are read once, also where they go down in several calls", async () => {
    const stub = await measured(backend, 0);
    const options = () => Object.defineProperty({}, "allowUnconfirmed", { get: () => readable(1).n === 1, enumerable: true });
    const once = () => {
      const value = readable(1);
      return Object.defineProperty(options(), "noCache", { get: () => value.n === 1, enumerable: true });
    };
    await inside(stub, (_, outbox) => outbox.put(numbered(300), "put", once()));
    expect(await keys(stub)).toHaveLength(300);
    expect(await inside(stub, (_, outbox) => outbox.delete(Object.keys(numbered(300)), "deleted", once()))).toBe(300);
    await expectKept(stub, [], ["put", "deleted"]);
  });

  it("are deleted by any name, also by one that every object has", async () => {
    const stub = await measured(backend, 0);
    const names = [...Object.keys(numbered(130)), "toString", "constructor", "__proto__"];
    expect(await inside(stub, (_, outbox) => outbox.delete(names, "message"))).toBe(0);
    await expectKept(stub, [], ["message"]);
  });

  it.each([1, 130])("are all deleted, or none is where one of %i has a key that is too large", async (count) => {
    const stub = await measured(backend, 0);
    await inside(stub, async (_, outbox, { storage }) => {
      await storage.put(Object.fromEntries(Object.entries(numbered(count)).slice(0, 100)));
      const large = "k".repeat(2_300_000);
      await expect(outbox.delete([...Object.keys(numbered(count)), large], "lost")).rejects.toMatchObject({ code: "too_large" });
      await expect(outbox.put({ ...numbered(count), [large]: 1 }, "lost")).rejects.toMatchObject({ code: "too_large" });
    });
    await expectKept(stub, Object.keys(numbered(Math.min(count, 100))), []);
  });

  it("are all put, or none is where one is too large together with its key", async () => {
    const stub = await measured(backend, 0);
    await inside(stub, async (_, outbox, state) => {
      const rows = await native(state).list();
      await expect(outbox.put({ ...numbered(130), ["k".repeat(1_200_000)]: "v".repeat(1_200_000) }, "lost")).rejects.toMatchObject({
        code: "too_large",
      });
      expect(await native(state).list()).toEqual(rows);
    });
    await expectKept(stub, [], []);
  });

  it.each([1, 130])("of which one is refused leave nothing of any, beside %i others", async (count) => {
    const stub = declared(backend, withTransactionalOutbox(class extends Box {}, options));
    await inside(stub, async (_, outbox, state) => {
      await expect(outbox.put({ ...numbered(count), bad: () => {} }, "lost")).rejects.toThrow();
      await expect(outbox.put({ ...numbered(count), "\u{10FFFF}": 1 }, "lost")).rejects.toMatchObject({ code: "reserved_key" });
      await expectUntouched(state);
    });
    await expectFirst(stub);
  });
});
