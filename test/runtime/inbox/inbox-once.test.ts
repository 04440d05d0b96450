/** `receive`: the handler runs once for each message, in every order of the wrappers, and what fails leaves nothing behind. */
import { describe, expect, it } from "vitest";
import { type OutboxEnvelope, withTransactionalInbox } from "../../../src/inbox/index.ts";
import { again, crash, drained, expectUntouched, inside, onEitherBackend, outboxRows, type Stub, sent } from "../support/harness.ts";
import {
  counting,
  diesAfter,
  effects,
  foreign,
  InboxBox,
  inboxOf,
  numbered,
  onAllStacks,
  once,
  receive,
  rows,
  rowsOf,
  within,
} from "../support/inbox.ts";

const MESSAGES: [string, OutboxEnvelope][] = [
  ["with a number", numbered(1)],
  ["with a number that is not the first", numbered(7)],
  ["with an id only", foreign("a")],
  ["with a source and no number", foreign("a", { source: "sender" })],
];

const durably = (stub: Stub, message: OutboxEnvelope): Promise<Stub> => diesAfter(stub, (inbox) => inbox.receive(message, counting));

class Refused extends Error {}

onAllStacks("receive", (make, _, stack) => {
  it.each(MESSAGES)("runs the handler once for a message %s, and says so of a duplicate", async (_, message) => {
    const stub = make();
    await within(stub, async (inbox) => {
      const first = await inbox.receive(message, (txn, given) => {
        expect(given).toEqual(message);
        void counting(txn, given);
        return "a value";
      });
      expect(first).toEqual({ status: "processed", duplicate: false, value: "a value" });
      const second = await inbox.receive(message, () => expect.fail("The handler of a duplicate runs."));
      expect(second).toEqual({ status: "duplicate", duplicate: true });
    });
    expect(await effects(stub)).toEqual(once([message.id]));
  });

  it.each(MESSAGES)("knows a message %s in its next life", async (_, message) => {
    const stub = await durably(make(), message);
    expect(await receive(stub, message)).toBe("duplicate");
    expect(await effects(stub)).toEqual(once([message.id]));
  });

  it.each(MESSAGES)("leaves no mark of a message %s whose handler throws", async (_, message) => {
    const stub = make();
    await within(stub, async (inbox, __, state) => {
      const failing = inbox.receive(message, async (txn) => {
        await counting(txn, message);
        throw new Refused("not this time");
      });
      await expect(failing).rejects.toBeInstanceOf(Refused);
      await expectUntouched(state);
    });
    expect(await receive(stub, message)).toBe("processed");
    expect(await receive(stub, message)).toBe("duplicate");
    expect(await effects(stub)).toEqual(once([message.id]));
  });

  it("takes a message whose handler has rolled back as not seen", async () => {
    const stub = make();
    const message = numbered(1);
    await within(stub, async (inbox, _, state) => {
      const receipt = await inbox.receive(message, async (txn) => {
        await txn.put("a", 1);
        txn.rollback();
        return "given up";
      });
      expect(receipt).toEqual({ status: "rolled_back", duplicate: false, value: "given up" });
      await expectUntouched(state);
    });
    expect(await receive(stub, message)).toBe("processed");
    expect(await effects(stub)).toEqual(once([message.id]));
  });

  it.each(MESSAGES)("runs the handler once when a message %s is received three times in one turn", async (_, message) => {
    const stub = make();
    const slow = async (txn: Parameters<typeof counting>[0]) => {
      await scheduler.wait(5);
      await counting(txn, message);
    };
    const receipts = await within(stub, (inbox) => Promise.all([1, 2, 3].map(() => inbox.receive(message, slow))));
    expect(receipts.map(({ status }) => status).sort()).toEqual(["duplicate", "duplicate", "processed"]);
    expect(await effects(stub)).toEqual(once([message.id]));
  });

  it("runs the handler once when requests bring the same message side by side", async () => {
    const stub = make();
    const statuses = await Promise.all([1, 2, 3, 4].map(() => receive(stub, numbered(3))));
    expect(statuses.filter((status) => status === "processed")).toHaveLength(1);
    expect(await effects(stub)).toEqual(once(["sender-3"]));
  });

  it("lets one of two concurrent receives through when the other's handler throws", async () => {
    const stub = make();
    let calls = 0;
    const first = async (txn: Parameters<typeof counting>[0]) => {
      const fails = calls++ === 0;
      await scheduler.wait(1);
      await counting(txn, numbered(1));
      if (fails) throw new Refused();
    };
    const results = await within(stub, (inbox) => Promise.allSettled([1, 2].map(() => inbox.receive(numbered(1), first))));
    expect(results.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    expect(await effects(stub)).toEqual(once(["sender-1"]));
  });

  it("tells numbers of two senders and ids apart", async () => {
    const stub = make();
    // Sources of which one is the beginning of the other, and ids that look like another's key.
    const all = [numbered(1, "a"), numbered(1, 'a"'), numbered(1, "a0"), numbered(10, "a"), foreign("1"), foreign('"a"'), foreign("a-1 ")];
    for (const message of [...all, ...all]) await receive(stub, message);
    expect(await effects(stub)).toEqual(once(all.map(({ id }) => id)));
  });

  it("remembers a sender that sends all of its messages here in one row", async () => {
    const stub = make();
    for (let n = 1; n <= 40; n++) await receive(stub, numbered(n));
    for (let n = 40; n >= 1; n--) expect(await receive(stub, numbered(n))).toBe("duplicate");
    expect(await rows(stub)).toEqual(new Map([['s"sender"', { high: 40, gaps: [], paged: 0, waiting: 0 }]]));
  });

  it("keeps the largest numbers there are apart, whatever their order", async () => {
    const stub = make();
    const most = Number.MAX_SAFE_INTEGER;
    const numbers = [most, 999_999_999_999_999, 1, most - 1, 1e15, 1e15 + 1];
    for (const n of [...numbers, ...numbers]) await receive(stub, numbered(n));
    expect(await effects(stub)).toEqual(once(numbers.map((n) => `sender-${n}`)));
  });

  it("keeps its rows from the object's own code, and its marks from deleteAll()", async () => {
    const stub = make();
    await receive(stub, numbered(2));
    await receive(stub, foreign("a"));
    await inside(stub, async (_, __, state) => {
      expect([...(await state.storage.list()).keys()]).toEqual(["effect:a", "effect:sender-2"]);
      await state.storage.deleteAll();
      expect([...(await state.storage.list()).keys()]).toEqual([]);
      expect([...(await outboxRows(state)).keys()].filter((key) => key.includes("inbox/"))).toHaveLength(3);
    });
    expect(await receive(stub, numbered(2))).toBe("duplicate");
    expect(await receive(stub, foreign("a"))).toBe("duplicate");
    expect(await receive(stub, numbered(1))).toBe("processed");
    expect(await receive(await crash(stub), numbered(2))).toBe("duplicate");
  });

  it("has nothing of a message that had not been committed when the object died", async () => {
    const stub = await crash(make(), () => {});
    const died = within(stub, (inbox, _, state) => {
      void inbox.receive(numbered(1), counting).catch(() => {});
      state.abort("the crash that the test wants");
    });
    await expect(died).rejects.toThrow("the crash that the test wants");
    const next = again(stub);
    expect(await effects(next)).toEqual({});
    expect(await receive(next, numbered(1))).toBe("processed");
  });

  it("lets a handler send through the outbox of its object, and through no other", async () => {
    const stub = make();
    const done = within(stub, (inbox) => inbox.receive(numbered(1), (txn) => txn.send("an answer")));
    if (stack === "the inbox alone") {
      await expect(done).rejects.toMatchObject({ code: "unsupported" });
      expect(await receive(stub, numbered(1))).toBe("processed");
      return;
    }
    expect(await done).toMatchObject({ status: "processed", value: { sequence: 1 } });
    await drained(stub);
    expect(sent(stub)).toMatchObject([{ msg: "an answer", headers: { "causation-id": "sender-1" } }]);
  });
});

const BAD: [string, unknown][] = [
  ["undefined", undefined],
  ["null", null],
  ["text", "envelope"],
  ["no version", { id: "a", msg: 1 }],
  ["another version", { v: 2, id: "a", msg: 1 }],
  ["no id", { v: 1, msg: 1 }],
  ["an empty id", { v: 1, id: "", msg: 1 }],
  ["an id of 257 characters", { v: 1, id: "x".repeat(257), msg: 1 }],
  ["no msg", { v: 1, id: "a" }],
  ["number 0", { v: 1, id: "a", msg: 1, source: "s", sequence: 0 }],
  ["half a number", { v: 1, id: "a", msg: 1, source: "s", sequence: 1.5 }],
  ["a number without a source", { v: 1, id: "a", msg: 1, sequence: 1 }],
  ["a number that is none", { v: 1, id: "a", msg: 1, source: "s", sequence: "1" }],
  ["headers that are no texts", { v: 1, id: "a", msg: 1, headers: { a: 1 } }],
];

onEitherBackend("what receive refuses", (backend) => {
  it.each(BAD)("an envelope with %s, and has written nothing", async (_, message) => {
    const { stub } = inboxOf(backend);
    await within(stub, async (inbox, __, state) => {
      await expect(inbox.receive(message as never, counting)).rejects.toThrow(TypeError);
      await expectUntouched(state);
    });
  });

  it("a handler that is no function", async () => {
    const { stub } = inboxOf(backend);
    await within(stub, (inbox) => expect(inbox.receive(numbered(1), undefined as never)).rejects.toThrow(/`handler`.*a function/));
  });

  it("tells what has failed, what came in and what came again", async () => {
    const { stub, told } = inboxOf(backend);
    const refused = new Refused("no");
    await within(stub, async (inbox) => {
      await expect(inbox.receive(numbered(1), () => Promise.reject(refused))).rejects.toBe(refused);
      await inbox.receive(numbered(1), counting);
      await inbox.receive(numbered(1), counting);
      await inbox.receive(numbered(2), (txn) => txn.rollback());
    });
    expect(told).toMatchObject([
      { type: "failed", id: "sender-1", error: "no", cause: refused },
      { type: "processed", id: "sender-1" },
      { type: "duplicate", id: "sender-1" },
    ]);
  });

  it("keeps what a listener throws to itself", async () => {
    const onEvent = () => {
      throw new Error("a bad listener");
    };
    const { stub } = inboxOf(backend, "the inbox alone", { onEvent });
    expect(await receive(stub, numbered(1))).toBe("processed");
  });
});

describe("withTransactionalInbox", () => {
  it.each([
    ["ordred", { ordred: true }],
    ["ordered", { ordered: 1 }],
    ["maxWaiting", { maxWaiting: 0 }],
    ["maxWaiting", { maxWaiting: 10_001 }],
    ["retentionSeconds", { retentionSeconds: 0 }],
    ["maxIds", { maxIds: 1.5 }],
    ["binding", { binding: "" }],
    ["onEvent", { onEvent: "log" }],
  ])("names a wrong option: %s", (name, chosen) => {
    expect(() => withTransactionalInbox(InboxBox, chosen as never)).toThrow(TypeError);
    expect(() => withTransactionalInbox(InboxBox, chosen as never)).toThrow(name);
  });

  it("refuses a class with a receiveMessages of its own, and what is no class", () => {
    const cls = class extends InboxBox {
      receiveMessages() {}
    };
    expect(() => withTransactionalInbox(cls)).toThrow("receiveMessages");
    expect(() => withTransactionalInbox(undefined as never)).toThrow(TypeError);
  });

  it("keeps the name and statics, and returns a wrapped class as it is", () => {
    class Named extends InboxBox {
      static version = 3;
    }
    const Wrapped = withTransactionalInbox(Named);
    expect([Wrapped.name, Wrapped.version]).toEqual(["Named", 3]);
    expect(withTransactionalInbox(Wrapped)).toBe(Wrapped);
  });
});

onEitherBackend("what a sender's row holds", (backend) => {
  it("is no more than the highest number and the gaps below it", async () => {
    const { stub } = inboxOf(backend);
    for (const n of [1, 2, 5, 9, 3]) await receive(stub, numbered(n));
    expect(await rowsOf(stub, "s")).toEqual([
      [
        's"sender"',
        {
          high: 9,
          gaps: [
            [4, 4],
            [6, 8],
          ],
          paged: 0,
          waiting: 0,
        },
      ],
    ]);
  });
});
