/** workerd seen from outside: starts a test worker on a storage folder, kills it, and reads its rows while it is stopped. */
import { subscribe } from "node:diagnostics_channel";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { Miniflare, type MiniflareOptions, type Request as MiniflareRequest, Response } from "miniflare";
import { expect } from "vitest";
import { polled } from "../support/patience.ts";

export { by, unhurried } from "../support/patience.ts";

/** What must hold on both backends is written once: `describe.each(BACKENDS)`. */
export const BACKENDS = ["sqlite", "kv"] as const;
export type Backend = (typeof BACKENDS)[number];

/** The class in `worker/box.ts` that stands on a backend. */
const CLASSES = { sqlite: "SqliteBox", kv: "KvBox" } as const;

/** One message as the receiver gets it. */
export interface Received {
  readonly id: string;
  readonly msg: { readonly n: number };
  readonly source: string;
  readonly sequence: number;
  readonly attempts: number;
}

/** An event of the outbox, as far as tests look at it. */
export interface Told {
  readonly backend: Backend;
  readonly type: string;
  readonly row?: string;
}

/** What `sendMessages` of the test worker does after it has handed over its messages. */
export type Order = "deliver" | "throw" | "abort" | "die" | "hang";

/** The destination: it lives in the test's own process, so it outlives every crash of workerd. */
export class Receiver {
  /** Every call of `sendMessages`, in the order of arrival. Only ever appended to. */
  readonly calls: Received[][] = [];
  /** What each call was told to do. */
  readonly orders: Order[] = [];
  /** Decides what the sender does next. `die` answers after workerd has been killed. */
  order: (messages: Received[], call: number) => Order | Promise<Order> = () => "deliver";
  kill: () => void = () => {};

  async take(request: MiniflareRequest): Promise<Response> {
    const messages = (await request.json()) as Received[];
    const call = this.calls.push(messages);
    const order = await this.order(messages, call);
    this.orders[call - 1] = order;
    if (order === "die") this.kill();
    return new Response(order);
  }

  /** The numbers of all messages whose call was told to succeed, in the order of arrival. */
  get delivered(): number[] {
    return this.calls.filter((_, i) => this.orders[i] === "deliver").flatMap((call) => call.map(({ msg }) => msg.n));
  }
}

/** A receiver for the objects of each backend: to start a workerd for each costs more than most tests. */
export type Receivers = Readonly<Record<Backend, Receiver>>;

export const receivers = (): Receivers => ({ sqlite: new Receiver(), kv: new Receiver() });

/** Does the same with the objects of both backends, at the same time. */
export async function onBoth(does: (backend: Backend) => Promise<void>): Promise<void> {
  await Promise.all(BACKENDS.map(does));
}

/** The service that hands what comes from the objects of a backend to their receiver. */
export function taking(to: Receiver | Receivers): (request: MiniflareRequest) => Promise<Response> {
  return (request) => (to instanceof Receiver ? to : to[request.url.endsWith("/kv") ? "kv" : "sqlite"]).take(request);
}

/** A running workerd with one test worker. */
export interface World {
  readonly pid: number;
  readonly url: URL;
  /** Calls a method of an object, through the worker's default handler. Rejects with what the method threw. */
  call<R = unknown>(backend: Backend, name: string, method: string, ...args: unknown[]): Promise<R>;
  /** Everything `onEvent` was told in this process, of objects of either backend. */
  events(): Promise<Told[]>;
  /** SIGKILL, at once. Call `stop` before the folder is used again. */
  kill(): void;
  /** Stops workerd (Miniflare does so with a SIGKILL as well) and waits until it is gone. */
  stop(): Promise<void>;
}

const worlds = new Set<World>();
const folders: string[] = [];

/** Ends what a file of tests has left: `each-file.ts` calls it. */
export async function ended(): Promise<void> {
  for (const world of worlds) await world.stop();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
}

/** A fresh storage folder, removed at the end of the test file. */
export function folder(): string {
  const path = mkdtempSync(join(tmpdir(), "outbox-"));
  folders.push(path);
  return path;
}

const bundles = new Map<string, string>();

/** Bundles a worker that stands in `worker/`, with the package's sources. */
export async function bundled(file: string): Promise<string> {
  const known = bundles.get(file);
  if (known !== undefined) return known;
  const entry = fileURLToPath(new URL(`worker/${file}`, import.meta.url));
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: "esm",
    target: "es2022",
    external: ["cloudflare:*"],
  });
  const text = outputFiles[0]?.text ?? "";
  bundles.set(file, text);
  return text;
}

export interface Launched {
  readonly miniflare: Miniflare;
  readonly pid: number;
  readonly url: URL;
}

/** The process that was started last, by any test of this file. Node publishes each before it returns it. */
let started: { readonly pid?: number } = {};
subscribe("child_process", (message) => {
  started = (message as { process: { readonly pid?: number } }).process;
});

/** A bundle as its only module: given as a script, Miniflare parses it at each start, for modules that it may import. */
function withoutSearch(options: MiniflareOptions): object {
  const { modules, script } = options as { modules?: unknown; script?: string };
  return modules === true && script !== undefined
    ? { script: undefined, modules: [{ type: "ESModule", path: "worker.mjs", contents: script }] }
    : {};
}

/**
 * Starts Miniflare and returns the process id of its workerd. Miniflare hands over the output of a workerd in the turn in
 * which it starts it, so the process started last is this one's: neither a bundler's, nor the one that another test's
 * Miniflare starts by itself after a kill.
 */
