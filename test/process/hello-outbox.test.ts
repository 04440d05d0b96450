/** The example to paste, on workerd with the bindings of its own configuration. */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { polled } from "../support/patience.ts";
import { bundled, folder, launch } from "./harness.ts";

const EXAMPLE = new URL("../../example-worker/", import.meta.url);

interface Config {
  readonly compatibility_date: string;
  readonly durable_objects: { readonly bindings: readonly { readonly name: string; readonly class_name: string }[] };
  readonly migrations: readonly { readonly new_sqlite_classes: readonly string[] }[];
}

async function start(storage: string) {
  const text = readFileSync(new URL("hello-outbox.jsonc", EXAMPLE), "utf8").replace(/^\/\/.*\n/, "");
  const { compatibility_date: compatibilityDate, durable_objects, migrations } = JSON.parse(text) as Config;
  const sqlite = migrations.flatMap(({ new_sqlite_classes }) => new_sqlite_classes);
  const bound = durable_objects.bindings.map(
    ({ name, class_name }) => [name, { className: class_name, useSQLite: sqlite.includes(class_name) }] as const,
  );
  return launch({
    modules: true,
    script: await bundled("../../../example-worker/hello-outbox.ts"),
    compatibilityDate,
    durableObjects: Object.fromEntries(bound),
    durableObjectsPersist: storage,
  });
}

it("the hello-outbox counts each visit once in the guestbook, also those whose process was killed", async () => {
  const storage = folder();
  const first = await start(storage);
  for (const visits of [1, 2, 3]) {
    const response = await fetch(new URL("/Ada", first.url), { method: "POST" });
    expect(await response.json()).toEqual({ name: "Ada", visits });
  }
  process.kill(first.pid, "SIGKILL");
  await first.miniflare.dispose();

  const { miniflare, url } = await start(storage);
  try {
    expect(await (await fetch(new URL("/Grace%20H", url), { method: "POST" })).json()).toEqual({ name: "Grace H", visits: 1 });
    const guestbook = async () => (await fetch(url)).json() as Promise<Record<string, number>>;
    await polled(20, async () => {
      const { Ada = 0, "Grace H": grace = 0 } = await guestbook();
      return Ada >= 3 && grace >= 1;
    });
    expect(await guestbook()).toEqual({ Ada: 3, "Grace H": 1 });
  } finally {
    await miniflare.dispose();
  }
});
