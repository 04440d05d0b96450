/** Two projects: what runs inside workerd beside the objects, and what watches workerd from outside. */
import { cloudflareTest } from "@cloudflare/vitest-pool-workers";
import { defineConfig } from "vitest/config";

const { TEST_RESULTS } = process.env;

export default defineConfig({
  test: {
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
              },
            },
          }),
        ],
        // Concurrent tests wait for alarms most of their time.
        test: { name: "pool", include: ["test/pool/**/*.test.ts"], maxConcurrency: 50 },
      },
      {
        test: { name: "node", include: ["test/node/**/*.test.ts"], testTimeout: 60_000, fileParallelism: false },
      },
    ],
  },
});
