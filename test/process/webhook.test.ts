/** `toWebhook` in workerd, against a real server that misbehaves in every way: what is sent, and what each answer leads to. */
import { HTTP } from "cloudevents";
import { Webhook } from "standardwebhooks";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { all, message, messages } from "../support/destinations/recorder.ts";
import { type Got, post, SECRET, start, type World } from "./destinations-world.ts";
import { range, until } from "./harness.ts";

let world: World;
beforeAll(async () => {
  world = await start();
});
afterAll(() => world.stop());

/** The requests to paths that begin like this, in order. */
const gotAt = (path: string): Got[] => world.got.filter((got) => got.path.startsWith(path));
const only = (path: string): Got => {
  const [got, more] = gotAt(path);
  expect(more).toBeUndefined();
  return got ?? expect.fail(`no request to ${path}`);
};
const OBJECT = "0123456789abcdef".repeat(4);

describe("a request", () => {
  it("is a CloudEvent in the structured mode, which the CloudEvents SDK reads", async () => {
    const headers = { traceparent: "00-1-2-01", tracestate: "a=b", "correlation-id": "c 1", "causation-id": "c 0", other: "not sent" };
    const sent = message(7, { key: "order 7", headers, msg: { type: "order_created", order: 7 } });
    expect(await post(world, "/200/event", [sent])).toMatchObject({ outcomes: { 7: "ack" } });
    const { headers: got, body } = only("/200/event");
    expect(got["content-type"]).toBe("application/cloudevents+json; charset=utf-8");
    const epoch = sent.source.split(":")[1];
    const expected = {
      specversion: "1.0",
      id: sent.id,
      source: `/durable-objects/${OBJECT}/${epoch}`,
      type: "order_created",
      time: "2026-09-21T14:13:20.000Z",
      datacontenttype: "application/json",
      sequence: "000000000000007",
      subject: "order 7",
      traceparent: "00-1-2-01",
      tracestate: "a=b",
      correlationid: "c 1",
      causationid: "c 0",
      data: { type: "order_created", order: 7 },
    };
    expect(JSON.parse(body)).toEqual(expected);
    const event = HTTP.toEvent({ headers: got, body });
    expect(Array.isArray(event)).toBe(false);
    expect((event as unknown as { validate(): boolean }).validate()).toBe(true);
    expect(event).toMatchObject({ ...expected, data: { order: 7 } });
  });

  it("has no attribute for what a message has not, and a type and a source of choice", async () => {
    await post(world, "/200/plain", [message(1, { msg: "text" })]);
    expect(Object.keys(JSON.parse(only("/200/plain").body)).sort()).toEqual(
      ["data", "datacontenttype", "id", "sequence", "source", "specversion", "time", "type"].sort(),
    );
    expect(JSON.parse(only("/200/plain").body)).toMatchObject({ type: "message", data: "text" });
    await post(world, "/200/chosen", [message(1, { msg: null })], { type: "com.example.order", source: "https://example.com/orders" });
    expect(JSON.parse(only("/200/chosen").body)).toMatchObject({
      type: "com.example.order",
      source: "https://example.com/orders",
      data: null,
    });
  });

  it("has a sequence that sorts as text", async () => {
    const numbers = [9, 10, 99_999, 100_000, 999_999_999_999_999];
    await post(
      world,
      "/200/sorted",
      numbers.map((n) => message(n)),
      { concurrency: 1 },
    );
    const texts = gotAt("/200/sorted").map(({ body }) => (JSON.parse(body) as { sequence: string }).sequence);
    expect(texts).toHaveLength(5);
    expect([...texts].sort()).toEqual(texts);
  });

  it("is signed as Standard Webhooks, which its library verifies, with the id of the message", async () => {
    const sent = message(1, { msg: { text: "üñí \u{1F600}" } });
    const before = Math.floor(Date.now() / 1000);
    await post(world, "/200/signed", [sent]);
    const { headers, body } = only("/200/signed");
    expect(headers["webhook-id"]).toBe(sent.id);
    expect(Number(headers["webhook-timestamp"])).toBeGreaterThanOrEqual(before);
    expect(headers["webhook-signature"]).toMatch(/^v1,[A-Za-z0-9+/]{43}=$/);
    expect(new Webhook(SECRET).verify(body, headers)).toEqual(JSON.parse(body));
    const other = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;
    expect(() => new Webhook(other).verify(body, headers)).toThrow("No matching signature");
    expect(() => new Webhook(SECRET).verify(`${body} `, headers)).toThrow("No matching signature");
  });

  it("has a signature for each of several secrets, so that old and new verify it", async () => {
    const other = `whsec_${Buffer.alloc(64, 7).toString("base64")}`;
    await post(world, "/200/rotated", [message(1)], { secret: [SECRET, other] });
    const { headers, body } = only("/200/rotated");
    expect(headers["webhook-signature"]?.split(" ")).toHaveLength(2);
    for (const secret of [SECRET, other]) expect(new Webhook(secret).verify(body, headers)).toEqual(JSON.parse(body));
  });

  it.each([
    ["order.1", "order%2E1"],
    ["a b/ü\u{1F600}", "a%20b%2F%C3%BC%F0%9F%98%80"],
    ["x\r\nwebhook-id: forged", "x%0D%0Awebhook-id%3A%20forged"],
    ["lone \ud800", "lone%20%EF%BF%BD"],
  ])("names a message whose own id is %j by %s, and still verifies", async (id, header) => {
    const path = `/200/id/${encodeURIComponent(header)}`;
    expect((await post(world, path, [message(1, { id })])).outcomes).toEqual({ 1: "ack" });
    const { headers, body } = only(path);
    expect(headers["webhook-id"]).toBe(header);
    expect(new Webhook(SECRET).verify(body, headers)).toMatchObject({ specversion: "1.0" });
  });

  it("is one for all messages in batch mode, in order, which the SDK reads and the library verifies", async () => {
    const sent = messages(5, (n) => ({ key: "one", msg: { type: `type ${n}` } }));
    const { outcomes, ordering } = await post(world, "/200/batch", sent, { mode: "batch" });
    expect(outcomes).toEqual(all("ack", 1, 5));
    // Full batches, also with one ordering key.
    expect(ordering).toBe("batch");
    const { headers, body } = only("/200/batch");
    expect(headers["content-type"]).toBe("application/cloudevents-batch+json; charset=utf-8");
    expect(headers["webhook-id"]).toMatch(new RegExp(`^${sent[0]?.id}\\+5\\+[0-9a-f]{16}$`));
    expect(new Webhook(SECRET).verify(body, headers)).toHaveLength(5);
    const events = HTTP.toEvent({ headers, body }) as unknown as { id: string; type: string; validate(): boolean }[];
    expect(events.map(({ id, type }) => [id, type])).toEqual(sent.map(({ id }, i) => [id, `type ${i + 1}`]));
    for (const event of events) expect(event.validate()).toBe(true);
  });

  it("has a webhook-id in batch mode that is the same for the same messages, and no other's", async () => {
    const sent = messages(4);
    const without = (n: number) => sent.filter(({ sequence }) => sequence !== n);
    for (const batch of [sent, sent, without(2), without(3)]) await post(world, "/200/again", batch, { mode: "batch" });
    const ids = gotAt("/200/again").map(({ headers }) => headers["webhook-id"]);
    expect(ids[0]).toBe(ids[1]);
    // The last two have the first message and the count in common.
    expect(new Set(ids).size).toBe(3);
  });

  it("leaves the ordering strict, unless a batch goes to one place", async () => {
    expect((await post(world, "/200/length", [message(1)])).ordering).toBe("strict");
    expect((await post(world, "/200/length", [message(1)], { mode: "batch" })).ordering).toBe("batch");
    const own = [message(1, { msg: { text: `${world.base}/200/length` } })];
    expect((await post(world, "", own, { mode: "batch" }, { own: true })).ordering).toBe("strict");
  });
});

