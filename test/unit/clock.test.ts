/** The clock: what belongs to an object asks its store for the time, so that a test can move it. */
import { readdirSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";

/** They make clocks, or have none of an object's to ask. */
const OWN_CLOCK = [
  ...["compose.ts", "api/report.ts", "timers.ts", "compat/migrate-v0.ts", "destinations/post.ts", "destinations/clock.ts"],
  ...["fleet/fleet.ts", "fleet/outbox-fleet.ts"],
];
/** They run in a test, or in a browser. */
const ELSEWHERE = ["testing/", "inspector/page/", "inspector/assets.ts"];

it("is read in few places", () => {
  const files = readdirSync("src", { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));
  const reading = files.filter((file) => /\bDate\.now\(\)|\bnew Date\(\)/.test(readFileSync(`src/${file}`, "utf8")));
  expect(reading.filter((file) => !ELSEWHERE.some((place) => file.startsWith(place))).sort()).toEqual([...OWN_CLOCK].sort());
});
