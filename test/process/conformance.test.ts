/** The conformance suite of the Durable Streams protocol, as far as it is about reading, and its client. */
import { stream } from "@durable-streams/client";
import { runConformanceTests } from "@durable-streams/server-conformance-tests";
import fc from "fast-check";
import type { MiniflareOptions } from "miniflare";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { PROOF, SEED } from "../support/random.ts";
import { BACKENDS, bundled, folder, launch, range, until } from "./harness.ts";

/** What the package does not do, because it reads: groups of the suite, and tests by name, with the reason. */
const LEFT_OUT: Readonly<Record<string, string>> = {
  "Stream Closure": "a log has no end: there is always a next message",
  "Fork - Creation": "a fork is a way of writing",
  "Fork - Reading": "a fork is a way of writing",
  "Fork - Appending": "a fork is a way of writing",
  "Fork - Recursive": "a fork is a way of writing",
  "Fork - Live Modes": "a fork is a way of writing",
  "Fork - Deletion and Lifecycle": "a fork is a way of writing",
  "Fork - TTL and Expiry": "a fork is a way of writing",
  "Fork - JSON Mode": "a fork is a way of writing",
  "Fork - Edge Cases": "a fork is a way of writing",
  "Idempotent Producer Operations": "producers are a way of writing: put takes an `id`",
  "TTL and Expiry Validation": "how long a stream lives is chosen when it is created, by a writer",
  "TTL and Expiry Edge Cases": "how long a stream lives is chosen when it is created, by a writer",
  "TTL Expiration Behavior": "how long a stream lives is chosen when it is created, by a writer",
  "HEAD Metadata Edge Cases": "how long a stream lives is chosen when it is created, by a writer",
  "should enforce sequence ordering with seq": "Stream-Seq orders what writers append",
  "should enforce sequence ordering": "Stream-Seq orders what writers append",
  'should enforce lexicographic seq ordering ("2" then "10" rejects)': "Stream-Seq orders what writers append",
  "should reject duplicate seq values": "Stream-Seq orders what writers append",
  "should enforce case-sensitive seq ordering": "Stream-Seq orders what writers append",
  "Sequence Ordering Properties": "Stream-Seq orders what writers append",
  "concurrent writers racing with incrementing seq values": "Stream-Seq orders what writers append",
  "should allow If-None-Match in CORS preflight responses": "CORS is the worker's: who may read from where is not the log's to say",
};

/** Many hundred requests each: only in the proof, which `VITE_PROOF=1` is. */
const SLOW = "Property-Based Tests (fast-check)";

interface Task {
  readonly name: string;
  readonly suite?: Task;
}

let ran = 0;
const leftOut = new Set<string>();

beforeEach(({ task, skip }) => {
  const names: string[] = [];
  for (let each: Task | undefined = task; each; each = each.suite) names.push(each.name);
  const name = names.find((name) => Object.hasOwn(LEFT_OUT, name));
  if (name !== undefined) {
    leftOut.add(name);
    skip(LEFT_OUT[name]);
  }
  if (names.includes(SLOW) && (!PROOF || names.includes("relayed"))) skip("in the proof, where no relay is in between");
  ran++;
});

fc.configureGlobal({ seed: SEED });

let origin = "";
let end: (() => Promise<void>) | undefined;
beforeAll(async () => {
  const { miniflare, url } = await launch({
    name: "streams",
    modules: true,
    script: await bundled("streams.ts"),
    compatibilityDate: "2026-07-01",
    durableObjectsPersist: folder(),
    durableObjects: { SQLITE: { className: "SqliteStream", useSQLite: true }, KV: { className: "KvStream", useSQLite: false } },
  } as MiniflareOptions);
  ({ origin } = url);
  end = () => miniflare.dispose();
});
afterAll(() => end?.());

/** Of the other backend, and relayed by a worker, only in the proof: what is read differs in nothing that the suite can see. */
describe.concurrent.each(PROOF ? [...BACKENDS, "relayed"] : ["sqlite"])("%s", (backend) => {
  runConformanceTests({
    get baseUrl() {
      return `${origin}/${backend}`;
    },
    longPollTimeoutMs: 5000,
  });
});

it("the suite has run, and all that is left out is in it", () => {
  expect(ran).toBeGreaterThan(120);
  expect([...leftOut].sort()).toEqual(Object.keys(LEFT_OUT).sort());
});

it.each(["kv", "relayed"])(
  "the protocol's client reads the log from the beginning, follows it, and goes on from an offset (%s)",
  async (how) => {
    const url = `${origin}/${how}/client`;
    const put = (first: number, last: number): Promise<unknown> =>
      fetch(url, {
        method: first === 1 ? "PUT" : "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(range(first, last).map((n) => ({ n }))),
      });
    await put(1, 50);
    const page = await stream<{ n: number }>({ url, offset: "-1", live: false });
    expect((await page.json()).map(({ n }) => n)).toEqual(range(1, 50));
    for (const live of ["long-poll", "sse"] as const) {
      const end = new AbortController();
      const response = await stream<{ n: number }>({ url, offset: page.offset, live, signal: end.signal });
      const seen: number[] = [];
      response.subscribeJson(({ items }) => {
        seen.push(...items.map(({ n }) => n));
      });
      const first = live === "sse" ? 71 : 51;
      for (const from of [first, first + 10]) {
        await put(from, from + 9);
        await until(() => seen.includes(from + 9));
      }
      expect(seen).toEqual(range(51, first + 19));
      end.abort();
    }
  },
);

it("an open stream whose client has gone follows the log no longer once something was put", async () => {
  const url = `${origin}/sqlite/gone`;
  await fetch(url, { method: "PUT", headers: { "Content-Type": "application/json" }, body: "[1]" });
  const tails = async (): Promise<string> => (await fetch(url, { method: "PATCH" })).text();
  const end = new AbortController();
  const streams = await Promise.all(range(1, 3).map(() => fetch(`${url}?offset=now&live=sse`, { signal: end.signal })));
  expect(streams.map(({ status }) => status)).toEqual([200, 200, 200]);
  const read = streams.map(({ body }) => body?.getReader().read());
  await Promise.all(read);
  await until(async () => (await tails()) === "3");
  end.abort();
  // The runtime notices as it writes. How often it has to is not for us to say: twice or three times, on workerd 1.20260730.
  await until(async () => {
    await fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body: "[2]" });
    return (await tails()) === "0";
  });
});
