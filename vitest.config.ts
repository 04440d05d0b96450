/** The test projects: inside workerd beside the objects, inside it with real frameworks, and outside of it, watching. */
import { cloudflareTest } from "@cloudflare/vitest-pool-workers";
import { defineConfig } from "vitest/config";

const { TEST_RESULTS } = process.env;

/** The classes of a framework, as it has them and wrapped, each bound under its own name. */
const bound = (names: string[], useSQLite: boolean) =>
  names.flatMap((name) => [name, `Bare${name}`]).map((className) => [className, { className, useSQLite }] as const);

export default defineConfig({
  test: {
    // Most tests wait for alarms: more files at a time than there are cores.
    maxWorkers: 3,
    reporters: TEST_RESULTS ? ["default", ["json", { outputFile: TEST_RESULTS }]] : ["default"],
    projects: [
      {
        plugins: [
          cloudflareTest({
            main: "./test/pool/worker.ts",
            miniflare: {
              compatibilityDate: "2026-07-01",
              durableObjects: {
                BOX_SQLITE: { className: "SqliteBox", useSQLite: true },
                BOX_KV: { className: "KvBox", useSQLite: false },
                OTHER_SQLITE: { className: "OtherSqliteBox", useSQLite: true },
                OTHER_KV: { className: "OtherKvBox", useSQLite: false },
                FORM_SQLITE: { className: "SqliteForm", useSQLite: true },
                FORM_KV: { className: "KvForm", useSQLite: false },
                INBOX_SQLITE: { className: "SqliteInbox", useSQLite: true },
                INBOX_KV: { className: "KvInbox", useSQLite: false },
              },
            },
          }),
        ],
        // Concurrent tests wait for alarms most of their time.
        test: { name: "pool", include: ["test/pool/**/*.test.ts"], maxConcurrency: 50, testTimeout: 15_000 },
      },
      {
        test: { name: "model", include: ["test/model/**/*.test.ts"], testTimeout: 300_000 },
      },
      {
        test: { name: "node", include: ["test/node/**/*.test.ts"], testTimeout: 60_000, fileParallelism: false },
      },
      {
        plugins: [
          cloudflareTest({
            main: "./test/frameworks/worker.ts",
            miniflare: {
              compatibilityDate: "2026-07-01",
              // The frameworks need it; the package itself needs no flag, as the projects above show.
              compatibilityFlags: ["nodejs_compat"],
              durableObjects: Object.fromEntries([
                ...bound(["Agent", "Party", "Boxed", "Player", "Shop"], true),
                ...bound(["KvParty", "KvShop"], false),
              ]),
            },
          }),
        ],
        // One isolate for all files: the frameworks are large, and each file has classes of its own.
        test: { name: "frameworks", include: ["test/frameworks/**/*.test.ts"], maxConcurrency: 50, testTimeout: 20_000, isolate: false },
      },
    ],
  },
});
