/** After each file of tests without a runtime: files share a process, and none may leave its timers or spies to the next. */
import { afterAll, vi } from "vitest";

afterAll(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});
