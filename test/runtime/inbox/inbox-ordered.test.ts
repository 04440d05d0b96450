/** Ordered mode: what comes early waits for its predecessors, what fails there is tried again by the alarm, and order can be given up. */
import { expect, it } from "vitest";
import type { InboxEvent, InboxHandler, InboxManager, InboxOptions } from "../../../src/inbox/index.ts";
import { type Backend, inside, onBothBackends, redeclared, type Stub } from "../support/harness.ts";
import {
  counting,
  deskOf,
  diesAfter,
  effect,
  effects,
  hand,
  InboxBox,
  inboxOf,
  nativeAlarm,
  numbered,
  once,
  onThreeStacks,
  receive,
  rows,
  within,
  wrapped,
} from "../support/inbox.ts";
import { forward, ringAt } from "../support/lanes.ts";
import { stageOf } from "../support/worker.ts";

const ordered = (backend: Backend, chosen: InboxOptions = {}, cls?: Parameters<typeof inboxOf>[4]): { stub: Stub; told: InboxEvent[] } =>
  inboxOf(backend, "the inbox around the outbox", { ordered: true, ...chosen }, {}, cls);

/** Notes the order in which messages have their effects, in the object itself. */
const inTurn: InboxHandler = async (txn, { id }) => txn.put("turns", [...((await txn.get<string[]>("turns")) ?? []), id]);
const turns = (stub: Stub): Promise<string[] | undefined> => within(stub, (_, __, { storage }) => storage.get<string[]>("turns"));

/** The alarm rings when it stands, and the clock with it. Gives how far ahead that was, in seconds. */
async function ring(stub: Stub): Promise<number> {
  const due = (await nativeAlarm(stub)) ?? expect.fail("No alarm stands.");
  const ahead = (due - Date.now()) / 1000;
  forward(Math.max(0, ahead) + 0.001);
  await ringAt(stub, due);
  return ahead;
}

const waitingRows = async (stub: Stub): Promise<number> => [...(await rows(stub)).keys()].filter((key) => key.startsWith("w")).length;

