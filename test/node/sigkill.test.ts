/** Twenty kills at random times under load: nothing lost, no ghosts, no number used twice. Replay with OUTBOX_SEED. */
import { describe, expect, it } from "vitest";
import { BACKENDS, folder, type Received, Receiver, sleep, start, until, type World } from "./harness.ts";

const KILLS = 20;
const CALLERS = 3;
/** The default of the option `batchSize`. */
const BATCH_SIZE = 100;
/** The longest time from the first put of a round to its kill, in milliseconds. */
const LONGEST_MS = 50;
const SEED = Number(process.env.OUTBOX_SEED ?? Math.floor(Math.random() * 2 ** 31));

type Draw = () => number;

/** A small seeded generator (mulberry32): from 0 to 1. */
function generator(seed: number): Draw {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

describe.each(BACKENDS)("SIGKILL (%s)", (backend) => {
  it(`loses and invents nothing in ${KILLS} kills at random times`, { timeout: 180_000 }, async () => {
    // A generator for each who draws: who comes first in time must not change what another one gets.
    const [times, orders, ...loads] = Array.from({ length: 2 + CALLERS }, (_, i) => generator(SEED + i)) as [Draw, Draw, ...Draw[]];
    const path = folder();
    const receiver = new Receiver();
    // Now and then the destination refuses, so that kills hit backoffs and half-cleared queues as well.
    receiver.order = () => (orders() < 0.2 ? "throw" : "deliver");
    /** Messages whose put was confirmed to the outside. */
    const confirmed: number[] = [];
    let next = 1;

    /** One caller: puts a few messages at a time, until the process is gone. */
    const load = async (world: World, random: Draw): Promise<void> => {
      for (;;) {
        const count = 1 + Math.floor(random() * 20);
        const first = next;
        next += count;
        try {
          await world.call(backend, "a", "put", first, count, Math.floor(random() * 400));
        } catch {
          return;
        }
        for (let n = first; n < first + count; n++) confirmed.push(n);
      }
    };

    for (let kill = 0; kill < KILLS; kill++) {
      const world = await start(path, receiver);
      const callers = loads.map((random) => load(world, random));
      await sleep(times() * LONGEST_MS);
      world.kill();
      await Promise.all(callers);
      await world.stop();
    }

    const world = await start(path, receiver);
    receiver.order = () => "deliver";
    const committed = await world.call<number[]>(backend, "a", "committed");
    await until(async () => (await world.call<{ pending: number }>(backend, "a", "stats")).pending === 0, 60);
    await until(async () => (await world.call(backend, "a", "nativeAlarm")) === null);
    await world.stop();

    const seen = receiver.calls.flat();
    const arrived = new Set(seen.map(({ msg }) => msg.n));
    const delivered = new Set(receiver.delivered);
    const duplicates = receiver.delivered.length - delivered.size;
    const counts = { kills: KILLS, committed: committed.length, delivered: delivered.size, duplicates };
    console.log(`OUTBOX_SEED=${SEED} (${backend})`, JSON.stringify(counts));

    // Enough happened for the test to say something.
    expect(committed.length).toBeGreaterThan(KILLS);
    const stored = new Set(committed);
    expect(confirmed.filter((n) => !stored.has(n))).toEqual([]);
    const lost = committed.filter((n) => !delivered.has(n));
    const ghosts = [...arrived].filter((n) => !stored.has(n));
    expect({ lost, ghosts }).toEqual({ lost: [], ghosts: [] });
    expect(duplicates).toBeLessThanOrEqual(KILLS * BATCH_SIZE);

    // One number is one message, one message is one number, and both without a gap.
    const bySequence = new Map<string, Received>();
    const byContent = new Map<number, Received>();
    for (const message of seen) {
      const place = `${message.source} ${message.sequence}`;
      expect(bySequence.get(place)?.msg.n ?? message.msg.n).toBe(message.msg.n);
      expect(byContent.get(message.msg.n)?.id ?? message.id).toBe(message.id);
      bySequence.set(place, message);
      byContent.set(message.msg.n, message);
    }
    expect(new Set(seen.map(({ source }) => source))).toHaveLength(1);
    expect(Math.max(...seen.map(({ sequence }) => sequence))).toBe(committed.length);

    // In put order: what arrives for the first time never comes before something smaller that arrives later.
    const firsts = [...byContent.values()].map(({ sequence }) => sequence);
    expect(firsts).toEqual([...firsts].sort((a, b) => a - b));
  });
});
