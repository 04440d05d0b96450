/** Transactions that roll back at every moment of a run: whatever the outbox was asked in them, it is as if nothing had been asked. */
import { expect, it } from "vitest";
import type { OutboxManager } from "../../../src/index.ts";
import { some } from "../../support/random.ts";
import { boxWith, callsOf, numbers } from "../support/batches.ts";
import { again, type Backend, crash, eventually, gate, inside, onBothBackends, type Stub } from "../support/harness.ts";
import { retrying, sendNamed } from "../support/lanes.ts";
import { deadOf, idle, listed, statsOf } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

const KEY = "customer";

/** What stands in each object: 1 to 20 in the queue, three dead letters, and one message that waits for a time. */
interface Scene {
  readonly stub: Stub;
  /** The ids of 1 to 20. */
  readonly queued: readonly string[];
  readonly delayed: string;
}

async function sceneOf(backend: Backend): Promise<Scene> {
  const stub = boxWith(backend, { batchSize: 3 });
  const stage = stageOf(stub);
  stage.rest = (messages, delivery) => {
    for (const { id } of messages) delivery.reject(id, "not wanted");
  };
  await inside(stub, (_, outbox) =>
    Promise.all([outbox.send("dead 1", { key: KEY }), outbox.send("dead 2", { key: KEY }), outbox.send("dead 3")]),
  );
  await eventually(async () => (await statsOf(stub)).dead === 3);
  stage.rest = () => {};
  stage.calls.length = 0;
  return inside(stub, async (_, outbox) => {
    await outbox.pause();
    const { id: delayed } = await outbox.send("later", { delaySeconds: 3600 });
    const receipts = await Promise.all(numbers(20).map((n) => outbox.send(n, n % 2 ? { key: KEY } : { id: `own:${n}` })));
    return { stub, delayed, queued: receipts.map(({ id }) => id) };
  });
}

type Operation = (outbox: OutboxManager, scene: Scene, state: DurableObjectState) => unknown;

/** What an object may ask of its outbox, and of its storage beside it, in a transaction. */
const OPERATIONS: Record<string, Operation> = {
  "cancel of the head": (outbox, { queued }) => outbox.cancel(queued[0] ?? ""),
  "cancel in the row of the batch": (outbox, { queued }) => outbox.cancel(queued[4] ?? ""),
  "cancel of the last": (outbox, { queued }) => outbox.cancel(queued[19] ?? ""),
  "cancel of the delayed": (outbox, { delayed }) => outbox.cancel(delayed),
  "cancel of all": async (outbox, { queued }) => {
    for (const id of queued) await outbox.cancel(id);
  },
  redrive: (outbox) => outbox.redrive(),
  "redrive, and cancel of the head": async (outbox, { queued }) => {
    await outbox.redrive();
    await outbox.cancel(queued[0] ?? "");
  },
  discard: async (outbox) => outbox.discard((await outbox.list({ state: "dead" })).map(({ id }) => id)),
  pause: (outbox) => outbox.pause(),
  "pause and resume": async (outbox) => {
    await outbox.pause();
    await outbox.resume();
  },
  flush: (outbox) => outbox.flush(),
  "new epoch": (outbox) => outbox.newEpoch(),
  "a put": (outbox) => outbox.put("ghost", 1, "ghost"),
  "a put of the same key": (outbox) => outbox.put("ghost", 1, "ghost", { key: KEY }),
  "a put of the same id": (outbox) => outbox.put("ghost", 1, "ghost", { id: "own:20" }),
  "forty puts": (outbox) => Promise.all(numbers(40).map((n) => outbox.put(`ghost:${n}`, n, `ghost ${n}`))),
  "a delete": (outbox) => outbox.delete("state", "ghost"),
  "an own alarm": (_, __, { storage }) => storage.setAlarm(Date.now() + 3_600_000),
};

/** Runs the operation in a transaction that rolls back. */
async function rolledBack(scene: Scene, operation: Operation, before: (outbox: OutboxManager) => unknown = () => {}): Promise<void> {
  await inside(scene.stub, async (_, outbox, state) => {
    await before(outbox);
    const wanted = new Error("and so nothing of it has happened");
    await expect(
      outbox.transaction(async () => {
        await operation(outbox, scene, state);
        throw wanted;
      }),
    ).rejects.toBe(wanted);
  });
}

/** Everything is there once, as if there had been no transaction; after a restart as well. */
async function expectUnchanged({ stub }: Scene): Promise<void> {
  await eventually(() => callsOf(stub).flat().length >= 20);
  await eventually(async () => {
    const { pending, blocked } = await statsOf(stub);
    return pending + blocked === 0;
  });
  for (let object = stub, life = 1; life <= 2; object = await crash(object), life++) {
    expect(callsOf(object).flat()).toEqual(numbers(20));
    expect(await deadOf(object)).toEqual(["dead 1", "dead 2", "dead 3"]);
    expect((await listed(object, "delayed")).map(({ msg }) => msg)).toEqual(["later"]);
    expect(await statsOf(object)).toMatchObject({ pending: 0, delayed: 1, blocked: 0, dead: 3, paused: false });
    const own = await inside(object, async (_, __, { storage }) => [await storage.getAlarm(), [...(await storage.list()).keys()]]);
    expect(own).toEqual([null, []]);
  }
}

/** A destination that was rolled back to is still able to take everything. */
async function expectAble(scene: Scene): Promise<void> {
  const stub = again(scene.stub);
  await inside(stub, (_, outbox) => outbox.redrive());
  await eventually(async () => (await statsOf(stub)).pending === 0);
  expect(callsOf(stub).flat().slice(20).sort()).toEqual(["dead 1", "dead 2", "dead 3"]);
}

