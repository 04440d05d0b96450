/** A log that a worker relays: readers that wait while the object hibernates, beside WebSockets of the class's own. */
import { evictDurableObject } from "cloudflare:test";
import { expect, it } from "vitest";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { type RelayLogOptions, relayLog, serveLog, withLogRelay } from "../../../src/log-http/index.ts";
import { again, type Backend, declared, drained, eventually, inside, onEitherBackend, type Stub } from "../support/harness.ts";
import { Box, options } from "../support/worker.ts";

/** What the class's own handlers were called with, by the object: it outlives the object's hibernation. */
const calls = new Map<string, string[]>();
const callsOf = ({ id }: { readonly id: DurableObjectId }): string[] => {
  const key = id.toString();
  if (!calls.has(key)) calls.set(key, []);
  return calls.get(key) as string[];
};

/** A class with WebSockets of its own, and readers with a token. */
class Feed extends Box {
  constructor(ctx: DurableObjectState, env: never) {
    super(ctx, env);
    callsOf(ctx).push(`start ${ctx.getWebSockets().length}`);
  }

  override async fetch(request: Request): Promise<Response> {
    const { pathname, search } = new URL(request.url);
    if (pathname === "/own") {
      const { 0: client, 1: server } = new WebSocketPair();
      this.ctx.acceptWebSocket(server, ["own"]);
      return new Response(null, { status: 101, webSocket: client });
    }
    const authorize = ({ headers }: Request) => headers.get("Authorization") === "Bearer reader";
    const contentType = request.headers.get("Served-As") ?? "application/json";
    const response = await serveLog(request, { source: this.outbox, authorize, contentType });
    callsOf(this.ctx).push(`${request.method} ${search} ${request.headers.get("Upgrade")}`);
    response.headers.set("Access-Control-Allow-Origin", "https://reader.test");
    return response;
  }

  override webSocketMessage(socket: WebSocket, text: string): void {
    callsOf(this.ctx).push(`message ${text}`);
    socket.send(`echo ${text}`);
  }

  override webSocketClose(): void {
    callsOf(this.ctx).push("close");
  }
}

const feed = (backend: Backend): Stub => declared(backend, withLogRelay(withTransactionalOutbox(Feed, { ...options, retain: "all" })));

const put = (stub: Stub, ...numbers: number[]): Promise<unknown> =>
  inside(stub, (_, outbox) => Promise.all(numbers.map((n) => outbox.send(n))));

function readersRequest(query: string, init: RequestInit = {}): Request {
  const headers = { Authorization: "Bearer reader", ...(init.headers as Record<string, string>) };
  return new Request(`https://worker.test/feed${query}`, { ...init, headers });
}

/** What a reader asks a worker, which relays it. */
function ask(stub: Stub, query: string, given: RelayLogOptions = {}, init: RequestInit = {}): Promise<Response> {
  return relayLog(readersRequest(query, init), { fetch: (request) => again(stub).fetch(request) }, given);
}

interface Reader {
  /** The messages that have come. */
  seen: unknown[];
  text: string;
  isOver: boolean;
  readonly leave: () => Promise<void>;
}

/** Reads a stream of events. */
function readerOf(response: Response): Reader {
  expect([response.status, response.headers.get("Content-Type")]).toEqual([200, "text/event-stream"]);
  const chunks = (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream()).getReader();
  const reader: Reader = { seen: [], text: "", isOver: false, leave: () => chunks.cancel() };
  void (async () => {
    for (let chunk = await chunks.read(); !chunk.done; chunk = await chunks.read()) {
      reader.text += chunk.value;
      reader.seen = [...reader.text.matchAll(/^data:(\[.*\])$/gm)].flatMap(([, list = ""]) => JSON.parse(list) as unknown[]);
    }
    reader.isOver = true;
  })();
  return reader;
}

const following = async (stub: Stub, query = "?offset=-1&live=sse"): Promise<Reader> => readerOf(await ask(stub, query));

