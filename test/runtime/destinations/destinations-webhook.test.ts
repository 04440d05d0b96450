/** `toWebhook` before it sends anything: arguments that it refuses, messages that it can't send, and secrets that it never shows. */
import { afterEach, describe, expect, it, vi } from "vitest";
import { toWebhook, type WebhookOptions } from "../../../src/destinations/index.ts";
import type { OutboxMessage } from "../../../src/index.ts";
import { AS_JSON, NOT_JSON } from "../../support/destinations/json.ts";
import { message, messages, record } from "../../support/destinations/recorder.ts";

const secretOf = (bytes: number) => `whsec_${btoa("k".repeat(bytes))}`;
const secret = secretOf(32);
const url = "https://example.com/hook";

/** Nothing listens there; what is rejected before is told all the same. */
const nowhere = "http://127.0.0.1:1/";

afterEach(() => vi.restoreAllMocks());

describe("toWebhook", () => {
  it.each([
    ["url", () => toWebhook("hook?token=hidden", { secret }), 'Expected `url` to be an absolute http or https URL, got "(not shown)".'],
    ["url", () => toWebhook(undefined as never, { secret }), "Expected `url` to be an absolute http or https URL, got undefined."],
    ["url", () => toWebhook("ws://example.com/hidden", { secret }), 'Expected `url` to be an absolute http or https URL, got "ws:".'],
    [
      "url",
      () => toWebhook("https://a:hidden@example.com", { secret }),
      'Expected `url` to be a URL without user name and password, got "(not',
    ],
    [
      "url",
      () => toWebhook("https://hidden@example.com", { secret }),
      'Expected `url` to be a URL without user name and password, got "(not',
    ],
    ["options", () => toWebhook(url, undefined as never), "Expected `options` to be an object, got undefined."],
    [
      "options",
      () => toWebhook(url, { secret, retries: 3 } as never),
      "Known options: secret, mode, concurrency, timeoutSeconds, authorization, headers, statuses, source, type.",
    ],
    [
      "options.secret",
      () => toWebhook(url, { secret: 5 as never }),
      "Expected `options.secret` to be whsec_ and base64, or a Uint8Array, got 5.",
    ],
    ["options.secret", () => toWebhook(url, { secret: [] }), "Expected `options.secret` to be at least one secret, got an array."],
    [
      "options.secret",
      () => toWebhook(url, { secret: secret.slice(6) }),
      'Expected `options.secret` to be whsec_ and base64, or a Uint8Array, got "(not shown)".',
    ],
    [
      "options.secret",
      () => toWebhook(url, { secret: "whsec_hidden!" }),
      'Expected `options.secret` to be whsec_ and base64, or a Uint8Array, got "(not shown)".',
    ],
    ["options.secret", () => toWebhook(url, { secret: [secret, secretOf(23)] }), "Expected `options.secret` to be 24 to 64 bytes, got 23."],
    ["options.secret", () => toWebhook(url, { secret: secretOf(65) }), "Expected `options.secret` to be 24 to 64 bytes, got 65."],
    ["options.secret", () => toWebhook(url, { secret: new Uint8Array(23) }), "Expected `options.secret` to be 24 to 64 bytes, got 23."],
    [
      "options.mode",
      () => toWebhook(url, { secret, mode: "all" as never }),
      'Expected `options.mode` to be "single" or "batch", got "all".',
    ],
    [
      "options.concurrency",
      () => toWebhook(url, { secret, concurrency: 0 }),
      "Expected `options.concurrency` to be a whole number from 1 to 100, got 0.",
    ],
    [
      "options.concurrency",
      () => toWebhook(url, { secret, concurrency: 101 }),
      "Expected `options.concurrency` to be a whole number from 1 to 100, got 101.",
    ],
    ["options.statuses", () => toWebhook(url, { secret, statuses: 409 as never }), "Expected `options.statuses` to be an object, got 409."],
    [
      "options.statuses",
      () => toWebhook(url, { secret, statuses: { 99: "ack" } }),
      'Expected `options.statuses` to be an object with keys from 200 to 599, got "99".',
    ],
    [
      "options.statuses",
      () => toWebhook(url, { secret, statuses: { 409: "done" as never } }),
      'Expected `options.statuses[409]` to be "ack", "retry", "reject", "throw" or "pause", got "done".',
    ],
    [
      "options.timeoutSeconds",
      () => toWebhook(url, { secret, timeoutSeconds: 0 }),
      "Expected `options.timeoutSeconds` to be a number from 0.001 to 600, got 0.",
    ],
    [
      "options.headers",
      () => toWebhook(url, { secret, headers: new Headers() as never }),
      "Expected `options.headers` to be a plain object of strings",
    ],
    [
      "options.headers",
      () => toWebhook(url, { secret, headers: { "Webhook-Id": "1" } }),
      'Expected `options.headers` to be free of headers that the webhook sets, got "Webhook-Id".',
    ],
    [
      "options.headers",
      () => toWebhook(url, { secret, headers: { "x y": "secret" } }),
      'Expected `options.headers` to be names and values that HTTP allows, got "x y".',
    ],
    [
      "options.headers",
      () => toWebhook(url, { secret, headers: { "x-y": "hidden\r\nz: 1" } }),
      'Expected `options.headers` to be names and values that HTTP allows, got "x-y".',
    ],
    [
      "options.headers",
      () => toWebhook(url, { secret, headers: { Authorization: "hidden" } }),
      'Expected `options.headers` to be free of headers that the webhook sets, got "Authorization".',
    ],
    [
      "options.headers",
      () => toWebhook(url, { secret, headers: "x-token: hidden" as never }),
      'Expected `options.headers` to be a plain object of strings, got "(not shown)".',
    ],
    [
      "options.headers",
      () => toWebhook(url, { secret, mode: "batch", headers: () => ({}) }),
      'Expected `options.headers` to be a plain object of strings with `mode: "batch"`, got a function.',
    ],
    ["options", () => toWebhook(url, { secret, status: {} } as never), "did you mean `statuses`?"],
    ["options", () => toWebhook(url, { secret, header: {} } as never), "did you mean `headers`?"],
    [
      "options.authorization",
      () => toWebhook(url, { secret, authorization: "" }),
      'Expected `options.authorization` to be a string that HTTP allows, or a function, got "(not shown)".',
    ],
    [
      "options.authorization",
      () => toWebhook(url, { secret, authorization: "Bearer hidden\nx: y" }),
      'Expected `options.authorization` to be a string that HTTP allows, or a function, got "(not shown)".',
    ],
    [
      "options.authorization",
      () => toWebhook(url, { secret, authorization: { token: "hidden" } as never }),
      "Expected `options.authorization` to be a string that HTTP allows, or a function, got an object.",
    ],
    ["options.source", () => toWebhook(url, { secret, source: "" }), 'Expected `options.source` to be a string, got "".'],
    ["options.type", () => toWebhook(url, { secret, type: 1 as never }), "Expected `options.type` to be a string, got 1."],
  ])("refuses a wrong %s at once, and shows none of it that could be secret", (_, make, text) => {
    expect(make).toThrow(TypeError);
    expect(make).toThrow(text);
    expect(make).not.toThrow(/hidden|kkk|a2tr/);
  });

  it.each([
    ["24 bytes", secretOf(24)],
    ["64 bytes", secretOf(64)],
    ["raw bytes", new Uint8Array(32)],
    ["several", [secret, new Uint8Array(24)]],
  ] as [string, WebhookOptions["secret"]][])("takes a secret of %s", (_, secret) => {
    expect(toWebhook(new URL(url), { secret, concurrency: 100 })).toHaveLength(2);
  });

  it.each<[string, unknown]>([
    ["undefined", undefined],
    ["null", null],
    ["empty", ""],
    ["missing among several", [secret, undefined]],
  ])("with a secret that is %s is made, posts nothing, settles nothing, and says at each call what is missing", async (_, secret) => {
    const fetch = vi.spyOn(globalThis, "fetch");
    const { outcomes, error } = await record(toWebhook(url, { secret: secret as never }), messages(2));
    expect(outcomes).toEqual({});
    const message = "toWebhook() has no secret: options.secret is missing. Is the secret set for this environment (`wrangler secret put`)?";
    expect(error).toMatchObject({ message: `[do-transactional-outbox] ${message}` });
    expect(fetch).not.toHaveBeenCalled();
  });

  it.each(NOT_JSON)("rejects %s alone, at the top, in an object, in a list and under a toJSON, and says why", async (_, make, what) => {
    const bodies = [make(), { deep: { value: make() } }, { list: [1, [make()]] }, { toJSON: () => [make()] }];
    const batch = messages(4, (n) => ({ msg: bodies[n - 1] }));
    const { outcomes, error } = await record(toWebhook(nowhere, { secret }), batch);
    const reason = `reject JSON cannot represent ${what}.`;
    expect([outcomes, error]).toEqual([{ 1: reason, 2: reason, 3: reason, 4: reason }, undefined]);
  });

  it("rejects undefined in a list, and what contains itself", async () => {
    const cycle: unknown[] = [];
    cycle.push(cycle);
    const { outcomes } = await record(
      toWebhook(nowhere, { secret }),
      messages(2, (n) => ({ msg: [[1, undefined], cycle][n - 1] })),
    );
    expect(outcomes).toEqual({
      1: "reject JSON cannot represent undefined in a list.",
      2: expect.stringContaining("reject Converting circular structure"),
    });
  });

  it.each(AS_JSON)("posts %s", async (_, msg, data) => {
    const posted: unknown[] = [];
    vi.spyOn(globalThis, "fetch").mockImplementation(async (_, init) => {
      posted.push(JSON.parse(init?.body as string).data);
      return new Response();
    });
    expect(await record(toWebhook(url, { secret }), [message(1, { msg })])).toEqual({ outcomes: { 1: "ack" } });
    expect(posted).toEqual([data]);
  });

  it("posts the trace and the correlation of headers in whatever case their names are", async () => {
    const posted: unknown[] = [];
    vi.spyOn(globalThis, "fetch").mockImplementation(async (_, init) => {
      posted.push(JSON.parse(init?.body as string));
      return new Response();
    });
    const headers = { Traceparent: "00-1-2-01", TRACESTATE: "a=b", "Correlation-Id": "c 1", "CAUSATION-id": "c 0" };
    expect(await record(toWebhook(url, { secret }), [message(1, { headers })])).toEqual({ outcomes: { 1: "ack" } });
    expect(posted).toMatchObject([{ traceparent: "00-1-2-01", tracestate: "a=b", correlationid: "c 1", causationid: "c 0" }]);
  });

  it("rejects a message alone for which url throws, and does not tell what it threw", async () => {
    const send = toWebhook(
      () => {
        throw new Error("https://example.com/?token=hidden");
      },
      { secret },
    );
    expect(await record(send, [message(1)])).toEqual({ outcomes: { 1: "reject `url` threw for this message." } });
  });

  /** Answers each request by its path, and keeps what was asked. */
  const answering = (statusOf: (path: string) => number) => {
    const asked: { path: string; headers: Headers }[] = [];
    vi.spyOn(globalThis, "fetch").mockImplementation(async (input, init) => {
      const { pathname } = new URL(String(input));
      asked.push({ path: pathname, headers: new Headers(init?.headers) });
      return new Response(null, { status: statusOf(pathname) });
    });
    return asked;
  };
  const byPath = ({ msg }: OutboxMessage) => `https://example.com/${msg}`;

  it("posts the headers that a function gives for each message, and rejects those alone for which it gives none that HTTP takes", async () => {
    const asked = answering(() => 200);
    const wrong: unknown[] = [undefined, { "x y": "hidden" }, { "content-type": "hidden" }, "hidden", { a: "hid\nden" }, { a: 1 }];
    const headers = ({ sequence }: OutboxMessage): Record<string, string> => {
      if (sequence === 9) throw new Error("hidden");
      return sequence < 3 ? { "x-number": `${sequence}` } : (wrong[sequence - 3] as Record<string, string>);
    };
    const { outcomes, error } = await record(toWebhook(url, { secret, headers, concurrency: 1 }), messages(9));
    expect(asked.map(({ headers }) => headers.get("x-number"))).toEqual(["1", "2"]);
    expect(error).toBeUndefined();
    expect(outcomes).toMatchObject({ 1: "ack", 2: "ack", 9: "reject `headers` threw for this message." });
    for (let n = 3; n <= 8; n++) expect(outcomes[n]).toMatch(/^reject Expected `headers\(\)` to be /);
    expect(JSON.stringify(outcomes)).not.toContain("hidden");
  });

  it("asks a function for the authorization of each request, with its URL, and waits for it", async () => {
    const asked = answering(() => 200);
    const urls: string[] = [];
    const authorization = async (to: URL) => {
      urls.push(to.href);
      to.pathname = "/elsewhere";
      await Promise.resolve();
      return `Bearer ${urls.length}`;
    };
    const { outcomes } = await record(
      toWebhook(byPath, { secret, authorization, concurrency: 1 }),
      messages(2, (n) => ({ msg: `p${n}` })),
    );
    expect(outcomes).toEqual({ 1: "ack", 2: "ack" });
    expect(asked.map(({ path, headers }) => [path, headers.get("authorization")])).toEqual([
      ["/p1", "Bearer 1"],
      ["/p2", "Bearer 2"],
    ]);
    expect(urls).toEqual(["https://example.com/p1", "https://example.com/p2"]);
  });

  it.each<[string, () => unknown, string]>([
    [
      "throws",
      () => {
        throw new Error("hidden");
      },
      "options.authorization threw",
    ],
    ["rejects", () => Promise.reject(new Error("hidden")), "options.authorization threw"],
    ["gives nothing", () => undefined, "options.authorization returned no string that HTTP allows"],
    ["gives what HTTP does not take", () => "Bearer hid\nden", "options.authorization returned no string that HTTP allows"],
    ["never ends", () => new Promise(() => {}), "options.authorization did not settle before the timeout"],
  ])("posts nothing, settles nothing and throws while the authorization %s, and shows nothing of it", async (_, authorization, why) => {
    const asked = answering(() => 200);
    const send = toWebhook(url, { secret, authorization: authorization as never, timeoutSeconds: 0.05 });
    const { outcomes, error } = await record(send, messages(2));
    expect([outcomes, asked]).toEqual([{}, []]);
    expect(error?.message).toBe(`[do-transactional-outbox] https://example.com was not asked, because ${why}.`);
  });

  it.each([
    [200, "ack"],
    [409, "reject HTTP 409"],
    [408, "retry"],
    [401, "throw"],
    [403, "throw"],
    [404, "throw"],
    [429, "throw"],
    [500, "throw"],
    [410, "pause"],
  ])("takes HTTP %i from one URL for %s", async (status, meaning) => {
    answering(() => status);
    const send = toWebhook(url, { secret });
    const thrown: unknown[] = [];
    const { outcomes } = await record((...args) => send(...args).catch((error: unknown) => void thrown.push(error)), messages(1));
    const threw = thrown.map((error) => ((error as { pause?: unknown }).pause === true ? "pause" : "throw"));
    expect([outcomes[1], ...threw]).toEqual(["throw", "pause"].includes(meaning) ? [undefined, meaning] : [meaning]);
  });

  it("takes a status for what `statuses` says, in place of the default", async () => {
    answering((path) => Number(path.slice(1)));
    const statuses = { 409: "ack", 410: "reject", 422: "pause", 503: "retry" } as const;
    for (const [status, meaning] of [
      [409, { 1: "ack" }],
      [410, { 1: "reject HTTP 410" }],
      [503, { 1: "retry" }],
      [422, {}],
    ] as const) {
      expect((await record(toWebhook(`https://example.com/${status}`, { secret, statuses }), messages(1))).outcomes).toEqual(meaning);
    }
  });

  it.each([401, 403, 404, 410])(
    "with many URLs, HTTP %i of one holds its own messages back, uncounted, and no other of its origin, nor the destination",
    async (status) => {
      const asked = answering((path) => (path === "/bad" ? status : 200));
      const send = toWebhook(byPath, { secret, concurrency: 1 });
      const batch = messages(4, (n) => ({ msg: ["bad", "good", "bad", "fine"][n - 1] }));
      const delays: (number | undefined)[] = [];
      const call = (given: OutboxMessage[]) =>
        record((messages, delivery) => {
          const retry: typeof delivery.retry = (id, options) => {
            delays.push(options?.delaySeconds);
            delivery.retry(id, options);
          };
          return send(messages, { ...delivery, retry });
        }, given);
      // Alone, and with nothing known of any other.
      expect(await call(batch.slice(0, 1))).toEqual({ outcomes: { 1: "wait" } });
      expect(await call(batch)).toEqual({ outcomes: { 1: "wait", 2: "ack", 3: "wait", 4: "ack" } });
      expect(asked.map(({ path }) => path)).toEqual(["/bad", "/good", "/fine"]);
      const least = status === 410 ? 3500 : 1;
      for (const delay of delays) expect(delay).toBeGreaterThanOrEqual(least);
    },
  );

  it("refuses to be called without delivery", async () => {
    const send = toWebhook(nowhere, { secret }) as (messages: OutboxMessage[]) => Promise<void>;
    await expect(send(messages(1))).rejects.toThrow("Expected `delivery` to be the second argument of sendMessages, got undefined.");
  });
});