onBothBackends("a transaction that rolls back", (backend) => {
  for (const [name, operation] of Object.entries(OPERATIONS)) {
    it.concurrent(`leaves nothing of ${name}, while a batch is in flight`, async () => {
      const scene = await sceneOf(backend);
      const { stub } = scene;
      const held = gate();
      stageOf(stub).script.push(() => held.passed());
      await inside(stub, (_, outbox) => outbox.resume());
      await eventually(() => stageOf(stub).calls.length === 1);
      await rolledBack(scene, operation);
      held.open();
      await expectUnchanged(scene);
      await expectAble(scene);
    });

    it.concurrent(`leaves nothing of ${name}, while the batch in flight ends within it`, async () => {
      const scene = await sceneOf(backend);
      const { stub } = scene;
      // A promise that the object settles itself: no timer runs while a transaction is open.
      let open!: () => void;
      const passed = new Promise<void>((resolve) => {
        open = resolve;
      });
      stageOf(stub).script.push(() => passed);
      await inside(stub, (_, outbox) => outbox.resume());
      await eventually(() => stageOf(stub).calls.length === 1);
      await rolledBack(scene, async (outbox, scene, state) => {
        open();
        for (let tick = 0; tick < 20; tick++) await null;
        await operation(outbox, scene, state);
        await state.storage.get("state");
      });
      await expectUnchanged(scene);
      await expectAble(scene);
    });

    it.concurrent(`leaves nothing of ${name}, at whatever microtask of a run it begins`, async () => {
      for (const ticks of some(1, [3, 0, 8, 21])) {
        const scene = await sceneOf(backend);
        await rolledBack(scene, operation, async (outbox) => {
          await outbox.resume();
          void outbox.flush();
          for (let tick = 0; tick < ticks; tick++) await null;
        });
        await expectUnchanged(scene);
      }
    });
  }
});

onBothBackends("a redrive that rolls back", (backend) => {
  it("changes nothing in a lane whose message is in flight", async () => {
    const stub = boxWith(backend, {});
    const stage = stageOf(stub);
    stage.rest = (messages, delivery) => {
      for (const { id } of messages) delivery.reject(id, "not wanted");
    };
    const receipts = await inside(stub, (_, outbox) => Promise.all(numbers(3).map((n) => outbox.send(n, { key: KEY }))));
    await eventually(async () => (await statsOf(stub)).dead === 3);
    stage.calls.length = 0;
    stage.rest = () => {};
    const held = gate();
    stage.script.push(() => held.passed());
    await inside(stub, (_, outbox) => outbox.redrive([receipts[0]?.id ?? ""]));
    await eventually(() => stage.calls.length === 1);
    await inside(stub, async (_, outbox) => {
      const rolledBack = outbox.transaction(async () => {
        expect(await outbox.redrive([receipts[1]?.id ?? ""])).toBe(1);
        throw new Error("and so nothing was redriven");
      });
      await expect(rolledBack).rejects.toThrow("and so nothing was redriven");
    });
    held.open();
    await idle(stub);
    await inside(stub, (_, outbox) => outbox.send(4, { key: KEY }));
    await idle(stub);
    expect(callsOf(stub)).toEqual([[1], [4]]);
    expect(await deadOf(stub)).toEqual([2, 3]);
  });
});

onBothBackends("a transaction that rolls back, with puts beside it", (backend) => {
  it.each(some(4, [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16]))(
    "a message is seen if and only if its state is stored (%i microtasks)",
    async (ticks) => {
      const stub = boxWith(backend, {});
      for (const way of ["throw", "rollback", "return"]) {
        await inside(stub, async (_, outbox) => {
          let begin!: () => void;
          const began = new Promise<void>((resolve) => {
            begin = resolve;
          });
          const ends = outbox.transaction(async (txn) => {
            begin();
            if (way === "throw") throw new Error("rolled back");
            if (way === "rollback") txn.rollback();
          });
          const beside = (async () => {
            await began;
            for (let tick = 0; tick < ticks; tick++) await null;
            return outbox.put(way, 1, `${way} is stored`);
          })();
          await Promise.allSettled([ends, beside]);
        });
        await inside(stub, (_, outbox) => outbox.put(`after ${way}`, 1, `after ${way}`));
      }
      await idle(stub);
      const kept = await inside(stub, async (_, __, { storage }) =>
        [...(await storage.list()).keys()].filter((key) => !key.startsWith("after")),
      );
      const seen = callsOf(stub)
        .flat()
        .filter((msg) => String(msg).endsWith("is stored"));
      expect(seen.sort()).toEqual(kept.map((key) => `${key} is stored`).sort());
    },
  );
});

onBothBackends("a row of a lane of which the head is in flight", (backend) => {
  it("keeps what was cancelled in a transaction that rolled back", async () => {
    const stub = boxWith(backend, {});
    const held = gate();
    stageOf(stub).script.push(
      retrying("a1", 0.05),
      () => {},
      () => held.passed(),
    );
    const receipts = await sendNamed(stub, "a1 a2 a3");
    await eventually(() => callsOf(stub).flat().includes("a2"));
    await inside(stub, async (_, outbox, state) => {
      const failed = state.storage.transaction(async () => {
        expect(await outbox.cancel(receipts[2]?.id ?? "")).toBe(true);
        throw new Error("the test wants it back");
      });
      await expect(failed).rejects.toThrow("the test wants it back");
    });
    held.open();
    await idle(stub);
    expect(callsOf(stub).flat()).toEqual(["a1", "a1", "a2", "a3"]);
  });
});
