/** A wrapped class as a facet, which the platform gives no alarm: its storage works, and an outbox in it refuses and leaves nothing. */
import type { Miniflare, MiniflareOptions } from "miniflare";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bundled, folder, launch } from "./harness.ts";

let miniflare: Miniflare;
let url: URL;

beforeAll(async () => {
  const script = await bundled("facets.ts");
  ({ miniflare, url } = await launch({
    name: "facets",
    modules: true,
    script,
    compatibilityDate: "2026-07-01",
    durableObjectsPersist: folder(),
    durableObjects: { PARENT: { className: "Parent", useSQLite: true } },
  } as MiniflareOptions));
});

afterAll(() => miniflare.dispose());

async function call(facet: string, method: string): Promise<unknown> {
  const response = await fetch(new URL(`${facet}/${method}`, url), { method: "POST" });
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

/** What a facet that uses the outbox is told, by workerd or by us. */
const REFUSED = /alarm/i;

describe.each(["Plain", "Alarmed", "Immediate"])("a facet of a wrapped class (%s)", (facet) => {
  it("starts, and its own storage works as long as the outbox is not used", async () => {
    expect([await call(facet, "count"), await call(facet, "count")]).toEqual([1, 2]);
    expect(await call(facet, "query")).toEqual({ n: 2 });
    expect(await call(facet, "stats")).toMatchObject({ pending: 0, delayed: 0, nextAttemptAt: null });
    expect(await call(facet, "rows")).toEqual(["count", "in a transaction"]);
  });

  it("rejects the first use of the manager with a text that says alarm, and has written nothing", async () => {
    const before = await call(facet, "rows");
    await expect(call(facet, "put")).rejects.toThrow(REFUSED);
    expect(await call(facet, "rows")).toEqual(before);
    expect(await call(facet, "stats")).toMatchObject({ pending: 0 });
    await call(facet, "putBlindly").catch(() => {});
    // The facet may be on its way to a reset.
    const rows = await call(facet, "rows").catch(() => call(facet, "rows"));
    expect(rows).toEqual(before);
  });

  it("works on after it", async () => {
    expect([await call(facet, "count"), await call(facet, "count")]).toEqual([3, 4]);
  });
});
