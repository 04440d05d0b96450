/** What the manager is told in a transaction belongs to it: every call, and all that it changes, rolls back with it. */
import { describe, expect, it } from "vitest";
import type { OutboxManager } from "../../../src/index.ts";
import { crashAfter, inside, native, numbered, onBothBackends, type Stub, sent } from "../support/harness.ts";
import { stats } from "../support/lanes.ts";
import { deadOf, idle, paused, withDead } from "../support/standing.ts";

class Rollback extends Error {}

const isRollback = (error: unknown): void => expect(error).toBeInstanceOf(Rollback);
const messages = (stub: Stub) => sent(stub).map(({ sequence, msg }) => [sequence, msg]);

onBothBackends("a call of the manager in a transaction that is rolled back", (backend) => {
  const lost = (stub: Stub, body: (outbox: OutboxManager) => Promise<unknown>) =>
    inside(stub, (_, outbox) =>
      outbox
        .transaction(async () => {
          await body(outbox);
          throw new Rollback();
        })
        .catch(isRollback),
    );

  const CALLS: [string, (outbox: OutboxManager) => Promise<unknown>][] = [
    ["put", (outbox) => outbox.put("other", 2, "lost")],
    ["put of 200 entries", (outbox) => outbox.put(numbered(200), "lost")],
    ["delete", (outbox) => outbox.delete("held", "lost")],
    ["send", (outbox) => outbox.send("lost")],
    ["resume", (outbox) => outbox.resume()],
    ["cancel", (outbox) => outbox.cancel("waits")],
    ["cancel of one that is set aside", (outbox) => outbox.cancel("later")],
    ["newEpoch and a send", (outbox) => outbox.newEpoch().then(() => outbox.send("lost"))],
  ];

  describe.each(CALLS)("%s", (_, call) => {
    it("has changed nothing, now and after a crash", async () => {
      const stub = await paused(backend);
      await inside(stub, async (_, outbox, { storage }) => {
        await storage.put("held", 1);
        await outbox.resume();
        await outbox.send("later", { id: "later", delaySeconds: 600 });
      });
      await stats(stub, { pending: 0, delayed: 1 });
      await inside(stub, async (_, outbox) => [await outbox.pause(), await outbox.send("waits", { id: "waits" })]);
      const before = await inside(stub, async (_, __, state) => [await native(state).list(), await native(state).getAlarm()]);
      await lost(stub, call);
      expect(await inside(stub, async (_, __, state) => [await native(state).list(), await native(state).getAlarm()])).toEqual(before);
      await stats(stub, { paused: true, pending: 1, delayed: 1 });
      const next = await crashAfter(stub, (_, state) => state.storage.sync());
      await inside(next, (_, outbox) => outbox.resume());
      await stats(next, { pending: 0, delayed: 1 });
      expect(await inside(next, (_, outbox) => outbox.cancel("later"))).toBe(true);
      expect(await inside(next, (_, outbox) => outbox.send("next"))).toMatchObject({ sequence: 3 });
      await idle(next);
      expect(messages(next)).toEqual([
        [2, "waits"],
        [3, "next"],
      ]);
    });
  });

  it.each(["redrive", "discard"] as const)("%s leaves the dead letters dead", async (name) => {
    const stub = await withDead(backend, 3);
    await lost(stub, async (outbox) => {
      const ids = (await outbox.list({ state: "dead" })).map(({ id }) => id);
      expect(await outbox[name](ids)).toBe(3);
    });
    expect(await deadOf(stub)).toEqual([1, 2, 3]);
    expect(await inside(stub, (_, outbox) => outbox.redrive())).toBe(3);
    await idle(stub);
    expect(
      sent(stub)
        .map(({ msg }) => msg)
        .sort(),
    ).toEqual([1, 2, 3]);
  });
});
