/** workerd with the contestants, storage on disk and a local queue. The clock is out here: inside a worker it stands still between I/O. */
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { Miniflare, type MiniflareOptions } from "miniflare";
import { ENTRANTS, type EntrantName } from "./contestants.ts";
import type { Destination, JobName } from "./words.ts";

/** No piece of work takes this long, in milliseconds: a message got lost. */
const STUCK_MS = 120_000;
const LOG_CHARACTERS = 4000;
const COMPATIBILITY_DATE = "2026-07-01";

/** The worker that is asked, and that has the other object. */
const MAIN = "main";
/** Those who need the frameworks' code. */
const FRAMEWORKS = new Set<string>(["AgentQueue", "AgentSchedule", "ActorAlarm"] satisfies EntrantName[]);

/** `Counted`: storage that counts what is billed, which takes time. `Paced`: that, and a clock that is moved on. */
export type Kind = "" | "Counted" | "Paced";

/** What only some of the classes can be asked for. */
type Extra = "costs" | "settled" | "steady";

export interface Runtime {
  readonly url: URL;
  /** One piece of work inside the object of a contestant: how long it took, in milliseconds. */
  work(entrant: EntrantName, job: JobName, count?: number, to?: Destination): Promise<number>;
  /** The same, and what it answered. `to` is a number of milliseconds for a steady rate. */
  ask(entrant: EntrantName, job: JobName | Extra, count?: number, to?: Destination | number, object?: string): Promise<Response>;
  /** Where its isolates can be inspected, if that was asked for. */
  inspector(): Promise<URL>;
  dispose(): Promise<void>;
}

/**
 * Each contestant has an isolate of its own, so that none pays for another's garbage or for code that another has shaped.
 *
 * @param entrants who takes part
 * @param isInspected with an inspector, which makes it slower
 */
export async function runtime(kind: Kind, entrants: readonly EntrantName[], isInspected = false): Promise<Runtime> {
  const isPaced = kind === "Paced";
  const [script, frameworks] = await Promise.all([
    bundle(isPaced ? "worker/paced.ts" : "worker/index.ts"),
    entrants.some((name) => FRAMEWORKS.has(name)) ? bundle(isPaced ? "worker/paced-frameworks.ts" : "worker/frameworks.ts") : "",
  ]);
  const folder = mkdtempSync(join(tmpdir(), "outbox-bench-"));
  const common = { modules: true, compatibilityDate: COMPATIBILITY_DATE };
  const queueProducers = { QUEUE: "bench" };
  const SINK = { className: "Sink", useSQLite: true, scriptName: MAIN };
  const bound = (name: string) => ({ className: kind + name, useSQLite: true });
  let log = "";
  const miniflare = new Miniflare({
    host: "127.0.0.1",
    cf: false,
    durableObjectsPersist: folder,
    ...(isInspected && { inspectorPort: 0 }),
    // The frameworks say a lot. What was said last is told when something fails.
    handleRuntimeStdio(stdout, stderr) {
      for (const stream of [stdout, stderr]) stream.on("data", (text) => (log = `${log}${text}`.slice(-LOG_CHARACTERS)));
    },
    workers: [
      {
        ...common,
        name: MAIN,
        script,
        durableObjects: {
          ...Object.fromEntries(entrants.map((name) => [name, { ...bound(name), scriptName: name }])),
          SINK: { className: "Sink", useSQLite: true },
        },
        queueConsumers: { bench: { maxBatchSize: 100, maxBatchTimeout: 0.05 } },
      },
      ...entrants.map((name) => ({
        ...common,
        ...(FRAMEWORKS.has(name) ? { script: frameworks, compatibilityFlags: ["nodejs_compat"] } : { script }),
        name,
        durableObjects: { [name]: bound(name), SINK },
        queueProducers,
      })),
    ],
  } as MiniflareOptions);
  const url = await miniflare.ready;
  const ask: Runtime["ask"] = async (entrant, job, count = 0, to = "nothing", object = "bench") => {
    const response = await fetch(new URL(`${entrant}/${job}/${count}/${to}/${object}`, url), {
      signal: AbortSignal.timeout(STUCK_MS),
    }).catch((cause: unknown) => {
      throw new Error(`${ENTRANTS[entrant]}, ${job}: no answer. ${log}`, { cause });
    });
    if (!response.ok) throw new Error(`${ENTRANTS[entrant]}, ${job}: ${await response.text()}`);
    return response;
  };
  return {
    url,
    ask,
    async work(...args) {
      const begin = performance.now();
      await (await ask(...args)).text();
      return performance.now() - begin;
    },
    inspector: () => miniflare.getInspectorURL(),
    async dispose() {
      await miniflare.dispose();
      rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
    },
  };
}

async function bundle(entry: string): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL(entry, import.meta.url))],
    bundle: true,
    write: false,
    format: "esm",
    target: "es2022",
    external: ["cloudflare:*", "node:*"],
    logLevel: "error",
  });
  return outputFiles[0]?.text ?? "";
}

/** The version of the runtime that is measured. */
export function workerdVersion(): string {
  const require = createRequire(createRequire(import.meta.url).resolve("miniflare"));
  return (require("workerd/package.json") as { version: string }).version;
}
