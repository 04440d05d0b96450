/** What docs/operations.md says of a class that loses its wrapper: before its outbox is empty, and after. */
import { type Miniflare, type MiniflareOptions, Response } from "miniflare";
import { expect, it } from "vitest";
import { polled } from "../support/patience.ts";
import { BACKENDS, bundled, folder, launch } from "./harness.ts";

/** What has been delivered, and whether more is taken. */
interface Receiver {
  readonly taken: string[];
  up: boolean;
}

/** Calls the object under a class, as a deployment of it: the storage is the same. */
async function deployed<R>(
  className: "Wrapped" | "Bare" | "Cleaning",
  { storage, sqlite, receiver }: { storage: string; sqlite: boolean; receiver: Receiver },
  body: (call: <T>(method: string, ...args: unknown[]) => Promise<T>) => Promise<R>,
): Promise<R> {
  const options = {
    modules: true,
    script: await bundled("removal.ts"),
    compatibilityDate: "2026-07-01",
    durableObjectsPersist: storage,
    durableObjects: { BOX: { className, useSQLite: sqlite, unsafeUniqueKey: "box" } },
    serviceBindings: {
      async RECEIVER(request: Request) {
        if (!receiver.up) return new Response("", { status: 503 });
        receiver.taken.push(...((await request.json()) as string[]));
        return new Response("");
      },
    },
  };
  const { miniflare, url }: { miniflare: Miniflare; url: URL } = await launch(options as unknown as MiniflareOptions);
  try {
    return await body(async <T>(method: string, ...args: unknown[]) => {
      const response = await fetch(new URL(method, url), { method: "POST", body: JSON.stringify(args) });
      return (await response.json()) as T;
    });
  } finally {
    await miniflare.dispose();
  }
}

it.each(BACKENDS)(
  "%s: a wrapper that is removed from an empty outbox leaves rows that the recipe deletes, and no alarm",
  async (backend) => {
    const object = { storage: folder(), sqlite: backend === "sqlite", receiver: { taken: [], up: true } as Receiver };
    await deployed("Wrapped", object, async (call) => {
      await call("put", "first");
      await polled(20, async () => (await call<number>("waiting")) === 0);
      expect(object.receiver.taken).toEqual(["first"]);
    });
    await deployed("Bare", object, async (call) => {
      expect(await call("keys")).toContain("reserved");
      expect(await call("alarmAt")).toBeNull();
    });
    await deployed("Cleaning", object, async (call) => expect(await call("keys")).toEqual(["own"]));
    // The wrapper may come back: nothing is sent again, and new messages are.
    await deployed("Wrapped", object, async (call) => {
      await call("put", "second");
      await polled(20, async () => (await call<number>("waiting")) === 0);
    });
    expect(object.receiver.taken).toEqual(["first", "second"]);
  },
);

it.each(BACKENDS)("%s: a wrapper that was removed too early delivers what waited once it is back", async (backend) => {
  const object = { storage: folder(), sqlite: backend === "sqlite", receiver: { taken: [], up: false } as Receiver };
  await deployed("Wrapped", object, async (call) => {
    await call("put", "waits");
    expect(await call("waiting")).toBe(1);
  });
  object.receiver.up = true;
  await deployed("Bare", object, async (call) => expect(await call("keys")).toContain("reserved"));
  expect(object.receiver.taken).toEqual([]);
  await deployed("Wrapped", object, async (call) => polled(20, async () => (await call<number>("waiting")) === 0));
  expect(object.receiver.taken).toEqual(["waits"]);
});
