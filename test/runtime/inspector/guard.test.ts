/** Who gets into the inspector, and what it makes of requests that are wrong: no request does or shows anything that it should not. */
import { describe, expect, it } from "vitest";
import { type InspectorOptions, type InspectorRights, inspector, withInspector } from "../../../src/inspector/index.ts";
import { fleetOf } from "../../support/fleet.ts";
import { answered, ask, desk, NAMESPACES, POST } from "../support/inspected.ts";

const ROUTES = ["start", "object", "messages", "message", "log", "act", "fleet", "batches", "batch", "stop", "resume"];
const NAME = { namespace: "INSPECTED_SQLITE", name: "guarded" };
const with_ = (authorize: unknown): ((request: Request) => Promise<Response>) =>
  inspector({ namespaces: NAMESPACES, authorize: authorize as InspectorOptions["authorize"] });

describe("authorize", () => {
  it("has no default, and other options are checked", () => {
    expect(() => inspector(undefined as never)).toThrow("Expected `options` to be an object");
    expect(() => with_(undefined)).toThrow(/`options.authorize`.*no default/);
    expect(() => inspector({ namespaces: {}, authorize: () => null, redactt: 1 } as never)).toThrow("did you mean `redact`?");
    expect(() => inspector({ namespaces: { A: {} }, authorize: () => null } as never)).toThrow("`options.namespaces.A`");
    expect(() => inspector({ authorize: () => null } as never)).toThrow("`options.namespaces`");
    expect(() => inspector({ namespaces: {}, authorize: () => null, redact: "x" } as never)).toThrow("`options.redact`");
    expect(() => inspector({ namespaces: {}, authorize: () => null, fleet: {} } as never)).toThrow("`options.fleet`");
  });

  it("is asked for the page and for every route, and refuses with 401, or 403 where there is an Authorization", async () => {
    for (const nothing of [null, undefined, false]) {
      const inspect = with_(async () => nothing);
      for (const query of [{}, ...ROUTES.map((api) => ({ api, ...NAME }))] as Record<string, string>[]) {
        for (const init of [{}, { method: "POST", headers: POST, body: "{}" }]) {
          expect((await inspect(ask(query, init))).status).toBe(401);
          const headers = { ...(init as { headers?: object }).headers, Authorization: "Bearer wrong" };
          expect((await inspect(ask(query, { ...init, headers }))).status).toBe(403);
        }
      }
    }
  });

  it("answers with a Response itself, and a value that it may not return is an error and no right", async () => {
    const login = await with_(() => Response.redirect("https://login.example/"))(ask({}));
    expect(login.status).toBe(302);
    for (const value of [true, "admin", ["purge"], {}, 1, "all "]) {
      await expect(with_(() => value)(ask({ api: "start" }))).rejects.toThrow("`authorize(request)`");
    }
    await expect(with_(() => Promise.reject(new Error("no session store")))(ask({}))).rejects.toThrow("no session store");
  });
});

