/** Tails across SIGKILLs: each goes on from its last cursor, misses nothing and repeats nothing. 50 kills in the proof. Replay with VITE_SEED. */
import type { MiniflareOptions } from "miniflare";
import { expect, it } from "vitest";
import { SEED, size } from "../support/random.ts";
import { BACKENDS, type Backend, bundled, folder, type Launched, launch, sleep, until } from "./harness.ts";
import { generator } from "./kill-loop-words.ts";

const KILLS = size(2, 50);
/** So many write to each object at a time. */
const WRITERS = 3;
/** A kill comes after up to so many answers. */
const MOST_ANSWERS = 40;

/** workerd on one folder, again and again. */
class World {
  readonly #folder = folder();
  #running: Launched | undefined;

  async open(): Promise<void> {
    this.#running = await launch({
      name: "log",
      modules: true,
      script: await bundled("log.ts"),
      compatibilityDate: "2026-07-01",
      durableObjectsPersist: this.#folder,
      durableObjects: { SQLITE: { className: "SqliteFeed", useSQLite: true }, KV: { className: "KvFeed", useSQLite: false } },
    } as MiniflareOptions);
  }

  async kill(): Promise<void> {
    const { miniflare, pid } = this.#running as Launched;
    this.#running = undefined;
    process.kill(pid, "SIGKILL");
    await miniflare.dispose();
  }

  async close(): Promise<void> {
    await this.#running?.miniflare.dispose();
  }

  /** Rejects while it is down, and when it goes down. */
  async fetch(path: string, init?: RequestInit): Promise<Response> {
    if (!this.#running) throw new Error("down");
    const response = await fetch(new URL(path, this.#running.url), init);
    if (!response.ok) throw new Error(await response.text());
    return response;
  }
}

/** One reader, and the two ways in which it may ask for what comes next. */
interface Tail {
  /** The numbers that have come, over all connections. */
  readonly seen: number[];
  /** Connects with its cursor and reads until the connection breaks. */
  read(world: World, stop: AbortSignal): Promise<void>;
}

/** Calls `take` with each part of a body that has come as a whole. */
async function parts(response: Response, end: string, take: (part: string) => void): Promise<void> {
  let text = "";
  for await (const chunk of (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream())) {
    text += chunk;
    const all = text.split(end);
    text = all.pop() ?? "";
    for (const part of all) take(part);
  }
}

/** `tailStream` over RPC: its cursor is a position. */
function linesOf(backend: Backend): Tail {
  const seen: number[] = [];
  let after = 0;
  return {
    seen,
    async read(world, signal) {
      // Compressed, a line would wait for others.
      const init = { headers: { "Accept-Encoding": "identity" }, signal };
      await parts(await world.fetch(`${backend}/lines/a?after=${after}`, init), "\n", (line) => {
        const { position, msg } = JSON.parse(line) as { position: number; msg: { n: number } };
        seen.push(msg.n);
        after = position;
      });
    },
  };
}

/** Server-sent events, from the object itself or relayed: the cursor is the last id, as an EventSource has it. */
function eventsOf(backend: Backend, how: "relayed" | "direct"): Tail {
  const seen: number[] = [];
  let id = "";
  return {
    seen,
    async read(world, signal) {
      const headers: Record<string, string> = id === "" ? {} : { "Last-Event-ID": id };
      await parts(await world.fetch(`${backend}/${how}/a?offset=-1&live=sse`, { headers, signal }), "\n\n", (event) => {
        const [, list] = /^event: data\ndata:(.*)$/m.exec(event) ?? [];
        if (list !== undefined) seen.push(...(JSON.parse(list) as { n: number }[]).map(({ n }) => n));
        id = /^id: (.*)$/m.exec(event)?.[1] ?? id;
      });
    },
  };
}

it(`tails that go on from their last cursor across ${KILLS} kills miss nothing and repeat nothing`, { timeout: 300_000 }, async () => {
  const world = new World();
  await world.open();
  const random = generator(SEED);
  const stop = new AbortController();
  let isWriting = true;
  let next = 1;
  let answers = 0;
  /** How often each reader was broken off. */
  const breaks = BACKENDS.flatMap(() => [0, 0, 0]);
  const acknowledged: Record<Backend, number[]> = { sqlite: [], kv: [] };

  async function write(backend: Backend): Promise<void> {
    while (isWriting) {
      const n = next++;
      try {
        await (await world.fetch(`${backend}/add/a?n=${n}`)).text();
        acknowledged[backend].push(n);
        answers++;
      } catch {
        // Nobody knows whether it was stored.
        await sleep(10);
      }
    }
  }
  async function follow(tail: Tail, number: number): Promise<void> {
    while (!stop.signal.aborted) {
      await tail.read(world, stop.signal).catch(() => sleep(10));
      breaks[number] = (breaks[number] ?? 0) + 1;
    }
  }

  const tails = Object.fromEntries(
    BACKENDS.map((backend) => [backend, [linesOf(backend), eventsOf(backend, "relayed"), eventsOf(backend, "direct")]]),
  ) as Record<Backend, Tail[]>;
  const following = BACKENDS.flatMap((backend) => tails[backend]).map(follow);
  const writing = BACKENDS.flatMap((backend) => Array.from({ length: WRITERS }, () => write(backend)));
  for (let kill = 0; kill < KILLS; kill++) {
    const wanted = answers + 1 + Math.floor(random() * MOST_ANSWERS);
    await until(() => answers >= wanted);
    await world.kill();
    await world.open();
    // A reader that is slow to see the end of one life must not meet the end of the next one as well.
    await until(() => breaks.every((count) => count > kill));
  }
  isWriting = false;
  await Promise.all(writing);

  for (const backend of BACKENDS) {
    const ask = async (what: string) => (await (await world.fetch(`${backend}/${what}/a`)).json()) as number[];
    const [committed, read] = [await ask("committed"), await ask("numbers")];
    expect([...read].sort((a, b) => a - b)).toEqual(committed);
    expect(acknowledged[backend].filter((n) => !committed.includes(n))).toEqual([]);
    for (const tail of tails[backend]) {
      await until(() => tail.seen.length >= read.length);
      expect(tail.seen).toEqual(read);
    }
  }
  stop.abort();
  await Promise.all(following);
  await world.close();
});
