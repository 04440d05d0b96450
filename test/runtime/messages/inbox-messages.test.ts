/** The option `messages` of an inbox, and the version of a message on its way: in the envelope and in a CloudEvent. */
import { describe, expect, it } from "vitest";
import { cloudEvent } from "../../../src/destinations/cloud-event.ts";
import { toDurableObject } from "../../../src/destinations/index.ts";
import { envelopeOf, type OutboxEnvelope, readEnvelope } from "../../../src/inbox/index.ts";
import type { MessageSchemas } from "../../../src/index.ts";
import { messages, record } from "../../support/destinations/recorder.ts";
import { schemaOf } from "../../support/schema.ts";
import { LIBRARIES } from "../../support/schemas.ts";
import { env, eventually, inside, onEitherBackend, type Stub } from "../support/harness.ts";
import { deskOf, hand, inboxOf, type Receive, within } from "../support/inbox.ts";
import { objectWith, receivers } from "../support/named.ts";

interface Old {
  order?: number;
  total?: unknown;
}

/** `order_paid` in this version: its total became a text in version 2, and got a currency in version 3. */
const paid = (
  version: 1 | 2 | 3,
  schema = schemaOf((value) => ((value as Old).order === 13 ? { issues: [{ message: "unlucky", path: ["order"] }] } : { value })),
) =>
  ({
    order_paid: {
      schema,
      version,
      upcast: Object.fromEntries(
        [(old: Old) => ({ ...old, total: String(old.total) }), (old: Old) => ({ ...old, total: { amount: old.total, currency: "EUR" } })]
          .slice(0, version - 1)
          .map((up, i) => [i + 1, up]),
      ),
      dataschema: `https://example.com/order_paid/${version}`,
    },
  }) satisfies MessageSchemas;

const envelope = (id: string, msg: unknown, more: object = {}): OutboxEnvelope => ({ v: 1, id, msg, ...more });
const v1 = (order: number) => ({ type: "order_paid", order, total: order });

/** What the handler gets of each message. */
function handled(stub: Stub): OutboxEnvelope[] {
  const got: OutboxEnvelope[] = [];
  deskOf(stub).receive = async (message, txn) => {
    got.push(structuredClone(message));
    await txn.put(`handled:${message.id}`, 1);
  };
  return got;
}

const receive = (stub: Stub, ...envelopes: OutboxEnvelope[]) => hand(stub, envelopes);