export async function launch(options: MiniflareOptions): Promise<Launched> {
  const { handleRuntimeStdio: listen } = options as { handleRuntimeStdio?: (stdout: Readable, stderr: Readable) => void };
  let pid = 0;
  const miniflare = new Miniflare({
    host: "127.0.0.1",
    cf: false,
    ...options,
    ...withoutSearch(options),
    handleRuntimeStdio(stdout: Readable, stderr: Readable) {
      pid ||= started.pid ?? 0;
      // What workerd prints when a run dies is what most tests are about. Failures reach them through their calls.
      if (listen !== undefined) listen(stdout, stderr);
      else for (const stream of [stdout, stderr]) stream.resume();
    },
  } as MiniflareOptions);
  const url = await miniflare.ready;
  if (pid === 0) throw new Error("Expected Miniflare to start a process of its own.");
  return { miniflare, pid, url };
}

/** Starts `worker/box.ts` on a folder. `deploy` is what this version of the worker is told through its bindings. */
export async function start(path: string, receiver: Receiver | Receivers, deploy: { withoutSend?: boolean } = {}): Promise<World> {
  const { miniflare, pid, url } = await launch({
    name: "box",
    modules: true,
    script: await bundled("box.ts"),
    compatibilityDate: "2026-07-01",
    durableObjectsPersist: path,
    durableObjects: {
      SQLITE: { className: CLASSES.sqlite, useSQLite: true },
      KV: { className: CLASSES.kv, useSQLite: false },
    },
    bindings: { WITHOUT_SEND: deploy.withoutSend === true },
    serviceBindings: { RECEIVER: taking(receiver) },
  } as MiniflareOptions);
  let gone: Promise<void> | undefined;
  const world: World = {
    pid,
    url,
    async call<R>(backend: Backend, name: string, method: string, ...args: unknown[]): Promise<R> {
      const response = await fetch(new URL(`${backend}/${name}/${method}`, url), { method: "POST", body: JSON.stringify(args) });
      const text = await response.text();
      if (!response.ok) throw new Error(text);
      return (text === "" ? undefined : JSON.parse(text)) as R;
    },
    async events() {
      return (await (await fetch(new URL("events", url))).json()) as Told[];
    },
    kill() {
      if (gone === undefined) process.kill(pid, "SIGKILL");
    },
    stop() {
      gone ??= miniflare.dispose().finally(() => worlds.delete(world));
      return gone;
    },
  };
  for (const one of receiver instanceof Receiver ? [receiver] : Object.values(receiver)) one.kill = () => world.kill();
  worlds.add(world);
  return world;
}

/** Polls until `fact` gives something other than `undefined`, `null` or `false`, and returns that. */
export function until<R>(fact: () => R | Promise<R>, seconds?: number): Promise<Exclude<R, undefined | null | false>> {
  return polled(20, fact, seconds);
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** The numbers from `first` to `last`. */
export function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

/** The key range that the outbox keeps for itself. */
const RESERVED = "\u{10FFFF}";

/** One stored row of the outbox, byte for byte. */
export interface Row {
  readonly key: string;
  readonly value: Uint8Array;
}

/** Opens the file of the one object that a class holds. Only while workerd is stopped. */
function database(path: string, uniqueKey: string): DatabaseSync {
  const folder = join(path, uniqueKey);
  const files = readdirSync(folder).filter((file) => file.endsWith(".sqlite") && file !== "metadata.sqlite");
  expect(files).toHaveLength(1);
  return new DatabaseSync(join(folder, files[0] ?? ""));
}

/** How many bytes each value of the one object of a class takes. Only while workerd is stopped. */
export function storedBytes(path: string, uniqueKey: string): Record<string, number> {
  const db = database(path, uniqueKey);
  try {
    const rows = db.prepare("SELECT key, length(value) AS bytes FROM _cf_KV").all() as { key: string; bytes: number }[];
    return Object.fromEntries(rows.map(({ key, bytes }) => [key, bytes]));
  } finally {
    db.close();
  }
}

/** The outbox's rows of the one object that a backend holds, those with the oldest messages first. Only while workerd is stopped. */
export function outboxRows(path: string, backend: Backend): Row[] {
  const db = database(path, `box-${CLASSES[backend]}`);
  try {
    const rows = db.prepare("SELECT key, value FROM _cf_KV").all() as unknown as Row[];
    const oldest = (row: Row): number => numbersIn(row)[0] ?? Number.POSITIVE_INFINITY;
    return rows.filter(({ key }) => key.startsWith(RESERVED)).sort((a, b) => oldest(a) - oldest(b));
  } finally {
    db.close();
  }
}

/** The numbers of the messages that stand in a row: each carries its own as a text that is found in any layout. */
export function numbersIn({ value }: Row): number[] {
  return Array.from(
    Buffer.from(value)
      .toString("latin1")
      .matchAll(/#(\d+)#/g),
    ([, n]) => Number(n),
  );
}

/** Bytes that are no stored value: V8 finds no known tag after the version. */
export const GARBAGE: Uint8Array = new Uint8Array([0xff, 0x0f, 0x5c, 0xff]);

/** Overwrites one row so that it can't be deserialised any more. Only while workerd is stopped. */
export function damage(path: string, backend: Backend, key: string): void {
  const db = database(path, `box-${CLASSES[backend]}`);
  try {
    const { changes } = db.prepare("UPDATE _cf_KV SET value = ? WHERE key = ?").run(GARBAGE, key);
    expect(changes).toBe(1);
  } finally {
    db.close();
  }
}
