/** The example as its readers run it: the demo that kills the runtime, and the worker behind `npm start`. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

describe("npm run demo", () => {
  it("loses nothing in three kills", async () => {
    const args = ["example-worker/demo.ts", "--bookings", "60", "--kills", "3"];
    // A non-zero exit code rejects, and shows what the demo has printed.
    const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: ROOT, timeout: 55_000 });
    const counts = Object.fromEntries([...stdout.matchAll(/^(\w+) +(\d+) {3}/gm)].map(([, name, count]) => [name, Number(count)]));
    expect(counts, stdout).toMatchObject({ kills: 3, asked: 60, lost: 0, ghosts: 0, forgotten: 0 });
    expect(counts.committed).toBeGreaterThan(0);
    expect(counts.delivered).toBe(counts.committed);
  });

  it.each([
    ["--kills=101", "--kills must be an integer from 0 to 100."],
    ["--bookings=many", "--bookings must be an integer from 1 to 8000."],
    ["--speed=2", "Unknown option '--speed'"],
  ])("refuses %s", async (flag, message) => {
    const run = promisify(execFile)(process.execPath, ["example-worker/demo.ts", flag], { cwd: ROOT });
    await expect(run).rejects.toMatchObject({ code: 2, stderr: expect.stringContaining(message) });
  });
});

describe("npm start", () => {
  let folder: string;
  let url: string;
  let wrangler: ChildProcess;
  let output = "";

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "outbox-start-"));
    const port = await freePort();
    const { scripts } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8"));
    const command = scripts.start.replace("8787", port).replace(".data", folder);
    expect(command).toMatch(/^wrangler dev .*127\.0\.0\.1/);
    url = `http://127.0.0.1:${port}`;
    const path = `${join(ROOT, "node_modules/.bin")}:${process.env.PATH}`;
    // A process group of its own, so that all of it can be ended at once: wrangler, workerd and the shell between.
    wrangler = spawn(command, {
      cwd: ROOT,
      shell: true,
      detached: true,
      env: { ...process.env, PATH: path, CLOUDFLARE_CF_FETCH_ENABLED: "false" },
    });
    for (const stream of [wrangler.stdout, wrangler.stderr]) {
      stream?.on("data", (text) => {
        output += text;
      });
    }
    await until(async () => (await fetch(url)).ok, 40);
  }, 50_000);

  afterAll(async () => {
    if (wrangler?.pid !== undefined && wrangler.exitCode === null) {
      const exited = once(wrangler, "exit");
      process.kill(-wrangler.pid, "SIGKILL");
      await exited;
    }
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  });

  it("serves the page", async () => {
    const response = await fetch(url);
    expect(response.headers.get("content-type")).toContain("text/html");
    expect(await response.text()).toContain("<h1>A restaurant with an outbox</h1>");
  });

  it("hands a booking and its cancellation to the queue, and the ledger has seen both", async () => {
    const booked = await post("/tables/3/book", { slot: "19:00", guest: "Ada", seats: 2 });
    expect(booked.status).toBe(201);
    const cancelled = await post("/tables/3/cancel", { slot: "19:00" });
    expect(cancelled.status).toBe(200);
    const { reservation } = booked.body as { reservation: { id: string } };
    const arrived = async () => ((await get("/report")) as { arrived: { type: string; reservation: { id: string } }[] }).arrived;
    await until(async () => (await arrived()).length === 2);
    // The order of a queue is best effort.
    const types = (await arrived()).filter((event) => event.reservation.id === reservation.id).map(({ type }) => type);
    expect(types.sort()).toEqual(["booked", "cancelled"]);
    expect(await get("/report")).toMatchObject({ committed: [], pending: 0, duplicates: 0 });
  });

  it("keeps a message while the queue is down, and delivers it afterwards", async () => {
    await post("/outage", { down: true });
    await post("/tables/5/book", { slot: "20:00", guest: "Grace", seats: 4 });
    const failures = async () => ((await get("/state")) as { tables: { failures: number }[] }).tables[4]?.failures ?? 0;
    await until(async () => (await failures()) > 0);
    expect(await get("/report")).toMatchObject({ pending: 1 });
    await post("/outage", { down: false });
    await until(async () => ((await get("/report")) as { pending: number }).pending === 0);
  });

  it.each([
    ["an unknown table", "/tables/9/book", { slot: "19:00", guest: "Ada", seats: 2 }, /table must be a number from 1 to 8/],
    ["a table that is no number", "/tables/x/book", { slot: "19:00", guest: "Ada", seats: 2 }, /table must be a number/],
    ["an unknown slot", "/tables/1/book", { slot: "3 am", guest: "Ada", seats: 2 }, /"slot" must be one of 18:00/],
    ["no guest", "/tables/1/book", { slot: "19:00", guest: " ", seats: 2 }, /"guest" must be a name/],
    ["a long name", "/tables/1/book", { slot: "19:00", guest: "A".repeat(41), seats: 2 }, /1 to 40 characters/],
    ["half a seat", "/tables/1/book", { slot: "19:00", guest: "Ada", seats: 0.5 }, /"seats" must be an integer/],
    ["no object", "/tables/1/book", [], /must be a JSON object/],
    ["a word for an outage", "/outage", { down: "yes" }, /"down" must be true or false/],
  ])("refuses %s and writes nothing", async (_, path, body, message) => {
    const before = await get("/report");
    const response = await post(path, body);
    expect(response).toEqual({ status: 400, body: { error: expect.stringMatching(message) } });
    expect(await get("/report")).toEqual(before);
  });

  it("refuses what is taken, what is not booked, what is no JSON and what does not exist", async () => {
    const booking = { slot: "21:00", guest: "Edsger", seats: 2 };
    expect((await post("/tables/2/book", booking)).status).toBe(201);
    expect(await post("/tables/2/book", booking)).toEqual({ status: 409, body: { error: "Table 2 is taken at 21:00." } });
    expect(await post("/tables/2/cancel", { slot: "18:00" })).toMatchObject({ status: 409 });
    expect((await fetch(`${url}/tables/2/book`, { method: "POST", body: "{" })).status).toBe(400);
    expect((await fetch(`${url}/nothing`)).status).toBe(404);
  });

  async function post(path: string, body: unknown): Promise<{ status: number; body: unknown }> {
    const response = await fetch(url + path, { method: "POST", body: JSON.stringify(body) });
    return { status: response.status, body: await response.json() };
  }

  async function get(path: string): Promise<unknown> {
    return (await fetch(url + path)).json();
  }

  /** Polls until the fact holds. While nothing answers yet, it does not. */
  async function until(fact: () => Promise<boolean>, seconds = 15): Promise<void> {
    const end = Date.now() + seconds * 1000;
    while (!(await fact().catch(() => false))) {
      if (Date.now() > end) expect.fail(`not within ${seconds} s: ${fact}\n${output}`);
      if (wrangler.exitCode !== null) expect.fail(`wrangler has ended.\n${output}`);
      await pause(50);
    }
  }
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("No port is free.");
  return address.port;
}
