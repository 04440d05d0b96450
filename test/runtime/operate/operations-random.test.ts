/** Operations at random: whatever is canceled, redriven, discarded, paused or begun anew meanwhile, each message ends once, as it should. */
import { expect, it } from "vitest";
import { SEED, size } from "../../support/random.ts";
import { boxWith, numbers } from "../support/batches.ts";
import { inside, onBothBackends, type Stub } from "../support/harness.ts";
import { deadOf, idle, listed, statsOf } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

console.log(`operations-random: VITE_SEED=${SEED}`);

const MESSAGES = 150;

/** Whole numbers from 0 to below a limit, and choices, from a seed. */
function randomOf(start: number): (below: number) => number {
  let state = (start % 2_147_483_646) + 1;
  return (below) => {
    state = (state * 48_271) % 2_147_483_647;
    return state % below;
  };
}

interface Seen {
  /** How often each message was taken. */
  readonly taken: Map<number, number>;
  readonly canceled: Set<number>;
  readonly discarded: Set<number>;
  readonly wrong: string[];
}

/** A destination that settles at random while `rough`, and takes everything afterwards. */
function play(stub: Stub, random: (below: number) => number): { seen: Seen; calm: () => void } {
  const seen: Seen = { taken: new Map(), canceled: new Set(), discarded: new Set(), wrong: [] };
  let rough = true;
  stageOf(stub).rest = async (messages, delivery) => {
    const take = (msg: unknown) => seen.taken.set(msg as number, (seen.taken.get(msg as number) ?? 0) + 1);
    const implicit: unknown[] = [];
    for (const { id, msg } of messages) {
      if (seen.canceled.has(msg as number)) seen.wrong.push(`${msg} was canceled, and handed over`);
      const luck = rough ? random(10) : 9;
      if (luck === 0) delivery.retry(id, { delaySeconds: random(30) / 1000 });
      else if (luck === 1) delivery.reject(id, "at random");
      else if (luck < 5) {
        delivery.ack(id);
        take(msg);
      } else implicit.push(msg);
    }
    if (random(3) === 0) await scheduler.wait(random(8));
    if (rough && random(6) === 0) throw new Error("at random");
    for (const msg of implicit) take(msg);
  };
  return {
    seen,
    calm: () => {
      rough = false;
    },
  };
}

/** One step of whoever is on call. */
function operate(stub: Stub, seen: Seen, random: (below: number) => number, ids: ReadonlyMap<number, string>): Promise<unknown> {
  return inside(stub, async (_, outbox) => {
    const dead = await outbox.list({ state: "dead", limit: 1000 });
    const some = dead.filter(() => random(2) === 0);
    switch (random(8)) {
      case 0: {
        const count = await outbox.redrive(some.map(({ id }) => id));
        if (count > some.length) seen.wrong.push(`${count} of ${some.length} were redriven`);
        return;
      }
      case 1:
        return outbox.redrive();
      case 2:
        for (const { id, msg } of some.slice(0, 2)) if ((await outbox.discard([id])) === 1) seen.discarded.add(msg as number);
        return;
      case 3:
        return outbox.pause();
      case 4:
        return outbox.resume();
      case 5:
        return random(4) === 0 ? outbox.newEpoch() : outbox.flush();
      default: {
        const n = random(MESSAGES) + 1;
        const id = ids.get(n);
        if (id === undefined || !(await outbox.cancel(id))) return;
        if (seen.taken.has(n)) seen.wrong.push(`${n} was taken, and canceled`);
        if (seen.canceled.has(n)) seen.wrong.push(`${n} was canceled twice`);
        seen.canceled.add(n);
      }
    }
  });
}

onBothBackends("operations at random", (backend) => {
  it.each(numbers(size(1, 8)))("leave each message delivered once, canceled or discarded (story %i)", async (story) => {
    const random = randomOf(SEED + story * 7919);
    const stub = boxWith(backend, {
      batchSize: [1, 3, 10, 100][random(4)] ?? 1,
      retry: { minDelaySeconds: 0.002, maxDelaySeconds: 0.02, jitter: 0, maxAttempts: 3 },
    });
    const { seen, calm } = play(stub, random);
    const ids = new Map<number, string>();
    for (let n = 1; n <= MESSAGES; ) {
      const count = Math.min(MESSAGES - n + 1, 1 + random(20));
      const from = n;
      const receipts = await inside(stub, (_, outbox) =>
        Promise.all(
          numbers(count, from).map((msg) => {
            const key = ["a", "b", "c", undefined, undefined][random(5)];
            return outbox.send(msg, {
              ...(key !== undefined && { key }),
              ...(random(4) === 0 && { delaySeconds: random(60) / 1000 }),
              ...(random(4) === 0 && { id: `own:${msg}` }),
            });
          }),
        ),
      );
      for (const [i, { id }] of receipts.entries()) ids.set(from + i, id);
      n += count;
      for (let steps = random(6); steps > 0; steps--) await operate(stub, seen, random, ids);
    }
    calm();
    await inside(stub, async (_, outbox) => {
      await outbox.resume();
      await outbox.redrive();
    });
    await idle(stub);
    // What was rejected just before the calm.
    await inside(stub, (_, outbox) => outbox.redrive());
    await idle(stub);

    expect(new Set(ids.values()).size).toBe(MESSAGES);
    expect(seen.wrong).toEqual([]);
    const ends = numbers(MESSAGES).map((n) => [n, (seen.taken.get(n) ?? 0) + Number(seen.canceled.has(n)) + Number(seen.discarded.has(n))]);
    expect(ends.filter(([, count]) => count !== 1)).toEqual([]);
    expect(await deadOf(stub)).toEqual([]);
    expect(await listed(stub, "delayed")).toEqual([]);
    expect(await statsOf(stub)).toMatchObject({ pending: 0, delayed: 0, blocked: 0, dead: 0, paused: false, nextAttemptAt: null });
  });
});
