/** An aggregate that dies at each of its commits: what is left is whole commands, and a snapshot that is their fold. */
import { expect, it } from "vitest";
import { everyCrash } from "../../../src/testing/index.ts";
import { boxWith } from "../support/batches.ts";
import { inside, onBothBackends, type Stub } from "../support/harness.ts";
import { seamed } from "../support/seam.ts";
import { type Account, accountOf, foldOf, logOf } from "./account.ts";

seamed();

onBothBackends("an aggregate", (backend) => {
  it("is whole wherever the object dies: whole commands in the log, and a snapshot that is their fold", async () => {
    const cents = [3, 1, 2];
    const crashes = await everyCrash(
      () => boxWith(backend, { retain: "all" }),
      async (stub) => {
        await inside(stub as Stub, async (_, outbox) => {
          const account = accountOf(outbox, { snapshotEvery: 3 });
          await account.handle([{ do: "open" }, { do: "deposit", cents: 20 }]);
          for (const each of cents) await account.handle({ do: "withdraw", cents: each });
        });
      },
      (stub) =>
        inside(stub as Stub, async (_, outbox, { storage }) => {
          const events = await logOf(outbox);
          expect([0, 2, 4, 6, 8]).toContain(events.length);
          const { state, version } = await accountOf(outbox).load();
          expect([state, version]).toEqual([foldOf(events), events.length]);
          const snapshot = await storage.get<{ state: Account; position: number }>("snapshot");
          expect(snapshot?.position ?? 0).toBe(events.length < 4 ? 0 : events.length < 8 ? 4 : 8);
          if (snapshot) expect(snapshot.state).toEqual(foldOf(events.slice(0, snapshot.position)));
        }),
    );
    expect(crashes).toBeGreaterThanOrEqual(8);
  });
});
