/** Older compatibility dates: what a project that has not moved on for a year gets from the same package. */
import type { Miniflare, MiniflareOptions } from "miniflare";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { BACKENDS, type Backend, bundled, folder, launch, until } from "./harness.ts";

interface Answer {
  readonly got?: unknown;
  readonly threw?: { readonly code?: string; readonly message: string };
}

const FAILURES = [
  "throws",
  "returns a rejected promise",
  "throws in an async function",
  "throws two microtasks later",
  "throws a turn later",
];

describe.each(["2025-06-01", "2026-01-28", "2026-07-01"])("at compatibility date %s", (compatibilityDate) => {
  let miniflare: Miniflare;
  let url: URL;

  beforeAll(async () => {
    ({ miniflare, url } = await launch({
      modules: true,
      script: await bundled("old-dates.ts"),
      compatibilityDate,
      durableObjectsPersist: folder(),
      durableObjects: { SQLITE: { className: "SqliteBox", useSQLite: true }, KV: { className: "KvBox", useSQLite: false } },
    } as MiniflareOptions));
  });

  afterAll(() => miniflare.dispose());

  async function call(backend: Backend, name: string, method: string, ...args: unknown[]): Promise<Answer> {
    const response = await fetch(new URL(`${backend}/${name}/${method}`, url), { method: "POST", body: JSON.stringify(args) });
    return (await response.json()) as Answer;
  }

  const unhandled = async (): Promise<unknown> => (await fetch(new URL("unhandled", url))).json();

  describe.each(BACKENDS)("a %s-backed object", (backend) => {
    it.each(FAILURES)("whose sendMessages %s raises no unhandled rejection, and delivers at the next attempt", async (how) => {
      await call(backend, how, "fail", how);
      await until(async () => {
        const { got } = await call(backend, how, "counts");
        const { sent, alarms, pending } = got as Record<string, number>;
        return sent === 3 && alarms === 1 && pending === 0;
      });
      expect(await unhandled()).toEqual([]);
    });

    it.each(FAILURES)("whose receiveMessage %s raises no unhandled rejection, and reports the message as failed", async (how) => {
      const envelope = { v: 1, id: "one", source: "test", sequence: 1, timestamp: 0, msg: how };
      const { got } = await call(backend, how, "receiveMessages", [envelope]);
      expect(got).toEqual([{ id: "one", status: "failed", error: "receiveMessage fails" }]);
      expect(await unhandled()).toEqual([]);
    });

    it("names the code of an OutboxError to the caller of a stub, at the latest in its message", async () => {
      const { threw } = await call(backend, "large", "tooLarge");
      expect(threw?.message).toMatch(/\(too_large\)$/);
      expect(threw?.code).toBe(compatibilityDate < "2026-04-21" ? undefined : "too_large");
    });
  });
});
