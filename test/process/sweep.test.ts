/** `do-transactional-outbox sweep`: wakes objects whose alarms are lost, through a real worker, also when it is killed on the way. */
import { spawn } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Miniflare, MiniflareOptions, Request as MiniflareRequest } from "miniflare";
import { Response } from "miniflare";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bundled, folder, launch, until } from "./harness.ts";

const COMMAND = fileURLToPath(new URL("../../bin/do-transactional-outbox.js", import.meta.url));
const NAMESPACES = ["SQLITE", "KV"] as const;

let miniflare: Miniflare;
let url: URL;
/** What has been delivered, in order. */
const delivered: string[] = [];
let path: string;

beforeAll(async () => {
  path = folder();
  ({ miniflare, url } = await launch({
    name: "sweep",
    modules: true,
    script: await bundled("sweep.ts"),
    compatibilityDate: "2026-07-01",
    durableObjectsPersist: path,
    durableObjects: {
      SQLITE: { className: "SqliteParcels", useSQLite: true },
      KV: { className: "KvParcels", useSQLite: false },
      OUTBOX_FLEET: { className: "OutboxFleet", useSQLite: true },
    },
    serviceBindings: {
      RECEIVER: async (request: MiniflareRequest) => {
        delivered.push(await request.text());
        return new Response();
      },
    },
  } as MiniflareOptions));
});

afterAll(() => miniflare.dispose());

const call = async (...parts: string[]): Promise<string> => (await fetch(new URL(parts.join("/"), url))).text();

interface Run {
  readonly code: number | null;
  readonly out: string;
}

/** Runs the command in the test's folder. `watch` may kill it. */
async function sweep(
  args: string[],
  { token = "secret", route = `${url}sweep`, watch }: { token?: string; route?: string; watch?: (kill: () => void) => void } = {},
): Promise<Run> {
  const child = spawn(process.execPath, [COMMAND, "sweep", route, ...args], {
    cwd: path,
    env: { ...process.env, OUTBOX_SWEEP_TOKEN: token },
  });
  let out = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (out += data));
  watch?.(() => child.kill("SIGKILL"));
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, out };
}

const state = (namespace: string): { done: number } => JSON.parse(readFileSync(join(path, `.outbox-sweep-${namespace}.json`), "utf8"));

describe.each(NAMESPACES)("a sweep of %s", (namespace) => {
  it("delivers what waits in objects without an alarm, goes on where it was killed, and leaves nothing behind", async () => {
    const names = Array.from({ length: 24 }, (_, n) => `${namespace}-${n}`);
    const ids = await Promise.all(names.map((name) => call(namespace, name, "putAndLose", name)));
    // Half of them by name, half by id.
    writeFileSync(join(path, "objects.txt"), `# all\n${names.map((name, n) => (n % 2 ? name : ids[n])).join("\n")}\n\n${ids[0]}\n`);
    const mine = () => delivered.filter((name) => name.startsWith(namespace));
    expect(mine()).toEqual([]);
    const args = ["--namespace", namespace, "--ids", "objects.txt"];

    const dry = await sweep([...args, "--dry-run", "--rate", "4"]);
    expect(dry).toEqual({ code: 0, out: `Would wake 24 objects of ${namespace} at 4 a second: 6 s. Nothing was woken.\n` });
    expect(mine()).toEqual([]);

    const killed = await sweep([...args, "--rate", "0.5"], { watch: (kill) => void until(() => mine().length > 0).then(kill) });
    expect(killed.code).toBeNull();
    const before = mine().length;
    expect(before).toBeLessThan(24);
    const { done } = state(namespace);
    const other = await sweep([...args.slice(0, 2), "--registry"]);
    expect(other).toMatchObject({ code: 2, out: expect.stringContaining("is of another sweep") });

    const resumed = await sweep([...args, "--rate", "1000"]);
    expect(resumed.code).toBe(0);
    expect(resumed.out).toContain(`Woke 24 of 24 objects of ${namespace}: 0 have messages waiting, 0 dead letters in all.`);
    if (done > 0) expect(resumed.out).toContain(`Goes on after ${done} of 24 objects.`);
    await until(() => mine().length >= 24);
    expect(mine().sort()).toEqual([...names].sort());
    expect(existsSync(join(path, `.outbox-sweep-${namespace}.json`))).toBe(false);
  });
});

