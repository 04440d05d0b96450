/** Reporting: what fails is logged once, on one line that says what and what to do, and is in an event that names it. */
import { afterEach, expect, it, vi } from "vitest";
import { byType, type Destination, toDurableObject } from "../../../src/destinations/index.ts";
import { type OutboxEvent, type OutboxOptions, withTransactionalOutbox } from "../../../src/index.ts";
import { type Backend, declared, env, eventually, inside, onBothBackends, redeclared, type Stub } from "../support/harness.ts";
import { deskOf, effect, hand, inboxOf, numbered } from "../support/inbox.ts";
import { idle, listed } from "../support/standing.ts";
import { Box, options, stageOf } from "../support/worker.ts";

const HOURS = { minDelaySeconds: 3600, maxDelaySeconds: 3600, jitter: 0 };

interface Reported {
  readonly stub: Stub;
  readonly events: OutboxEvent[];
  readonly warn: string[];
  readonly error: string[];
}

afterEach(() => {
  vi.restoreAllMocks();
});

/** What an object logs: the lines that name it, whatever others do at the same time. */
function linesOf(level: "warn" | "error", object: string): string[] {
  const lines: string[] = [];
  const spy = vi.mocked(console[level]);
  const log = vi.isMockFunction(spy) ? spy : vi.spyOn(console, level).mockImplementation(() => {});
  const before = log.getMockImplementation();
  log.mockImplementation((...args: unknown[]) => {
    before?.(...args);
    if (String(args[0]).includes(`object=${JSON.stringify(object)}`)) lines.push(args.join(" "));
  });
  return lines;
}

/** An object that reports everything that happens to it. Its `sendMessages` is the one that is given, or its stage's. */
function reporting(backend: Backend, chosen: OutboxOptions<"OUTBOX_MANAGER"> = {}, send?: Destination<never>, name?: string): Reported {
  const events: OutboxEvent[] = [];
  const settings = { ...options, ...chosen, onEvent: (event: OutboxEvent) => void events.push(event) };
  class Reporting extends Box {
    constructor(ctx: DurableObjectState, env: never) {
      super(ctx, env);
      if (send) Object.assign(this, { sendMessages: send });
    }
  }
  const cls = withTransactionalOutbox(Reporting, settings);
  const named = name === undefined ? undefined : backend.form.get(backend.form.idFromName(name));
  const stub = named ? redeclared(named, cls) : declared(backend, cls);
  const object = name ?? stub.id.toString();
  const used = named ? backend.form.get(backend.form.idFromName(name ?? "")) : stub;
  return { stub: used, events, warn: linesOf("warn", object), error: linesOf("error", object) };
}

const paid = { type: "order_paid", order: 7 };