describe("another site", () => {
  const all = with_(() => "all");
  const act = (headers: Record<string, string>) =>
    all(ask({ api: "act", ...NAME }, { method: "POST", headers, body: JSON.stringify({ action: "pause" }) }));
  const JSON_TYPE = { "Content-Type": "application/json" };

  it("can neither act nor ask", async () => {
    for (const site of ["cross-site", "same-site", "none"]) expect((await act({ ...JSON_TYPE, "Sec-Fetch-Site": site })).status).toBe(403);
    for (const Origin of ["https://evil.example", "null", "http://shop.example", "https://shop.example.evil.example"]) {
      expect((await act({ ...JSON_TYPE, Origin })).status).toBe(403);
    }
    for (const type of [
      "text/plain",
      "application/x-www-form-urlencoded",
      "multipart/form-data; boundary=x",
      "text/plain; application/json",
      "",
    ]) {
      expect((await act({ "Content-Type": type, Origin: "https://shop.example", "Sec-Fetch-Site": "same-origin" })).status).toBe(415);
    }
    for (const site of ["cross-site", "same-site"]) {
      expect((await all(ask({ api: "object", ...NAME }, { headers: { "Sec-Fetch-Site": site } }))).status).toBe(403);
    }
    const stub = NAMESPACES.INSPECTED_SQLITE.getByName("guarded");
    const { body } = await answered(await all(ask({ api: "object", ...NAME })));
    expect(body.id).toBe(stub.id.toString());
    expect(body.destinations.map(({ paused }: { paused: boolean }) => paused)).toEqual([false, false]);
  });

  it("is not the page itself, nor a program that is no browser, nor a link to the page", async () => {
    expect((await act(POST)).status).toBe(200);
    expect((await act({ "Content-Type": "application/json; charset=utf-8" })).status).toBe(200);
    expect((await all(ask({}, { headers: { "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate" } }))).status).toBe(200);
    // Back as it was.
    await all(ask({ api: "act", ...NAME }, { method: "POST", headers: POST, body: '{"action":"resume"}' }));
  });

  it("can't frame the page, nor is anything of another site in it", async () => {
    const [first, second] = await Promise.all([all(ask({})), all(ask({}))]);
    const policy = first.headers.get("Content-Security-Policy") ?? "";
    const [, nonce = ""] = /script-src 'nonce-(\w{32})'/.exec(policy) ?? [];
    for (const rule of [
      "default-src 'none'",
      "frame-ancestors 'none'",
      "base-uri 'none'",
      "form-action 'none'",
      "connect-src 'self'",
      "trusted-types 'none'",
    ]) {
      expect(policy).toContain(rule);
    }
    expect(policy).not.toContain("unsafe");
    expect(second.headers.get("Content-Security-Policy")).not.toContain(nonce);
    expect(Object.fromEntries(first.headers)).toMatchObject({
      "cache-control": "no-store",
      "x-content-type-options": "nosniff",
      "x-frame-options": "DENY",
    });
    const html = await first.text();
    expect(html.match(/<(script|style)/g)).toHaveLength(2);
    expect(html.split(`nonce="${nonce}"`)).toHaveLength(3);
    expect(html).not.toMatch(/https?:|\/\/[a-z]+\.|\ssrc=|innerHTML|eval\(/);
  });
});

describe("what is wrong", () => {
  const all = with_(() => "all");
  const get = async (query: Record<string, string>) => (await all(ask(query))).status;
  const act = async (body: unknown, query: Record<string, string> = NAME) =>
    (
      await all(
        ask({ api: "act", ...query }, { method: "POST", headers: POST, body: typeof body === "string" ? body : JSON.stringify(body) }),
      )
    ).status;

  it("in a query is refused", async () => {
    const pending = { api: "messages", ...NAME, state: "pending", destination: "default" };
    expect(await get(pending)).toBe(200);
    const wrong: [number, Record<string, string>][] = [
      [404, { api: "" }],
      [404, { api: "toString" }],
      [404, { api: "__proto__" }],
      [404, { ...pending, namespace: "NONE" }],
      [404, { ...pending, namespace: "constructor" }],
      [400, { ...pending, name: "" }],
      [400, { ...pending, id: "0".repeat(64) }],
      [400, { api: "object", namespace: "INSPECTED_SQLITE", id: "0".repeat(64) }],
      [400, { api: "object", namespace: "INSPECTED_SQLITE", id: "../x" }],
      [400, { ...pending, state: "all" }],
      [400, { ...pending, limit: "51" }],
      [400, { ...pending, limit: "-1" }],
      [400, { ...pending, limit: "1e9" }],
      [400, { ...pending, limit: "x" }],
      [400, { ...pending, after: "x".repeat(257) }],
      [400, { ...pending, after: "nothing of this id" }],
      [409, { ...pending, destination: "nowhere" }],
      [409, { ...pending, destination: "__proto__" }],
      [400, { api: "log", ...NAME, from: "-1" }],
      [400, { api: "log", ...NAME, direction: "sideways" }],
      [404, { api: "message", ...NAME, destination: "default", message: "none" }],
      [400, { api: "message", ...NAME, destination: "default" }],
      [405, { api: "act", ...NAME }],
      [404, { api: "fleet" }],
      [404, { api: "batches" }],
    ];
    for (const [status, query] of wrong) expect([await get(query), query]).toEqual([status, query]);
    expect((await all(ask({}, { method: "POST", headers: POST, body: "{}" }))).status).toBe(405);
    expect((await all(ask({ api: "object", ...NAME }, { method: "DELETE", headers: POST }))).status).toBe(405);
  });

  it("in a command is refused, and changes nothing", async () => {
    const ids = ["x"];
    const wrong: unknown[] = [
      "",
      "{",
      "null",
      "[]",
      '"pause"',
      {},
      { action: "purge" },
      { action: "overview" },
      { read: "overview" },
      { action: ["pause"] },
      { action: "pause", everything: true },
      { action: "pause", destination: 1 },
      { action: "pause", destination: "" },
      { action: "cancel", ids },
      { action: "cancel", destination: "default" },
      { action: "cancel", destination: "default", ids: [] },
      { action: "cancel", destination: "default", ids: "x" },
      { action: "cancel", destination: "default", ids: [1] },
      { action: "discard", destination: "default", ids: Array.from({ length: 1001 }, (_, n) => String(n)) },
      { action: "redrive", ids: {} },
      { action: "drop", destination: "default" },
      { action: "rewind", destination: "default" },
      { action: "rewind", destination: "default", to: "1" },
      { action: "rewind", destination: "default", to: 1.5 },
      { action: "rewind", destination: "default", to: 1e300 },
    ];
    for (const body of wrong) expect([await act(body), body]).toEqual([400, body]);
    expect(await act(" ".repeat(600_001))).toBe(413);
    expect(await act({ action: "pause", destination: "nowhere" })).toBe(409);
    const { body } = await answered(await all(ask({ api: "object", ...NAME })));
    expect(body).toMatchObject({ position: 0 });
    expect(body.destinations.every(({ paused }: { paused: boolean }) => !paused)).toBe(true);
  });

  it("of an object that is called past the inspector is an answer, and no exception", async () => {
    const { stub } = desk("INSPECTED_SQLITE");
    for (const question of [
      undefined,
      null,
      1,
      "pause",
      [],
      { action: "purge" },
      { read: "log", limit: 0 },
      { read: "messages", state: "dead" },
    ]) {
      expect(await stub.inspectOutbox(question as never)).toMatchObject({ ok: false, code: "invalid", error: expect.any(String) });
    }
    expect(await stub.inspectOutbox({ action: "pause", destination: "toString" })).toMatchObject({ ok: false, code: "gone" });
  });
});

describe("a fleet", () => {
  const fleet = fleetOf();
  const of = (rights: InspectorRights) => inspector({ namespaces: NAMESPACES, authorize: () => rights, fleet });
  const get = async (query: Record<string, string>) => answered(await of("read")(ask({ api: "fleet", ...query })));
  const post = async (rights: InspectorRights, api: string, body: unknown) =>
    answered(await of(rights)(ask({ api }, { method: "POST", headers: POST, body: JSON.stringify(body) })));

  it("is listed in pages, filtered, and refuses filters that are none", async () => {
    const first = await get({ limit: "2", trouble: "dead" });
    expect(first).toMatchObject({ status: 200, body: { entries: [{ name: "order-1007" }, {}], next: "2" } });
    expect((await get({ limit: "2", after: "2" })).body.entries).toHaveLength(2);
    expect((await get({ search: "order-2001" })).body).toMatchObject({ total: 1 });
    const wrong = [
      { limit: "0" },
      { limit: "201" },
      { limit: "x" },
      { trouble: "all" },
      { search: "x".repeat(257) },
      { destination: "x".repeat(257) },
    ];
    for (const query of wrong) expect([(await get(query as never)).status, query]).toEqual([400, query]);
  });

  it("starts, stops and goes on with a batch for those who may do its action, and for no one else", async () => {
    const request = { action: "redrive", filter: { trouble: "dead" } };
    for (const rights of ["read", [], ["flush"]] as const) expect((await post(rights, "batch", request)).status).toBe(403);
    const { status, body } = await post(["redrive"], "batch", request);
    expect([status, body.state]).toEqual([200, "running"]);
    for (const api of ["stop", "resume"]) {
      expect((await post("read", api, { id: body.id })).status).toBe(403);
      expect((await post("all", api, { id: "none" })).status).toBe(404);
    }
    expect((await post(["redrive"], "stop", { id: body.id })).body.state).toBe("stopped");
    expect((await post(["redrive"], "resume", { id: body.id })).body.state).toBe("running");
    const wrong = [null, {}, { action: "discard" }, { ...request, filter: { trouble: 1 } }, { ...request, objectsPerSecond: 0 }];
    for (const each of wrong) expect([(await post("all", "batch", each)).status, each]).toEqual([400, each]);
  });
});

describe("what a fleet refuses", () => {
  const down = async (): Promise<never> => {
    throw new Error("20 batches are under way");
  };
  const wrong = async (): Promise<never> => {
    throw new TypeError("Expected `after`");
  };
  const of = (given: object) => inspector({ namespaces: {}, authorize: () => "all", fleet: { ...fleetOf(), ...given } });
  const post = async (given: object, api: string, body: unknown) =>
    answered(await of(given)(ask({ api }, { method: "POST", headers: POST, body: JSON.stringify(body) })));
  const batch = { action: "redrive", filter: { destination: "billing" } };

  it("reaches the page, as what is wrong or as what has failed", async () => {
    for (const [call, status, code] of [
      [down, 500, "failed"],
      [wrong, 400, "invalid"],
    ] as const) {
      const error = { code, message: expect.stringMatching(/20 batches are under way|Expected `after`/) };
      const expected = { status, body: { error } };
      expect(await answered(await of({ list: call })(ask({ api: "fleet", after: "x" })))).toMatchObject(expected);
      expect(await answered(await of({ batches: call })(ask({ api: "batches" })))).toMatchObject(expected);
      expect(await post({ start: call }, "batch", batch)).toMatchObject(expected);
      expect(await post({ batches: call }, "stop", { id: "1" })).toMatchObject(expected);
      const one = { batches: async () => [{ id: "1", action: "redrive" }] };
      expect(await post({ ...one, stop: call }, "stop", { id: "1" })).toMatchObject(expected);
      expect(await post({ ...one, resume: call }, "resume", { id: "1" })).toMatchObject(expected);
    }
  });

  it("is no batch over everything because a name of its filter is wrong", async () => {
    let started = 0;
    const start = async () => ({ started: ++started });
    const wrong = [
      { ...batch, filter: { destinaton: "billing" } },
      { ...batch, filter: "billing" },
      { ...batch, filter: ["billing"] },
      { ...batch, filter: [] },
      { ...batch, filter: null },
      { action: "redrive" },
      { ...batch, objectsASecond: 1 },
    ];
    for (const each of wrong) expect([(await post({ start }, "batch", each)).status, each]).toEqual([400, each]);
    expect(started).toBe(0);
    expect((await post({ start }, "batch", { action: "redrive", filter: {} })).status).toBe(200);
  });
});

describe("an object that can be inspected", () => {
  it.each(["INSPECTED_SQLITE", "INSPECTED_KV"] as const)(
    "offers one method more, and neither its handlers nor its manager (%s)",
    async (namespace) => {
      const stub = desk(namespace).stub as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
      expect(await stub.inspectOutbox?.({ read: "overview" })).toMatchObject({ ok: true });
      for (const name of ["sendMessages", "receiveMessage", "destinations", "env", "ctx", "OUTBOX_MANAGER"]) {
        await expect((async () => stub[name]?.([], {}))()).rejects.toThrow();
      }
    },
  );

  it("is wrapped once, keeps its name and statics, and has no inspectOutbox of its own", () => {
    class Plain {
      static kept = 1;
      method(): void {}
    }
    const Wrapped = withInspector(Plain);
    expect([Wrapped.name, Wrapped.kept, withInspector(Wrapped)]).toEqual(["Plain", 1, Wrapped]);
    expect(() =>
      withInspector(
        class {
          inspectOutbox() {}
        },
      ),
    ).toThrow("`cls`");
    expect(() => withInspector(1 as never)).toThrow("`cls`");
    expect(() => withInspector(class {}, {} as never)).toThrow("`context`");
  });
});

describe("redact", () => {
  it("decides what is shown of a message, and what goes wrong in it shows nothing", async () => {
    const redacts: [InspectorOptions["redact"], object, string[]][] = [
      [(message) => ({ ...message, msg: { type: "paid", card: "****" }, headers: {} }), { type: "paid", key: "anna" }, ["4242", "secret"]],
      [({ msg }) => ({ msg }), { type: "order" }, ["anna", "secret"]],
      [() => ({}), { payload: { text: "" } }, ["4242", "anna", "secret"]],
      [() => undefined as never, { payload: { text: "" } }, ["4242", "anna", "secret"]],
      [() => Promise.resolve({ msg: 1 }) as never, { payload: { text: "" } }, ["4242", "anna", "secret"]],
      [
        () => {
          throw new Error("a bug");
        },
        { payload: { text: "" } },
        ["4242", "anna", "secret"],
      ],
    ];
    for (const [redact, shown, hidden] of redacts) {
      const one = desk("INSPECTED_SQLITE", "read", { redact: redact as never });
      const { id } = await one.within((outbox) =>
        outbox.send({ type: "order", card: "4242" }, { key: "anna", headers: { token: "secret" }, delaySeconds: 600 }),
      );
      const list = await one.get("messages", { state: "delayed", destination: "default" });
      const message = await one.get("message", { destination: "default", message: id });
      const log = await one.get("log");
      for (const each of [list.body.messages[0], message.body, log.body.messages[0]]) {
        expect(each).toMatchObject({ id, ...shown });
        for (const text of hidden) expect(JSON.stringify(each)).not.toContain(text);
      }
    }
  });
});
