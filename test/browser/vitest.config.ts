/** The inspector's page in a real browser: `npm run test:browser`. TEST_RESULTS: a file that gets the results as JSON. */
import { defineConfig } from "vitest/config";

const { TEST_RESULTS } = process.env;

export default defineConfig({
  test: {
    include: ["test/browser/*.browser.ts"],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    reporters: TEST_RESULTS ? ["default", ["json", { outputFile: TEST_RESULTS }]] : ["default"],
  },
});
