/** Causation: what a handler sends carries the id of its cause, the correlation id and the trace, and the caller's own headers go before them. */
import { expect, it } from "vitest";
import type { OutboxPutOptions } from "../../../src/api/put-options.ts";
import type { InboxManager, OutboxEnvelope } from "../../../src/inbox/index.ts";
import { type Backend, drained, onBothBackends, sent } from "../support/harness.ts";
import { lostHeaders } from "../support/headers.ts";
import { foreign, hand, inboxOf, numbered, within } from "../support/inbox.ts";

const TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/** The headers of what a handler sends for this message, with these options. */
async function headersOf(backend: Backend, message: OutboxEnvelope, options?: OutboxPutOptions, sync = false): Promise<unknown> {
  const { stub } = inboxOf(backend);
  await within(stub, async (inbox: InboxManager) => {
    if (sync) inbox.receiveSync(message, (txn) => txn.send("answer", options));
    else await inbox.receive(message, (txn) => txn.send("answer", options));
  });
  await drained(stub);
  expect(sent(stub)).toHaveLength(1);
  return sent(stub)[0]?.headers;
}

onBothBackends("what a handler sends", (backend) => {
  const CASES: [string, OutboxEnvelope, OutboxPutOptions | undefined, object][] = [
    ["begins a correlation where there is none", numbered(1), undefined, { "correlation-id": "sender-1", "causation-id": "sender-1" }],
    [
      "goes on with the correlation, and names its own cause",
      foreign("b", { headers: { "correlation-id": "the first", "causation-id": "another" } }),
      undefined,
      { "correlation-id": "the first", "causation-id": "b" },
    ],
    [
      "goes on with the trace, and with no other header",
      numbered(1, "s", { headers: { traceparent: TRACE, tracestate: "a=1", secret: "x" } }),
      {},
      { "correlation-id": "s-1", "causation-id": "s-1", traceparent: TRACE, tracestate: "a=1" },
    ],
    [
      "goes on with both, in whatever case their names are",
      numbered(1, "s", { headers: { "Correlation-Id": "the first", TRACEPARENT: TRACE, TraceState: "a=1" } }),
      undefined,
      { "correlation-id": "the first", "causation-id": "s-1", traceparent: TRACE, tracestate: "a=1" },
    ],
    [
      "has the caller's own headers before all others, in whatever case their names are",
      numbered(1, "s", { headers: { traceparent: TRACE } }),
      { headers: { "Correlation-ID": "mine", Traceparent: "mine too" } },
      { "Correlation-ID": "mine", "causation-id": "s-1", Traceparent: "mine too" },
    ],
    [
      "has the caller's own headers before all others",
      numbered(1, "s", { headers: { traceparent: TRACE } }),
      { headers: { "correlation-id": "mine", traceparent: "mine too", more: "1" }, key: "k" },
      { "correlation-id": "mine", "causation-id": "s-1", traceparent: "mine too", more: "1" },
    ],
  ];

  it.each(CASES)("%s", async (_, message, options, headers) => {
    expect(await headersOf(backend, message, options)).toEqual(headers);
    if (backend.name === "sqlite") expect(await headersOf(backend, message, options, true)).toEqual(headers);
  });

  it("is refused with headers that are no plain object of strings, and its message is not seen", async () => {
    const { stub } = inboxOf(backend);
    await within(stub, async (inbox) => {
      for (const headers of [...Object.values(lostHeaders()), { a: 1 }]) {
        const options = { headers } as never;
        const refused = inbox.receive(numbered(1), (txn) => txn.send("lost", options));
        await expect(refused).rejects.toThrow("Expected `options.headers` to be a plain object of strings");
        if (backend.name === "kv") continue;
        const sync = () => inbox.receiveSync(numbered(1), (txn) => txn.send("lost", options));
        expect(sync).toThrow("Expected `options.headers` to be a plain object of strings");
      }
      await expect(inbox.receive(numbered(1), (txn) => txn.send("lost", 5 as never))).rejects.toThrow("Expected `options` to be an object");
      expect(await inbox.receive(numbered(1), (txn) => txn.send("sent"))).toMatchObject({ status: "processed" });
    });
    await drained(stub);
    expect(sent(stub).map(({ msg }) => msg)).toEqual(["sent"]);
  });

  it("is not asked for a message whose own headers are none", async () => {
    const { stub } = inboxOf(backend);
    for (const [name, headers] of Object.entries(lostHeaders())) {
      const refused = within(stub, (inbox) => inbox.receive(foreign("a", { headers: headers as never }), () => {}));
      await expect(refused, name).rejects.toThrow("Expected `envelope.headers` to be a plain object of strings");
    }
    const batch = await hand(stub, [foreign("b", { headers: new Map() as never }), foreign("c")]);
    expect(batch).toMatchObject([
      { id: "b", status: "failed", error: expect.stringContaining("envelope.headers") },
      { status: "processed" },
    ]);
  });

  it("goes on over several objects: each names the one before, and all of them the first", async () => {
    let message: OutboxEnvelope = numbered(1, "origin");
    for (let hop = 0; hop < 3; hop++) {
      const { stub } = inboxOf(backend);
      await within(stub, (inbox) => inbox.receive(message, (txn) => txn.send("on")));
      await drained(stub);
      const [next] = sent(stub);
      expect(next?.headers).toEqual({ "correlation-id": "origin-1", "causation-id": message.id });
      message = { v: 1, id: next?.id ?? "", msg: next?.msg, headers: next?.headers ?? {} };
    }
  });

  it("keeps its other options: an id is an idempotency key as ever", async () => {
    const { stub } = inboxOf(backend);
    const receipts = await within(stub, (inbox) =>
      Promise.all(
        [1, 2].map(async (n) => (await inbox.receive(numbered(n), (txn) => txn.send("once", { id: "the same", key: "k" }))).value),
      ),
    );
    expect(receipts).toMatchObject([{ id: "the same" }, { id: "the same", deduplicated: true }]);
    await drained(stub);
    expect(sent(stub)).toMatchObject([{ id: "the same", key: "k", headers: { "causation-id": "sender-1" } }]);
  });

  it("is refused after the end of the transaction, and is not part of a handler that failed", async () => {
    const { stub } = inboxOf(backend);
    await within(stub, async (inbox) => {
      let kept: ((msg: unknown) => Promise<unknown>) | undefined;
      await inbox.receive(numbered(1), (txn) => {
        kept = txn.send;
      });
      await expect(kept?.("late")).rejects.toMatchObject({ code: "unsupported" });
      const failing = inbox.receive(numbered(2), async (txn) => {
        await txn.send("ghost");
        throw new Error("no");
      });
      await expect(failing).rejects.toThrow("no");
      await inbox.receive(numbered(2), (txn) => txn.send("real"));
    });
    await drained(stub);
    expect(sent(stub)).toMatchObject([{ msg: "real", sequence: 1 }]);
  });
});
