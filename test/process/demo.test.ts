/** The example as its readers run it: the demo that kills the runtime, and the worker behind `npm start`. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BookingState, Health, Report } from "../../example-worker/states.ts";
import { judge } from "../../example-worker/verdict.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

describe("npm run demo", () => {
  it("books no slot twice and loses no booking in three kills", async () => {
    const args = ["example-worker/demo.ts", "--bookings", "60", "--kills", "3"];
    // A non-zero exit code rejects, and shows what the demo has printed.
    const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: ROOT });
    const counts = Object.fromEntries([...stdout.matchAll(/^([a-z -]+?) +(\d+) {3}/gm)].map(([, name, count]) => [name, Number(count)]));
    expect(counts, stdout).toMatchObject({ kills: 3, bookings: 60, confirmed: 30, refused: 30 });
    expect(counts, stdout).toMatchObject({ "double-booked": 0, unsold: 0, lost: 0, "in conflict": 0, projections: 0, undelivered: 0 });
    expect(stdout).toMatch(/ s left\n/);
    expect(stdout).toMatch(/\nPASS: nothing is lost or doubled\. Kills: 3\.\n$/);
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

/** Listens on a port that no system hands out by itself: what else runs here could be given the next one at any moment. */
async function listenBelow(server: Server): Promise<number> {
  for (let port = 12_000 + (process.pid % 18_000); ; port += 2) {
    server.listen(port, "127.0.0.1");
    const isFree = await Promise.race([once(server, "listening").then(() => true), once(server, "error").then(() => false)]);
    if (isFree) return port;
  }
}