describe("an answer", () => {
  it.each([200, 201, 202, 204, 299])("of %i delivers", async (status) => {
    expect(await post(world, `/${status}/ok`, messages(2))).toMatchObject({ outcomes: all("ack", 1, 2) });
  });

  it.each([401, 403, 404, 410])("of %i throws, because a wrong secret or path must not make dead letters of what waits", async (status) => {
    const { outcomes, error } = await post(world, `/${status}/wrong`, messages(8), { concurrency: 1 });
    expect([outcomes, error?.message]).toEqual([{}, `[do-transactional-outbox] ${world.base} answered HTTP ${status}.`]);
    expect(gotAt(`/${status}/wrong`)).toHaveLength(1);
  });

  it.each([400, 405, 409, 413, 422, 451, 499])("of %i makes a dead letter of each message, and goes on", async (status) => {
    const { outcomes, error } = await post(world, `/${status}/refused`, messages(8));
    expect([outcomes, error]).toEqual([all(`reject HTTP ${status}`, 1, 8), undefined]);
    expect(gotAt(`/${status}/refused`)).toHaveLength(8);
  });

  it.each([408, 425])("of %i retries each message", async (status) => {
    expect(await post(world, `/${status}/later`, messages(8))).toMatchObject({ outcomes: all("retry", 1, 8) });
    expect(gotAt(`/${status}/later`)).toHaveLength(8);
    expect((await post(world, `/${status}/asked?after=60`, [message(1)])).outcomes).toEqual({ 1: "retry 60" });
  });

  it.each([
    [429, "?after=17", 17],
    [503, "?after=0", 0],
    [503, "?after=120", 120],
    [500, "", undefined],
    [502, "?after=soon", undefined],
    [503, "?after=-1", undefined],
    [599, "", undefined],
  ])("of %i%s throws, with retryAfterSeconds %s, and sets nothing aside", async (status, query, retryAfterSeconds) => {
    const { outcomes, error } = await post(world, `/${status}/down${query}`, messages(3));
    expect(outcomes).toEqual({});
    expect(error).toEqual({
      name: "Error",
      message: `[do-transactional-outbox] ${world.base} answered HTTP ${status}.`,
      ...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
    });
  });

  it.each([600, -600])("of 429 with a date %i s ahead as Retry-After says how many seconds that are, 0 at least", async (ahead) => {
    const date = new Date(Date.now() + ahead * 1000).toUTCString();
    const { error } = await post(world, `/429/dated?after=${encodeURIComponent(date)}`, [message(1)]);
    const least = Math.max(0, ahead - 300);
    expect(error?.retryAfterSeconds).toBeGreaterThanOrEqual(least);
    expect(error?.retryAfterSeconds).toBeLessThanOrEqual(Math.max(0, ahead));
  });

  it("that redirects throws, says so, and is not followed", async () => {
    const { outcomes, error } = await post(world, "/redirect/away", messages(2));
    expect([outcomes, error?.message]).toEqual([
      {},
      `[do-transactional-outbox] ${world.base} answered HTTP 302, and redirects are not followed.`,
    ]);
    expect(gotAt("/200/elsewhere")).toEqual([]);
  });

  it("that never comes because the connection closes throws", async () => {
    const { outcomes, error } = await post(world, "/close/it", [message(1)]);
    expect([outcomes, error?.message]).toEqual([{}, `[do-transactional-outbox] ${world.base} did not answer: Network connection lost.`]);
  });

  it("that never comes because nobody listens throws", async () => {
    const { outcomes, error } = await post(world, "http://127.0.0.1:1/secret/path?token=abc", [message(1)]);
    expect([outcomes, error?.message]).toEqual([
      {},
      "[do-transactional-outbox] http://127.0.0.1:1 did not answer: Network connection lost.",
    ]);
  });

  it("that does not come before the call's timeout fails the call, and what was delivered before stays so", async () => {
    const batch = [message(1, { msg: { text: `${world.base}/200/before` } }), message(2, { msg: { text: `${world.base}/hang/on` } })];
    const { outcomes, error } = await post(world, "", batch, {}, { own: true, timeoutMs: 400 });
    expect([outcomes, error?.message]).toEqual([{ 1: "ack" }, "The operation was aborted due to timeout"]);
  });

  it("that does not come before the request's own timeout throws", async () => {
    for (const own of [true, false]) {
      const batch = [message(1, { msg: { text: `${world.base}/hang/on` } })];
      const { outcomes, error } = await post(world, "/hang/on", batch, { timeoutSeconds: 0.3 }, { own });
      expect(outcomes).toEqual({});
      expect(error?.message).toMatch(
        /^\[do-transactional-outbox\] http:\/\/127\.0\.0\.1:\d+ did not answer (within 0\.3 s|before the timeout)\.$/,
      );
    }
  });

  it("means what `statuses` says, and requests carry the headers and the authorization that were given", async () => {
    const options = {
      statuses: { 409: "ack", 422: "throw", 503: "reject" },
      authorization: "Bearer abc",
      headers: { "x-tenant": "7" },
    } as const;
    expect((await post(world, "/409/known", messages(2), options)).outcomes).toEqual(all("ack", 1, 2));
    expect((await post(world, "/503/never", messages(2), options)).outcomes).toEqual(all("reject HTTP 503", 1, 2));
    expect((await post(world, "/422/trouble", messages(1), options)).error?.message).toContain("HTTP 422");
    expect(gotAt("/409/known")[0]?.headers).toMatchObject({ authorization: "Bearer abc", "x-tenant": "7" });
  });

  it("with a body without end, or a slow one, delivers", async () => {
    expect((await post(world, "/huge/one", messages(3))).outcomes).toEqual(all("ack", 1, 3));
    expect((await post(world, "/slow/one", messages(3))).outcomes).toEqual(all("ack", 1, 3));
  });
});

