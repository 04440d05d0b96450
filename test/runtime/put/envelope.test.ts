/** What goes with a message: its key and its headers, and the epoch under which it was put. */
import { evictDurableObject } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import type { OutboxManager } from "../../../src/index.ts";
import { boxWith, callsOf, numbers, putMany } from "../support/batches.ts";
import {
  again,
  by,
  crash,
  expectFirst,
  expectUntouched,
  fresh,
  handedOver,
  inside,
  onEitherBackend,
  outboxRows,
  type Stub,
  sent,
  unhurried,
} from "../support/harness.ts";
import { lostHeaders } from "../support/headers.ts";
import { crashDurably, idle, listed, paused, resumed, withDead } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

const HEADERS: [string, () => Record<string, string>][] = [
  ["as correlation has them", () => ({ "correlation-id": "c1", "causation-id": "c2", traceparent: "00-4bf92f-00f067-01" })],
  ["of odd names", () => JSON.parse('{"__proto__": "p", "constructor": "c", "": "empty", "1": "one", "a b": "\\u0000"}')],
  ["of odd texts", () => ({ lone: "\ud800", emoji: "\u{1F600}", line: "a\nb", quote: '"]},', empty: "" })],
  ["of nothing", () => ({})],
];

const NO_HEADERS: unknown[] = ["text", 5, ["a"], { a: 1 }, { a: "1", b: undefined }, { a: null }, { a: { b: "c" } }];

const MESSAGES: [string, () => unknown][] = [
  ["JSON", () => ({ n: 1, list: [1, "two", null] })],
  ["a text", () => '","},{'],
  ["no JSON", () => new Map([[1, new Date(5)]])],
];

const SYNC: [string, (outbox: OutboxManager, options: object) => Promise<unknown>] = [
  "send in a synchronous transaction",
  async (outbox, options) => outbox.transactionSync((txn) => txn.send("message", options)),
];

