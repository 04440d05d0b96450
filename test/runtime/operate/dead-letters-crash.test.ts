/** Dead letters and crashes: at every moment a message is in the queue or a dead letter, never both and never neither. */
import { evictDurableObject } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import type { OutboxManager } from "../../../src/index.ts";
import { boxWith, callsOf, down, numbers, putMany } from "../support/batches.ts";
import { again, crash, crashAfter, eventually, inside, onBothBackends, type Stub } from "../support/harness.ts";
import { crashDurably, deadOf, idle, listed, patient, statsOf, waiting, withDead } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

const idsOf = async (stub: Stub): Promise<string[]> => (await listed(stub, "dead")).map(({ id }) => id);

onBothBackends("dead letters and crashes:", (backend) => {
  it("they stand after a crash and after an eviction, and so does what was redriven", async () => {
    const stub = await withDead(backend, 40, { retry: patient });
    const before = await listed(stub, "dead");
    const next = await crash(stub);
    expect(await listed(next, "dead")).toEqual(before);
    await evictDurableObject(next);
    expect(await listed(again(stub), "dead")).toEqual(before);
    const last = await crashDurably(again(stub), (outbox) => outbox.redrive(before.slice(10).map(({ id }) => id)));
    await idle(last);
    expect(new Set(callsOf(stub).flat())).toEqual(new Set(numbers(30, 11)));
    expect(await listed(last, "dead")).toEqual(before.slice(0, 10));
  });

  const CHANGES: [string, (outbox: OutboxManager, ids: string[]) => Promise<unknown>, dead: number, waiting: number][] = [
    ["redrive of all", (outbox) => outbox.redrive(), 0, 200],
    ["redrive of some", (outbox, ids) => outbox.redrive(ids.slice(0, 150)), 50, 150],
    ["discard", (outbox, ids) => outbox.discard(ids.slice(0, 150)), 50, 0],
  ];
  /** Letters in one step, which is one commit. */
  const STEP = 8;
  /** Moments after a call: so many microtasks, then so many turns. */
  const MOMENTS = [...[0, 2, 10, 40].map((tasks) => [tasks, 0] as const), ...[1, 3, 8].map((turns) => [0, turns] as const)];

  describe.each(CHANGES)("%s, more than storage writes at once,", (_, change, dead, waits) => {
    it("is cut off between two steps, and leaves each letter dead or changed", async () => {
      const stub = await withDead(backend, 200, { retry: patient });
      stageOf(stub).rest = down;
      const ids = await idsOf(stub);
      let life = stub;
      for (const [tasks, turns] of MOMENTS) {
        const before = await idsOf(life);
        life = await crashAfter(life, async (outbox) => {
          change(outbox, ids).catch(() => {});
          for (let n = 0; n < tasks; n++) await null;
          for (let n = 0; n < turns; n++) await scheduler.wait(0);
        });
        const seen = await statsOf(life);
        const changed = 200 - seen.dead;
        expect([tasks, turns, waiting(seen)]).toEqual([tasks, turns, waits > 0 ? changed : 0]);
        expect(await idsOf(life)).toEqual(ids.slice(changed));
        if (seen.dead === dead) break;
        expect((before.length - seen.dead) % STEP).toBe(0);
      }
      await inside(life, (_, outbox) => change(outbox, ids));
      const seen = await statsOf(life);
      expect([seen.dead, waiting(seen)]).toEqual([dead, waits]);
    });
  });

  it("a message that is rejected is in the queue or a dead letter, never both and never neither", async () => {
    for (const [tasks, turns] of MOMENTS) {
      const stub = boxWith(backend, { retry: patient });
      let died = false;
      await inside(stub, (_, __, state) => {
        stageOf(stub).script.push((messages, delivery) => {
          for (const { id, sequence } of messages) if (sequence % 2) delivery.reject(id, "no");
          void (async () => {
            for (let n = 0; n < tasks; n++) await null;
            for (let n = 0; n < turns; n++) await scheduler.wait(0);
            died = true;
            state.abort("the crash that the test wants");
          })();
        });
      });
      stageOf(stub).rest = down;
      await putMany(stub, 40).catch(() => {});
      await eventually(() => died);
      const dead = await deadOf(again(stub));
      const pending = (await listed(again(stub), "pending")).map(({ msg }) => msg);
      expect([tasks, turns, pending.concat(dead).length]).toEqual([tasks, turns, dead.length === 0 ? 40 : 20]);
      expect(dead).toEqual(dead.length === 0 ? [] : numbers(20).map((n) => n * 2 - 1));
      expect(pending).toEqual(dead.length === 0 ? numbers(40) : []);
    }
  });
});