onEitherBackend("a log that is relayed", (backend) => {
  it("reaches every reader that waited while the object hibernated, and starts it for nothing else", async () => {
    const stub = feed(backend);
    await put(stub, 1, 2);
    await drained(stub);
    const readers = [await following(stub), await following(stub, "?offset=now&live=sse"), await following(stub)];
    await eventually(() => readers[2]?.seen.length === 2);
    for (const n of [3, 4]) {
      const before = callsOf(stub).length;
      await evictDurableObject(stub);
      await put(again(stub), n);
      await eventually(() => readers.every(({ seen }) => seen.at(-1) === n));
      expect(callsOf(stub).slice(before)[0]).toBe("start 0");
      await drained(again(stub));
    }
    expect(readers.map(({ seen }) => seen)).toEqual([
      [1, 2, 3, 4],
      [3, 4],
      [1, 2, 3, 4],
    ]);
    for (const { leave } of readers) await leave();
  });

  it("leaves the class its own WebSockets, and its handlers the events of those alone", async () => {
    const stub = feed(backend);
    await put(stub, 1);
    await drained(stub);
    const { webSocket } = await stub.fetch("https://feed.test/own", { headers: { Upgrade: "websocket" } });
    const echoes: unknown[] = [];
    webSocket?.addEventListener("message", ({ data }) => void echoes.push(data));
    webSocket?.accept();
    const reader = await following(stub);
    const { webSocket: stray } = await stub.fetch("https://feed.test/", {
      headers: { Upgrade: "websocket", "Outbox-Log-Relay": "1", Authorization: "Bearer reader" },
    });
    stray?.accept();
    const own = (on: Stub) => inside(on, (_, __, state) => [state.getWebSockets(), state.getWebSockets("own")].map(({ length }) => length));
    expect(await own(stub)).toEqual([1, 1]);
    await evictDurableObject(stub);
    // A relay says nothing, but what claims to be one may.
    stray?.send("from nobody");
    webSocket?.send("one");
    await eventually(() => echoes.length === 1);
    expect(callsOf(stub).slice(-2)).toEqual(["start 1", "message one"]);
    await put(again(stub), 2);
    await eventually(() => reader.seen.length === 2);
    await reader.leave();
    stray?.close();
    await eventually(() =>
      inside(again(stub), (_, __, state) => state.getWebSockets("\u{10FFFF}do-transactional-outbox log").length === 0),
    );
    expect(callsOf(stub)).not.toContain("close");
    expect(await own(again(stub))).toEqual([1, 1]);
    await inside(again(stub), (box) => (box as unknown as Feed).webSocketMessage({ send: () => {} } as unknown as WebSocket, "by itself"));
    expect(callsOf(stub)).toContain("message by itself");
    webSocket?.close();
    await eventually(() => callsOf(stub).includes("close"));
    expect(echoes).toEqual(["echo one"]);
  });

  it("finds handlers that a constructor assigns, and those of a class that extends it", async () => {
    const heard: string[] = [];
    class Assigned extends Feed {
      override webSocketMessage = (_: WebSocket, text: string): void => void heard.push(`assigned ${text}`);
    }
    const Wrapped = withTransactionalOutbox(withLogRelay(Assigned), { ...options, retain: "all" });
    const stub = declared(
      backend,
      class extends Wrapped {
        override webSocketClose(): void {
          heard.push("closed");
        }
        override async fetch(request: Request): Promise<Response> {
          heard.push(`fetch ${request.headers.get("Upgrade")}`);
          return super.fetch(request);
        }
      },
    );
    const { webSocket } = await stub.fetch("https://feed.test/own", { headers: { Upgrade: "websocket" } });
    webSocket?.accept();
    webSocket?.send("one");
    await eventually(() => heard.length === 2);
    const reader = await following(stub, "?offset=now&live=sse");
    await put(stub, 1);
    await eventually(() => reader.seen.length === 1);
    await reader.leave();
    webSocket?.close();
    await eventually(() => heard.includes("closed"));
    expect([...new Set(heard)]).toEqual(["fetch websocket", "assigned one", "fetch null", "closed"]);
    expect(heard.filter((each) => each === "fetch websocket" || each === "closed")).toHaveLength(2);
  });

  it("passes the bytes of a text on as they are, and writes them into events as characters", async () => {
    const stub = feed(backend);
    await inside(stub, async (_, outbox) => {
      for (const bytes of [[0xe2, 0x82], [0xac], [0xff]]) await outbox.send(new Uint8Array(bytes));
    });
    await drained(stub);
    const headers = { "Served-As": "text/plain" };
    const polled = await ask(stub, "?offset=-1&live=long-poll", {}, { headers });
    expect([...new Uint8Array(await polled.arrayBuffer())]).toEqual([0xe2, 0x82, 0xac, 0xff]);
    const events = await ask(stub, "?offset=-1&live=sse", { sseSeconds: 0 }, { headers });
    expect(events.headers.has("Stream-SSE-Data-Encoding")).toBe(false);
    expect(await events.text()).toContain("data:\u20ac\ufffd\n");
  });

  it("answers a long-poll with what is there, with the next message, or with nothing once its time is over", async () => {
    const stub = feed(backend);
    await put(stub, 1);
    await drained(stub);
    const first = await ask(stub, "?offset=-1&live=long-poll");
    expect([first.status, await first.text(), first.headers.get("Access-Control-Allow-Origin")]).toEqual([
      200,
      "[1]",
      "https://reader.test",
    ]);
    expect(first.headers.get("Stream-Cursor")).toMatch(/^\d+$/);
    const next = first.headers.get("Stream-Next-Offset");
    const waiting: Promise<Response>[] = [];
    // One after the other: an object that is asked for two WebSockets at once does not hibernate well on workerd 1.20260730.
    for (const [offset, pages] of [
      ["now", 1],
      [next, 3],
    ] as const) {
      waiting.push(ask(stub, `?offset=${offset}&live=long-poll`, { longPollSeconds: 300 }));
      await eventually(() => callsOf(stub).filter((call) => call.includes(`offset=${next}`)).length === pages);
    }
    await evictDurableObject(again(stub));
    await put(again(stub), 2);
    for (const answer of await Promise.all(waiting)) {
      expect([answer.status, await answer.text(), answer.headers.get("Stream-Up-To-Date")]).toEqual([200, "[2]", "true"]);
    }
    const nothing = await ask(again(stub), "?offset=now&live=long-poll", { longPollSeconds: 0.01 });
    expect([nothing.status, nothing.headers.get("Stream-Up-To-Date"), nothing.headers.get("Cache-Control")]).toEqual([
      204,
      "true",
      "no-store",
    ]);
    const end = nothing.headers.get("Stream-Next-Offset") ?? "";
    expect(end > (next ?? "")).toBe(true);
    // Put after the page was read, and before there is a socket.
    const late = await relayLog(readersRequest(`?offset=${end}&live=long-poll`), {
      async fetch(request) {
        if (request.headers.has("Upgrade")) await put(again(stub), 3);
        return again(stub).fetch(request);
      },
    });
    expect(await late.text()).toBe("[3]");
  });

  it("is a stream that ends with its time, and goes on from the last id", async () => {
    const stub = feed(backend);
    await put(stub, 1, 2);
    const first = await ask(stub, "?offset=-1&live=sse", { sseSeconds: 0 });
    const text = await first.text();
    expect(text).toMatch(/^event: data\ndata:\[1,2\]\nid: (\w+)\n\nevent: control\ndata:\{.*"upToDate":true\}\nid: \1\n\n$/);
    await put(stub, 3);
    const id = /id: (\w+)/.exec(text)?.[1] ?? "";
    const again = await ask(stub, "?offset=-1&live=sse", { sseSeconds: 0 }, { headers: { "Last-Event-ID": id } });
    expect(await again.text()).toMatch(/^event: data\ndata:\[3\]\n/);
  });

  it("is read by those whom the object lets in, who decides for each page", async () => {
    const stub = feed(backend);
    await put(stub, 1);
    const nobody = { headers: { Authorization: "Bearer nobody" } };
    for (const query of ["", "?offset=-1&live=sse", "?offset=-1&live=long-poll", "?offset=%&live=sse"]) {
      expect([query, (await ask(stub, query, {}, nobody)).status]).toEqual([query, 403]);
    }
    const forged = { Upgrade: "websocket", "Outbox-Log-Relay": "1" };
    const refused = await stub.fetch("https://feed.test/", { headers: forged });
    expect([refused.status, refused.webSocket]).toEqual([401, null]);
    expect((await ask(stub, "?offset=%&live=sse")).status).toBe(400);
    expect((await ask(stub, "?offset=000000000001_0000000000000009&live=sse")).status).toBe(410);
    expect((await ask(stub, "?offset=000000000001_0000000000000009&live=long-poll")).status).toBe(410);
    expect((await ask(stub, "", {}, { method: "PUT" })).status).toBe(405);
    expect(await (await ask(stub, "")).text()).toBe("[1]");
  });

  it("ends its streams when the connection breaks, so that readers come again", async () => {
    const stub = feed(backend);
    await put(stub, 1);
    const sockets: WebSocket[] = [];
    const object = {
      async fetch(request: Request): Promise<Response> {
        if (request.headers.get("Upgrade") === null) return again(stub).fetch(request);
        const { 0: client, 1: server } = new WebSocketPair();
        server.accept();
        sockets.push(server);
        return new Response(null, { status: 101, webSocket: client });
      },
    };
    const broken = readerOf(await relayLog(readersRequest("?offset=-1&live=sse"), object));
    await eventually(() => broken.seen.length === 1);
    for (const socket of sockets) socket.close(1011, "gone");
    await eventually(() => broken.isOver);
  });

  it("says what is missing", async () => {
    expect(() => withLogRelay(undefined as never)).toThrow("Expected `cls` to be a class");
    const bare = declared(backend, withTransactionalOutbox(Feed, { ...options, retain: "all" }));
    await expect(ask(bare, "?offset=-1&live=sse")).rejects.toThrow("withLogRelay()");
    await expect(ask(bare, "", { sseSecond: 1 } as object)).rejects.toThrow("sseSeconds");
    await expect(ask(bare, "", { sseSeconds: 86_401 })).rejects.toThrow(TypeError);
    const alone = declared(backend, withLogRelay(Feed));
    await expect(alone.fetch("https://feed.test/")).rejects.toThrow("withTransactionalOutbox()");
  });
});