describe("a sweep", () => {
  it("draws a bar on a terminal, and writes a line now and then elsewhere", async () => {
    const { progressOf } = (await import(new URL("../../bin/progress.js", import.meta.url).href)) as {
      progressOf(state: object, out: object): { show(): void; end(): void };
    };
    for (const isTTY of [true, false]) {
      const state = { done: 0, total: 60, failed: [] as string[] };
      const written: string[] = [];
      const progress = progressOf(state, { isTTY, write: (text: string) => written.push(text) });
      state.done = 20;
      state.failed = ["one"];
      progress.show();
      progress.end();
      const bar = expect.stringContaining(`[${"#".repeat(10)}${".".repeat(20)}] 20 of 60 objects, 1 failed`);
      expect(written).toEqual(isTTY ? [bar, "\r\u001b[2K"] : []);
    }
  });

  it("takes objects from the registry, and says which could not be woken", async () => {
    const id = await call("SQLITE", "in-trouble", "send", "refused");
    const dry = () => sweep(["--namespace", "SQLITE", "--registry", "--dry-run"]);
    await until(async () => (await dry()).out.includes("Would wake 1 objects"));
    expect(await sweep(["--namespace", "SQLITE", "--registry"])).toMatchObject({
      code: 0,
      out: expect.stringContaining("1 dead letters in all"),
    });
    // An id of another namespace.
    writeFileSync(join(path, "wrong.txt"), `${id}\n`);
    const wrong = await sweep(["--namespace", "KV", "--ids", "wrong.txt"]);
    expect(wrong).toMatchObject({ code: 1, out: expect.stringContaining("1 could not be woken") });
    expect(readFileSync(join(path, ".outbox-sweep-KV.json.failed"), "utf8").trim().split("\n").at(-1)).toBe(id);
  });

  it("takes no other page, which answers with 200 as well, for the route", async () => {
    writeFileSync(join(path, "other.txt"), "one\n");
    const answers = ["<html>Log in</html>", "null", '{"results":[]}', '{"ids":"all"}'] as const;
    let answer: string = "";
    const server = createServer((_, response) => response.end(answer)).listen(0);
    const route = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    for (const [n, ...args] of [
      [0, "--ids", "other.txt", "--dry-run"],
      [1, "--ids", "other.txt"],
      [2, "--ids", "other.txt"],
      [3, "--registry"],
    ] as const) {
      answer = answers[n];
      const run = await sweep(["--namespace", "SQLITE", "--state", `other-${n}.json`, ...args], { route });
      expect([answer, run]).toEqual([answer, { code: 2, out: expect.stringContaining(`is it mounted at ${route}?`) }]);
    }
    server.close();
  });

  it("is refused without the right token, and tells a mistake from a failure", async () => {
    writeFileSync(join(path, "one.txt"), "one\n");
    const args = ["--namespace", "SQLITE", "--ids", "one.txt"];
    expect(await sweep(args, { token: "wrong" })).toMatchObject({ code: 2, out: expect.stringContaining("401") });
    expect(await sweep(["--namespace", "NONE", "--ids", "one.txt", "--state", "none.json"])).toMatchObject({
      code: 2,
      out: expect.stringContaining("404"),
    });
    expect(await sweep([...args, "--rate", "0"])).toMatchObject({ code: 2, out: expect.stringContaining("--rate") });
    expect(await sweep([...args, "--registry"])).toMatchObject({ code: 2, out: expect.stringContaining("either --ids or --registry") });
    expect(await sweep([...args, "--nonsense"])).toMatchObject({ code: 2 });
    writeFileSync(join(path, "long.txt"), `one\n# ${"x".repeat(2000)}\n${"x".repeat(1025)}\n`);
    const long = await sweep(["--namespace", "SQLITE", "--ids", "long.txt", "--state", "long.json"]);
    expect(long).toMatchObject({ code: 2, out: expect.stringContaining("Line 3 of long.txt") });
    expect(existsSync(join(path, "long.json"))).toBe(false);
    const large = JSON.stringify({ namespace: "SQLITE", names: [" ".repeat(2 ** 20)] });
    // Its size is said, and then it is sent in chunks, which say nothing.
    for (const body of [large, new Blob([large]).stream()]) {
      const headers = { "content-type": "application/json", authorization: "Bearer secret" };
      const init = { method: "POST", body, headers, duplex: "half" } as RequestInit;
      expect((await fetch(new URL("sweep/wake", url), init)).status).toBe(413);
    }
    for (const [body, type, status] of [
      ["{}", "text/plain", 415],
      ["{", "application/json", 400],
      [JSON.stringify({ namespace: "SQLITE", ids: [7] }), "application/json", 400],
      [JSON.stringify({ namespace: "SQLITE", names: Array.from({ length: 101 }, String) }), "application/json", 400],
      [JSON.stringify({ namespace: "toString" }), "application/json", 404],
    ] as const) {
      const headers = { "content-type": type, authorization: "Bearer secret" };
      expect((await fetch(new URL("sweep/wake", url), { method: "POST", body, headers })).status).toBe(status);
      expect((await fetch(new URL("sweep/wake", url), { method: "POST", body, headers: { "content-type": type } })).status).toBe(401);
    }
  });
});
