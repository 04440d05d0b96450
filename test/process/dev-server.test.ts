/** Vite's dev server, which stands between an object and the platform: the object works as on the platform, and its handlers are closed. */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { cloudflare } from "@cloudflare/vite-plugin";
import { createServer, type ViteDevServer } from "vite";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { folder, until } from "./harness.ts";

let server: ViteDevServer;
let url: URL;

beforeAll(async () => {
  const path = folder();
  const root = join(dirname(fileURLToPath(import.meta.url)), "worker");
  const classes = ["Methods", "Fields", "Overriding"];
  server = await createServer({
    root,
    configFile: false,
    logLevel: "silent",
    cacheDir: join(path, "cache"),
    server: { host: "127.0.0.1", port: 0, watch: null },
    plugins: [
      cloudflare({
        persistState: { path },
        inspectorPort: false,
        remoteBindings: false,
        config: {
          name: "dev-server",
          main: "dev-server.ts",
          compatibility_date: "2026-07-01",
          durable_objects: { bindings: classes.map((name) => ({ name: name.toUpperCase(), class_name: name })) },
          migrations: [{ tag: "v1", new_sqlite_classes: classes }],
        },
      }),
    ],
  });
  await server.listen();
  url = new URL(server.resolvedUrls?.local[0] ?? "");
}, 120_000);

afterAll(() => server?.close());

async function call(binding: string, method: string, ...args: unknown[]): Promise<{ got?: unknown; threw?: string }> {
  const response = await fetch(new URL(`${binding}/${method}`, url), { method: "POST", body: JSON.stringify(args) });
  return (await response.json()) as { got?: unknown; threw?: string };
}

const envelope = { v: 1, id: "one", source: "test", sequence: 1, timestamp: 0, msg: 1 };

describe.each(["METHODS", "FIELDS", "OVERRIDING"])("an object with its handlers as %s", (binding) => {
  it("delivers, receives and has its own alarm, each once", async () => {
    expect(await call(binding, "go")).toEqual({ got: null });
    expect(await call(binding, "receiveMessages", [envelope])).toEqual({ got: [{ id: "one", status: "processed" }] });
    const log = async () => (await call(binding, "log")).got as string[];
    await until(async () => (await log()).length >= 3);
    expect((await log()).sort()).toEqual(["alarm", "receiveMessage of one", "sendMessages of m"]);
  });

  it("refuses its handlers over RPC, before anything of them runs", async () => {
    const { got: before } = await call(binding, "log");
    for (const method of ["sendMessages", "receiveMessage", "alarm"]) {
      const { threw } = await call(binding, method, [{ ...envelope, id: "forged" }]);
      expect(threw, method).toMatch(/is not a function|does not implement|is a reserved method/);
    }
    expect(await call(binding, "log")).toEqual({ got: before });
    const found = binding === "FIELDS" ? "undefined" : "function";
    expect(await call(binding, "found")).toEqual({ got: [found, found] });
  });
});

it("an object goes on after a change of its code, which constructs it again on the same state", async () => {
  const log = async () => (await call("METHODS", "log")).got as string[];
  const { length } = await log();
  await call("METHODS", "go");
  await until(async () => (await log()).length === length + 2);
  const environment = server.environments.dev_server;
  for (const module of environment?.moduleGraph.idToModuleMap.values() ?? []) environment?.moduleGraph.invalidateModule(module);
  environment?.hot.send({ type: "full-reload" });
  // Another instance has noted nothing yet.
  await until(async () => (await log()).length === 0);
  for (let n = 2; n < 4; n++) {
    expect(await call("METHODS", "go")).toEqual({ got: null });
    expect(await call("METHODS", "receiveMessages", [{ ...envelope, id: `${n}`, sequence: n }])).toMatchObject({
      got: [{ status: "processed" }],
    });
    await until(async () => (await log()).length === 3 * (n - 1));
  }
});