describe("trouble", () => {
  it("begins no further request once the endpoint is in trouble, and lets those under way end", async () => {
    for (const [concurrency, most] of [
      [1, 1],
      [undefined, 6],
    ] as const) {
      const path = `/503/stop/${most}`;
      const { outcomes, error } = await post(world, path, messages(40), concurrency ? { concurrency } : {});
      expect([outcomes, error?.message]).toEqual([{}, `[do-transactional-outbox] ${world.base} answered HTTP 503.`]);
      expect(gotAt(path).length).toBeLessThanOrEqual(most);
    }
  });

  it("keeps what was delivered and rejected before it, and throws for the rest", async () => {
    const orders = ["200", "400", "503", "200", "200"];
    const batch = messages(5, (n) => ({ msg: { text: `${world.base}/${orders[n - 1]}/mixed` } }));
    const { outcomes, error } = await post(world, "", batch, { concurrency: 1 }, { own: true });
    expect(outcomes).toEqual({ 1: "ack", 2: "reject HTTP 400" });
    expect(error?.message).toBe(`[do-transactional-outbox] ${world.base} answered HTTP 503.`);
    expect(world.got.filter(({ path }) => path.endsWith("/mixed"))).toHaveLength(3);
  });

  it("throws the error that asks for the longest wait", async () => {
    const afters = [5, 50, 20];
    const batch = messages(3, (n) => ({ msg: { text: `${world.base}/429/longest?after=${afters[n - 1]}` } }));
    expect((await post(world, "", batch, {}, { own: true })).error?.retryAfterSeconds).toBe(50);
  });

  it("of one origin retries its messages, and those of another are delivered", async () => {
    const down = "http://127.0.0.1:1";
    const urls = [`${down}/a`, `${world.base}/200/origin`, `${down}/b`];
    const batch = messages(3, (n) => ({ msg: { text: urls[n - 1] } }));
    const { outcomes, error } = await post(world, "", batch, {}, { own: true });
    expect([outcomes, error]).toEqual([{ 1: "wait", 2: "ack", 3: "wait" }, undefined]);
    const both = await post(
      world,
      "",
      [message(1, { msg: { text: `${down}/a` } }), message(2, { msg: { text: `${world.base}/503/origin` } })],
      {},
      { own: true },
    );
    expect([both.outcomes, both.error?.name]).toEqual([{}, "Error"]);
  });

  it("has no more requests under way than concurrency allows, and sends with 1 in order", async () => {
    await post(world, "/slow/concurrency", messages(12), { concurrency: 3 });
    expect(Math.max(...gotAt("/slow/concurrency").map(({ underWay }) => underWay))).toBe(3);
    await post(world, "/slow/by-default", messages(12));
    expect(Math.max(...gotAt("/slow/by-default").map(({ underWay }) => underWay))).toBe(6);
    await post(world, "/200/order", messages(30), { concurrency: 1 });
    expect(gotAt("/200/order").map(({ body }) => (JSON.parse(body) as { data: { n: number } }).data.n)).toEqual(range(1, 30));
  });
});

