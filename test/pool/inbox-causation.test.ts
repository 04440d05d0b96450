/** Causation: what a handler sends carries the id of its cause, the correlation id and the trace, and the caller's own headers go before them. */
import { expect, it } from "vitest";
import type { InboxManager, OutboxEnvelope } from "../../src/inbox/index.ts";
import type { OutboxPutOptions } from "../../src/put-options.ts";
import { type Backend, drained, onBothBackends, sent } from "./harness.ts";
import { foreign, inboxOf, numbered, within } from "./inbox.ts";

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