onThreeStacks("an ordered inbox", (make) => {
  it("fails a message alone that comes early and that no row takes, and processes it when its turn has come", async () => {
    const stub = make({ ordered: true });
    await within(stub, (_, box) => void Object.assign(box, { life: "the first" }));
    const big = numbered(2, "big", { msg: "x".repeat(2_300_000) });
    const shared = numbered(2, "shared", { msg: [new SharedArrayBuffer(1)] });
    const outcomes = await hand(stub, [numbered(1, "before"), big, shared, numbered(1, "after")]);
    expect(outcomes.map(({ status }) => status)).toEqual(["processed", "failed", "failed", "processed"]);
    expect(outcomes[1]?.error).toMatch(/envelope takes \d+ bytes; the limit is \d+/);
    expect(outcomes[2]?.error).toMatch(/SharedArrayBuffer/);
    expect(await hand(stub, [numbered(1, "big"), big])).toMatchObject([{ status: "processed" }, { status: "processed" }]);
    // What is in memory only has survived: the object was never reset.
    expect(await within(stub, (_, box) => (box as { life?: string }).life)).toBe("the first");
  });

  it("keeps what waits as it was, whatever it is, and over a crash", async () => {
    let stub = make({ ordered: true });
    const messages = ["text", { n: 1 }, new Date(5), new Map([["a", new Set([1])]]), [undefined], "x".repeat(100_000)];
    for (const [i, msg] of messages.entries()) expect(await receive(stub, numbered(i + 2, "sender", { msg }))).toBe("waiting");
    stub = await diesAfter(stub, () => {});
    const got: unknown[] = [];
    await within(stub, (inbox) => inbox.receive(numbered(1), (_, { msg }) => void got.push(structuredClone(msg))));
    expect(got).toEqual([{ n: 1 }, ...messages]);
  });

  it("processes what comes in any order in the order of its numbers", async () => {
    const stub = make({ ordered: true });
    const statuses: string[] = [];
    for (const n of [3, 5, 1, 2, 7, 6, 4]) statuses.push(await receive(stub, numbered(n), inTurn));
    expect(statuses).toEqual(["waiting", "waiting", "processed", "processed", "waiting", "waiting", "processed"]);
    expect(await turns(stub)).toEqual([1, 2, 3, 4, 5, 6, 7].map((n) => `sender-${n}`));
    // Nothing of the waiting is left.
    expect(await rows(stub)).toEqual(new Map([['s"sender"', { high: 7, gaps: [], paged: 0, waiting: 0 }]]));
    for (let n = 1; n <= 7; n++) expect(await receive(stub, numbered(n))).toBe("duplicate");
  });

  it("takes one that waits already for a duplicate, and remembers it over a crash", async () => {
    let stub = make({ ordered: true });
    expect(await receive(stub, numbered(2), inTurn)).toBe("waiting");
    expect(await receive(stub, numbered(2), inTurn)).toBe("duplicate");
    stub = await diesAfter(stub, () => {});
    expect(await receive(stub, numbered(2), inTurn)).toBe("duplicate");
    expect(await receive(stub, numbered(1), inTurn)).toBe("processed");
    expect(await turns(stub)).toEqual(["sender-1", "sender-2"]);
  });

  it("keeps senders, and ids without a number, out of each other's way", async () => {
    const stub = make({ ordered: true });
    const all = [numbered(2, "a"), numbered(1, "b"), { v: 1 as const, id: "foreign", msg: 1 }, numbered(2, 'a"'), numbered(1, "a")];
    const statuses: string[] = [];
    for (const message of all) statuses.push(await receive(stub, message, inTurn));
    expect(statuses).toEqual(["waiting", "processed", "processed", "waiting", "processed"]);
    expect(await turns(stub)).toEqual(["b-1", "foreign", "a-1", "a-2"]);
  });
});

