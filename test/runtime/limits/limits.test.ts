/** Limits of the platform, which a local run holds a KV-backed object to nowhere: what would fail in production is refused here, whole. */
import { describe, expect, it } from "vitest";
import type { OutboxManager } from "../../../src/index.ts";
import { boxWith } from "../support/batches.ts";
import { drained, eventually, expectFirst, expectUntouched, inside, native, numbered, onBothBackends, sent } from "../support/harness.ts";
import { stageOf } from "../support/worker.ts";

const tooLarge = (...texts: (string | number)[]) =>
  expect.objectContaining({
    name: "OutboxError",
    code: "too_large",
    message: expect.stringMatching(new RegExp(texts.map((text) => `\\b${text}\\b`).join(".*"))),
  });

onBothBackends("a message", (backend) => {
  const limit = (backend.name === "sqlite" ? 2 ** 21 : 2 ** 17) - 4096;
  /** A text that takes so many bytes: a tag, a length and two quotes go with it. */
  const text = (bytes: number) => "x".repeat(bytes - 8);

  const WAYS: [string, (outbox: OutboxManager, msg: unknown) => unknown][] = [
    ["put", (outbox, msg) => outbox.put("a", 1, msg)],
    ["put of entries", (outbox, msg) => outbox.put(numbered(200), msg)],
    ["delete", (outbox, msg) => outbox.delete("a", msg)],
    ["send", (outbox, msg) => outbox.send(msg)],
    ["deleteAll", (outbox, msg) => outbox.deleteAll(msg)],
    ["txn.send", (outbox, msg) => outbox.transaction((txn) => txn.send(msg))],
    ["put in a transaction", (outbox, msg) => outbox.transaction(() => outbox.put("a", 1, msg))],
  ];
  if (backend.name === "sqlite") WAYS.push(["transactionSync", async (outbox, msg) => outbox.transactionSync(({ send }) => send(msg))]);

  it.each(WAYS)("one byte over the limit is refused by %s, with its size and the limit, and nothing is written", async (_, write) => {
    const stub = boxWith(backend, {});
    await inside(stub, async (_, outbox, state) => {
      await expect(write(outbox, text(limit + 1))).rejects.toEqual(tooLarge(limit + 1, limit));
      await expectUntouched(state);
    });
    await expectFirst(stub);
  });

  it.each(WAYS)("at the limit is taken by %s", async (_, write) => {
    const stub = boxWith(backend, {});
    await inside(stub, (_, outbox) => write(outbox, text(limit)));
    await drained(stub);
    expect(sent(stub).map(({ msg }) => (msg as string).length)).toEqual([limit - 8]);
  });
});

onBothBackends("a message at the limit", (backend) => {
  const limit = (backend.name === "sqlite" ? 2 ** 21 : 2 ** 17) - 4096;
  const MESSAGES: [string, unknown][] = [
    ["of one byte a character", "x".repeat(limit - 8)],
    ["of two bytes a character", "ž".repeat((limit - 12) / 2)],
    ["that JSON does not hold", new Uint8Array(limit - 64)],
  ];
  const ERRORS = [
    "no",
    "x".repeat(600),
    "ž".repeat(600),
    "\u0001".repeat(600),
    "\ud800".repeat(600),
    "\u0001ž".repeat(300),
    '"'.repeat(600),
  ];

  it.each(MESSAGES)("%s fits in its row when it has failed and when it is a dead letter, whatever the error says", async (_, msg) => {
    const stub = boxWith(backend, {});
    const stage = stageOf(stub);
    let lives = 0;
    for (const error of ERRORS) {
      stage.script.push(
        (messages, delivery) => delivery.retry(messages[0]?.id ?? "", { delaySeconds: 0.01, reason: error }),
        (messages, delivery) => delivery.reject(messages[0]?.id ?? "", error),
      );
      await inside(stub, async (box, outbox) => {
        lives += Number(!("seen" in box));
        Object.assign(box, { seen: true });
        await outbox.send(msg);
      });
      await eventually(() => stage.script.length === 0);
      await eventually(async () => (await inside(stub, (_, outbox) => outbox.stats())).dead === ERRORS.indexOf(error) + 1);
    }
    // A row that storage refuses resets the object.
    expect(lives).toBe(1);
    let largest = 0;
    await inside(stub, async (_, __, state) => {
      for (const row of (await native(state).list({ prefix: "\u{10FFFF}outbox/d" })).values()) {
        const text = typeof row === "string" ? row : "";
        largest = Math.max(largest, text.length * (/[^\0-\xff]/.test(text) ? 2 : 1));
      }
    });
    expect(largest).toBeLessThanOrEqual(limit + 4096);
  });
});

