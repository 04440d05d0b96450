/** A real browser, and the worker that it talks to. */
import { accessSync, constants, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { Miniflare } from "miniflare";
import { type Browser, chromium } from "playwright-core";

export interface World {
  readonly browser: Browser;
  readonly url: URL;
  /** One request to the worker. */
  ask(path: string, init?: { method?: string; headers?: Record<string, string>; body?: string }): Promise<Response>;
  /** Calls a route of the worker. */
  order(path: string): Promise<unknown>;
  end(): Promise<void>;
}

/** Where Debian and others have a Chromium: the first that can be run. */
export function browserPath(): string | undefined {
  const names = [process.env.CHROMIUM ?? "", "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
  return names.find((name) => {
    try {
      accessSync(name, constants.X_OK);
      return name !== "";
    } catch {
      return false;
    }
  });
}

export async function begin(executablePath: string): Promise<World> {
  const storage = mkdtempSync(join(tmpdir(), "outbox-"));
  const entry = fileURLToPath(new URL("worker.ts", import.meta.url));
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: "esm",
    target: "es2022",
    external: ["cloudflare:*"],
  });
  const miniflare = new Miniflare({
    host: "127.0.0.1",
    cf: false,
    modules: true,
    script: outputFiles[0]?.text ?? "",
    compatibilityDate: "2026-07-01",
    durableObjects: { ORDERS: { className: "Orders", useSQLite: true } },
    durableObjectsPersist: storage,
    handleRuntimeStdio: () => {},
  });
  const [url, browser] = await Promise.all([
    miniflare.ready,
    // Containers have no sandbox, and little shared memory.
    chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"] }),
  ]);
  // A connection for each request: workerd closes one that is idle for five seconds, and a busy machine sends the next request at that moment.
  const ask: World["ask"] = (path, init = {}) => fetch(new URL(path, url), { ...init, headers: { ...init.headers, connection: "close" } });
  return {
    browser,
    url,
    ask,
    order: async (path) => (await ask(path)).json(),
    async end() {
      await browser.close();
      await miniflare.dispose();
      rmSync(storage, { recursive: true, force: true });
    },
  };
}