onBothBackends("an ordered inbox", (backend) => {
  it("tells of a gap: what it waits for, and what has come", async () => {
    const { stub, told } = ordered(backend);
    for (const n of [3, 1, 2]) await receive(stub, numbered(n), inTurn);
    expect(told).toMatchObject([
      { type: "gap", id: "sender-3", source: "sender", expected: 1, got: 3 },
      { type: "waiting", id: "sender-3" },
      { type: "processed", id: "sender-1" },
      { type: "processed", id: "sender-2" },
      { type: "processed", id: "sender-3" },
    ]);
  });

  it("refuses one more than maxWaiting, of this sender, and still takes the one that is missing", async () => {
    const { stub } = ordered(backend, { maxWaiting: 2 });
    for (const n of [2, 3]) await receive(stub, numbered(n), inTurn);
    await within(stub, async (inbox: InboxManager) => {
      await expect(inbox.receive(numbered(4), inTurn)).rejects.toMatchObject({ code: "inbox_full" });
      expect(await inbox.receive(numbered(9, "other"), inTurn)).toMatchObject({ status: "waiting" });
    });
    expect(await receive(stub, numbered(1), inTurn)).toBe("processed");
    expect(await receive(stub, numbered(4), inTurn)).toBe("processed");
    expect(await turns(stub)).toEqual([1, 2, 3, 4].map((n) => `sender-${n}`));
  });

  it("refuses a handler that can't know of which message it is told", async () => {
    const { stub } = ordered(backend);
    const message = numbered(1);
    await within(stub, (inbox) => expect(inbox.receive(message, (txn) => txn.put("a", message.id))).rejects.toThrow(/txn, message/));
    expect(await rows(stub)).toEqual(new Map());
  });

  it("keeps the place of one whose handler throws: those behind it wait, and a repetition goes on with them", async () => {
    const { stub } = ordered(backend);
    const failing: InboxHandler = (_, { id }) => Promise.reject(new Error(`not ${id}`));
    await within(stub, (inbox) => expect(inbox.receive(numbered(1), failing)).rejects.toThrow("not sender-1"));
    expect(await receive(stub, numbered(2), inTurn)).toBe("waiting");
    expect(await receive(stub, numbered(1), inTurn)).toBe("processed");
    expect(await turns(stub)).toEqual(["sender-1", "sender-2"]);
  });

  it("tries one that failed when its turn came again after a minute, by the alarm, and then less and less often", async () => {
    const { stub, told } = ordered(backend);
    const desk = deskOf(stub);
    let fails = 3;
    let from = Date.now();
    const sometimes: typeof desk.receive = async (message, txn, state) => {
      if (message.id === "sender-2" && fails-- > 0) throw new Error("not yet");
      await effect(message, txn, state);
    };
    desk.receive = sometimes;
    const outcomes = [...(await hand(stub, [numbered(3)])), ...(await hand(stub, [numbered(2)])), ...(await hand(stub, [numbered(1)]))];
    // The one that had come is processed: the failure of another is not the affair of its sender.
    expect(outcomes.map(({ status }) => status)).toEqual(["waiting", "waiting", "processed"]);
    expect(await effects(stub)).toEqual(once(["sender-1"]));
    for (const seconds of [60, 120, 240]) {
      // It was tried between these two times.
      const due = (await nativeAlarm(stub)) ?? expect.fail("No alarm stands.");
      expect(due - seconds * 1000).toBeGreaterThanOrEqual(from);
      expect(due - seconds * 1000).toBeLessThanOrEqual(Date.now());
      from = due;
      await ring(stub);
    }
    expect(await effects(stub)).toEqual(once(["sender-1", "sender-2", "sender-3"]));
    expect(told.filter(({ type }) => type === "failed")).toHaveLength(3);
    expect(await waitingRows(stub)).toBe(0);
    // The second had set one for the third, in case of a crash between the two.
    await ring(stub);
    expect(await nativeAlarm(stub)).toBeNull();
    expect(stageOf(stub).alarms).toEqual([]);
  });

  it("goes on after a crash between a message and the one that waited for it", async () => {
    const { stub } = ordered(backend);
    await hand(stub, [numbered(2)]);
    // The first comes through, and the second kills its object.
    const desk = deskOf(stub);
    desk.receive = async (message, txn, state) => {
      if (message.id === "sender-2") {
        await state.storage.sync().catch(() => {});
        state.abort("the crash that the test wants");
      }
      await effect(message, txn, state);
    };
    await expect(hand(stub, [numbered(1)])).rejects.toThrow("the crash that the test wants");
    desk.receive = effect;
    const next = redeclared(stub, wrapped(class extends InboxBox {}, "the outbox around the inbox", { ordered: true }));
    expect(await effects(next)).toEqual(once(["sender-1"]));
    expect(await ring(next)).toBeLessThanOrEqual(60);
    expect(await effects(next)).toEqual(once(["sender-1", "sender-2"]));
    expect(await nativeAlarm(next)).toBeNull();
  });

  it("stands with an alarm of its own behind a handler that kills the object in the alarm", async () => {
    const { stub } = ordered(backend);
    const desk = deskOf(stub);
    await hand(stub, [numbered(2)]);
    desk.receive = async (message, txn, state) => {
      if (message.id === "sender-2") throw new Error("not yet");
      await effect(message, txn, state);
    };
    await hand(stub, [numbered(1)]);
    let calls = 0;
    let calledAt = Number.POSITIVE_INFINITY;
    desk.receive = async (_, __, state) => {
      calls++;
      calledAt = Date.now();
      await scheduler.wait(1);
      state.abort("the crash that the test wants");
      await new Promise(() => {});
    };
    await expect(ring(stub)).rejects.toThrow("the crash that the test wants");
    const next = redeclared(stub, wrapped(class extends InboxBox {}, "the inbox around the outbox", { ordered: true }));
    expect(calls).toBe(1);
    // It was armed before the handler ran: the platform's own repetitions are not used up by such deaths.
    const due = (await nativeAlarm(next)) ?? expect.fail("No alarm stands.");
    expect(due - calledAt).toBeGreaterThan(50_000);
    desk.receive = effect;
    await ring(next);
    expect(await effects(next)).toEqual(once(["sender-1", "sender-2"]));
  });

  it("processes one that comes again while it waits for its retry, and leaves no row of it", async () => {
    const { stub } = ordered(backend);
    const desk = deskOf(stub);
    await hand(stub, [numbered(2)]);
    desk.receive = async (message, txn, state) => {
      if (message.id === "sender-2") throw new Error("not yet");
      await effect(message, txn, state);
    };
    await hand(stub, [numbered(1)]);
    desk.receive = effect;
    expect(await hand(stub, [numbered(2)])).toMatchObject([{ status: "processed" }]);
    expect(await rows(stub)).toEqual(new Map([['s"sender"', { high: 2, gaps: [], paged: 0, waiting: 0 }]]));
    await ring(stub);
    expect(await effects(stub)).toEqual(once(["sender-1", "sender-2"]));
    expect(await nativeAlarm(stub)).toBeNull();
  });

  it("reaches a sender whose turn has come behind others that wait in good order", async () => {
    const { stub } = ordered(backend, { maxWaiting: 300 });
    const desk = deskOf(stub);
    // 150 of one sender and one of each of 110 others wait for what has not come.
    for (let n = 2; n <= 151; n++) await hand(stub, [numbered(n, "a")]);
    for (let n = 0; n < 110; n++) await hand(stub, [numbered(2, `b${n}`)]);
    await hand(stub, [numbered(2, "z")]);
    desk.receive = async (message, txn, state) => {
      if (message.id === "z-2") throw new Error("not yet");
      await effect(message, txn, state);
    };
    await hand(stub, [numbered(1, "z")]);
    desk.receive = effect;
    await ring(stub);
    // In steps: the next is due at once.
    expect(await ring(stub)).toBeLessThan(1);
    expect(await effects(stub)).toEqual(once(["z-1", "z-2"]));
    expect(await nativeAlarm(stub)).toBeNull();
  });

  it("arms no alarm again where no class's handler could go on", async () => {
    const bare = class extends InboxBox {};
    Object.defineProperty(bare.prototype, "receiveMessage", { value: undefined });
    const { stub } = ordered(backend, {}, bare);
    await receive(stub, numbered(2), inTurn);
    const second: InboxHandler = (txn, message) => (message.id === "sender-2" ? Promise.reject(new Error("no")) : inTurn(txn, message));
    await receive(stub, numbered(1), second);
    await ring(stub);
    expect(await nativeAlarm(stub)).toBeNull();
    expect(await receive(stub, numbered(3), inTurn)).toBe("waiting");
    // A repetition goes on.
    expect(await receive(stub, numbered(2), inTurn)).toBe("processed");
    expect(await turns(stub)).toEqual([1, 2, 3].map((n) => `sender-${n}`));
  });

  it("that gives up its order processes what waited, each once", async () => {
    const { stub } = ordered(backend);
    await hand(stub, [numbered(3), numbered(5), numbered(9)]);
    await inside(stub, (_, __, { storage }) => storage.sync());
    const next = redeclared(await diesAfter(stub, () => {}), wrapped(class extends InboxBox {}, "the inbox around the outbox"));
    // One that waits comes again, and a newer one.
    expect((await hand(next, [numbered(5), numbered(12)])).map(({ status }) => status)).toEqual(["processed", "processed"]);
    expect(await effects(next)).toEqual(once([3, 5, 9, 12].map((n) => `sender-${n}`)));
    expect(await waitingRows(next)).toBe(0);
    for (const n of [3, 5, 9, 12]) expect(await receive(next, numbered(n))).toBe("duplicate");
    for (const n of [1, 2, 4, 11]) expect(await receive(next, numbered(n), counting)).toBe("processed");
  });
});
