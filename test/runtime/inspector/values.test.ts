/** What messages hold reaches the page as what it is: twenty hostile payloads, and every kind of value that storage takes. */
import { describe, expect, it } from "vitest";
import { HOSTILE } from "../../support/hostile.ts";
import { desk } from "../support/inspected.ts";

describe("the text of a message", () => {
  it("shows twenty hostile payloads without a character that could deceive", async () => {
    const one = desk("INSPECTED_KV", "read");
    const ids = await one.within(async (outbox) => {
      await outbox.pause();
      const sent = [];
      for (const payload of HOSTILE) sent.push((await outbox.send({ type: "hostile", payload })).id);
      return sent;
    });
    expect(ids).toHaveLength(20);
    for (const [n, id] of ids.entries()) {
      const { status, body } = await one.get("message", { destination: "default", message: id });
      expect([status, n]).toEqual([200, n]);
      expect(body.payload.text.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cs}\u202a-\u202e\u2066-\u2069\u200b\ufeff]/u);
      expect(body.payload.text.length).toBeLessThan(201_000);
    }
    const { body } = await one.get("messages", { state: "pending", destination: "default", limit: "20" });
    expect(body.messages).toHaveLength(20);
    const cut = body.messages.filter(({ payload }: { payload: { cut?: string } }) => payload.cut !== undefined).length;
    expect(cut).toBeGreaterThanOrEqual(4);
  });

  it("loses nothing of numbers beyond 2^53, binary data, dates, maps, sets, and what JSON does not have", async () => {
    const values: [unknown, string][] = [
      [9_007_199_254_740_993n, "9007199254740993n"],
      [[-0, Number.NaN, Number.NEGATIVE_INFINITY, 1e21, 0.1], "[ -0, NaN, -Infinity, 1e+21, 0.1 ]"],
      [new Uint8Array([0, 15, 255]), "Uint8Array(3 bytes) <00 0f ff>"],
      [new ArrayBuffer(2), "ArrayBuffer(2 bytes) <00 00>"],
      [new Float32Array([1]), "Float32Array(4 bytes) <00 00 80 3f>"],
      [new Date(86_400_000), 'Date("1970-01-02T00:00:00.000Z")'],
      [new Date(Number.NaN), "Date(invalid)"],
      [new Map([["a", new Set([1, "b"])]]), 'Map(1) { "a" => Set(2) { 1, "b" } }'],
      [{ none: undefined, nothing: null, yes: true }, "{ none: undefined, nothing: null, yes: true }"],
      [/<a>/gi, "/<a>/gi"],
      ["\ud800", '"\\ud800"'],
      // A soft hyphen, a filler, a tag and a selector in the middle of a word; an emoji stays one.
      ["pay\u00ad\u3164\u{e0041}\ufe01 \u2764\ufe0f", '"pay\\u00ad\\u3164\\udb40\\udc41\\ufe01 \u2764\ufe0f"'],
      // biome-ignore lint/suspicious/noSparseArray: a hole is no undefined
      [[1, , 3], 'Array(3) { "0": 1, "2": 3 }'],
      [new RangeError("too far"), 'RangeError("too far")'],
      [new Error("a", { cause: new TypeError("b") }), 'Error("a") caused by TypeError("b")'],
      [Object(true), "Boolean(true)"],
      [Object(5), "Number(5)"],
      [Object("s"), 'String("s")'],
      [Object(1n), "BigInt(1n)"],
      [new BigInt64Array([-1n]), "BigInt64Array(8 bytes) <ff ff ff ff ff ff ff ff>"],
      [new DataView(new ArrayBuffer(1)), "DataView(1 byte) <00>"],
      [Object.assign([1], { name: 2 }), 'Array(1) { "0": 1, name: 2 }'],
    ];
    const one = desk("INSPECTED_SQLITE", "read");
    await one.within(async (outbox) => {
      await outbox.pause();
      for (const [value] of values) await outbox.send([value]);
    });
    const { body } = await one.get("messages", { state: "pending", destination: "default" });
    const texts = body.messages.map(({ payload }: { payload: { text: string } }) => payload.text);
    // Each is alone in a list, which is written over three lines.
    expect(texts).toEqual(values.map(([, text]) => `[\n  ${text}\n]`));
  });

  it("ends a page before it is too big for one answer", async () => {
    const one = desk("INSPECTED_SQLITE", "read");
    await one.within(async (outbox) => {
      await outbox.pause();
      for (let n = 0; n < 7; n++) await outbox.send("x".repeat(900_000));
    });
    const { body } = await one.get("messages", { state: "pending", destination: "default" });
    expect(body.messages).toHaveLength(5);
    expect(body.more).toBe(true);
    expect(body.messages[0].payload).toMatchObject({ cut: "the first 2,000 characters" });
  });
});
