/** Before and after each file of tests inside workerd: files share an isolate, and none may see what another has left behind. */
import { reset } from "cloudflare:test";
import { afterAll, afterEach, beforeAll, vi } from "vitest";
import { logOf } from "../../../src/api/report.ts";
import { SEAM } from "../../../src/api/seam.ts";
import { PROOF } from "../../support/random.ts";
import { rewind } from "./clock.ts";

/** In this time, in milliseconds, all lines that an isolate may write are due again. */
const LINES_MS = 3_600_000;

function restore(): void {
  rewind();
  vi.restoreAllMocks();
}

beforeAll(() => {
  const later = Date.now() + LINES_MS;
  vi.spyOn(Date, "now").mockImplementation(() => later);
  vi.spyOn(console, "warn").mockImplementation(() => {});
  logOf("warn")("A line", "all others may be written again", {}, "");
  restore();
});

// What runs beside others has nothing of its own to restore.
afterEach(({ task }) => {
  if (!task.concurrent) restore();
});

afterAll(async () => {
  restore();
  // With it nothing is delivered before a test says so.
  Reflect.deleteProperty(globalThis, SEAM);
  // Objects whose destination is down, for one, would go on. In the proof each file has an isolate of its own, which ends with it.
  if (!PROOF) await reset();
});