onEitherBackend("a message with a key and headers", (backend) => {
  describe.each(HEADERS)("%s", (_, headers) => {
    it.each(MESSAGES)("whose content is %s arrives with them, also after a retry, a restart and a redrive", async (_, msg) => {
      const stub = await paused(backend);
      const given = headers();
      await inside(stub, async (_, outbox) => {
        const written = outbox.put("key", 1, msg(), { key: "customer:\u{1F600}", headers: given });
        given.later = "changed after the call";
        await written;
      });
      await evictDurableObject(stub);
      const life = again(stub);
      const [waiting] = await listed(life, "pending");
      expect(Object.entries(waiting?.headers ?? {})).toEqual(Object.entries(headers()));
      stageOf(stub).script.push(
        ([first], delivery) => delivery.retry(first?.id ?? "", { delaySeconds: 0 }),
        ([first], delivery) => delivery.reject(first?.id ?? ""),
      );
      await resumed(life);
      expect(await inside(life, (_, outbox) => outbox.redrive())).toBe(1);
      await idle(life);
      expect(sent(stub).map(({ attempts }) => attempts)).toEqual([1, 2, 1]);
      for (const message of sent(stub)) {
        expect(message).toMatchObject({ msg: msg(), key: "customer:\u{1F600}" });
        expect(Object.entries(message.headers ?? {})).toEqual(Object.entries(headers()));
      }
    });
  });

  it("survives JSON and structuredClone as it is", async () => {
    const stub = fresh(backend);
    await inside(stub, (_, outbox) => outbox.send({ n: 1 }, { id: "own", key: "k", headers: { a: "1" } }));
    await idle(stub);
    const [message] = sent(stub);
    expect(message).toEqual({
      id: "own",
      msg: { n: 1 },
      key: "k",
      headers: { a: "1" },
      source: expect.any(String),
      sequence: 1,
      attempts: 1,
      timestamp: expect.any(Number),
    });
    expect(JSON.parse(JSON.stringify(message))).toEqual(message);
    expect(structuredClone(message)).toEqual(message);
  });

  it("has no such fields where none were given", async () => {
    const stub = fresh(backend);
    await inside(stub, (_, outbox) => outbox.send(1, { delaySeconds: 0 }));
    await inside(stub, (_, outbox) => outbox.send(2, { allowUnconfirmed: true, expiresInSeconds: 60 }));
    await idle(stub);
    for (const message of sent(stub)) {
      expect(Object.keys(message).sort()).toEqual(["attempts", "id", "msg", "sequence", "source", "timestamp"]);
    }
  });

  const WRITES: [string, (outbox: OutboxManager, options: object) => Promise<unknown>][] = [
    ["put", (outbox, options) => outbox.put("key", 1, "message", options)],
    ["put of entries", (outbox, options) => outbox.put({ a: 1, b: 2 }, "message", options)],
    ["delete", (outbox, options) => outbox.delete("key", "message", options)],
    ["delete of keys", (outbox, options) => outbox.delete(["a", "b"], "message", options)],
    ["send", (outbox, options) => outbox.send("message", options)],
    ["send in a transaction", (outbox, options) => outbox.transaction((txn) => txn.send("message", options))],
    ...(backend.name === "sqlite" ? [SYNC] : []),
  ];

  it.each(WRITES)("can be stored by %s", async (_, write) => {
    const stub = fresh(backend);
    await inside(stub, (_, outbox) => write(outbox, { id: "own", key: "k", headers: { a: "1" }, allowUnconfirmed: true }));
    await idle(stub);
    expect(sent(stub)).toMatchObject([{ id: "own", key: "k", headers: { a: "1" } }]);
  });

  it.each(WRITES)("is refused by %s before anything is written, where they are none", async (_, write) => {
    const stub = fresh(backend);
    const keys = ["", "x".repeat(257), 5, {}, Symbol("key")].map((key) => ({ key }));
    const headers = [...NO_HEADERS, ...Object.values(lostHeaders())].map((given) => ({ headers: given }));
    await inside(stub, async (_, outbox, state) => {
      for (const bad of [...keys, ...headers]) {
        const error = await write(outbox, bad).catch((error: unknown) => error);
        expect([bad, error]).toEqual([bad, expect.any(TypeError)]);
        expect(String(error)).toContain(`options.${Object.keys(bad)[0]}`);
      }
      await expectUntouched(state);
    });
    await expectFirst(stub);
  });

  it("is refused as too large with headers that take the room", async () => {
    await inside(fresh(backend), async (_, outbox, state) => {
      const headers = { big: "x".repeat(3_000_000) };
      await expect(outbox.put("key", 1, "message", { headers })).rejects.toMatchObject({ code: "too_large" });
      await expectUntouched(state);
    });
  });

  const TEXTS: [string, string, string][] = [
    ["plain, and a plain reason", "n", "r"],
    ["plain, and a reason outside Latin-1", "n", "\u2715"],
    ["outside Latin-1, and a plain reason", "\u2713", "r"],
  ];

  /** What storage takes for a text: two bytes for each character once one of them is outside Latin-1. */
  const bytesOf = (text: string) => ([...text].every((character) => character <= "\u00ff") ? 1 : 2) * text.length;

  it.each(TEXTS)("of the greatest size can become a dead letter and be redriven (its names are %s)", async (_, name, reason) => {
    const stub = fresh(backend);
    const [id, key] = [name.repeat(256), name.repeat(200)];
    stageOf(stub).script.push(
      (_, delivery) => delivery.retry(id, { delaySeconds: 0 }),
      (_, delivery) => delivery.reject(id, reason.repeat(1000)),
    );
    const limit = backend.name === "sqlite" ? 2 ** 21 : 2 ** 17;
    await inside(stub, async (_, outbox) => {
      for (let bytes = limit; ; bytes -= limit / 256) {
        const refused = await outbox.send("x".repeat(bytes), { id, key }).then(
          () => null,
          (error) => error.code ?? error,
        );
        if (refused === null) break;
        expect(refused).toBe("too_large");
      }
    });
    await idle(stub);
    expect(await listed(stub, "dead")).toMatchObject([{ id, key, reason: "rejected" }]);
    // Locally a KV-backed object takes rows of any size. This counts the least that they take: a text that was made from a wide one stays wide.
    for (const [, row] of await inside(stub, (_, __, state) => outboxRows(state)))
      expect(bytesOf(row as string)).toBeLessThanOrEqual(limit);
    expect(await inside(stub, (_, outbox) => outbox.redrive())).toBe(1);
    await idle(stub);
    expect(sent(stub).map(({ attempts }) => attempts)).toEqual([1, 2, 1]);
  });
});