describe("a batch", () => {
  it("that an endpoint refuses is halved until the bad message stands alone, and only that one is rejected", async () => {
    const batch = messages(16, (n) => ({ msg: { text: n === 11 ? "poison" : "fine" } }));
    const { outcomes, error } = await post(world, "/poison/batch", batch, { mode: "batch" });
    expect([outcomes, error]).toEqual([{ ...all("ack", 1, 16), 11: "reject HTTP 400" }, undefined]);
    expect(gotAt("/poison/batch")).toHaveLength(9);
    const acked = gotAt("/poison/batch").filter(({ body }) => !body.includes("poison"));
    expect(acked.flatMap(({ body }) => (JSON.parse(body) as { sequence: string }[]).map(({ sequence }) => Number(sequence)))).toEqual(
      range(1, 16).filter((n) => n !== 11),
    );
  });

  it("that is too large for an endpoint goes in parts", async () => {
    const batch = messages(16);
    expect((await post(world, "/small/batch", batch, { mode: "batch" })).outcomes).toEqual(all("ack", 1, 16));
    expect(gotAt("/small/batch").length).toBeGreaterThan(3);
  });

  it.each([408, 425, 429, 500, 503])("that is answered with %i stays as it is", async (status) => {
    const { outcomes, error } = await post(world, `/${status}/batch?after=9`, messages(4), { mode: "batch" });
    expect([outcomes, error?.retryAfterSeconds]).toEqual([{}, 9]);
    expect(gotAt(`/${status}/batch`)).toHaveLength(1);
  });

  it("has a request for each URL, where these are the messages' own", async () => {
    const batch = messages(6, (n) => ({ msg: { text: `${world.base}/200/urls/${n % 2}` } }));
    expect((await post(world, "", batch, { mode: "batch" }, { own: true })).outcomes).toEqual(all("ack", 1, 6));
    for (const n of [0, 1]) {
      const { body } = only(`/200/urls/${n}`);
      expect((JSON.parse(body) as { sequence: string }[]).map(({ sequence }) => Number(sequence))).toEqual(
        range(1, 6).filter((i) => i % 2 === n),
      );
    }
  });
});

