/** The inspector's page as it is shipped: what its sources make. */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { assets } from "../../tools/inspector-page.ts";

it("src/inspector/assets.ts is what src/inspector/page/ makes (npm run build:page)", async () => {
  expect(readFileSync("src/inspector/assets.ts", "utf8") === (await assets())).toBe(true);
});
