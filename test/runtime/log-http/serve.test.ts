/** The log over HTTP: pages, long-polls and streams, offsets across epochs and restores, and who may read. */
import { expect, it } from "vitest";
import { type ServeLogOptions, serveLog } from "../../../src/log-http/index.ts";
import { boxWith } from "../support/batches.ts";
import { again, crashAfter, drained, eventually, inside, native, onEitherBackend, type Stub } from "../support/harness.ts";

const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, n) => first + n);

const putNumbers = (stub: Stub, first: number, last: number) =>
  inside(stub, (_, outbox) => Promise.all(range(first, last).map((n) => outbox.send(n))));

interface Served {
  readonly status: number;
  readonly headers: Headers;
  readonly body: string;
  readonly next: string;
}

interface Asked extends Partial<ServeLogOptions> {
  readonly method?: string;
  readonly headers?: Record<string, string>;
}

/** One request, answered inside the object. */
const ask = (stub: Stub, query = "", { method = "GET", headers = {}, ...options }: Asked = {}): Promise<Served> =>
  inside(stub, async (_, outbox) => {
    const request = new Request(`https://log.test/${query}`, { method, headers });
    const response = await serveLog(request, { source: outbox, authorize: () => true, ...options });
    const next = response.headers.get("Stream-Next-Offset") ?? "";
    return { status: response.status, headers: response.headers, body: await response.text(), next };
  });