onBothBackends("a key", (backend) => {
  /** Exactly 2,048 bytes in UTF-8, of characters of one, two, three and four bytes, and of halves of a pair, which take three. */
  const KEYS = ["a".repeat(2048), "é".repeat(1024), `${"✓".repeat(682)}aa`, "😀".repeat(512), `${"\ud800".repeat(682)}aa`];
  const WRITES: [string, (outbox: OutboxManager, key: string) => Promise<unknown>][] = [
    ["put", (outbox, key) => outbox.put(key, 1, "message")],
    ["put of entries", (outbox, key) => outbox.put({ other: 1, [key]: 1 }, "message")],
    ["put of 200 entries", (outbox, key) => outbox.put({ ...numbered(200), [key]: 1 }, "message")],
    ["delete", (outbox, key) => outbox.delete(key, "message")],
    ["delete of keys", (outbox, key) => outbox.delete(["other", key], "message")],
    ["put in a transaction", (outbox, key) => outbox.transaction(() => outbox.put(key, 1, "message"))],
  ];

  it.each(WRITES)("of 2,048 bytes passes in %s, whatever its characters", async (_, write) => {
    const stub = boxWith(backend, {});
    await inside(stub, async (_, outbox) => {
      for (const key of KEYS) await write(outbox, key);
    });
    await drained(stub);
    expect(sent(stub)).toHaveLength(KEYS.length);
  });

  it.runIf(backend.name === "kv").each(WRITES)("of 2,049 bytes is refused by %s, and nothing is written", async (_, write) => {
    const stub = boxWith(backend, {});
    await inside(stub, async (_, outbox, state) => {
      for (const key of KEYS) await expect(write(outbox, `${key}b`)).rejects.toEqual(tooLarge(2049, 2048));
      await expectUntouched(state);
    });
    await expectFirst(stub);
  });

  it.runIf(backend.name === "sqlite").each(WRITES)("of 2,049 bytes passes in %s, as in storage.put", async (_, write) => {
    const stub = boxWith(backend, {});
    await inside(stub, async (_, outbox) => {
      for (const key of KEYS) await write(outbox, `${key}b`);
    });
    await drained(stub);
    expect(sent(stub)).toHaveLength(KEYS.length);
  });
});

onBothBackends("a value", (backend) => {
  const KIB = 1024;
  const twoViews = () => {
    const shared = new ArrayBuffer(100 * KIB);
    return [new Uint8Array(shared, 0, 10), new Uint8Array(shared, 10, 10)];
  };
  class Page {
    size = 1;
    *[Symbol.iterator]() {
      yield "x".repeat(200 * KIB);
    }
  }
  const OVER: [string, () => unknown, number][] = [
    ["a text", () => "x".repeat(128 * KIB + 1), 128 * KIB + 1],
    ["a text outside Latin-1", () => "✓".repeat(64 * KIB + 1), 128 * KIB + 2],
    ["binary data", () => new Uint8Array(128 * KIB + 1), 128 * KIB + 1],
    ["a part of a buffer, with which all of it is stored", () => new Uint8Array(new ArrayBuffer(200 * KIB), 7, 1), 200 * KIB],
    ["many texts", () => ({ deep: Array.from({ length: 129 }, () => ["x".repeat(KIB)]) }), 129 * KIB + 4],
    ["a map", () => new Map([["x".repeat(100 * KIB), "x".repeat(100 * KIB)]]), 200 * KIB],
    ["a set", () => new Set(["x".repeat(200 * KIB)]), 200 * KIB],
  ];
  const BELOW: [string, () => unknown][] = [
    ["a text", () => "x".repeat(128 * KIB - 16)],
    ["a text outside Latin-1", () => "✓".repeat(64 * KIB - 16)],
    ["binary data", () => new Uint8Array(128 * KIB - 64)],
    ["two views of one buffer", twoViews],
    [
      "a cycle",
      () => {
        const cycle: Record<string, unknown> = { text: "x".repeat(100 * KIB) };
        cycle.self = cycle;
        return cycle;
      },
    ],
    [
      "an object that holds another twice",
      () => {
        const part = { text: "x".repeat(100 * KIB) };
        return [part, part];
      },
    ],
    ["an instance that yields more than it holds", () => new Page()],
    ["a list with a hole a million long", () => Object.assign([], { 1000000: "end" })],
  ];
  const WRITES: [string, (outbox: OutboxManager, value: unknown) => Promise<unknown>][] = [
    ["put", (outbox, value) => outbox.put("big", value, "message")],
    ["put of entries", (outbox, value) => outbox.put({ other: 1, big: value }, "message")],
    ["put of 200 entries", (outbox, value) => outbox.put({ ...numbered(200), big: value }, "message")],
  ];

  describe.runIf(backend.name === "kv").each(WRITES)("in %s", (_, write) => {
    it.each(OVER)(
      "that is %s over 128 KiB is refused with size and limit, although the local runtime takes it",
      async (_, value, bytes) => {
        const stub = boxWith(backend, {});
        await inside(stub, async (_, outbox, state) => {
          await native(state).put("big", value());
          await native(state).delete("big");
          await expect(write(outbox, value())).rejects.toEqual(tooLarge("big", bytes, 131_072));
          await expectUntouched(state);
        });
        await expectFirst(stub);
      },
    );

    it.each(BELOW)("that is %s below it is stored as storage.put stores it", async (_, value) => {
      const stub = boxWith(backend, {});
      await inside(stub, async (_, outbox, { storage }) => {
        await storage.put("twin", value());
        await write(outbox, value());
        expect(await storage.get("big")).toEqual(await storage.get("twin"));
      });
      await drained(stub);
      expect(sent(stub)).toHaveLength(1);
    });
  });

  it.runIf(backend.name === "sqlite")("over the platform's limit is refused by the platform, with state, message and alarm", async () => {
    const stub = boxWith(backend, {});
    await inside(stub, async (_, outbox, state) => {
      const big = "x".repeat(3_000_000);
      for (const [, write] of WRITES) await expect(write(outbox, big)).rejects.toMatchObject({ code: "too_large" });
      await expectUntouched(state);
      await outbox.transaction(async (txn) => {
        await expect(outbox.put({ a: 1, big }, "lost")).rejects.toThrow(
          /^\[do-transactional-outbox\] The value of big takes about 3000\d{3} bytes; the limit is 2097152 with its key\. \(too_large\)$/,
        );
        await txn.put("kept", 1);
      });
      await expectUntouched(state, { kept: 1 });
    });
    await expectFirst(stub);
  });
});
