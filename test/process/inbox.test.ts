/**
 * Effectively once, end to end: accounts that transfer to each other, by RPC and through a local queue, with duplicates, dying objects and
 * SIGKILLs. Afterwards every transfer has been debited once and credited once, and the sum of all balances is what it was.
 *
 * INBOX_ACCOUNTS and INBOX_TRANSFERS set the size (1000 and 10000 for the long run), VITE_SEED replays the transfers and the times of the kills.
 */
import type { Miniflare, MiniflareOptions } from "miniflare";
import { afterAll, describe, expect, it } from "vitest";
import { SEED, size } from "../support/random.ts";
import { bundled, folder, launch, sleep, until } from "./harness.ts";
import type { Audit } from "./inbox-audit.ts";

const ACCOUNTS = Number(process.env.INBOX_ACCOUNTS ?? size(10, 100));
const TRANSFERS = Number(process.env.INBOX_TRANSFERS ?? size(100, 1000));
const KILLS = 4;
const BALANCE = 1000;
/** Transfers in one request. */
const PORTION = 25;
/** Requests that a life of the process may fail without having been killed: a connection may be lost on a busy machine. */
const MOST_FAILURES = 10;
/** Between two looks at all accounts, which are work for them, in milliseconds. */
const LOOK_MS = 200;
const MOST_MS = (TRANSFERS / 1000 + 1) * 240_000;

type Transfer = [n: number, from: number, to: number, amount: number];

/** A small seeded generator (mulberry32): from 0 to 1. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function transfers(random: () => number): Transfer[] {
  return Array.from({ length: TRANSFERS }, (_, n) => {
    const from = Math.floor(random() * ACCOUNTS);
    const to = (from + 1 + Math.floor(random() * (ACCOUNTS - 1))) % ACCOUNTS;
    return [n, from, to, 1 + Math.floor(random() * 50)];
  });
}

interface World {
  ask<R>(path: string, body?: unknown): Promise<R>;
  kill(): void;
  killed(): boolean;
  stop(): Promise<void>;
}

const running = new Set<Miniflare>();
afterAll(async () => {
  for (const miniflare of running) await miniflare.dispose();
});

async function start(path: string, way: "rpc" | "queue", hold = false): Promise<World> {
  const { miniflare, pid, url } = await launch({
    name: "accounts",
    modules: true,
    script: await bundled("inbox.ts"),
    compatibilityDate: "2026-07-01",
    durableObjectsPersist: path,
    durableObjects: { SQLITE: { className: "SqliteAccount", useSQLite: true }, KV: { className: "KvAccount", useSQLite: false } },
    queueProducers: { QUEUE: "queue" },
    queueConsumers: { queue: { maxBatchSize: 50, maxBatchTimeout: 0.05, maxRetries: 100, retryDelay: 0 } },
    bindings: { WAY: way, HOLD: hold },
  } as MiniflareOptions);
  running.add(miniflare);
  let killed = false;
  return {
    async ask<R>(path: string, body?: unknown) {
      const response = await fetch(new URL(path, url), body === undefined ? {} : { method: "POST", body: JSON.stringify(body) });
      const text = await response.text();
      if (!response.ok) throw new Error(text);
      return (text === "" ? undefined : JSON.parse(text)) as R;
    },
    kill() {
      killed = true;
      process.kill(pid, "SIGKILL");
    },
    killed: () => killed,
    async stop() {
      running.delete(miniflare);
      await miniflare.dispose();
    },
  };
}

/** Asks for all of these transfers, again and again until each has been accepted. Ends early when the process has been killed. */
async function drive(world: World, list: readonly Transfer[]): Promise<void> {
  let failures = 0;
  for (let i = 0; i < list.length; ) {
    try {
      if ((await world.ask<number>("transfer", list.slice(i, i + PORTION))) === 0) i += PORTION;
    } catch (error) {
      if (world.killed()) return;
      if (++failures > MOST_FAILURES) throw error;
    }
  }
}

