/** The log on the platform itself: tails that wait while the object hibernates, and writers that race for a number over RPC. */
import type { MiniflareOptions } from "miniflare";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PROOF } from "../support/random.ts";
import { BACKENDS, bundled, folder, launch, sleep, until } from "./harness.ts";

const TAILS = 100;
/** workerd 1.20260730 lets an object hibernate of which nothing has been asked for some ten seconds. */
const IDLE_MS = 12_000;

let origin = "";
let end: (() => Promise<void>) | undefined;
beforeAll(async () => {
  const { miniflare, url } = await launch({
    name: "log",
    modules: true,
    script: await bundled("log.ts"),
    compatibilityDate: "2026-07-01",
    durableObjectsPersist: folder(),
    durableObjects: { SQLITE: { className: "SqliteFeed", useSQLite: true }, KV: { className: "KvFeed", useSQLite: false } },
  } as MiniflareOptions);
  ({ origin } = url);
  end = () => miniflare.dispose();
});
afterAll(() => end?.());

/** What has become of a write that knew the last message. */
interface Attempt {
  readonly writer: string;
  readonly expectedSequence: number;
  readonly sequence?: number;
  readonly code?: string;
  readonly actual?: number;
}

interface Follower {
  /** The numbers that have come. */
  seen: number[];
  /** Whether the stream has ended, and not been broken off. */
  isOver: boolean;
}

/** What a stream of events has brought. */
async function tail(path: string, stop: AbortSignal): Promise<Follower> {
  const response = await fetch(`${origin}/${path}?offset=-1&live=sse`, { signal: stop });
  expect(response.status).toBe(200);
  const follower: Follower = { seen: [], isOver: false };
  let text = "";
  void response.body
    ?.pipeThrough(new TextDecoderStream())
    .pipeTo(
      new WritableStream({
        write(chunk) {
          text += chunk;
          follower.seen = Array.from(text.matchAll(/"n":(\d+)/g), ([, n]) => Number(n));
        },
        close() {
          follower.isOver = true;
        },
      }),
    )
    .catch(() => {});
  return follower;
}

describe.concurrent.each(BACKENDS)("a log on a %s-backed object", (backend) => {
  const put = (name: string, n: number): Promise<unknown> => fetch(`${origin}/${backend}/relayed/${name}?n=${n}`, { method: "POST" });
  const starts = async (name: string): Promise<number> => Number(await (await fetch(`${origin}/${backend}/starts/${name}`)).text());

  it.runIf(PROOF || backend === "sqlite")(
    "lets its object hibernate under a hundred tails that are relayed, and reaches all of them afterwards, and sends them away when it crashes",
    async () => {
      const [relayed, direct] = [`relayed-${backend}`, `direct-${backend}`];
      const stop = new AbortController();
      await Promise.all([relayed, direct].map((name) => put(name, 1)));
      // One after the other: workerd 1.20260730 keeps an object in memory that is asked for several WebSockets at once, whatever its class.
      const followers: Follower[] = [];
      while (followers.length < TAILS) followers.push(await tail(`${backend}/relayed/${relayed}`, stop.signal));
      const held = await tail(`${backend}/direct/${direct}`, stop.signal);
      await until(() => [held, ...followers].every(({ seen }) => seen.length === 1));
      // A busy machine takes long for a hundred: until they are all there, either object may have been sent to sleep and started again.
      const [before, beside] = [await starts(relayed), await starts(direct)];

      // Asking whether it is still there would keep it there: so longer and longer, until it has started again.
      let n = 1;
      for (let waits = 1; (await starts(relayed)) === before; waits++) {
        await sleep(IDLE_MS * waits);
        n++;
        await Promise.all([relayed, direct].map((name) => put(name, n)));
        await until(() => [held, ...followers].every(({ seen }) => seen.length === n));
      }
      const all = Array.from({ length: n }, (_, i) => i + 1);
      for (const { seen } of [held, ...followers]) expect(seen).toEqual(all);
      // The object that serves its readers by itself has been in memory all the time.
      expect(await starts(direct)).toBe(beside);
      // A crash takes the sockets with it: readers are sent away, and come again.
      await fetch(`${origin}/${backend}/crash/${relayed}`);
      await until(() => followers.every(({ isOver }) => isOver));
      stop.abort();
    },
  );

  it("lets exactly one of a thousand attempts at once win each number", async () => {
    const name = `attempts-${backend}`;
    const attempts = (await (await fetch(`${origin}/${backend}/attempts/${name}?n=1000`)).json()) as Attempt[];
    expect(attempts).toHaveLength(1000);
    const wins = attempts.filter(({ sequence }) => sequence !== undefined).sort((a, b) => Number(a.sequence) - Number(b.sequence));
    expect(wins.map(({ sequence }) => sequence)).toEqual(wins.map((_, i) => i + 1));
    expect(wins.every(({ sequence, expectedSequence }) => sequence === expectedSequence + 1)).toBe(true);
    for (const { sequence, code, expectedSequence, actual } of attempts) {
      if (sequence === undefined) expect([code, actual !== expectedSequence]).toEqual(["sequence_conflict", true]);
    }
    // All of the hundred where calls arrive in order; enough to say something in any order.
    expect(wins.length).toBeGreaterThan(10);
    const log = (await (await fetch(`${origin}/${backend}/relayed/${name}`)).json()) as { writer: string }[];
    expect(log.map(({ writer }) => writer)).toEqual(wins.map(({ writer }) => writer));
  });
});