describe("a message", () => {
  it.each([
    ["no URL", "nowhere?token=hidden", 'an absolute http or https URL, got "(not shown)".'],
    ["another protocol", "ftp://example.com/?token=hidden", 'an absolute http or https URL, got "ftp:".'],
    ["a user name", "http://user@example.com/?token=hidden", 'a URL without user name and password, got "(not shown)".'],
    ["a password", "https://:hidden@example.com/", 'a URL without user name and password, got "(not shown)".'],
  ])("whose URL is %s is rejected alone, and its text is not told", async (_, text, told) => {
    const batch = [message(1, { msg: { text } }), message(2, { msg: { text: `${world.base}/200/beside` } })];
    const { outcomes, error } = await post(world, "", batch, {}, { own: true });
    expect([outcomes, error]).toEqual([{ 1: `reject Expected \`url\` to be ${told}`, 2: "ack" }, undefined]);
  });
});

describe.each(["SQLITE", "KV"])("a wrapped object that posts (%s)", (backend) => {
  const hook = `HOOK_${backend}`;

  it("delivers each key in order", async () => {
    const order = `200/keys/${backend}`;
    await world.call(hook, "keys", "put", 0, 30, "key", { type: "hook", order });
    await until(() => gotAt(`/${order}`).length === 30);
    const numbers = gotAt(`/${order}`).map(({ body }) => (JSON.parse(body) as { data: { n: number } }).data.n);
    for (const key of [0, 1, 2]) expect(numbers.filter((n) => n % 3 === key)).toEqual(range(0, 29).filter((n) => n % 3 === key));
  });

  it("waits as long as Retry-After says, and counts no attempt for a destination that is down, although one would do", async () => {
    const order = `flip/${backend}?after=1&x=`;
    await world.call(hook, "flip", "put", 0, 3, null, { type: "hook", order });
    // The first that came was refused, and no other.
    const ofRefused = () => gotAt(`/flip/${backend}`).filter(({ body }, _, [first]) => body === first?.body);
    await until(() => ofRefused().length === 2);
    const [refused, again] = ofRefused().map(({ at }) => at);
    // By a clock that is not the worker's, which may be some hundred milliseconds behind. Without Retry-After it would be half a second at most.
    expect((again ?? 0) - (refused ?? 0)).toBeGreaterThanOrEqual(600);
    expect(await world.call(hook, "flip", "list", "dead")).toEqual([]);
  });

  it("is paused by an endpoint that is gone, loses nothing, and delivers after resume() with the headers of each message", async () => {
    const fixed = `FIXED_${backend}`;
    await world.call(fixed, "gone", "put", 0, 3, null, { type: "hook" });
    const stats = () => world.call<{ paused: boolean; pending: number; dead: number }>(fixed, "gone", "stats");
    await until(async () => (await stats()).paused);
    expect(await stats()).toMatchObject({ pending: 3, dead: 0, nextAttemptAt: null });
    const refused = gotAt(`/gone/${backend}`).length;
    await world.call(fixed, "gone", "resume");
    await until(async () => (await stats()).pending === 0);
    const delivered = gotAt(`/gone/${backend}`).slice(refused);
    expect(delivered.map(({ headers }) => [headers["x-number"], headers.authorization]).sort()).toEqual(
      range(0, 2).map((n) => [`${n}`, `Bearer ${backend}`]),
    );
    const events = await world.look<{ type: string; error?: string; waiting?: number }[]>("events");
    expect(events.filter(({ type, error }) => type === "paused" && error?.includes("410")).length).toBeGreaterThan(0);
    expect(world.printed()).toContain("call resume()");
  });

  it("leaves a dead letter that says HTTP 400, and no secret, query or body in it, in any event or in the log", async () => {
    for (const [i, order] of ["400", "503", "close", "redirect", "hang"].entries()) {
      await world.call(hook, `secret ${i}`, "put", 0, 2, null, { type: "hook", order: `${order}/secret` });
    }
    const dead = await until(async () => {
      const found = await world.call<{ error: string }[]>(hook, "secret 0", "list", "dead");
      return found.length === 2 ? found : null;
    });
    expect(dead.map(({ error }) => error)).toEqual(["HTTP 400", "HTTP 400"]);
    const errors = ["HTTP 503", "did not answer: Network", "HTTP 302", "did not answer within"];
    for (const [i, text] of errors.entries()) {
      const id = await until(async () => {
        for (const state of ["pending", "delayed"]) {
          const [first] = await world.call<{ id: string }[]>(hook, `secret ${i + 1}`, "list", state);
          if (first) return first.id;
        }
        return null;
      });
      await until(async () => {
        const events = await world.look<{ type: string; ids?: string[]; error?: string }[]>("events");
        return events.some(({ type, ids, error }) => type === "failed" && ids?.includes(id) && error?.includes(text));
      });
    }
    const failed = JSON.stringify(await world.look("events"));
    const told = `${failed}${JSON.stringify(dead)}${world.printed()}`;
    expect(told).toContain("[do-transactional-outbox]");
    for (const secret of [
      SECRET,
      SECRET.slice(6),
      SECRET.slice(10, 30),
      "a secret of thirty-two",
      "token=",
      "secret of the server",
      "/secret?",
    ]) {
      expect(told).not.toContain(secret);
    }
    // The assertion would see it: this is where it stands.
    expect(gotAt("/400/secret")[0]?.path).toContain(`token=${SECRET}`);
  });
});