onEitherBackend("the option messages of an inbox", (backend) => {
  it.each(Object.entries(LIBRARIES))("checks what arrives with schemas of %s, and hands over their output", async (_, library) => {
    const { stub, told } = inboxOf(backend, "the inbox alone", { messages: library });
    const got = handled(stub);
    const bad = envelope("2", { type: "order_created", order: 1, items: [{ price: "free" }] });
    const outcomes = await receive(
      stub,
      envelope("1", { type: "order_created", order: 1, items: [] }, { headers: { h: "1" } }),
      bad,
      envelope("3", { type: "order_paid", total: "12" }),
      envelope("4", { type: "unknown" }),
      envelope("5", "no type"),
    );
    expect(outcomes.map(({ id, status, code }) => [id, status, code])).toEqual([
      ["1", "processed", undefined],
      ["2", "failed", "invalid_message"],
      ["3", "processed", undefined],
      ["4", "failed", "invalid_message"],
      ["5", "processed", undefined],
    ]);
    expect(outcomes[1]?.error).toContain("`msg.items[0].price`");
    expect(got.map(({ msg }) => msg)).toEqual([
      { type: "order_created", order: 1, note: "none", items: [] },
      { type: "order_paid", total: 12 },
      "no type",
    ]);
    expect(got[0]?.headers).toEqual({ h: "1" });
    // It leaves no mark, so that it can be sent again once it is right.
    expect(await receive(stub, { ...bad, msg: { type: "order_created", order: 1, items: [] } })).toEqual([
      { id: "2", status: "processed" },
    ]);
    expect(told.find(({ type }) => type === "failed")).toMatchObject({ id: "2", cause: { issues: [{ path: ["items", 0, "price"] }] } });
  });

  it("brings what arrives to the version that its handler knows, before it is checked", async () => {
    const checked: unknown[] = [];
    const schema = schemaOf((value) => {
      checked.push(structuredClone(value));
      return { value };
    });
    const { stub } = inboxOf(backend, "the inbox alone", { messages: paid(3, schema) });
    const got = handled(stub);
    const current = { type: "order_paid", order: 3, total: { amount: "3", currency: "USD" } };
    await receive(
      stub,
      envelope("1", v1(1)),
      envelope("2", { ...v1(2), total: "2" }, { version: 2 }),
      envelope("3", current, { version: 3 }),
    );
    const expected = [
      { ...v1(1), total: { amount: "1", currency: "EUR" } },
      { ...v1(2), total: { amount: "2", currency: "EUR" } },
      current,
    ];
    expect(got.map(({ msg }) => msg)).toEqual(expected);
    expect(checked).toEqual(expected);
    expect(got.map(({ version }) => version)).toEqual([3, 3, 3]);
  });

  it("does not handle what is newer than its deployment, and holds back its key alone", async () => {
    const { stub } = inboxOf(backend, "the inbox alone", { messages: paid(2) });
    const got = handled(stub);
    const all = [envelope("1", v1(1), { version: 3, key: "k" }), envelope("2", v1(2), { key: "k" }), envelope("3", v1(3))];
    expect((await receive(stub, ...all)).map(({ status, code }) => [status, code])).toEqual([
      ["failed", "version_ahead"],
      ["failed", undefined],
      ["processed", undefined],
    ]);
    expect(got.map(({ id }) => id)).toEqual(["3"]);
  });

  it("answers duplicate to what it has processed, whatever its schemas say now", async () => {
    let refuses = false;
    const schema = schemaOf((value) => (refuses ? { issues: [{ message: "no" }] } : { value }));
    const { stub } = inboxOf(backend, "the inbox alone", { messages: paid(1, schema) });
    handled(stub);
    await receive(stub, envelope("1", v1(1)));
    refuses = true;
    expect(await receive(stub, envelope("1", v1(1)))).toEqual([{ id: "1", status: "duplicate" }]);
  });

  it("checks a message that arrives early at once, keeps it as it has come, and brings it up when its turn comes", async () => {
    const { stub } = inboxOf(backend, "the inbox alone", { messages: paid(2), ordered: true });
    const got = handled(stub);
    const numbered = (sequence: number, order: number) => envelope(`s-${sequence}`, v1(order), { source: "s", sequence });
    expect((await receive(stub, numbered(2, 2), numbered(3, 13))).map(({ status, code }) => [status, code])).toEqual([
      ["waiting", undefined],
      ["failed", "invalid_message"],
    ]);
    const stored = await inside(stub, async (_, __, state) =>
      JSON.stringify([...(await Object.getPrototypeOf(state.storage).list.call(state.storage)).values()]),
    );
    expect(stored.replaceAll("\\", "")).toMatch(/"?total"?:2\b/);
    await receive(stub, numbered(1, 1));
    expect(got.map(({ msg }) => msg)).toEqual([
      { ...v1(1), total: "1" },
      { ...v1(2), total: "2" },
    ]);
  });

  it("waits for async schemas in receive, and says what to call in place of receiveSync", async () => {
    const schema = schemaOf(async (value) =>
      (value as Old).order === 13 ? { issues: [{ message: "unlucky" }] } : { value: { ...(value as object), later: true } },
    );
    const { stub } = inboxOf(backend, "the inbox alone", { messages: paid(1, schema) });
    const got = handled(stub);
    expect(await receive(stub, envelope("1", v1(1)), envelope("2", v1(13)))).toEqual([
      { id: "1", status: "processed" },
      { id: "2", status: "failed", code: "invalid_message", error: expect.stringContaining("unlucky") },
    ]);
    expect(got.map(({ msg }) => msg)).toEqual([{ ...v1(1), later: true }]);
    if (backend.name === "kv") return;
    await within(stub, (inbox) => {
      expect(() => inbox.receiveSync(envelope("3", v1(3)), () => {})).toThrow("receive()");
    });
  });

  it("checks in receiveSync as well", async () => {
    if (backend.name === "kv") return;
    const { stub } = inboxOf(backend, "the inbox alone", { messages: paid(2) });
    await within(stub, (inbox) => {
      expect(inbox.receiveSync(envelope("1", v1(1)), (_, { msg }) => msg).value).toEqual({ ...v1(1), total: "1" });
      expect(() => inbox.receiveSync(envelope("2", v1(13)), () => expect.fail("it was handled"))).toThrow("unlucky");
    });
  });

  it("does not blame the message that has arrived for what its handler sends", async () => {
    const { stub } = inboxOf(backend, "the inbox around the outbox", { messages: paid(1) }, { messages: paid(1) });
    deskOf(stub).receive = (async (_, txn) => txn.send(v1(13))) satisfies Receive;
    const [outcome] = await receive(stub, envelope("1", v1(1)));
    expect(outcome).toEqual({ id: "1", status: "failed", error: expect.stringContaining("unlucky") });
  });

  it("gets the version and the place of the schema with a message, from the outbox that has sent it", async () => {
    const all = receivers("one");
    const stub = objectWith(backend, all, { one: {} }, { messages: paid(3) });
    await inside(stub, (_, outbox) => Promise.all([outbox.send({ type: "order_paid", order: 1 }), outbox.send("no type")]));
    await eventually(() => all.one.calls.flat().length >= 2);
    const [typed, plain] = all.one.calls.flat().map((message) => envelopeOf(message)) as [OutboxEnvelope, OutboxEnvelope];
    expect(typed).toMatchObject({ version: 3, dataschema: "https://example.com/order_paid/3", msg: { type: "order_paid", order: 1 } });
    expect(readEnvelope(JSON.parse(JSON.stringify(typed)))).toEqual(typed);
    expect(Object.keys(plain)).not.toContain("version");
    const events = all.one.calls.flat().map((message) => JSON.parse(cloudEvent(message)) as { dataschema?: string });
    expect(events.map(({ dataschema }) => dataschema)).toEqual(["https://example.com/order_paid/3", undefined]);
  });
});

describe("an envelope", () => {
  it.each([
    ["version", [0, 1.5, "2", null, 10_001, Number.NaN]],
    ["dataschema", ["", 5, null, "x".repeat(2049)]],
  ])("with a wrong %s is refused by its name", (name, values) => {
    for (const value of values) expect(() => readEnvelope(envelope("1", 1, { [name]: value }))).toThrow(`envelope.${name}`);
  });
});

describe("toDurableObject", () => {
  const answering = (answer: object) =>
    toDurableObject(
      {
        idFromName: (name: string) => env.OTHER_SQLITE.idFromName(name),
        get: () => ({
          receiveMessages: async (list: OutboxEnvelope[]) => list.map(({ id }) => ({ id, status: "failed", error: "no", ...answer })),
        }),
      },
      () => "target",
    );

  it.each([
    ["invalid_message", "reject no"],
    ["version_ahead", "wait"],
    ["something later", "retry"],
    [undefined, "retry"],
  ])("gives a message that was refused with the code %s the outcome that fits", async (code, expected) => {
    const { outcomes } = await record(answering({ code }), messages(1));
    expect(outcomes).toEqual({ 1: expected });
  });
});
