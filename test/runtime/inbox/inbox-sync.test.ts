/** `receiveSync`: SQL, messages and the mark in one synchronous transaction. SQLite-backed objects only. */
import { describe, expect, it } from "vitest";
import type { InboxHandlerSync } from "../../../src/inbox/index.ts";
import { drained, env, expectUntouched, sent } from "../support/harness.ts";
import { diesAfter, foreign, inboxOf, nativeAlarm, numbered, rows, STACKS, within } from "../support/inbox.ts";

const SQLITE = { name: "sqlite", namespace: env.BOX_SQLITE, other: env.OTHER_SQLITE, form: env.FORM_SQLITE } as const;
const KV = { name: "kv", namespace: env.BOX_KV, other: env.OTHER_KV, form: env.FORM_KV } as const;

const insert: InboxHandlerSync = ({ sql }, { id }) => {
  sql.exec("CREATE TABLE IF NOT EXISTS seen (id TEXT)");
  sql.exec("INSERT INTO seen VALUES (?)", id);
  return `row of ${id}`;
};

const seen = (stub: Parameters<typeof within>[0]): Promise<unknown[]> =>
  within(stub, (_, __, { storage: { sql } }) => {
    if (sql.exec("SELECT 1 FROM sqlite_master WHERE name = 'seen'").toArray().length === 0) return [];
    return sql
      .exec("SELECT id FROM seen")
      .toArray()
      .map(({ id }) => id);
  });

describe.each(STACKS)("receiveSync: %s", (stack) => {
  it("runs the handler once for a number and for an id, also in the next life", async () => {
    const { stub, told } = inboxOf(SQLITE, stack);
    const all = [numbered(1), numbered(5), foreign("a")];
    await within(stub, (inbox) => {
      for (const message of all) {
        expect(inbox.receiveSync(message, insert)).toEqual({ status: "processed", duplicate: false, value: `row of ${message.id}` });
        expect(inbox.receiveSync(message, insert)).toEqual({ status: "duplicate", duplicate: true });
      }
    });
    expect(told.map(({ type }) => type)).toEqual(["processed", "duplicate", "processed", "duplicate", "processed", "duplicate"]);
    const next = await diesAfter(stub, () => {});
    await within(next, async (inbox) => {
      for (const message of all) {
        expect(inbox.receiveSync(message, insert).status).toBe("duplicate");
        // Both ways know the same marks.
        expect((await inbox.receive(message, () => {})).status).toBe("duplicate");
      }
    });
    expect(await seen(next)).toEqual(all.map(({ id }) => id));
  });

  it("leaves nothing of a handler that throws, and tells of it", async () => {
    const { stub, told } = inboxOf(SQLITE, stack);
    await within(stub, async (inbox, _, state) => {
      for (const message of [numbered(1), foreign("a")]) {
        const failing: InboxHandlerSync = (txn, given) => {
          insert(txn, given);
          throw new Error("not this time");
        };
        expect(() => inbox.receiveSync(message, failing)).toThrow("not this time");
      }
      await expectUntouched(state);
    });
    expect(await seen(stub)).toEqual([]);
    expect(await nativeAlarm(stub)).toBeNull();
    expect(told).toMatchObject([
      { type: "failed", id: "sender-1" },
      { type: "failed", id: "a" },
    ]);
    await within(stub, (inbox) => expect(inbox.receiveSync(numbered(1), insert).status).toBe("processed"));
  });

  it("refuses an async handler, and has written nothing", async () => {
    const { stub } = inboxOf(SQLITE, stack);
    await within(stub, async (inbox, _, state) => {
      // @ts-expect-error It does not compile either.
      expect(() => inbox.receiveSync(numbered(1), async () => {})).toThrow(/not async/);
      await expectUntouched(state);
    });
  });

  it("sends through the outbox of its object, with the cause", async () => {
    const { stub } = inboxOf(SQLITE, stack);
    const send = () =>
      within(stub, (inbox) => inbox.receiveSync(numbered(1), (txn) => txn.send("an answer", { headers: { own: "1" } })).value);
    if (stack === "the inbox alone") {
      await expect(send()).rejects.toMatchObject({ code: "unsupported" });
      return;
    }
    expect(await send()).toMatchObject({ sequence: 1 });
    await drained(stub);
    expect(sent(stub)).toMatchObject([{ headers: { own: "1", "causation-id": "sender-1", "correlation-id": "sender-1" } }]);
  });

  it("keeps order, drains what waited, and stops at the first that fails", async () => {
    const { stub } = inboxOf(SQLITE, stack, { ordered: true });
    await within(stub, (inbox) => {
      expect([4, 3, 2].map((n) => inbox.receiveSync(numbered(n), insert).status)).toEqual(["waiting", "waiting", "waiting"]);
      const failing: InboxHandlerSync = (txn, message) => {
        if (message.id === "sender-3") throw new Error("not yet");
        return insert(txn, message);
      };
      expect(inbox.receiveSync(numbered(1), failing).status).toBe("processed");
    });
    expect(await seen(stub)).toEqual(["sender-1", "sender-2"]);
    expect((await nativeAlarm(stub)) ?? 0).toBeGreaterThan(Date.now());
    await within(stub, (inbox) => expect(inbox.receiveSync(numbered(3), insert).status).toBe("processed"));
    expect(await seen(stub)).toEqual(["sender-1", "sender-2", "sender-3", "sender-4"]);
    expect(await rows(stub)).toEqual(new Map([['s"sender"', { high: 4, gaps: [], paged: 0, waiting: 0 }]]));
  });
});

describe("receiveSync", () => {
  it("is refused on a KV-backed object, and has written nothing", async () => {
    const { stub } = inboxOf(KV);
    await within(stub, async (inbox, _, state) => {
      expect(() => inbox.receiveSync(numbered(1), () => {})).toThrow(expect.objectContaining({ code: "unsupported" }));
      await expectUntouched(state);
    });
  });

  it("refuses a bad envelope, a bad handler, and one id more than maxIds", async () => {
    const { stub } = inboxOf(SQLITE, "the inbox alone", { maxIds: 1 });
    await within(stub, (inbox) => {
      expect(() => inbox.receiveSync({ id: "a" } as never, insert)).toThrow(TypeError);
      expect(() => inbox.receiveSync(numbered(1), undefined as never)).toThrow(TypeError);
      inbox.receiveSync(foreign("a"), insert);
      expect(() => inbox.receiveSync(foreign("b"), () => expect.fail("The handler runs."))).toThrow(
        expect.objectContaining({ code: "inbox_full" }),
      );
    });
  });
});
