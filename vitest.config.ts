/** The test projects: inside workerd beside the objects, inside it with real frameworks, and outside of it, watching. */
import { subscribe } from "node:diagnostics_channel";
import { readdirSync } from "node:fs";
import type { ClientRequest } from "node:http";
import { availableParallelism } from "node:os";
import { defineConfig, type TestProjectInlineConfiguration } from "vitest/config";

/**
 * TEST_RESULTS: a file that gets the results as JSON. VITE_PROOF=1: the big sizes (`test/support/random.ts`). TEST_COMPATIBILITY_DATE: an older date
 * for the tests that run inside workerd. IN_NODE=1: without those, whose plugin takes long to load.
 */
const { TEST_RESULTS, VITE_PROOF, VITE_PATIENCE, IN_NODE, TEST_COMPATIBILITY_DATE = "2026-07-01" } = process.env;
const proof = VITE_PROOF === "1";

/** Only a test that fails takes so long: none of them depends on how fast the machine is. VITE_PATIENCE: shorter, where tests are meant to fail. */
const PATIENCE_MS = VITE_PATIENCE ? Number(VITE_PATIENCE) * 3000 : proof ? 3_600_000 : 240_000;
/** The same for what comes before and after tests: it starts runtimes. */
const PATIENCE = { testTimeout: PATIENCE_MS, hookTimeout: PATIENCE_MS };

/** These tests wait for nothing: a process more than there are cores only costs its start. They are over before the others begin, which do wait. */
const BUSY = {
  maxWorkers: Math.max(2, availableParallelism()),
  setupFiles: "./test/support/each-file.ts",
  isolate: false,
  sequence: { groupOrder: 0 },
};
const WAITING = { sequence: { groupOrder: 1 } };

/** The classes of a framework, as it has them and wrapped, each bound under its own name. */
const bound = (names: string[], useSQLite: boolean) =>
  names.flatMap((name) => [name, `Bare${name}`]).map((className) => [className, { className, useSQLite }] as const);

/** The folders of the projects below. A test that is in none of them would never run. */
const PROJECTS = ["unit", "model", "runtime", "process", "frameworks", "consumer"];
for (const file of readdirSync("test", { recursive: true, encoding: "utf8" })) {
  const stray = file.endsWith(".test.ts") && !file.includes("node_modules") && !PROJECTS.includes(file.split(/[/\\]/)[0] ?? "");
  if (stray) throw new Error(`test/${file} is in no project: move it to one of test/{${PROJECTS}}.`);
}

/** Miniflare offers to compress what the pool and its tests tell each other, within this machine: a third of the pool's time. */
subscribe("http.client.request.created", (message) => {
  (message as { request: ClientRequest }).request.removeHeader("sec-websocket-extensions");
});

type Plugin = typeof import("@cloudflare/vitest-pool-workers");

const insideWorkerd = ({ cloudflareTest }: Plugin): TestProjectInlineConfiguration[] => [
  {
    plugins: [
      cloudflareTest({
        main: "./test/runtime/support/worker.ts",
        // Without what workerd says of each object that a test has aborted.
        verbose: false,
        miniflare: {
          compatibilityDate: TEST_COMPATIBILITY_DATE,
          // Whether deleteAll() deletes the alarm is the business of test/process/delete-all.test.ts, which runs on both sides of that date.
          ...(TEST_COMPATIBILITY_DATE < "2026-02-24" && { compatibilityFlags: ["delete_all_deletes_alarm"] }),
          durableObjects: {
            BOX_SQLITE: { className: "SqliteBox", useSQLite: true },
            BOX_KV: { className: "KvBox", useSQLite: false },
            OTHER_SQLITE: { className: "OtherSqliteBox", useSQLite: true },
            OTHER_KV: { className: "OtherKvBox", useSQLite: false },
            FORM_SQLITE: { className: "SqliteForm", useSQLite: true },
            FORM_KV: { className: "KvForm", useSQLite: false },
            INBOX_SQLITE: { className: "SqliteInbox", useSQLite: true },
            INBOX_KV: { className: "KvInbox", useSQLite: false },
            REPORTER_SQLITE: { className: "SqliteReporter", useSQLite: true },
            REPORTER_KV: { className: "KvReporter", useSQLite: false },
            OUTBOX_FLEET: { className: "Fleet", useSQLite: true },
            SMALL_FLEET: { className: "SmallFleet", useSQLite: true },
            INSPECTED_SQLITE: { className: "SqliteInspected", useSQLite: true },
            INSPECTED_KV: { className: "KvInspected", useSQLite: false },
            NO_OUTBOX: { className: "NoOutbox", useSQLite: true },
          },
        },
      }),
    ],
    // Concurrent tests wait for alarms most of their time. One isolate for all files: to start one and to fill it costs more than most tests.
    test: {
      name: "runtime",
      include: ["test/runtime/**/*.test.ts"],
      setupFiles: "./test/runtime/support/each-file.ts",
      // With the big counts the pool did not come to an end after the last file.
      isolate: proof,
      globalSetup: "./test/support/quiet.ts",
      maxConcurrency: 50,
      ...WAITING,
      ...PATIENCE,
    },
  },
  {
    plugins: [
      cloudflareTest({
        main: "./test/frameworks/worker.ts",
        verbose: false,
        miniflare: {
          compatibilityDate: "2026-07-01",
          // The frameworks need it; the package itself needs no flag, as the projects above show.
          compatibilityFlags: ["nodejs_compat"],
          durableObjects: Object.fromEntries([
            ...bound(["Agent", "Party", "Boxed", "Player", "Shop"], true),
            ...bound(["SentryAround", "SentryWithin", "SentryAgentAround", "SentryAgentWithin"], true),
            ...bound(["Sentry10Around", "Sentry10Within", "Sentry10AgentAround", "Sentry10AgentWithin"], true),
            ...bound(["KvParty", "KvShop"], false),
          ]),
        },
      }),
    ],
    test: {
      name: "frameworks",
      include: ["test/frameworks/**/*.test.ts"],
      globalSetup: "./test/support/quiet.ts",
      maxConcurrency: 20,
      ...WAITING,
      ...PATIENCE,
      isolate: false,
    },
  },
];

export default defineConfig({
  test: {
    // Most tests wait for alarms: three times as many files at a time as the smallest machine has cores.
    maxWorkers: 6,
    // The tests cause failures on purpose, and the core warns of them: what is printed is printed for a test that fails.
    silent: "passed-only",
    slowTestThreshold: 30_000,
    // At older compatibility dates an alarm that throws on the platform alone is handed on by the pool a turn too late, and counts as unhandled.
    onUnhandledError: ({ message, stack = "" }) => message !== "the alarm that the test wants to fail" || stack.includes("/src/"),
    reporters: TEST_RESULTS ? ["default", ["json", { outputFile: TEST_RESULTS }]] : ["default"],
    projects: [
      {
        test: { name: "unit", include: ["test/unit/**/*.test.ts"], ...BUSY, ...PATIENCE },
      },
      {
        test: { name: "model", include: ["test/model/**/*.test.ts"], ...BUSY, ...PATIENCE },
      },
      {
        // As few processes as can be: each loads Miniflare, and bundles the workers.
        test: {
          name: "process",
          include: ["test/process/**/*.test.ts"],
          setupFiles: "./test/process/each-file.ts",
          ...WAITING,
          ...PATIENCE,
          isolate: false,
        },
      },
      ...(IN_NODE === "1" ? [] : insideWorkerd(await import("@cloudflare/vitest-pool-workers"))),
    ],
  },
});
