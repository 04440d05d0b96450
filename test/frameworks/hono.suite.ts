/** Hono inside `fetch`: routes find the manager in their env, and the object's alarm is the object's, on both backends. */
import { evictDurableObject } from "cloudflare:test";
import { Hono } from "hono";
import { describe, expect, it } from "vitest";
import { inspector } from "../../src/inspector/index.ts";
import {
  backlogged,
  delivered,
  drained,
  expectAt,
  fresh,
  handedOver,
  inside,
  kind,
  native,
  notes,
  type Stub,
  sent,
  up,
} from "./harness.ts";
import { inEveryWorld } from "./worlds.ts";

const BACKENDS = [
  { backend: "SQLite-backed", shop: kind("Shop") },
  { backend: "KV-backed", shop: kind("KvShop") },
];

const ask = (stub: Stub, method: string, path: string, body?: unknown): Promise<Response> =>
  stub.fetch(`http://shop${path}`, { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });

/** Sets the object's alarm by a route, asserts that the route reads it back, and gives its time. */
async function setIn(stub: Stub, ms: number): Promise<number> {
  const { time, read } = await (await ask(stub, "POST", `/alarm/${ms}`)).json<{ time: number; read: number }>();
  expect(read).toBe(time);
  return time;
}

describe("the inspector in a Hono app", () => {
  const inspect = inspector({ namespaces: {}, authorize: ({ headers }) => (headers.has("Cookie") ? "read" : null) });
  const app = new Hono()
    .mount("/mounted/outbox", inspect)
    .all("/routed/outbox", (c) => inspect(c.req.raw))
    .all("/below/*", (c) => inspect(c.req.raw));

  it.each(["/mounted/outbox", "/mounted/outbox/", "/routed/outbox", "/below/this/outbox/"])("works at %s", async (path) => {
    const headers = { Cookie: "session=1" };
    expect((await app.request(path)).status).toBe(401);
    expect(await (await app.request(path, { headers })).text()).toContain("<title>Outbox inspector</title>");
    const start = await app.request(`${path}?api=start`, { headers });
    expect(await start.json()).toEqual({ namespaces: [], actions: [], fleet: false });
  });
});

describe.each(BACKENDS)("$backend", ({ shop }) => {
  inEveryWorld("an object with routes", shop, ({ begin, end, evict }) => {
    it("has the alarms that its routes set, each once and at its time", async () => {
      const stub = await begin();
      await expectAt(stub, "alarm", 1, await setIn(stub, 300));
      await setIn(stub, 1000);
      expect(await (await ask(stub, "DELETE", "/alarm")).json()).toBeNull();
      await expectAt(stub, "alarm", 2, await setIn(stub, 1500));
      await end(stub);
      expect(notes(stub, "alarm")).toHaveLength(2);
    });

    it("has its alarm in its next life", async () => {
      const stub = await begin();
      const time = await setIn(stub, 2000);
      await evict(stub);
      await expectAt(stub, "alarm", 1, time);
      await end(stub);
      expect(notes(stub, "alarm")).toHaveLength(1);
    });
  });

  describe.concurrent("a wrapped object with routes", () => {
    it("stores the state and delivers the message of a route that finds the manager in its env", async () => {
      const stub = fresh(shop.wrapped);
      const response = await ask(stub, "POST", "/orders/7", { table: 3 });
      expect(response.status).toBe(201);
      expect(response.headers.get("served-by")).toBe("hono");
      await delivered(stub, "7");
      expect(await (await ask(stub, "GET", "/orders/7")).json()).toEqual({ table: 3 });
      expect((await ask(stub, "GET", "/nowhere")).status).toBe(404);
      await drained(stub);
    });

    it("delivers each message of routes that are served side by side once", async () => {
      const stub = fresh(shop.wrapped);
      const answers = await Promise.all(Array.from({ length: 50 }, (_, n) => ask(stub, "POST", `/orders/${n}`, n)));
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201]));
      await delivered(stub, ...answers.map((_, n) => `${n}`));
      await drained(stub);
    });

    it("delivers nothing of a route whose transaction fails", async () => {
      const stub = fresh(shop.wrapped);
      const response = await ask(stub, "POST", "/fails/1");
      expect([response.status, await response.text()]).toEqual([500, "the route has failed"]);
      await ask(stub, "POST", "/orders/2", 2);
      await drained(stub);
      await delivered(stub, "2");
      expect(await (await ask(stub, "GET", "/orders/failed")).json()).toBeNull();
    });

    it("has an alarm once that came after the last message, also when it puts the next one in its next life", async () => {
      const stub = fresh(shop.wrapped);
      await inside(stub, ({ outbox }) => outbox.send("before", { delaySeconds: 0.1 }));
      const time = await setIn(stub, 600);
      await delivered(stub, "before");
      await expectAt(stub, "alarm", 1, time);
      await evictDurableObject(stub);
      await ask(stub, "POST", "/orders/after", 1);
      await delivered(stub, "before", "after");
      await drained(stub);
      expect(notes(stub, "alarm")).toHaveLength(1);
    });

    it("keeps its pending messages, and their wake-up, when a route deletes the alarm and everything else", async () => {
      const stub = await backlogged(shop.wrapped);
      await ask(stub, "POST", "/orders/1", 1);
      await setIn(stub, 600_000);
      await ask(stub, "DELETE", "/alarm");
      await ask(stub, "DELETE", "/");
      expect(await (await ask(stub, "GET", "/orders/1")).json()).toBeNull();
      const count = sent(stub).length;
      await handedOver(stub, count + 1); // Nobody but its alarm starts the object.
      up(stub);
      await delivered(stub, "waits", "1");
      await drained(stub);
      expect(await inside(stub, (_, state) => native(state).getAlarm())).toBeNull();
    });
  });
});