onEitherBackend("newEpoch", (backend) => {
  const begin = (stub: Stub) => inside(stub, (_, outbox) => outbox.newEpoch());
  const next = (stub: Stub, msg: unknown) => inside(stub, (_, outbox) => outbox.send(msg));

  it("counts from 1 under another source, and never gives an id twice", async () => {
    const stub = fresh(backend);
    for (const [n, at] of [1, 2, 3, 4].entries()) {
      expect((await next(stub, `a${at}`)).sequence).toBe(1);
      expect((await next(stub, `b${at}`)).sequence).toBe(2);
      if (n % 2) await idle(stub);
      await begin(stub);
    }
    await idle(stub);
    expect(callsOf(stub).flat()).toEqual(numbers(4).flatMap((n) => [`a${n}`, `b${n}`]));
    expect(new Set(sent(stub).map(({ id }) => id)).size).toBe(8);
    expect(new Set(sent(stub).map(({ source }) => source)).size).toBe(4);
    for (const { source } of sent(stub)) expect(source.startsWith(`${stub.id}:`)).toBe(true);
  });

  it("leaves the messages that wait their identity and their place", async () => {
    const stub = await paused(backend);
    await putMany(stub, 40);
    const before = await listed(stub, "pending");
    await begin(stub);
    await begin(stub);
    await putMany(stub, 20, 41);
    expect((await listed(stub, "pending")).slice(0, 40)).toEqual(before);
    await evictDurableObject(stub);
    await putMany(again(stub), 20, 61);
    await resumed(again(stub));
    expect(callsOf(stub).flat()).toEqual(numbers(80));
    expect(sent(stub).map(({ sequence }) => sequence)).toEqual([...numbers(40), ...numbers(40)]);
    expect(new Set(sent(stub).map(({ source }) => source)).size).toBe(2);
  });

  it("leaves dead letters and delayed messages theirs", () =>
    unhurried(300, async (ms) => {
      const stub = await withDead(backend, 3);
      const before = await by(Date.now() + ms, async () => {
        await inside(stub, (_, outbox) => outbox.send("delayed", { delaySeconds: ms / 1000 }));
        const before = await listed(stub, "dead");
        await begin(stub);
        expect((await next(stub, "new")).sequence).toBe(1);
        await handedOver(stub, 1);
        return before;
      });
      await idle(stub);
      expect(await listed(stub, "dead")).toEqual(before);
      expect(await inside(stub, (_, outbox) => outbox.redrive())).toBe(3);
      await idle(stub);
      const identities = (messages: { id: string; sequence: number; source: string }[]) =>
        messages.map(({ id, sequence, source }) => [id, sequence, source]);
      expect(callsOf(stub).flat()).toEqual(["new", "delayed", 1, 2, 3]);
      expect(identities(sent(stub).slice(2))).toEqual(identities(before));
      expect(sent(stub)[1]).toMatchObject({ sequence: 4, source: before[0]?.source });
    }));

  it("is committed or not: a crash in its turn leaves the old, one after it the new", async () => {
    const stub = boxWith(backend, {});
    await next(stub, 1);
    await idle(stub);
    const life = await crash(stub, (outbox) => outbox.newEpoch());
    expect((await next(life, 2)).sequence).toBe(2);
    await idle(life);
    const last = await crashDurably(life, (outbox) => outbox.newEpoch());
    expect((await next(last, 3)).sequence).toBe(1);
    await idle(last);
    const [first, second, third] = sent(stub).map(({ source }) => source);
    expect(second).toBe(first);
    expect(third).not.toBe(first);
  });
});
