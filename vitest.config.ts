/** Two projects: what runs inside workerd beside the objects, and what watches workerd from outside. */
import { cloudflareTest } from "@cloudflare/vitest-pool-workers";
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
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
              },
            },
          }),
        ],
        test: { name: "pool", include: ["test/pool/**/*.test.ts"] },
      },
      {
        test: { name: "node", include: ["test/node/**/*.test.ts"], testTimeout: 60_000, fileParallelism: false },
      },
    ],
  },
});
