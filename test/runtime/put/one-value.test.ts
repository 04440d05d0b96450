/** G1 for a put of one value: what storage refuses of it, and what user code does while its value is read. */
import { expect, it } from "vitest";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { HEADER } from "../../../src/storage/rows.ts";
import { numbers } from "../support/batches.ts";
import { again, declared, drained, eventually, fresh, inside, native, onBothBackends, type Stub, sent } from "../support/harness.ts";
import { Box, options } from "../support/worker.ts";

function throwing(): never {
  throw new Error("storage.kv is for SQLite-backed objects");
}

onBothBackends("a put of one value", (backend) => {
  /** An object whose storage refuses to write a row while `refuses` says so. */
  function refusing(refuses: (key: string) => boolean): Stub {
    const Wrapped = withTransactionalOutbox(class extends Box {}, options);
    return declared(
      backend,
      class extends Wrapped {
        constructor(...args: ConstructorParameters<typeof Box>) {
          const { storage } = args[0];
          const put = storage.put.bind(storage) as (...args: unknown[]) => Promise<void>;
          const refusal = (first: unknown): Error | undefined => {
            const keys = typeof first === "string" ? [first] : Object.keys(first as object);
            return keys.some(refuses) ? new Error("the disk is full") : undefined;
          };
          const value = (...args: unknown[]) => {
            const error = refusal(args[0]);
            return error ? Promise.reject(error) : put(...args);
          };
          Object.defineProperty(storage, "put", { value, configurable: true, writable: true });
          super(...args);
        }
      },
    );
  }

  it.each([
    ["the header", 3, (key: string) => key === HEADER],
    ["the segment of a full header", 16, (key: string) => key.startsWith(HEADER.slice(0, -1)) && key !== HEADER],
  ])("leaves neither state nor message when storage refuses %s", async (_, before, refuses) => {
    let isFull = false;
    let tries = 0;
    const stub = refusing((key) => isFull && refuses(key) && tries++ >= 0);
    await inside(stub, async (_, outbox) => {
      await outbox.pause();
      for (const n of numbers(before)) await outbox.put("state", n, n);
    });
    const refused = inside(stub, async (_, outbox) => {
      isFull = true;
      // The object may be reset meanwhile, and then this never ends.
      await outbox.put("state", "lost", "lost").catch(() => {});
    }).catch(() => {});
    await eventually(() => tries > 0);
    isFull = false;
    await Promise.race([refused, scheduler.wait(200)]);
    await inside(again(stub), async (_, outbox, { storage }) => {
      expect(await storage.get("state")).toBe(before);
      await outbox.resume();
      await outbox.put("state", "last", "last");
    });
    await drained(again(stub));
    expect(sent(stub).map(({ msg }) => msg)).toEqual([...numbers(before), "last"]);
  });

  it.each<[string, PropertyDescriptor]>([
    ["refuses storage.kv, as a KV-backed one may in production", { get: () => throwing() }],
    ["has no storage.kv, as on older runtimes", { value: undefined }],
  ])("is stored and delivered where the platform %s", async (_, kv) => {
    const Wrapped = withTransactionalOutbox(class extends Box {}, options);
    const stub = declared(
      backend,
      class extends Wrapped {
        constructor(...args: ConstructorParameters<typeof Box>) {
          Object.defineProperty(args[0].storage, "kv", { ...kv, configurable: true });
          super(...args);
        }
      },
    );
    await inside(stub, async (_, outbox, { storage }) => {
      await outbox.put("state", 1, "sent");
      expect(await storage.get("state")).toBe(1);
    });
    await drained(stub);
    expect(sent(stub).map(({ msg }) => msg)).toEqual(["sent"]);
  });

  it("keeps in the header what a getter of its value has put meanwhile, whichever of them closes a full one", async () => {
    // Where values have a limit of their own, the value is read before its message has a number.
    const two = backend.name === "kv" ? ["inner", "outer"] : ["outer", "inner"];
    for (const before of [0, 14, 15]) {
      const stub = fresh(backend);
      await inside(stub, async (_, outbox, state) => {
        await outbox.pause();
        for (const n of numbers(before)) await outbox.send(n);
        let inner: Promise<unknown> | undefined;
        const value = {
          get part() {
            inner ??= outbox.put("inner", 1, "inner");
            return "read";
          },
        };
        await outbox.put("outer", value, "outer");
        await inner;
        const header = String(await native(state).get(HEADER));
        expect(header).toContain(`"${two[1]}"`);
        expect(await state.storage.get("outer")).toEqual({ part: "read" });
        await outbox.resume();
      });
      await drained(stub);
      expect(sent(stub).map(({ msg }) => msg)).toEqual([...numbers(before), ...two]);
    }
  });

  it("stores no message whose value is refused after a getter of it has put another", async () => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox, state) => {
      await outbox.pause();
      let inner: Promise<unknown> | undefined;
      const value = {
        get part() {
          inner ??= outbox.put("inner", 1, "inner");
          return () => {};
        },
      };
      await expect(outbox.put("state", value, "refused")).rejects.toThrow();
      await inner;
      expect(String(await native(state).get(HEADER))).not.toContain('"refused"');
      expect(await state.storage.get("state")).toBeUndefined();
      await outbox.resume();
    });
    await drained(stub);
    expect(sent(stub).map(({ msg }) => msg)).toEqual(["inner"]);
  });
});
