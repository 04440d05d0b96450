/**
 * A gradual rollout on a killed runtime: two versions of a message's type alternate on an object that sends and on one that receives, each by itself. Every
 * message is handled once, in the version that its handler knows.
 */
import type { MiniflareOptions } from "miniflare";
import { describe, expect, it } from "vitest";
import { some } from "../support/random.ts";
import { type Backend, bundled, folder, launch, onBoth, range, sleep, until } from "./harness.ts";

const MESSAGES = 1000;
/**
 * The versions of the deployments, sender's and receiver's, and after how many milliseconds each is killed. A receiver of version 1 takes nothing of what a
 * sender of version 2 has: all of that is there when a sender of version 1 takes over.
 */
const ROUNDS = some(5, [
  [1, 1, 40],
  [2, 2, 200],
  [2, 1, 25],
  [1, 2, 10],
  [2, 1, 60],
  [1, 1, 3],
  [1, 2, 150],
  [2, 2, 30],
  [1, 1, 300],
  [1, 2, 80],
] as const);

/** What the receiver has handled, in this order, and whether it was in another version than that of the deployment. */
type Report = { readonly n: number; readonly isStrange: boolean }[];

interface Stats {
  readonly pending: number;
  readonly delayed: number;
  readonly blocked: number;
  readonly dead: number;
}

async function started(path: string, sends: number, counts: number) {
  const classes = Object.entries({ SENDER: "Sender", COUNTER: "Counter" }).flatMap(([binding, name]) => [
    [`${binding}_SQLITE`, { className: `Sqlite${name}`, useSQLite: true }] as const,
    [`${binding}_KV`, { className: `Kv${name}`, useSQLite: false }] as const,
  ]);
  const { miniflare, pid, url } = await launch({
    name: "rollout",
    modules: true,
    script: await bundled("rollout.ts"),
    compatibilityDate: "2026-07-01",
    durableObjectsPersist: path,
    durableObjects: Object.fromEntries(classes),
    bindings: { SENDS: sends, COUNTS: counts },
  } as MiniflareOptions);
  return {
    kill: () => void process.kill(pid, "SIGKILL"),
    async call<R>(backend: Backend, method: string, ...args: unknown[]): Promise<R> {
      const response = await fetch(new URL(`${backend}/${method}`, url), { method: "POST", body: JSON.stringify(args) });
      const text = await response.text();
      if (!response.ok) throw new Error(text);
      return JSON.parse(text) as R;
    },
    [Symbol.asyncDispose]: () => miniflare.dispose(),
  };
}

describe("a rollout in which two versions alternate, on both backends", () => {
  it("loses no message through kills, repeats none and hands over none in a version that its handler does not know", async () => {
    const path = folder();
    const each = MESSAGES / ROUNDS.length;
    for (const [round, [sends, counts, moment]] of ROUNDS.entries()) {
      await using world = await started(path, sends, counts);
      await onBoth(async (backend) => void (await world.call(backend, "sender/put", round * each + 1, each)));
      await sleep(moment);
      world.kill();
    }
    await using world = await started(path, 2, 2);
    await onBoth(async (backend) => {
      await until(async () => {
        // A runtime that is busy for seconds closes the connections on which nothing has come meanwhile.
        const stats = await world.call<Stats>(backend, "sender/stats").catch(() => null);
        return stats && stats.pending + stats.delayed + stats.blocked === 0;
      });
      expect([backend, await world.call(backend, "sender/stats")]).toMatchObject([backend, { dead: 0 }]);
      const handled = await world.call<Report>(backend, "counter/report");
      expect([backend, handled.filter(({ isStrange }) => isStrange)]).toEqual([backend, []]);
      expect([backend, handled.map(({ n }) => n).sort((a, b) => a - b)]).toEqual([backend, range(1, MESSAGES)]);
      for (const key of [1, 2, 3]) {
        const order = handled.map(({ n }) => n).filter((n) => n % 4 === key);
        expect([backend, key, order]).toEqual([backend, key, [...order].sort((a, b) => a - b)]);
      }
    });
  });
});
