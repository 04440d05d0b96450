/** The runtime that the demo kills: workerd, run by Miniflare, on a storage folder that outlives it. */

import { type ChildProcess, execFile } from "node:child_process";
import { subscribe } from "node:diagnostics_channel";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Miniflare } from "miniflare";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const READY_MS = 20_000;
const LOG_CHARACTERS = 20_000;
/** No slot passes while the demo counts. */
const SLOT_SECONDS = 86_400;

/** Every process that this one has started. Node reports each, so that none has to be searched for by name. */
const started: ChildProcess[] = [];
subscribe("child_process", (message) => {
  started.push((message as { process: ChildProcess }).process);
});

export class Runtime {
  readonly #folder: string = mkdtempSync(join(tmpdir(), "outbox-demo-"));
  #miniflare: Miniflare | null = null;
  #url = "";
  /** How often workerd has been killed. */
  kills = 0;
  /** Duplicates that an inbox has recognised, counted in the log. */
  duplicates = 0;
  /** The end of workerd's error output. It also complains about being killed, so this is shown only when the demo fails. */
  log = "";

  constructor() {
    // However this process ends, it leaves nothing behind: neither workerd nor its storage.
    process.once("exit", () => {
      for (const child of started) child.kill("SIGKILL");
      rmSync(this.#folder, { recursive: true, force: true, maxRetries: 3 });
    });
  }

  /** Builds the worker as `wrangler deploy` would upload it, and starts it with the bindings of wrangler.toml. */
  async start(tableCount: number, signal: AbortSignal): Promise<void> {
    const wrangler = join(ROOT, "node_modules/wrangler/bin/wrangler.js");
    const bundle = join(this.#folder, "bundle");
    await promisify(execFile)(process.execPath, [wrangler, "deploy", "--dry-run", "--outdir", bundle], { cwd: ROOT, signal });
    this.#miniflare = new Miniflare({
      modules: true,
      modulesRoot: bundle,
      scriptPath: join(bundle, "index.js"),
      compatibilityDate: "2026-07-01",
      durableObjects: {
        BOOKING: { className: "Booking", useSQLite: true },
        TABLE: { className: "Table", useSQLite: true },
        LEDGER: { className: "Ledger", useSQLite: true },
        OUTBOX_FLEET: { className: "OutboxFleet", useSQLite: true },
        PROJECTIONS: { className: "Projections", useSQLite: true },
      },
      durableObjectsPersist: join(this.#folder, "storage"),
      d1Databases: { STATISTICS: "statistics" },
      d1Persist: join(this.#folder, "statistics"),
      // A local queue lives in the memory of the process, and loses accepted messages with it. So nothing here relies on it.
      queueProducers: { ANNOUNCEMENTS: "announcements" },
      queueConsumers: { announcements: { maxBatchSize: 100, maxBatchTimeout: 0 } },
      bindings: { TABLE_COUNT: tableCount, SLOT_SECONDS },
      host: "127.0.0.1",
      port: 0,
      cf: false,
      handleRuntimeStdio: (stdout, stderr) => {
        for (const stream of [stdout, stderr]) {
          stream.setEncoding("utf8").on("data", (text: string) => {
            this.log = (this.log + text).slice(-LOG_CHARACTERS);
            this.duplicates += text.match(/^duplicate /gm)?.length ?? 0;
          });
        }
      },
    });
    this.#url = String(await this.#miniflare.ready);
  }

  get #workerd(): ChildProcess | undefined {
    return started.findLast((child) => /workerd(\.exe)?$/.test(child.spawnfile) && child.exitCode === null && !child.killed);
  }

  /** Ends the process as a crash would: it does not even clean up. */
  kill(): void {
    if (!this.#workerd?.kill("SIGKILL")) throw new Error("There is no workerd to kill.");
    this.kills++;
  }

  /** Miniflare starts workerd again by itself. Resolves when the new one serves the storage that the old one left. */
  async ready(signal: AbortSignal): Promise<void> {
    const end = Date.now() + READY_MS;
    while (Date.now() < end) {
      if (this.#workerd !== undefined) {
        const response = await this.fetch("/state", { signal }).catch(() => null);
        if (response?.ok) return;
      }
      await pause(20, undefined, { signal });
    }
    throw new Error(`workerd was not back within ${READY_MS / 1000} s.`);
  }

  /** A connection for each request: workerd closes one that is idle for five seconds, and a busy machine sends the next request at that moment. */
  fetch(path: string, init: RequestInit): Promise<Response> {
    return fetch(new URL(path, this.#url), { ...init, headers: { connection: "close" } });
  }

  async stop(): Promise<void> {
    // A runtime that did not start can't be stopped either, and its error has already been reported.
    await this.#miniflare?.dispose().catch(() => {});
  }
}
