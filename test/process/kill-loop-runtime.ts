/** workerd itself, without Miniflare between: started in some fifty milliseconds, stopped and killed by its process id, its storage on disk. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

/** A process that has not told its port after this long, in milliseconds, never will. */
const READY_MS = 30_000;
const LOG_CHARACTERS = 20_000;

const require = createRequire(import.meta.url);
const WORKERD: string = createRequire(require.resolve("miniflare"))("workerd").default;

/** Every process that this one has started: whatever becomes of this one, none of them stays. */
const started = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of started) child.kill("SIGKILL");
});

/** Remembers a process until it has ended. */
export function owned<C extends ChildProcess>(child: C): C {
  started.add(child);
  child.once("exit", () => started.delete(child));
  return child;
}

/** One start of workerd. */
export interface Life {
  readonly pid: number;
  /** Resolves when it answers; rejects when it ended before. */
  readonly ready: Promise<void>;
  /** What it has printed, at the end. */
  readonly log: () => string;
  /** Calls a method of the object of a class, through the worker's default handler. Rejects with what the method threw, or when workerd is gone. */
  call<R = unknown>(name: string, method: string, ...args: unknown[]): Promise<R>;
  signal(signal: "SIGKILL" | "SIGSTOP" | "SIGCONT"): void;
  /** SIGKILL, and resolves when the process is gone. */
  end(): Promise<void>;
  /** The most memory that the process has had, in bytes. */
  peakBytes(): number;
}

/** A folder with a worker and its storage, on which workerd can be started again and again. */
export interface Place {
  readonly folder: string;
  /** From the next start on the worker reaches this port of 127.0.0.1 as `RECEIVER`. */
  reaches(port: number): void;
  /** `number` is bound in the worker as `LIFE`. */
  start(number: number): Life;
  remove(): void;
}

/** A class that the worker exports, bound under its own name. */
export interface Bound {
  readonly name: string;
  readonly sqlite: boolean;
}

const configOf = (classes: readonly Bound[], receiver: number): string => `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = .worker),
    (name = "disk", disk = (path = "storage", writable = true)),
    (name = "receiver", external = (address = "127.0.0.1:${receiver}", http = ())),
  ],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],
);
const worker :Workerd.Worker = (
  modules = [(name = "worker.js", esModule = embed "worker.js")],
  compatibilityDate = "2026-07-01",
  durableObjectNamespaces = [
${classes.map(({ name, sqlite }) => `    (className = "${name}", uniqueKey = "${name}"${sqlite ? ", enableSql = true" : ""}),`).join("\n")}
  ],
  durableObjectStorage = (localDisk = "disk"),
  bindings = [
${classes.map(({ name }) => `    (name = "${name}", durableObjectNamespace = "${name}"),`).join("\n")}
    (name = "RECEIVER", service = "receiver"),
    (name = "LIFE", fromEnvironment = "LIFE"),
  ],
);
`;

const scripts = new Map<string, Promise<string>>();

/** A worker of `worker/` or beside it, with the package's sources, as one script. */
function script(file: URL): Promise<string> {
  const entry = fileURLToPath(file);
  const known = scripts.get(entry);
  if (known) return known;
  const bundled = build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: "esm",
    target: "es2022",
    external: ["cloudflare:*"],
  }).then(({ outputFiles }) => outputFiles[0]?.text ?? "");
  scripts.set(entry, bundled);
  return bundled;
}

export async function placeOf(worker: URL, classes: readonly Bound[]): Promise<Place> {
  const folder = mkdtempSync(join(tmpdir(), "outbox-loop-"));
  mkdirSync(join(folder, "storage"));
  writeFileSync(join(folder, "worker.js"), await script(worker));
  const reaches = (port: number): void => writeFileSync(join(folder, "config.capnp"), configOf(classes, port));
  // Nothing listens there: most workers have no receiver.
  reaches(9);
  return {
    folder,
    reaches,
    start: (number) => lifeOf(folder, number),
    remove: () => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }),
  };
}

function lifeOf(folder: string, number: number): Life {
  const child = owned(
    spawn(WORKERD, ["serve", "--experimental", "--control-fd=3", "config.capnp"], {
      cwd: folder,
      stdio: ["ignore", "pipe", "pipe", "pipe"],
      env: { ...process.env, LIFE: String(number) },
    }),
  );
  let log = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (text: string) => {
      log = (log + text).slice(-LOG_CHARACTERS);
    });
  }
  const exited = once(child, "exit");
  // A connection that is used again may be one that workerd is just closing.
  const agent = new Agent({ keepAlive: false });
  let port = 0;
  const control = child.stdio[3] as Readable;
  const ready = (async () => {
    const late = setTimeout(() => child.kill("SIGKILL"), READY_MS);
    try {
      const listening = (async () => {
        for await (const line of control) return Number(/"port":(\d+)/.exec(String(line))?.[1]);
        return 0;
      })();
      port = await listening;
    } finally {
      clearTimeout(late);
    }
    if (!port) throw new Error(`workerd ended before it listened. ${log}`);
  })();
  // Who kills it during the start does not wait for this.
  ready.catch(() => {});
  return {
    pid: child.pid ?? 0,
    ready,
    log: () => log,
    call: (name, method, ...args) => call(port, agent, `/${name}/${method}`, args),
    signal: (signal) => void child.kill(signal),
    async end() {
      child.kill("SIGKILL");
      await exited;
      agent.destroy();
    },
    peakBytes: () => Number(/^VmHWM:\s*(\d+) kB/m.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))?.[1] ?? 0) * 1024,
  };
}

async function call<R>(port: number, agent: Agent, path: string, args: unknown[]): Promise<R> {
  const sent = request({ host: "127.0.0.1", port, path, method: "POST", agent });
  sent.end(JSON.stringify(args));
  const [response] = await once(sent, "response");
  const body = await text(response);
  if (response.statusCode !== 200) throw new Error(body);
  return (body === "" ? undefined : JSON.parse(body)) as R;
}