describe("npm start on a port that is taken", () => {
  let folder: string;
  const taken = createServer();
  let url: string;
  let wrangler: ChildProcess;
  let output = "";

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "outbox-start-"));
    const port = await listenBelow(taken);
    const { scripts } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8"));
    const command = scripts.start.replace("8787", port).replace(".data", folder);
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
    const line = new RegExp(
      `^Port ${port} is taken\\. The restaurant is on (http://127\\.0\\.0\\.1:\\d+), with its storage in ${folder}/port-\\d+\\.\n`,
    );
    await until(async () => line.test(output));
    url = line.exec(output)?.[1] ?? "";
    await until(async () => (await fetch(url)).ok);
  }, 50_000);

  afterAll(async () => {
    if (wrangler?.pid !== undefined && wrangler.exitCode === null) {
      const exited = once(wrangler, "exit");
      process.kill(-wrangler.pid, "SIGKILL");
      await exited;
    }
    taken.close();
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  });

  it("serves the page", async () => {
    const response = await fetch(url);
    expect(response.headers.get("content-type")).toContain("text/html");
    expect(await response.text()).toContain("<h1>A restaurant with an outbox</h1>");
  });

  it("confirms a booking, cancels it, and announces both through the queue", async () => {
    const id = await book(3, "19:00");
    await until(async () => (await booking(id)).state === "confirmed");
    expect((await send("POST", `/bookings/${id}/cancel`)).status).toBe(200);
    const announced = async () => (await state()).ledger.latest.filter(({ bookingId }) => bookingId === id).map(({ type }) => type);
    await until(async () => (await announced()).length === 3);
    // The order of a queue is best effort.
    expect((await announced()).sort()).toEqual(["booking_cancelled", "booking_confirmed", "slot_unlocked"]);
    expect(judge(await report())).toMatchObject({ waiting: 0, dead: 0, doubleBooked: [], atOdds: [], projectionErrors: [] });
  });

  it("shows the log of a table live", async () => {
    const end = new AbortController();
    const { body } = await fetch(`${url}/log/7?offset=-1&live=sse`, { signal: end.signal });
    let text = "";
    const write = (part: string): void => {
      text += part;
    };
    void body
      ?.pipeThrough(new TextDecoderStream())
      .pipeTo(new WritableStream({ write }))
      .catch(() => {});
    await until(async () => text.includes("table_added"));
    const id = await book(7, "18:30");
    await until(async () => text.includes(`{"type":"table_lock_placed","bookingId":"${id}"`));
    end.abort();
  });

  it("keeps announcements while the queue is down, and delivers them afterwards", async () => {
    await send("POST", "/outage", { down: true });
    const id = await book(5, "20:00");
    await until(async () => (await booking(id)).breaker === "open");
    expect(await booking(id)).toMatchObject({ state: "confirmed", waiting: [{ type: "booking_confirmed", bookingId: id }] });
    await send("POST", "/outage", { down: false });
    await until(async () => (await booking(id)).waiting.length === 0);
    await until(async () => (await state()).ledger.latest.some(({ bookingId }) => bookingId === id));
  });

  const wish = { table: 1, slot: "19:00", guest: "Ada", seats: 2 };
  it.each([
    ["a table that is no number", "PUT", "/bookings/12345678", { ...wish, table: "1" }, /"table" must be an integer from 1 to 9999/],
    ["an unknown slot", "PUT", "/bookings/12345678", { ...wish, slot: "3 am" }, /"slot" must be one of 18:00/],
    ["no guest", "PUT", "/bookings/12345678", { ...wish, guest: " " }, /"guest" must be a name/],
    ["a long name", "PUT", "/bookings/12345678", { ...wish, guest: "A".repeat(41) }, /1 to 40 characters/],
    ["half a seat", "PUT", "/bookings/12345678", { ...wish, seats: 0.5 }, /"seats" must be an integer/],
    ["no object", "PUT", "/bookings/12345678", [], /must be a JSON object/],
    ["an id that is none", "PUT", "/bookings/1", wish, /id must be 8 to 64 letters/],
    ["to change a table that can't be", "POST", "/tables/9/open", undefined, /"table" must be an integer from 1 to 8/],
    ["a word for an outage", "POST", "/outage", { down: "yes" }, /"down" must be true or false/],
  ])("refuses %s and writes nothing", async (_, method, path, body, message) => {
    const before = await report();
    expect(await send(method, path, body)).toEqual({ status: 400, body: { error: expect.stringMatching(message) } });
    expect(await report()).toEqual(before);
  });

  it("refuses what can't be cancelled, what is no JSON and what does not exist", async () => {
    const [first, second] = [await book(2, "21:00"), await book(2, "21:00")];
    await until(async () => (await booking(second)).state === "refused");
    expect((await booking(first)).state).toBe("confirmed");
    expect(await send("POST", `/bookings/${second}/cancel`)).toEqual({ status: 409, body: { error: "This booking is refused." } });
    expect((await send("POST", "/bookings/nobody-knows/cancel")).status).toBe(404);
    expect((await send("GET", "/bookings/nobody-knows")).status).toBe(404);
    expect((await fetch(`${url}/bookings/12345678`, { method: "PUT", body: "{" })).status).toBe(400);
    for (const path of ["/tables/1/paint", "/bookings/12345678/eat", "/nothing"]) expect((await send("POST", path)).status).toBe(404);
  });

  it("logs what happens, and not that the page asks for the state", async () => {
    const id = await book(6, "18:00");
    await state();
    await until(async () => output.includes(`PUT /bookings/${id}`));
    expect(output).not.toContain("GET /state");
  });

  async function book(table: number, slot: string): Promise<string> {
    const id = crypto.randomUUID();
    expect((await send("PUT", `/bookings/${id}`, { table, slot, guest: "Ada", seats: 2 })).status).toBe(202);
    return id;
  }

  async function booking(id: string): Promise<BookingState & Health> {
    return (await send("GET", `/bookings/${id}`)).body as BookingState & Health;
  }

  async function report(): Promise<Report> {
    return (await send("GET", "/report")).body as Report;
  }

  async function state(): Promise<{ ledger: { latest: { type: string; bookingId: string }[] } }> {
    return (await send("GET", "/state")).body as { ledger: { latest: { type: string; bookingId: string }[] } };
  }

  async function send(method: string, path: string, body?: unknown): Promise<{ status: number; body: unknown }> {
    const response = await fetch(url + path, { method, ...(body !== undefined && { body: JSON.stringify(body) }) });
    return { status: response.status, body: await response.json() };
  }

  /** Polls until the fact holds. While nothing answers yet, it does not. */
  async function until(fact: () => Promise<boolean>, seconds = 90): Promise<void> {
    const end = Date.now() + seconds * 1000;
    while (!(await fact().catch(() => false))) {
      if (Date.now() > end) expect.fail(`not within ${seconds} s: ${fact}\n${output}`);
      if (wrangler.exitCode !== null) expect.fail(`wrangler has ended.\n${output}`);
      await pause(50);
    }
  }
});
