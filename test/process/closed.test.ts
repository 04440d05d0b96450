/** What a stub can reach: the object's own methods and getters, and nothing of the outbox. */
import type { Miniflare, MiniflareOptions } from "miniflare";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bundled, folder, launch, until } from "./harness.ts";

interface Outcome {
  readonly got?: unknown;
  readonly refused?: string;
}

let miniflare: Miniflare;

beforeAll(async () => {
  const script = await bundled("closed.ts");
  const classes = { SQLITE: ["SqliteBox", true], KV: ["KvBox", false], OWN: ["OwnBox", true] } as const;
  const common = { modules: true, script, compatibilityDate: "2026-07-01" };
  const objects = (scriptName?: string) =>
    Object.fromEntries(
      Object.entries(classes).map(([name, [className, useSQLite]]) => [name, { className, useSQLite, ...(scriptName && { scriptName }) }]),
    );
  ({ miniflare } = await launch({
    durableObjectsPersist: folder(),
    workers: [
      { name: "home", ...common, durableObjects: objects() },
      { name: "stranger", ...common, durableObjects: objects("home") },
    ],
  } as MiniflareOptions));
});

afterAll(() => miniflare.dispose());

/** Knocks from a worker: the one that holds the objects, or another one that is only bound to them. */
async function knock(from: string, binding: string, member: string, ...args: unknown[]): Promise<{ called: Outcome; read: Outcome }> {
  const worker = await miniflare.getWorker(from);
  const response = await worker.fetch(`http://${from}/${binding}/${member}`, { method: "POST", body: JSON.stringify(args) });
  return (await response.json()) as { called: Outcome; read: Outcome };
}

const forged = [{ id: "forged", msg: 1, source: "x", sequence: 1, attempts: 1, timestamp: 0 }];
const CLOSED: [string, unknown[]][] = [
  ["sendMessages", [forged]],
  ["deadMessage", [forged[0], "default", null]],
  ["destinations", []],
  ["alarm", [{ retryCount: 0, isRetry: false, scheduledTime: 0 }]],
  ["env", []],
  ["ctx", []],
  ["OUTBOX_MANAGER", []],
];

describe.each(["home", "stranger"])("a stub, called from %s", (from) => {
  describe.each(["SQLITE", "KV", "OWN"])("of %s", (binding) => {
    it.each(CLOSED)("refuses `%s`", async (member, args) => {
      const { called, read } = await knock(from, binding, member, ...args);
      expect(called.refused).toMatch(/does not implement the method|is a reserved method/);
      expect(read.refused).toBeDefined();
      expect(called).not.toHaveProperty("got");
      expect(read).not.toHaveProperty("got");
    });
  });

  it.each(["SQLITE", "KV"])("of %s serves the object's own methods and getters", async (binding) => {
    expect((await knock(from, binding, "hello", "you")).called).toEqual({ got: "hello you, kept" });
    expect((await knock(from, binding, "greeting")).read).toEqual({ got: "a getter" });
    expect((await knock(from, binding, "_underscored")).called).toEqual({ got: "underscored" });
    expect((await knock(from, "OWN", "greet")).called).toEqual({ got: "own" });
  });
});

it.each(["SQLITE", "KV"])("nothing that was refused ran, and the object of %s works on", async (binding) => {
  const counts = async () => (await knock("home", binding, "counts")).called.got;
  for (const [member, args] of CLOSED) await knock("stranger", binding, member, ...args);
  expect(await counts()).toEqual({ sent: 0, alarms: 0 });
  // `knock` calls once and reads once: one put.
  expect((await knock("stranger", binding, "put", 7)).called).toMatchObject({ got: { sequence: 1 } });
  await until(async () => ((await counts()) as { sent: number }).sent === 1);
  expect(await counts()).toEqual({ sent: 1, alarms: 0 });
});
