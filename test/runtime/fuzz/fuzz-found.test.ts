/** What the fuzzers found: each story that was once broken, as short as it gets. */
import { expect, it } from "vitest";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { numbers } from "../support/batches.ts";
import { again, declared, drained, eventually, expectUntouched, fresh, inside, onEitherBackend, sent } from "../support/harness.ts";
import { Box, options, stageOf } from "../support/worker.ts";

/** So many messages leave room for one more in the header. */
const NEARLY_FULL = 15;
const REFUSED = (): void => {};

function revoked(): object {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

onEitherBackend("what a fuzzer found", (backend) => {
  it("delivers no message of two refused puts of one turn, of which the second closes a full row", async () => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox) => {
      await outbox.pause();
      for (const n of numbers(NEARLY_FULL)) await outbox.send(n);
      const results = await Promise.allSettled([
        outbox.put("a", REFUSED, "refused first"),
        outbox.put("b", REFUSED, "refused second"),
        outbox.put("c", 1, "taken"),
      ]);
      expect(results.map(({ status }) => status)).toEqual(["rejected", "rejected", "fulfilled"]);
      expect((await outbox.stats()).pending).toBe(NEARLY_FULL + 1);
      await outbox.resume();
    });
    await drained(stub);
    expect(sent(stub).map(({ msg }) => msg)).toEqual([...numbers(NEARLY_FULL), "taken"]);
  });

  it.each<[string, unknown]>([
    ["a number", 1e300],
    ["a text", "text"],
    ["a symbol", Symbol("options")],
  ])("refuses options that are %s in its own words, before anything is written", async (_, options) => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox, state) => {
      await state.storage.put("held", 0);
      const calls = outbox as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
      const refused = /Expected `options` to be an object/;
      await expect(calls.put?.("a", 1, "lost", options)).rejects.toThrow(refused);
      await expect(calls.send?.("lost", options)).rejects.toThrow(refused);
      await expect(calls.delete?.("held", "lost", options)).rejects.toThrow(refused);
      await expectUntouched(state, { held: 0 });
    });
  });

  it("keeps the messages of a full header when storage refuses the put that closes it, and the repair as well", async () => {
    let refusals = 0;
    let asked = false;
    /** A storage that is busy for a while, below the outbox. */
    const busy = (storage: DurableObjectStorage): void => {
      const put = storage.put.bind(storage) as (...args: unknown[]) => Promise<void>;
      const value = (...args: unknown[]) => (refusals-- > 0 ? Promise.reject(new Error("storage is busy")) : put(...args));
      Object.defineProperty(storage, "put", { value, configurable: true, writable: true });
    };
    const Wrapped = withTransactionalOutbox(class extends Box {}, options);
    const stub = declared(
      backend,
      class extends Wrapped {
        constructor(...args: ConstructorParameters<typeof Box>) {
          busy(args[0].storage);
          super(...args);
        }
      },
    );
    await inside(stub, async (_, outbox) => {
      await outbox.pause();
      await Promise.all(numbers(NEARLY_FULL + 1).map((n) => outbox.send(n)));
    });
    const refused = inside(stub, async (_, outbox) => {
      refusals = 2;
      asked = true;
      // No assertion: the object is aborted meanwhile, and one that never ends would hold up the test.
      await outbox.send("refused").catch(() => {});
    });
    const settled = refused.catch(() => {});
    await eventually(() => asked && refusals <= 0);
    // The object may begin anew: then it begins from what is stored.
    await Promise.race([settled, scheduler.wait(200)]);
    refusals = 0;
    await inside(again(stub), async (_, outbox) => {
      await outbox.send("last");
      await outbox.resume();
    });
    await drained(again(stub));
    expect(sent(stub).map(({ msg }) => msg)).toEqual([...numbers(NEARLY_FULL + 1), "last"]);
  });

  it.each<[string, () => unknown]>([
    ["with a revoked proxy", revoked],
    ["and says when in a way that can't be read", () => ({ retryAfterSeconds: Symbol("soon") })],
  ])("counts what a call has settled before it fails %s", async (_, thrown) => {
    const stub = fresh(backend);
    stageOf(stub).script.push((messages, delivery) => {
      for (const { id, msg } of messages) if (msg === 1) delivery.ack(id);
      throw thrown();
    });
    await inside(stub, (_, outbox) => Promise.all([outbox.send(1), outbox.send(2)]));
    await drained(stub);
    expect(sent(stub).map(({ msg }) => msg)).toEqual([1, 2, 2]);
  });
});
