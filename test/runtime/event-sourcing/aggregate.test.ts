/** Aggregates: state, events and snapshot in one commit, whatever fails, and what it costs to load one. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { aggregate, type EventLog } from "../../../src/event-sourcing/index.ts";
import { SEED, size } from "../../support/random.ts";
import { boxWith } from "../support/batches.ts";
import { again, type Backend, crash, drained, inside, onBothBackends, onEitherBackend, type Stub } from "../support/harness.ts";
import { ledgered } from "../support/lanes.ts";
import { type Account, account, accountOf, type Command, type Event, FEE, foldOf, logOf, seen } from "./account.ts";

const kept = (backend: Backend): Stub => boxWith(backend, { retain: "all" });
const snapshotIn = (storage: DurableObjectStorage) => storage.get<{ state: Account; position: number; version: number }>("snapshot");
const deposits = (count: number): Command[] => Array.from({ length: count }, () => ({ do: "deposit", cents: 1 }));

onBothBackends("an aggregate", (backend) => {
  it("is told from one that has no events, and refuses with its own errors", async () => {
    await inside(kept(backend), async (_, outbox, { storage }) => {
      const account = accountOf(outbox);
      expect(await account.load()).toEqual({ state: { isOpen: false, cents: 0 }, exists: false, version: 0, position: 0 });
      await expect(account.handle({ do: "deposit", cents: 1 })).rejects.toThrow("There is no account.");
      expect(await account.handle({ do: "open" })).toMatchObject({ exists: true, version: 1, events: [{ type: "opened" }] });
      await expect(account.handle({ do: "open" })).rejects.toMatchObject({ name: "AlreadyExists" });
      await expect(account.handle({ do: "withdraw", cents: 5 })).rejects.toThrow(RangeError);
      expect(await account.handle({ do: "nothing" })).toMatchObject({ version: 1, events: [] });
      expect(await logOf(outbox)).toEqual([{ type: "opened" }]);
      expect((await storage.list()).size).toBe(0);
    });
  });

  it("stores all events of a command, or none: also when one of them can't be stored", async () => {
    await inside(kept(backend), async (_, outbox) => {
      const account = accountOf(outbox, {
        messageOptions: ({ type }) => (type === "charged" ? ({ key: "x".repeat(300) } as object) : { headers: { of: type } }),
      });
      await account.handle([{ do: "open" }, { do: "deposit", cents: 10 }]);
      await expect(account.handle({ do: "withdraw", cents: 3 })).rejects.toThrow("options.key");
      expect(await logOf(outbox)).toEqual([{ type: "opened" }, { type: "deposited", cents: 10 }]);
      expect((await account.load()).state.cents).toBe(10);
      const { messages } = await outbox.read();
      expect(messages.map(({ headers }) => headers?.of)).toEqual(["opened", "deposited"]);
    });
  });

  it("decides several commands as one: each on what the last has made of it, and none where one is refused", async () => {
    await inside(kept(backend), async (_, outbox) => {
      const account = accountOf(outbox);
      const { state, events } = await account.handle([{ do: "open" }, { do: "deposit", cents: 10 }, { do: "withdraw", cents: 4 }]);
      expect(state.cents).toBe(6 - FEE);
      expect(events.map(({ type }) => type)).toEqual(["opened", "deposited", "withdrawn", "charged"]);
      await expect(
        account.handle([
          { do: "deposit", cents: 1 },
          { do: "withdraw", cents: 100 },
        ]),
      ).rejects.toThrow("Not enough");
      expect(await account.load()).toMatchObject({ version: 4, state: { cents: 5 } });
    });
  });

  it("decides anew where others write between reading and writing, and as often as it is told to", async () => {
    await inside(kept(backend), async (_, outbox) => {
      const account = accountOf(outbox);
      await account.handle([{ do: "open" }, { do: "deposit", cents: 100 }]);
      // Other code of the object, which does not wait for a transaction: it empties the account just before the withdrawal.
      let writes = 1;
      const meddled = { ...outbox, read: outbox.read, transaction: meddling } as typeof outbox;
      function meddling(closure: Parameters<typeof outbox.transaction>[0]) {
        return outbox.transaction((txn) => {
          const { send } = txn;
          txn.send = (async (msg: Event, options: object) => {
            if (writes-- > 0) await outbox.send({ type: "withdrawn", cents: 60 });
            return await send.call(txn, msg, options);
          }) as typeof send;
          return closure(txn);
        });
      }
      seen.decided = 0;
      await accountOf(meddled).handle({ do: "withdraw", cents: 50 });
      // What is put while a transaction is open belongs to it, and is undone with it.
      expect(seen.decided).toBe(2);
      expect((await account.load()).state.cents).toBe(50 - FEE);
      writes = Number.POSITIVE_INFINITY;
      seen.decided = 0;
      await expect(accountOf(meddled, { maxAttempts: 3 }).handle({ do: "withdraw", cents: 1 })).rejects.toMatchObject({
        code: "sequence_conflict",
      });
      expect(seen.decided).toBe(3);
      expect((await account.load()).state.cents).toBe(50 - FEE);
    });
  });

  it("takes many commands at once, each on what is there", async () => {
    const stub = kept(backend);
    await inside(stub, async (_, outbox) => {
      const account = accountOf(outbox, { snapshotEvery: 7 });
      await account.handle([{ do: "open" }, { do: "deposit", cents: 20 }]);
      const ends = await Promise.allSettled(Array.from({ length: 20 }, () => account.handle({ do: "withdraw", cents: 1 })));
      expect(ends.filter(({ status }) => status === "fulfilled")).toHaveLength(10);
      expect(await account.load()).toMatchObject({ state: { cents: 0 }, version: 22 });
      expect(foldOf(await logOf(outbox))).toEqual({ isOpen: true, cents: 0 });
    });
  });

  it("takes part in a transaction, and goes back with it", async () => {
    await inside(kept(backend), async (_, outbox, { storage }) => {
      const account = accountOf(outbox, { snapshotEvery: 1 });
      const failed = outbox.transaction(async (txn) => {
        await txn.put("seen", true);
        await account.handle([{ do: "open" }, { do: "deposit", cents: 5 }], { txn });
        expect(await account.load(txn)).toMatchObject({ version: 2, state: { cents: 5 } });
        throw new Error("at last");
      });
      await expect(failed).rejects.toThrow("at last");
      expect(await account.load()).toMatchObject({ exists: false });
      expect((await storage.list()).size).toBe(0);
      await outbox.transaction((txn) => account.handle({ do: "open" }, { txn }));
      // A conflict is that transaction's: it can't be decided anew in the middle of it.
      seen.decided = 0;
      const conflict = outbox.transaction(async (txn) => {
        const { send } = txn;
        txn.send = (async (msg: Event, options: object) => {
          await outbox.send({ type: "deposited", cents: 1 });
          return await send.call(txn, msg, options);
        }) as typeof send;
        await account.handle({ do: "deposit", cents: 2 }, { txn });
      });
      await expect(conflict).rejects.toMatchObject({ code: "sequence_conflict" });
      expect(seen.decided).toBe(1);
      expect(await snapshotIn(storage)).toMatchObject({ position: 1, version: 1, state: { isOpen: true } });
    });
  });

  it("loads a long history from one snapshot and at most a hundred messages", async () => {
    const count = size(2_000, 100_000);
    const stub = ledgered(backend, { retain: "all", maxPending: 1_000_000, dispatch: "alarm" });
    await inside(stub, async (_, outbox) => {
      const account = accountOf(outbox);
      await account.handle({ do: "open" });
      for (let done = 0; done < count; done += 500) await account.handle(deposits(Math.min(500, count - done)));
      // As many more as there can be without a snapshot.
      for (let n = 0; n < 99; n++) await outbox.send({ type: "deposited", cents: 1 });
    });
    await crash(stub);
    await inside(again(stub), async ({ ledger }, outbox, { storage }) => {
      const account = accountOf(outbox);
      await outbox.stats();
      const before = ledger.readRows;
      seen.evolved = 0;
      // Not in a transaction, whose reads are not counted.
      const { state, version } = await account.load(storage);
      expect([state.cents, version]).toEqual([count + 99, count + 100]);
      expect(seen.evolved).toBeLessThanOrEqual(100);
      // The snapshot, the rows of a hundred messages, and what it takes to find them.
      expect(ledger.readRows - before).toBeGreaterThanOrEqual(3);
      expect(ledger.readRows - before).toBeLessThanOrEqual(10);
      expect(seen.evolved).toBeGreaterThanOrEqual(99);
      // What it was loaded without: the whole history, in pages.
      expect(await accountOf(outbox, { snapshotKey: "none" }).load()).toMatchObject({ state, version });
    });
  });
});

onEitherBackend("an aggregate's history", (backend) => {
  it("that was trimmed is an error that says so; a snapshot takes its place, and so does a state from elsewhere", async () => {
    const stub = kept(backend);
    await inside(stub, async (_, outbox) => {
      await accountOf(outbox, { snapshotEvery: 50 }).handle([{ do: "open" }, ...deposits(79)]);
    });
    await drained(stub);
    await inside(stub, async (_, outbox) => {
      const account = accountOf(outbox, { snapshotEvery: 50 });
      await account.handle(deposits(30));
      // Snapshot at 80, and thirty after it.
      expect(await outbox.trim({ before: 65 })).toBeGreaterThan(1);
      expect((await account.load()).state.cents).toBe(109);
      // Without the snapshot the rest is not enough.
      const anew = accountOf(outbox, { snapshotVersion: 2 });
      await expect(anew.load()).rejects.toMatchObject({ code: "history_trimmed" });
      await expect(anew.handle({ do: "deposit", cents: 1 })).rejects.toThrow('keep it (retain: "all")');
      expect(await account.snapshot()).toMatchObject({ position: 110, version: 110 });
      expect(await anew.snapshot({ state: { isOpen: true, cents: 7 }, version: 1 })).toMatchObject({ exists: true, position: 110 });
      await anew.handle({ do: "deposit", cents: 1 });
      expect(await anew.load()).toMatchObject({ state: { cents: 8 }, version: 2, position: 111 });
    });
  });

  it("that was deleted with everything else is an error until it begins anew", async () => {
    const stub = kept(backend);
    await inside(stub, (_, outbox) => accountOf(outbox).handle([{ do: "open" }, { do: "deposit", cents: 5 }]));
    await drained(stub);
    await inside(stub, async (_, outbox, { storage }) => {
      const account = accountOf(outbox);
      await storage.deleteAll();
      await expect(account.load()).rejects.toMatchObject({ code: "history_trimmed" });
      await account.snapshot({ state: { isOpen: false, cents: 0 }, version: 0 });
      expect(await account.load()).toMatchObject({ exists: false, version: 0 });
      expect(await account.handle({ do: "open" })).toMatchObject({ version: 1, state: { isOpen: true, cents: 0 } });
    });
    await crash(stub);
    await inside(again(stub), async (_, outbox) =>
      expect(await accountOf(outbox).load()).toMatchObject({ version: 1, state: { isOpen: true } }),
    );
  });

  it("goes on where the numbers begin anew", async () => {
    await inside(kept(backend), async (_, outbox) => {
      const account = accountOf(outbox);
      await account.handle([{ do: "open" }, { do: "deposit", cents: 5 }]);
      await outbox.newEpoch();
      await account.handle({ do: "deposit", cents: 6 });
      await account.handle({ do: "withdraw", cents: 1 });
      expect(await account.load()).toMatchObject({ state: { cents: 11 - 1 - FEE }, version: 5, position: 5 });
    });
  });

  it("is folded anew where its shape has another number, and stays where other messages are in the log", async () => {
    await inside(kept(backend), async (_, outbox) => {
      const types = ["opened", "deposited", "withdrawn", "charged"];
      const account = accountOf(outbox, { types, snapshotEvery: 4 });
      await outbox.send({ type: "hello" });
      expect(await account.load()).toMatchObject({ exists: false, position: 1 });
      await account.handle({ do: "open" });
      for (let n = 0; n < 10; n++) {
        await outbox.send({ type: "hello", n });
        await account.handle({ do: "deposit", cents: 1 });
      }
      expect(await account.load()).toMatchObject({ state: { cents: 10 }, version: 11, position: 22 });
      seen.evolved = 0;
      expect(await accountOf(outbox, { types, snapshotVersion: 2 }).load()).toMatchObject({ state: { cents: 10 }, version: 11 });
      expect(seen.evolved).toBe(11);
      const narrow = accountOf(outbox, { types: ["opened", "deposited"], snapshotKey: "narrow" });
      await expect(narrow.handle({ do: "withdraw", cents: 1 })).rejects.toThrow("events of options.types");
    });
  });

  it("is the fold of what is stored, not of what was decided", async () => {
    const stub = boxWith(backend, { retain: "all", messages: { opened: passing, deposited: doubling } });
    await inside(stub, async (_, outbox) => {
      const account = accountOf(outbox);
      const { state, events } = await account.handle([{ do: "open" }, { do: "deposit", cents: 4 }]);
      expect(state.cents).toBe(8);
      expect(events.at(-1)).toEqual({ type: "deposited", cents: 8 });
      expect(await account.load()).toMatchObject({ state: { cents: 8 } });
    });
  });

  it("equals what a snapshot says of it, after any story with deaths in it", async () => {
    const command: fc.Arbitrary<Command> = fc.oneof(
      { weight: 1, arbitrary: fc.constant({ do: "open" as const }) },
      { weight: 4, arbitrary: fc.record({ do: fc.constant("deposit" as const), cents: fc.integer({ min: 1, max: 9 }) }) },
      { weight: 3, arbitrary: fc.record({ do: fc.constant("withdraw" as const), cents: fc.integer({ min: 1, max: 9 }) }) },
    );
    const step = fc.record({ commands: fc.array(command, { minLength: 1, maxLength: 4 }), dies: fc.boolean(), trims: fc.boolean() });
    const story = fc.record({ steps: fc.array(step, { minLength: 1, maxLength: 12 }), snapshotEvery: fc.integer({ min: 1, max: 9 }) });
    await fc.assert(
      fc.asyncProperty(story, async ({ steps, snapshotEvery }) => {
        let stub = kept(backend);
        let last: Account | undefined;
        for (const { commands, dies, trims } of steps) {
          const act = (outbox: Parameters<typeof accountOf>[0]) =>
            accountOf(outbox, { snapshotEvery })
              .handle(commands)
              .catch(() => {});
          if (dies) stub = await crash(stub, (outbox) => void act(outbox));
          else await inside(stub, (_, outbox) => act(outbox));
          if (trims) await drained(stub);
          await inside(stub, async (_, outbox, { storage }) => {
            const events = await logOf(outbox);
            const { state, version } = await accountOf(outbox, { snapshotEvery }).load();
            expect([state, version]).toEqual([foldOf(events), events.length]);
            expect(await accountOf(outbox, { snapshotKey: "none" }).load()).toMatchObject({ state, version });
            const snapshot = await snapshotIn(storage);
            if (snapshot) expect(snapshot.state).toEqual(foldOf(events.slice(0, snapshot.position)));
            last = state;
          });
        }
        expect(last?.cents).toBeGreaterThanOrEqual(0);
      }),
      { seed: SEED, numRuns: size(6, 60), endOnFailure: true },
    );
  });
});

onEitherBackend("the options of an aggregate", (backend) => {
  it.each([
    [{ snapshotEvery: 0 }, "options.snapshotEvery"],
    [{ snapshotEvry: 10 }, "snapshotEvery"],
    [{ maxAttempts: 101 }, "options.maxAttempts"],
    [{ snapshotKey: 5 }, "options.snapshotKey"],
    [{ snapshotVersion: 0.5 }, "options.snapshotVersion"],
    [{ types: [] }, "options.types"],
    [{ messageOptions: {} }, "options.messageOptions"],
  ])("refuse %o", async (options, name) => {
    await inside(kept(backend), (_, outbox) => {
      expect(() => accountOf(outbox, options as object)).toThrow(TypeError);
      expect(() => accountOf(outbox, options as object)).toThrow(name);
    });
  });

  it("refuse what is no manager, as in a class that is not wrapped", () => {
    for (const none of [undefined, {}]) expect(() => accountOf(none as never)).toThrow("Expected `outbox` to be an OutboxManager");
  });

  it("refuse what would keep an event from being stored, or a decision that is not there yet", async () => {
    await inside(kept(backend), async (_, outbox, { storage }) => {
      for (const given of [{ id: "own" }, { expectedSequence: 3 }, { replace: true }]) {
        const account = accountOf(outbox, { messageOptions: () => given as object });
        await expect(account.handle({ do: "open" })).rejects.toThrow(`"${Object.keys(given)[0]}"`);
      }
      await expect(accountOf(outbox).handle({ do: "open" }, { transaction: 1 } as object)).rejects.toThrow("txn");
      for (const version of [undefined, -1, 0.5, Number.NaN, "1", 2 ** 53]) {
        await expect(accountOf(outbox).snapshot({ state: {}, version } as never)).rejects.toThrow("`begin.version`");
      }
      for (const name of ["initialState", "decide", "evolve"] as const) {
        const decider = { ...account, [name]: async () => ({ type: "opened" }) } as never;
        await expect(aggregate(outbox as EventLog<Event>, decider).handle({ do: "open" } as never)).rejects.toThrow(`decider.${name}`);
      }
      expect((await storage.list()).size).toBe(0);
      expect(await logOf(outbox)).toEqual([]);
    });
  });

  it("need a log that is kept", async () => {
    await inside(boxWith(backend, {}), async (_, outbox) => {
      await expect(accountOf(outbox).load()).rejects.toMatchObject({ code: "unsupported" });
    });
  });
});

const passing = schemaOf((value) => value);
const doubling = schemaOf((value) => ({ ...value, cents: (value as { cents: number }).cents * 2 }));

/** The least that a Standard Schema is. */
function schemaOf(make: (value: object) => object) {
  const validate = (value: unknown) => ({ value: make(value as object) as Event });
  return { "~standard": { version: 1 as const, vendor: "test", validate } };
}