onEitherBackend("a log that is served", (backend) => {
  const retained = (options: object = {}): Stub => boxWith(backend, { retain: "all", ...options });

  it("is read in pages, each from where the last one ended", async () => {
    const stub = retained();
    await putNumbers(stub, 1, 2300);
    const all: number[] = [];
    let pages = 0;
    for (let query = ""; ; pages++) {
      const { status, headers, body, next } = await ask(stub, query);
      expect([status, headers.get("Content-Type")]).toEqual([200, "application/json"]);
      all.push(...(JSON.parse(body) as number[]));
      query = `?offset=${next}`;
      if (headers.get("Stream-Up-To-Date") === "true") break;
    }
    expect(all).toEqual(range(1, 2300));
    expect(pages).toBe(2);
    await drained(stub);
  });

  it("has nothing behind its end until something is put", async () => {
    const stub = retained();
    const empty = await ask(stub);
    expect([empty.body, empty.headers.get("Stream-Up-To-Date")]).toEqual(["[]", "true"]);
    await putNumbers(stub, 1, 3);
    expect((await ask(stub, `?offset=${empty.next}`)).body).toBe("[1,2,3]");
    const { next } = await ask(stub, "?offset=now");
    expect(await ask(stub, `?offset=${next}`)).toMatchObject({ status: 200, body: "[]", next });
    expect(await ask(stub, "", { method: "HEAD" })).toMatchObject({ status: 200, body: "", next });
  });

  it("answers 304 to who has the page, and a new one once more was put", async () => {
    const stub = retained();
    await putNumbers(stub, 1, 3);
    const first = await ask(stub);
    const etag = first.headers.get("ETag") ?? "";
    for (const known of [etag, `W/${etag}`, `"other", ${etag}`, "*"]) {
      const again = await ask(stub, "", { headers: { "If-None-Match": known } });
      expect([known, again.status, again.body, again.next]).toEqual([known, 304, "", first.next]);
    }
    // The same page in another form, also where both of them are an empty list.
    const events = { Accept: "application/cloudevents-batch+json" };
    expect((await ask(stub, "", { headers: { ...events, "If-None-Match": etag } })).status).toBe(200);
    const end = await ask(stub, `?offset=${first.next}`);
    const other = { ...events, "If-None-Match": end.headers.get("ETag") ?? "" };
    expect(await ask(stub, `?offset=${first.next}`, { headers: other })).toMatchObject({ status: 200, body: "[]" });
    await putNumbers(stub, 4, 4);
    const second = await ask(stub, "", { headers: { "If-None-Match": etag } });
    expect(second).toMatchObject({ status: 200, body: "[1,2,3,4]" });
    // The page still begins at -1 and ends at the same place.
    await drained(stub);
    await inside(stub, (_, outbox) => outbox.trim({ before: 3 }));
    const known = { "If-None-Match": second.headers.get("ETag") ?? "" };
    expect(await ask(stub, "", { headers: known })).toMatchObject({ status: 200, body: "[3,4]", next: second.next });
  });

  it("refuses with 410 an offset behind which messages have been deleted, and begins with the first that is kept", async () => {
    const stub = retained();
    await putNumbers(stub, 1, 50);
    await drained(stub);
    const offsets = await inside(stub, async (_, outbox) => {
      const { epoch } = await outbox.read();
      const time = epoch.slice(0, 13).replace("-", "");
      return (position: number) => `${time}_${String(position).padStart(16, "0")}`;
    });
    expect((await ask(stub, `?offset=${offsets(5)}`)).status).toBe(200);
    await inside(stub, (_, outbox) => outbox.trim({ before: 21 }));
    expect((await ask(stub, `?offset=${offsets(19)}`)).status).toBe(410);
    expect((await ask(stub, `?offset=${offsets(19)}&live=sse`)).status).toBe(410);
    expect((await ask(stub, `?offset=${offsets(0)}&live=long-poll`)).status).toBe(410);
    expect((await ask(stub, `?offset=${offsets(20)}`)).body).toBe(JSON.stringify(range(21, 50)));
    expect((await ask(stub, "?offset=-1")).body).toBe(JSON.stringify(range(21, 50)));
    expect((await ask(stub, `?offset=${offsets(51)}`)).status).toBe(410);
    // All of it.
    await inside(stub, (_, outbox) => outbox.trim({ before: 51 }));
    const { next } = await ask(stub);
    expect(next).toBe(offsets(50));
    expect(await ask(stub, `?offset=${next}`)).toMatchObject({ status: 200, body: "[]", next });
    await putNumbers(stub, 51, 51);
    expect((await ask(stub, `?offset=${next}`)).body).toBe("[51]");
  });

  it("has offsets that sort across newEpoch, and remain good", async () => {
    const stub = retained();
    const offsets: string[] = [(await ask(stub)).next];
    const read: number[] = [];
    for (const epoch of range(1, 6)) {
      await putNumbers(stub, epoch * 10, epoch * 10 + 2);
      const { body, next } = await ask(stub, `?offset=${offsets.at(-1)}`);
      read.push(...(JSON.parse(body) as number[]));
      offsets.push(next);
      await inside(stub, (_, outbox) => outbox.newEpoch());
      // The same place, by the name of the next epoch.
      const end = await ask(stub, "?offset=now");
      expect(end.next > next).toBe(true);
      expect((await ask(stub, `?offset=${next}`)).body).toBe("[]");
      if (epoch % 2) offsets.push(end.next);
    }
    expect(read).toEqual(range(1, 6).flatMap((epoch) => range(epoch * 10, epoch * 10 + 2)));
    expect(offsets).toEqual([...offsets].sort());
    expect(new Set(offsets).size).toBe(offsets.length);
    for (const [n, offset] of offsets.entries()) {
      const { status, body } = await ask(stub, `?offset=${offset}`);
      expect([n, status, JSON.parse(body)]).toEqual([n, 200, read.slice(read.length - (JSON.parse(body) as number[]).length)]);
    }
  });

  it("refuses with 410 an offset behind what a restore has undone", async () => {
    const stub = retained();
    await putNumbers(stub, 1, 5);
    await drained(stub);
    const before = await ask(stub);
    const rows = await inside(stub, (_, __, state) => native(state).list());
    await putNumbers(stub, 6, 8);
    await drained(stub);
    const undone = await ask(stub, `?offset=${before.next}`);
    expect(undone.body).toBe("[6,7,8]");
    // A point-in-time restore.
    await crashAfter(stub, async (_, state) => {
      await native(state).deleteAll();
      await native(state).put(Object.fromEntries(rows));
      await native(state).sync();
    });
    const restored = again(stub);
    await inside(restored, (_, outbox) => outbox.newEpoch());
    expect((await ask(restored, `?offset=${undone.next}`)).status).toBe(410);
    await putNumbers(restored, 10, 19);
    // Its position is used again, by another message.
    expect((await ask(restored, `?offset=${undone.next}`)).status).toBe(410);
    const { status, body, next } = await ask(restored, `?offset=${before.next}`);
    expect([status, body]).toEqual([200, JSON.stringify(range(10, 19))]);
    expect(next > undone.next).toBe(true);
    // The message at its position has been deleted: the next one tells.
    await drained(restored);
    await inside(restored, (_, outbox) => outbox.trim({ before: 9 }));
    expect((await ask(restored, `?offset=${undone.next}`)).status).toBe(410);
    const time = next.slice(0, 12);
    expect((await ask(restored, `?offset=${time}_0000000000000008`)).body).toBe(JSON.stringify(range(13, 19)));
  });

  it("lets a long-poll wait for the next message", async () => {
    const stub = retained();
    await putNumbers(stub, 1, 2);
    expect((await ask(stub, "?offset=-1&live=long-poll")).body).toBe("[1,2]");
    const { next } = await ask(stub);
    let waiting = true;
    const answers = ["now", next].map((offset) => ask(stub, `?offset=${offset}&live=long-poll`, { longPollSeconds: 300 }));
    void Promise.race(answers).then(() => {
      waiting = false;
    });
    await inside(stub, () => {});
    expect(waiting).toBe(true);
    await putNumbers(stub, 3, 3);
    for (const { status, body, headers } of await Promise.all(answers)) {
      expect([status, body, headers.get("Stream-Up-To-Date")]).toEqual([200, "[3]", "true"]);
      expect(headers.get("Stream-Cursor")).toMatch(/^\d+$/);
    }
    const nothing = await ask(stub, "?offset=now&live=long-poll", { longPollSeconds: 0.01 });
    expect([nothing.status, nothing.body, nothing.headers.get("Stream-Up-To-Date")]).toEqual([204, "", "true"]);
    expect(nothing.headers.get("Stream-Cursor")).toMatch(/^\d+$/);
    expect((await ask(stub, `?offset=${nothing.next}`)).body).toBe("[]");
  });

  it("is a stream of events that ends after its time, and goes on from the last id", async () => {
    const stub = retained();
    await putNumbers(stub, 1, 3);
    const first = await ask(stub, "?offset=-1&live=sse", { sseSeconds: 0 });
    expect([first.status, first.headers.get("Content-Type")]).toEqual([200, "text/event-stream"]);
    const blocks = first.body.trim().split("\n\n");
    const { next } = await ask(stub);
    expect(blocks[0]).toBe(`event: data\ndata:[1,2,3]\nid: ${next}`);
    expect(blocks[1]).toMatch(
      new RegExp(`^event: control\ndata:{"streamNextOffset":"${next}","streamCursor":"\\d+","upToDate":true}\nid: ${next}$`),
    );
    await putNumbers(stub, 4, 4);
    // An EventSource asks at the same address, with the id of the last event.
    const again = await ask(stub, "?offset=-1&live=sse", { sseSeconds: 0, headers: { "Last-Event-ID": next } });
    expect(again.body).toMatch(/^event: data\ndata:\[4\]\n/);
  });

  it("streams what is put while it is open, and follows the log no longer when the client has gone", async () => {
    const stub = retained();
    const seen: string[] = [];
    let tails = 0;
    let leave = (): Promise<void> => Promise.resolve();
    await inside(stub, async (_, outbox) => {
      const source = {
        read: outbox.read.bind(outbox),
        async *tail(options: object) {
          tails++;
          try {
            yield* outbox.tail(options);
          } finally {
            tails--;
          }
        },
      };
      const response = await serveLog(new Request("https://log.test/?offset=now&live=sse"), {
        source,
        authorize: () => true,
        sseSeconds: 3600,
      });
      const reader = (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream()).getReader();
      leave = () => reader.cancel();
      void (async () => {
        for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) seen.push(chunk.value);
      })().catch(() => {});
    });
    await eventually(() => seen.length === 1 && tails === 1);
    for (const n of [1, 2]) {
      await putNumbers(stub, n, n);
      await eventually(() => seen.length === 1 + n);
      expect(seen[n]).toContain(`data:[${n}]`);
    }
    await eventually(() => tails === 1);
    await inside(stub, () => leave());
    await eventually(() => tails === 0);
  });

  it("shows nothing that an open transaction may yet take back", async () => {
    const stub = retained();
    await putNumbers(stub, 1, 1);
    await inside(stub, async (_, outbox) => {
      let read: Promise<Response> = Promise.resolve(new Response());
      await outbox.transaction(async (txn) => {
        await txn.send("ghost");
        read = serveLog(new Request("https://log.test/"), { source: outbox, authorize: () => true });
        await outbox.read();
        txn.rollback();
      });
      expect(await (await read).text()).toBe("[1]");
    });
  });

  it("is a batch of CloudEvents for who asks for it", async () => {
    const stub = retained();
    await inside(stub, (_, outbox) => outbox.send({ type: "order_paid", total: 1 }, { id: "own", key: "order:1" }));
    const headers = { Accept: "text/html, application/cloudevents-batch+json;q=0.9" };
    const { body, headers: got } = await ask(stub, "", { headers });
    expect(got.get("Content-Type")).toBe("application/cloudevents-batch+json");
    const [event] = JSON.parse(body) as object[];
    expect(event).toMatchObject({
      specversion: "1.0",
      id: "own",
      type: "order_paid",
      subject: "order:1",
      data: { type: "order_paid", total: 1 },
    });
    const { body: streamed } = await ask(stub, "?offset=-1&live=sse", { headers, sseSeconds: 0 });
    expect(streamed).toContain(`data:${body}`);
  });

  it("serves what comes before a message that JSON can't represent, and names that", async () => {
    const stub = retained();
    await inside(stub, async (_, outbox) => {
      await outbox.send("good");
      await outbox.send(new Map());
      await outbox.send("behind");
    });
    const { body, next, headers } = await ask(stub);
    expect([body, headers.get("Stream-Up-To-Date")]).toEqual(['["good"]', null]);
    const stuck = await ask(stub, `?offset=${next}`);
    expect([stuck.status, stuck.body]).toEqual([500, expect.stringContaining("at position 2")]);
    expect(stuck.body).toContain("a Map");
  });

  it("has text and bytes one after the other where it is not JSON", async () => {
    const stub = retained();
    await inside(stub, async (_, outbox) => {
      await outbox.send("one ");
      await outbox.send(new Uint8Array([116, 119, 111]));
    });
    expect((await ask(stub, "", { contentType: "text/plain" })).body).toBe("one two");
    const { body, headers } = await ask(stub, "?offset=-1&live=sse", { contentType: "application/octet-stream", sseSeconds: 0 });
    expect(headers.get("Stream-SSE-Data-Encoding")).toBe("base64");
    expect(body).toContain(`data:${btoa("one two")}\n`);
    await inside(stub, (_, outbox) => outbox.send({ no: "text" }));
    const { next } = await ask(stub, "", { contentType: "text/plain" });
    expect((await ask(stub, `?offset=${next}`, { contentType: "text/plain" })).status).toBe(500);
  });

  it("is served as text with the very bytes that were put, though a character is in two messages", async () => {
    const stub = retained();
    const served = await inside(stub, async (_, outbox) => {
      for (const bytes of [[0xef, 0xbb, 0xbf, 0xe2, 0x82], [0xac], [0xff]]) await outbox.send(new Uint8Array(bytes));
      const options = { source: outbox, authorize: () => true, contentType: "text/plain", sseSeconds: 0 };
      const page = await serveLog(new Request("https://log.test/"), options);
      const events = await serveLog(new Request("https://log.test/?offset=-1&live=sse"), options);
      return { bytes: [...new Uint8Array(await page.arrayBuffer())], events: await events.text() };
    });
    expect(served.bytes).toEqual([0xef, 0xbb, 0xbf, 0xe2, 0x82, 0xac, 0xff]);
    expect(served.events).toContain("data:\ufeff\u20ac\ufffd\n");
  });

  it("asks first who may read it, and lets in nobody but for true", async () => {
    const stub = retained();
    await putNumbers(stub, 1, 1);
    const bearer = { Authorization: "Bearer x" };
    for (const answer of [false, undefined, null, 0, {}, "yes", 1] as unknown as boolean[]) {
      for (const query of ["", "?offset=%", "?offset=-1&live=sse"]) {
        const authorize = () => Promise.resolve(answer);
        const { status, headers, body } = await ask(stub, query, { authorize });
        expect([answer, query, status, headers.get("WWW-Authenticate")]).toEqual([answer, query, 401, "Bearer"]);
        expect(body).not.toContain("1");
        expect((await ask(stub, query, { authorize, headers: bearer })).status).toBe(403);
        expect((await ask(stub, query, { authorize, headers: bearer, method: "POST" })).status).toBe(403);
      }
    }
    const own = await ask(stub, "", { authorize: () => new Response("go there", { status: 307 }) });
    expect([own.status, own.body]).toEqual([307, "go there"]);
    const seen: string[] = [];
    await ask(stub, "?offset=-1", { authorize: ({ url }) => seen.push(url) > 0 });
    expect(seen).toEqual(["https://log.test/?offset=-1"]);
  });

  it.each([
    ["?offset=", 400],
    ["?offset=1", 400],
    ["?offset=000000000000_1", 400],
    ["?offset=000000000000_9999999999999999", 400],
    ["?offset=-1&offset=-1", 400],
    ["?live=sse", 400],
    ["?live=long-poll", 400],
    ["?offset=-1&live=true", 400],
    ["?offset=-1&unknown=1", 200],
  ])("answers %s with %i", async (query, status) => {
    const answer = await ask(retained(), query);
    expect([answer.status, answer.headers.get("X-Content-Type-Options")]).toEqual([status, "nosniff"]);
  });

  it("is read alone", async () => {
    const stub = retained();
    for (const method of ["POST", "PUT", "DELETE", "PATCH"]) {
      const { status, headers } = await ask(stub, "", { method });
      expect([status, headers.get("Allow")]).toEqual([405, "GET, HEAD"]);
    }
  });

  it.each([
    [{ authorize: undefined }, "options.authorize"],
    [{ source: {} }, "options.source"],
    [{ source: undefined }, "options.source"],
    [{ contentType: "json" }, "options.contentType"],
    [{ longPollSeconds: -1 }, "options.longPollSeconds"],
    [{ longPollSeconds: 301 }, "options.longPollSeconds"],
    [{ sseSeconds: Number.NaN }, "options.sseSeconds"],
    [{ autorize: () => true }, "authorize"],
  ])("is not served with %o", async (options, name) => {
    const stub = retained();
    await inside(stub, async (_, outbox) => {
      const all = { source: outbox, authorize: () => true, ...options } as unknown as ServeLogOptions;
      await expect(serveLog(new Request("https://log.test/"), all)).rejects.toThrow(name);
      await expect(serveLog(new Request("https://log.test/"), all)).rejects.toBeInstanceOf(TypeError);
    });
  });

  it("must be kept", async () => {
    const stub = boxWith(backend, {});
    await expect(ask(stub)).rejects.toMatchObject({ code: "unsupported" });
  });
});