/** Waits until every transfer has arrived and nothing is under way, and asserts that each has been debited and credited once. */
async function settled(world: World, list: readonly Transfer[]): Promise<void> {
  let audits: Audit[] = [];
  await until(async () => {
    await sleep(LOOK_MS);
    audits = await world.ask<Audit[]>(`audit/${ACCOUNTS}`);
    const arrived = audits.reduce((sum, audit) => sum + audit.in.length, 0);
    return arrived >= list.length && audits.every(({ waiting }) => waiting === 0);
  }, MOST_MS / 2000).catch(() => {});
  const all = list.map(([n]) => n);
  const ascending = (numbers: number[]) => numbers.sort((a, b) => a - b);
  const credited = audits.flatMap((audit) => audit.in);
  expect({
    waiting: audits.reduce((sum, { waiting }) => sum + waiting, 0),
    debited: ascending(audits.flatMap(({ out }) => out)),
    credited: ascending(credited.map(([n]) => n)),
    double: credited.filter(([, times]) => times !== 1),
    sum: audits.reduce((sum, { balance }) => sum + balance, 0),
  }).toEqual({ waiting: 0, debited: all, credited: all, double: [], sum: ACCOUNTS * BALANCE });
  // Account by account: what was to come has come, and no more.
  const balances = Array.from({ length: ACCOUNTS }, () => BALANCE);
  for (const [, from, to, amount] of list) {
    balances[from] = (balances[from] ?? 0) - amount;
    balances[to] = (balances[to] ?? 0) + amount;
  }
  expect(audits.map(({ balance }) => balance)).toEqual(balances);
}

describe("effectively once", () => {
  it(`outbox to RPC to inbox: ${TRANSFERS} transfers, ${KILLS} SIGKILLs at random times`, { timeout: MOST_MS }, async () => {
    console.log(`inbox, RPC: VITE_SEED=${SEED}`);
    const [draw, times] = [generator(SEED), generator(SEED + 1)];
    const list = transfers(draw);
    const path = folder();
    const chaos: unknown[] = [];
    for (let kill = 0; kill < KILLS; kill++) {
      const world = await start(path, "rpc");
      await world.ask(`open/${ACCOUNTS}/${BALANCE}`);
      // The last part is left to the life that is not killed, so that something goes wrong there however much the others have delivered.
      const from = Math.floor((list.length * kill) / (KILLS + 1));
      const driving = drive(world, list.slice(from, Math.ceil((list.length * (kill + 1)) / (KILLS + 1))));
      await sleep((100 + times() * 400) * (TRANSFERS / 1000));
      chaos.push(await world.ask("chaos").catch(() => "gone"));
      world.kill();
      await driving;
      await world.stop();
    }
    const world = await start(path, "rpc");
    await drive(world, list);
    await settled(world, list);
    chaos.push(await world.ask("chaos"));
    console.log("inbox, RPC: what went wrong on purpose, life by life:", JSON.stringify(chaos));
    const last = chaos.at(-1) as Record<string, number>;
    expect(last.repeated).toBeGreaterThan(0);
    expect(last.deaths).toBeGreaterThan(0);
    await world.stop();
  });

  // The local queue keeps its messages in memory and loses them with its process, which a real one does not: so the process is killed only
  // while messages stand in outboxes, and objects die while they are in the queue.
  it(`outbox to queue to inbox: ${TRANSFERS} transfers, SIGKILLs while the queue is empty`, { timeout: MOST_MS }, async () => {
    console.log(`inbox, queue: VITE_SEED=${SEED}`);
    const [draw, times] = [generator(SEED), generator(SEED + 2)];
    const list = transfers(draw);
    const path = folder();
    const chaos: Record<string, number>[] = [];
    const ROUNDS = 2;
    for (let round = 1; round <= ROUNDS; round++) {
      const portion = list.slice(0, Math.ceil((list.length * round) / ROUNDS));
      const held = await start(path, "queue", true);
      await held.ask(`open/${ACCOUNTS}/${BALANCE}`);
      const driving = drive(held, portion);
      await sleep((100 + times() * 400) * (TRANSFERS / 1000));
      held.kill();
      await driving;
      await held.stop();
      const world = await start(path, "queue");
      await drive(world, portion);
      await settled(world, portion);
      chaos.push(await world.ask("chaos"));
      // Duplicates may still be under way, which are no loss.
      world.kill();
      await world.stop();
    }
    console.log("inbox, queue: what went wrong on purpose, life by life:", JSON.stringify(chaos));
    for (const what of ["duplicates", "repeated", "deaths"]) expect(chaos.every((life) => (life[what] ?? 0) > 0)).toBe(true);
    const world = await start(path, "queue");
    await settled(world, list);
    await world.stop();
  });
});

describe("what a stub can reach of an inbox", () => {
  it("is receiveMessages, and neither receiveMessage nor the manager", async () => {
    const world = await start(folder(), "rpc");
    for (const number of [0, 1]) {
      for (const member of ["receiveMessage", "sendMessages", "alarm", "receive", "drain"]) {
        expect([member, await world.ask<string>(`knock/${member}/${number}`)]).toEqual([
          member,
          expect.stringMatching(/^TypeError|Error: .*(RPC|not|method)/),
        ]);
      }
      expect(await world.ask<string>(`knock/receiveMessages/${number}`)).toMatch(/Expected `envelopes`/);
    }
    await world.stop();
  });
});
