/** `receiveMessages` over RPC: an outcome for each message, and a failure that holds up no one but those with its key. */
import { describe, expect, it } from "vitest";
import type { OutboxEnvelope } from "../../../src/inbox/index.ts";
import { env } from "../support/harness.ts";
import { foreign, hand, inboxOf, numbered, once, within } from "../support/inbox.ts";
import type { RpcInbox } from "../support/inbox-worker.ts";

type Stub = DurableObjectStub<RpcInbox>;

const { INBOX_SQLITE, INBOX_KV } = env as unknown as Record<string, DurableObjectNamespace<RpcInbox>>;
const NAMESPACES = [
  ["sqlite", INBOX_SQLITE],
  ["kv", INBOX_KV],
] as [string, DurableObjectNamespace<RpcInbox>][];

const statuses = async (stub: Stub, messages: unknown[]): Promise<string[]> =>
  ((await stub.receiveMessages(messages as OutboxEnvelope[])) as { status: string }[]).map(({ status }) => status);

describe.each(NAMESPACES)("receiveMessages over RPC (%s)", (_, namespace) => {
  const fresh = (): Stub => namespace.get(namespace.newUniqueId());

  it("processes each message once, within a call and over calls", async () => {
    const stub = fresh();
    const all = [numbered(1), numbered(2), numbered(1), foreign("a"), foreign("a"), numbered(9, "other")];
    const outcomes = await stub.receiveMessages(all);
    expect(outcomes).toEqual(
      ["processed", "processed", "duplicate", "processed", "duplicate", "processed"].map((status, n) => ({ id: all[n]?.id, status })),
    );
    expect(await statuses(stub, all)).toEqual(all.map(() => "duplicate"));
    expect(await stub.effects()).toEqual(once(all.map(({ id }) => id)));
    expect(await stub.turns()).toEqual(["sender-1", "sender-2", "a", "other-9"]);
  });

  it("processes each message once when ten calls bring all of them at the same time", async () => {
    const stub = fresh();
    const all = Array.from({ length: 20 }, (_, n) => numbered(n + 1));
    const calls = await Promise.all(Array.from({ length: 10 }, () => statuses(stub, all)));
    expect(calls.flat().filter((status) => status === "processed")).toHaveLength(20);
    expect(await stub.effects()).toEqual(once(all.map(({ id }) => id)));
  });

  it("holds up those with the ordering key of one that fails, and no other", async () => {
    const stub = fresh();
    const a = (sequence: number, msg: unknown = {}) => numbered(sequence, "s", { key: "a", msg });
    const all = [
      a(1),
      a(2, { fails: 1 }),
      a(3),
      numbered(4, "s", { key: "b" }),
      numbered(5, "s"),
      a(6),
      numbered(7, "s", { msg: { fails: 1 } }),
    ];
    const first = await stub.receiveMessages(all);
    expect(first.map(({ status }) => status)).toEqual(["processed", "failed", "failed", "processed", "processed", "failed", "failed"]);
    expect(first[1]?.error).toBe("It refuses s-2.");
    expect(first[2]?.error).toContain("ordering key");
    const second = await statuses(stub, all);
    expect(second).toEqual(["duplicate", "processed", "processed", "duplicate", "duplicate", "processed", "processed"]);
    expect(await stub.turns()).toEqual(["s-1", "s-4", "s-5", "s-2", "s-3", "s-6", "s-7"]);
    expect(await stub.effects()).toEqual(once(all.map(({ id }) => id)));
  });

  it("holds up no one else's key of the same name, and a sender's key through its epochs", async () => {
    const stub = fresh();
    const keyed = (source: string, sequence: number, msg: unknown = {}) => numbered(sequence, source, { key: "events", msg });
    const all = [
      keyed("one:epoch-1", 1, { fails: 1 }),
      keyed("two:epoch-1", 1),
      keyed("one:epoch-2", 1),
      foreign("a", { key: "events" }),
      keyed("two:epoch-2", 1),
    ];
    expect(await statuses(stub, all)).toEqual(["failed", "processed", "failed", "processed", "processed"]);
  });

  it("calls a message failed whose handler rolled back", async () => {
    const stub = fresh();
    expect(await statuses(stub, [numbered(1, "s", { msg: { rollsBack: true } })])).toEqual(["failed"]);
    expect(await stub.effects()).toEqual({});
  });

  it("gives bad envelopes an outcome, and takes those beside them", async () => {
    const stub = fresh();
    const bad = [null, 1, "text", {}, { v: 1, id: 7, msg: 1 }, { v: 1, id: "x".repeat(300), msg: 1 }, { v: 2, id: "later", msg: 1 }];
    const outcomes = await stub.receiveMessages([...bad, numbered(1)] as OutboxEnvelope[]);
    expect(outcomes.map(({ id, status }) => [id, status])).toEqual([
      ...["", "", "", "", "", "x".repeat(256), "later"].map((id) => [id, "failed"]),
      ["sender-1", "processed"],
    ]);
    expect(await stub.effects()).toEqual(once(["sender-1"]));
  });

  it("loses nothing and doubles nothing when the object dies in the middle of a call", async () => {
    const id = namespace.newUniqueId();
    const all = [numbered(1), numbered(2, "sender", { msg: { dies: 1 } }), numbered(3)];
    const dying = namespace.get(id);
    await expect(statuses(dying, all)).rejects.toThrow("the target dies");
    const next = namespace.get(id);
    expect((await statuses(next, all)).slice(1)).toEqual(["processed", "processed"]);
    expect(await next.effects()).toEqual(once(all.map(({ id }) => id)));
  });
});

describe("receiveMessages", () => {
  const backend = { name: "sqlite", namespace: env.BOX_SQLITE, other: env.OTHER_SQLITE, form: env.FORM_SQLITE } as const;

  it("refuses what is no list, and a list of more than a thousand", async () => {
    const { stub } = inboxOf(backend);
    await expect(hand(stub, {} as never)).rejects.toThrow(/`envelopes`/);
    await expect(
      hand(
        stub,
        Array.from({ length: 1001 }, (_, n) => numbered(n + 1)),
      ),
    ).rejects.toThrow(/1000/);
  });

  it.each([
    ["x".repeat(9999), 500],
    [`${"x".repeat(499)}${"😀".repeat(99)}`, 499],
  ])("cuts what it tells of an error at 500 characters, and never within one: %#", async (message, length) => {
    const cls = class {
      receiveMessage() {
        throw new Error(message);
      }
      get inbox() {
        return undefined;
      }
    };
    const { stub } = inboxOf(backend, "the inbox alone", {}, {}, cls as never);
    const [outcome] = await hand(stub, [numbered(1)]);
    expect(outcome?.error).toBe("x".repeat(length));
  });

  it("needs a class with receiveMessage", async () => {
    const { stub } = inboxOf(backend, "the inbox alone", {}, {}, class {} as never);
    await expect(hand(stub, [numbered(1)])).rejects.toThrow("receiveMessage");
  });

  it("calls a receiveMessage that an instance or a subclass of the wrapped class has put there", async () => {
    const calls: string[] = [];
    const own = inboxOf(
      backend,
      "the inbox alone",
      {},
      {},
      class {
        receiveMessage = ({ id }: OutboxEnvelope) => void calls.push(`own ${id}`);
      } as never,
    );
    await within(own.stub, (_, box) => box.receiveMessages([numbered(1)]));
    expect(calls).toEqual(["own sender-1"]);
  });
});
