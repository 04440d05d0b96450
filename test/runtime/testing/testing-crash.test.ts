/** The testing subpath: `everyCrash` aborts an object at each of its commits, and finds what does not survive that. */
import { expect, it } from "vitest";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { type Crash, drain, everyCrash, sent } from "../../../src/testing/index.ts";
import { again, type Backend, declared, inside, onBothBackends, type Stub } from "../support/harness.ts";
import { hand, inboxOf, numbered } from "../support/inbox.ts";
import { seamed } from "../support/seam.ts";
import { Box, stageOf } from "../support/worker.ts";

seamed();

const box = (backend: Backend): Stub => declared(backend, withTransactionalOutbox(class extends Box {}, {}));
const has = (stub: Stub, key: string) => inside(stub, async (_, __, { storage }) => (await storage.get(key)) !== undefined);
const told = async (stub: Stub, key: string) => (await sent(stub)).some(({ msg }) => msg === key);

onBothBackends("everyCrash", (backend) => {
  it("finds nothing where state and message are one commit", async () => {
    const seen: Crash[] = [];
    const crashes = await everyCrash(
      () => box(backend),
      async (stub) => {
        await inside(stub, (_, outbox) => outbox.put("a", 1, "a"));
        await drain(stub);
        await inside(stub, (_, outbox) => outbox.transaction((txn) => txn.put("b", 2).then(() => txn.send("b"))));
        await drain(stub);
      },
      async (stub, crash) => {
        seen.push(crash);
        for (const key of ["a", "b"]) expect(await told(stub, key)).toBe(await has(stub, key));
      },
    );
    expect(seen).toHaveLength(crashes + 1);
    expect(seen.slice(0, 2)).toMatchObject([
      { commit: 1, when: "before", call: "put" },
      { commit: 1, when: "after", call: "put" },
    ]);
    expect(seen.map(({ call }) => call)).toContain("transaction");
    expect(seen.at(-1)).toMatchObject({ when: "none" });
    // Two puts and two deliveries at least, each before and after.
    expect(crashes).toBeGreaterThanOrEqual(8);
  });

  it("finds two writes that should be one, and says where", async () => {
    const broken = everyCrash(
      () => box(backend),
      async (stub) => {
        await inside(stub, async (_, outbox, { storage }) => {
          await storage.put("a", 1);
          await storage.sync();
          await outbox.send("a");
        });
        await drain(stub);
      },
      async (stub) => expect(await told(stub, "a")).toBe(await has(stub, "a")),
    );
    await expect(broken).rejects.toThrow(/^everyCrash\(\): aborted after commit 1 \(put\): expected false to be true/);
  });

  it("finds a message that is sent before it is committed", async () => {
    const ghosts: string[] = [];
    const broken = everyCrash(
      () => box(backend),
      async (stub) => {
        await inside(stub, async (_, outbox) => {
          ghosts.push(stub.id.toString());
          await outbox.put("a", 1, "a");
        });
      },
      async (stub) => expect(ghosts.includes(stub.id.toString())).toBe(await has(stub, "a")),
    );
    await expect(broken).rejects.toThrow(/^everyCrash\(\): aborted before commit 1 \(put\)/);
  });

  it.skipIf(backend.name === "kv")("aborts what SQL writes, and a message that joins it", async () => {
    const calls = new Set<string>();
    await everyCrash(
      () => box(backend),
      async (stub) => {
        await inside(stub, (_, __, { storage }) => void storage.sql.exec("CREATE TABLE orders (id TEXT)"));
        await inside(stub, (_, outbox, { storage }) => {
          storage.sql.exec("INSERT INTO orders VALUES (?)", "a");
          return outbox.send("a");
        });
        await drain(stub);
      },
      async (stub, { call }) => {
        calls.add(call);
        const stored = await inside(stub, (_, __, { storage }) => {
          const [table] = storage.sql.exec("SELECT name FROM sqlite_master WHERE name = 'orders'").toArray();
          return table !== undefined && storage.sql.exec("SELECT id FROM orders").toArray().length === 1;
        });
        expect(await told(stub, "a")).toBe(stored);
      },
    );
    expect([...calls]).toContain("sql.exec");
  });

  it("aborts a receiver: the effect of a message is once, however often it is sent", async () => {
    const crashes = await everyCrash(
      () => inboxOf(backend).stub,
      async (stub) => {
        for (let times = 0; times < 2; times++) await hand(again(stub), [numbered(1)]).catch(() => {});
      },
      async (stub) => {
        await hand(stub, [numbered(1)]);
        expect(await inside(stub, (_, __, { storage }) => storage.get("effect:sender-1"))).toBe(1);
      },
    );
    expect(crashes).toBeGreaterThanOrEqual(2);
  });

  it("aborts a delivery that is under way: the message comes again", async () => {
    const calls: number[] = [];
    await everyCrash(
      () => box(backend),
      async (stub) => {
        await inside(stub, (_, outbox) => outbox.send("a"));
        await drain(stub);
      },
      async (stub, { commit, when }) => {
        calls.push(stageOf(stub).calls.length);
        expect(await sent(stub)).toHaveLength(commit === 1 && when === "before" ? 0 : 1);
      },
    );
    expect(Math.max(...calls)).toBe(2);
  });

  it("throws what a scenario throws without a crash, and refuses an object that has been used", async () => {
    const fails = everyCrash(
      () => box(backend),
      () => expect.fail("the scenario is wrong"),
      () => {},
    );
    await expect(fails).rejects.toThrow("the scenario is wrong");
    const used = box(backend);
    const again = everyCrash(
      () => used,
      (stub) => inside(stub, (_, outbox) => outbox.send("a")),
      () => {},
    );
    await expect(again).rejects.toThrow("Expected `make` to return a stub of a different object each time.");
    await expect(
      everyCrash(
        () => used,
        1 as never,
        () => {},
      ),
    ).rejects.toThrow("`scenario`");
  });
});