onBothBackends("a failure", (backend) => {
  it("is logged once a streak, on one line that says what, where, why and what to do", async () => {
    const { stub, warn, error } = reporting(backend, { retry: { minDelaySeconds: 0.01, maxDelaySeconds: 0.01, jitter: 0 } });
    const stage = stageOf(stub);
    const fails = () => {
      throw new Error("the queue\nis full.");
    };
    stage.script.push(fails, fails, fails, () => {}, fails);
    const { id } = await inside(stub, (_, outbox) => outbox.send(paid, { key: "customer 1" }));
    await idle(stub);
    expect(warn).toHaveLength(1);
    expect(warn[0]).toMatch(/^\[do-transactional-outbox\] Delivery failed: the queue is full\. object="/);
    expect(warn[0]).toContain(`destination="default" id="${id}" key="customer 1" type="order_paid" attempts=1. 1 message is waiting; `);
    expect(warn[0]).toMatch(/the next attempt is in [01] s\. Fix the destination, or call flush\(\) to try now\.$/);
    // A new streak is another line.
    await inside(stub, (_, outbox) => outbox.send(paid));
    await idle(stub);
    expect(warn).toHaveLength(2);
    expect(error).toEqual([]);
  });

  it("of one message is logged the first time", async () => {
    const { stub, warn } = reporting(backend, { retry: { minDelaySeconds: 0.01, maxDelaySeconds: 0.01, jitter: 0 } });
    for (let times = 0; times < 3; times++) {
      stageOf(stub).script.push(([message], delivery) => delivery.retry(message?.id ?? "", { reason: new Error("no stock") }));
    }
    const { id } = await inside(stub, (_, outbox) => outbox.send(paid, { key: "k" }));
    await idle(stub);
    expect(warn).toHaveLength(1);
    expect(warn[0]).toContain(`A message failed: no stock. object=`);
    expect(warn[0]).toContain(`destination="default" id="${id}" key="k" type="order_paid" attempts=1. Its next attempt is in `);
  });

  it("of a call that had given every message its outcome is logged as well", async () => {
    const { stub, warn, events } = reporting(backend);
    stageOf(stub).script.push((messages, delivery) => {
      for (const { id } of messages) delivery.ack(id);
      throw new Error("too late");
    });
    await inside(stub, (_, outbox) => outbox.send(1));
    await idle(stub);
    await eventually(() => events.some(({ type }) => type === "failed"));
    expect(warn).toEqual([expect.stringContaining("sendMessages failed: too late.")]);
  });
});

onBothBackends("a dead letter", (backend) => {
  it("is logged once, with its cause, whether or not anybody listens", async () => {
    const { stub, error, warn } = reporting(backend, { retry: { maxAttempts: 1 } });
    stageOf(stub).script.push(([first, second], delivery) => {
      delivery.reject(first?.id ?? "", new Error("no such address"));
      delivery.retry(second?.id ?? "", { reason: "busy" });
    });
    const ids = await inside(stub, async (_, outbox) => [await outbox.send(paid, { key: "a" }), await outbox.send({})]);
    await idle(stub);
    await eventually(() => error.length >= 2);
    const what = `A message became a dead letter`;
    const object = stub.id.toString();
    const todo = "Fix the cause, then call redrive() to send it again, or discard() to delete it.";
    expect(error).toEqual([
      `[do-transactional-outbox] ${what} (rejected): no such address. object="${object}" destination="default" id="${ids[0]?.id}" key="a" type="order_paid" attempts=1. ${todo}`,
      `[do-transactional-outbox] ${what} (max_attempts): busy. object="${object}" destination="default" id="${ids[1]?.id}" attempts=1. ${todo}`,
    ]);
    expect(warn).toEqual([]);
  });

  it("is one of a thousand without being one of a thousand lines", async () => {
    const { stub, error, events } = reporting(backend);
    stageOf(stub).rest = (messages, delivery) => {
      for (const { id } of messages) delivery.reject(id, "never");
    };
    await inside(stub, (_, outbox) => Promise.all(Array.from({ length: 1000 }, (_, n) => outbox.send(n))));
    await idle(stub);
    await eventually(() => events.filter(({ type }) => type === "dead").length === 1000);
    expect(error).toHaveLength(5);
  });

  it("names the object, where the platform knows its name", async () => {
    const name = `order "7" of ${backend.name}`;
    const { stub, error, events } = reporting(backend, {}, undefined, name);
    stageOf(stub).script.push(([message], delivery) => delivery.reject(message?.id ?? "", "no"));
    await inside(stub, (_, outbox) => outbox.send(1));
    await idle(stub);
    await eventually(() => events.some(({ type }) => type === "dead"));
    expect(error).toHaveLength(1);
    expect(new Set(events.map(({ object }) => object))).toEqual(new Set([name]));
  });
});

onBothBackends("an event", (backend) => {
  it("names object, destination, id, key and type of the message", async () => {
    const { stub, events } = reporting(backend, { retry: HOURS });
    const object = stub.id.toString();
    const at = { object, destination: "default" };
    stageOf(stub).script.push(() => {
      throw new RangeError("down");
    });
    const { id } = await inside(stub, (_, outbox) => outbox.send(paid, { key: "k" }));
    const message = { id, key: "k", messageType: "order_paid" };
    await eventually(() => events.some(({ type }) => type === "breaker_opened"));
    stageOf(stub).script.push(([first], delivery) => delivery.reject(first?.id ?? "", new RangeError("never")));
    await inside(stub, (_, outbox) => outbox.flush());
    await eventually(() => events.some(({ type }) => type === "breaker_closed"));
    expect(events).toMatchObject([
      { type: "stored", object, ...message, sequence: 1 },
      { type: "failed", ...at, ...message, ids: [id], attempts: 1, error: "down", cause: new RangeError("down"), failures: 1 },
      { type: "breaker_opened", ...at, ...message, attempts: 1, error: "down", cause: new RangeError("down"), waiting: 1 },
      { type: "dead", ...at, ...message, reason: "rejected", attempts: 2, error: "never", cause: new RangeError("never") },
      { type: "breaker_closed", ...at },
    ]);
  });

  it("is plain data, of which JSON loses nothing", async () => {
    const { stub, events } = reporting(backend);
    const cause = Object.assign(new TypeError("bad", { cause: new Error("deeper") }), { code: "E_BAD", at: 5n });
    stageOf(stub).script.push(([message], delivery) => delivery.reject(message?.id ?? "", cause));
    await inside(stub, (_, outbox) => outbox.send(paid));
    await idle(stub);
    const event = await eventually(() => events.find(({ type }) => type === "dead"));
    expect(event).toMatchObject({ error: "bad", cause });
    expect(Object.keys(event)).not.toContain("toJSON");
    const { cause: told, ...rest } = JSON.parse(JSON.stringify(event));
    expect(rest).toEqual({ ...event, cause: undefined });
    expect(told).toMatchObject({ name: "TypeError", message: "bad", code: "E_BAD", at: "5", cause: { name: "Error", message: "deeper" } });
    expect(told.stack).toContain("TypeError: bad");
    expect(structuredClone(event)).toMatchObject({ type: "dead", cause: { message: "bad" } });
  });
});

onBothBackends("a receiver's error", (backend) => {
  it("goes from toDurableObject into the dead letter, the event and the line", async () => {
    const { INBOX_SQLITE, INBOX_KV } = env as unknown as { [name: string]: DurableObjectNamespace };
    const inboxes = (backend.name === "kv" ? INBOX_KV : INBOX_SQLITE) as DurableObjectNamespace;
    const send = toDurableObject(inboxes, () => inboxes.newUniqueId());
    const { stub, events, error } = reporting(backend, { retry: { maxAttempts: 1 } }, send);
    const { id } = await inside(stub, (_, outbox) => outbox.send({ type: "order_paid", fails: -1 }));
    await idle(stub);
    const why = `It refuses ${id}.`;
    expect(await listed(stub, "dead")).toMatchObject([{ error: why }]);
    await eventually(() => events.some(({ type }) => type === "dead"));
    expect(events.find(({ type }) => type === "dead")).toMatchObject({ id, error: why, messageType: "order_paid" });
    expect(error).toEqual([expect.stringContaining(`(max_attempts): It refuses ${id}. object=`)]);
  });

  it("says that the target has no inbox", async () => {
    const { stub, warn } = reporting(
      backend,
      { retry: HOURS },
      // @ts-expect-error It does not compile either.
      toDurableObject(backend.namespace, () => backend.namespace.newUniqueId()),
    );
    await inside(stub, (_, outbox) => outbox.send(1));
    await eventually(() => warn.length > 0);
    expect(warn[0]).toContain("Delivery failed: The object has no inbox: wrap its class with withTransactionalInbox(). The RPC receiver");
  });

  it("of one route goes from byType into the dead letter and the event", async () => {
    const send = byType<{ type: "fine" } | { type: "order_paid" }>({
      fine: async () => {},
      order_paid: async () => {
        throw new Error("The ledger is read-only.");
      },
    }) as Destination<never>;
    const { stub, events } = reporting(backend, { retry: { maxAttempts: 1 } }, send);
    await inside(stub, (_, outbox) => Promise.all([outbox.send({ type: "fine" }), outbox.send(paid), outbox.send({ type: "unknown" })]));
    await idle(stub);
    await eventually(() => events.filter(({ type }) => type === "dead").length === 2);
    expect(events.filter(({ type }) => type === "dead")).toMatchObject([
      { messageType: "order_paid", error: "The ledger is read-only.", cause: new Error("The ledger is read-only.") },
      { messageType: "unknown", error: 'No route for type "unknown".' },
    ]);
  });
});

onBothBackends("an inbox", (backend) => {
  it.each([
    ["throws", () => expect.fail("no stock"), "no stock"],
    ["rejects", () => Promise.reject(new Error("no stock")), "no stock"],
    ["rolls back", (_: unknown, txn: { rollback(): void }) => txn.rollback(), "The handler rolled back."],
  ] as const)("logs a message once whose handler %s, however often it comes", async (_, fails, why) => {
    const { stub, told } = inboxOf(backend);
    const warn = linesOf("warn", stub.id.toString());
    deskOf(stub).receive = fails as never;
    const envelope = numbered(1, "sender", { key: "k", msg: paid });
    for (let times = 0; times < 3; times++) await hand(stub, [envelope]);
    expect(warn).toEqual([
      `[do-transactional-outbox] A message failed: ${why.replace(/\.$/, "")}. object="${stub.id}" id="sender-1" key="k" type="order_paid". Nothing was written; it is processed again when it arrives again.`,
    ]);
    expect(told).toHaveLength(3);
    expect(told[0]).toMatchObject({ type: "failed", object: stub.id.toString(), id: "sender-1", key: "k", messageType: "order_paid" });
    expect(told[0]).toMatchObject({ error: why, cause: expect.any(Error) });
    deskOf(stub).receive = effect;
    expect(await hand(stub, [envelope])).toEqual([{ id: "sender-1", status: "processed" }]);
  });

  it("logs an envelope that it can't read", async () => {
    const { stub, told } = inboxOf(backend);
    const warn = linesOf("warn", stub.id.toString());
    await hand(stub, [{ v: 2, id: "odd" } as never, "none" as never]);
    expect(warn).toEqual([
      expect.stringMatching(/A message failed: Expected `envelope\.v` to be 1, got 2\. object="\w+" id="odd"\. /),
      expect.stringMatching(/A message failed: Expected `envelope` to be an object, got "none"\. object="\w+" id=""\. /),
    ]);
    expect(told.map(({ type }) => type)).toEqual(["failed", "failed"]);
  });
});
