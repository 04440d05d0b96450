/** A message from the call to storage and back: nothing of it changes, and what it takes is never counted too few. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { MessageMeta } from "../../src/api/meta.ts";
import {
  atRest,
  draft,
  identify,
  partsOf,
  positionOf,
  present,
  readable,
  readMessage,
  restored,
  sourceOf,
} from "../../src/storage/message.ts";
import { isWide } from "../../src/storage/size.ts";
import { holds } from "./property.ts";
import { storedBytes } from "./stored-bytes.ts";
import { any, json, text } from "./values.ts";

const STREAM = { object: "object", epoch: "epoch", base: 100 };
const position = fc.integer({ min: 101, max: Number.MAX_SAFE_INTEGER });
const at = fc.integer({ min: 0, max: 8.64e15 });
const name = text.filter(({ length }) => length > 0);
/** What goes with a message: any of these, or none. */
const more: fc.Arbitrary<MessageMeta> = fc.record(
  {
    id: name,
    key: name,
    headers: fc.dictionary(text, text, { maxKeys: 3, noNullPrototype: true }),
    due: at,
    expires: at,
    attempts: fc.nat(),
    error: text,
  },
  { requiredKeys: [], noNullPrototype: true },
);
const value = any.filter((value) => value !== undefined);
/** What a stored message takes beside its draft, as the store counts it. */
const MESSAGE_BYTES = 40;
const given = (more: MessageMeta): MessageMeta | undefined => (Object.keys(more).length > 0 ? more : undefined);

describe("a message at rest", () => {
  it("comes back with its position, its time, its content and what goes with it", () => {
    holds([value, position, at, more], (msg, position, at, more) => {
      const { json, msg: kept } = draft("msg", msg, 1e9, given(more) ?? null);
      const stored = atRest(position, at, json, kept, given(more));
      expect(readMessage(STREAM, structuredClone(stored))).toStrictEqual({
        stream: STREAM,
        stored,
        position,
        at,
        msg: structuredClone(msg),
        more,
      });
      expect(positionOf(stored)).toBe(position);
    });
  });

  it("is read together with others as it is read alone", () => {
    holds([fc.array(fc.tuple(value, position, more), { maxLength: 8 })], (all) => {
      const stored = all.map(([msg, position, more]) => {
        const { json, msg: kept } = draft("msg", msg, 1e9, given(more) ?? null);
        return atRest(position, 1, json, kept, given(more));
      });
      expect(partsOf(stored)).toStrictEqual(stored.map((each) => partsOf([each])[0]));
    });
  });

  it("keeps its content when something else goes with it from then on", () => {
    holds([value, more, more], (msg, before, after) => {
      const { json, msg: kept } = draft("msg", msg, 1e9, given(before) ?? null);
      const read = readMessage(STREAM, atRest(200, 1, json, kept, given(before)));
      const again = readMessage(STREAM, structuredClone(restored(read, after)));
      expect(again).toMatchObject({ position: 200, at: 1, more: after });
      expect(again.msg).toStrictEqual(structuredClone(msg));
    });
  });

  it("is of one byte a character where its content is, whatever goes with it", () => {
    holds([json, more], (msg, more) => {
      const { json } = draft("msg", msg, 1e9, more);
      const stored = atRest(200, 1, json, undefined, more);
      if (json !== undefined && !isWide(json)) expect(isWide(String(stored))).toBe(false);
    });
  });

  it("takes no more bytes than its draft counts", () => {
    holds([value, more, position, at], (msg, more, position, at) => {
      const made = draft("msg", msg, 1e9, given(more) ?? null);
      // Storage takes two bytes for each character of a text of which one is wide.
      const beside = isWide(made.json ?? "") ? 2 * MESSAGE_BYTES : MESSAGE_BYTES;
      expect(storedBytes(atRest(position, at, made.json, made.msg, given(more)))).toBeLessThanOrEqual(made.bytes + beside);
    });
  });
});

describe("a row with damaged messages", () => {
  const damage = fc.constantFrom<unknown>("", "not json", "1,2", '-5,2,"a"', '7,"then","a"', "1,2,3,4,5", 7, null, [1], ["1", 2, 3], {});

  it("keeps every message that can be read, in order, and the damaged ones as they are", () => {
    const line = fc.oneof(
      fc.tuple(value, position).map(([msg, position]) => {
        const { json, msg: kept } = draft("msg", msg, 1e9, null);
        return { sound: true, stored: atRest(position, 1, json, kept) as unknown };
      }),
      damage.map((stored) => ({ sound: false, stored })),
    );
    holds([fc.array(line, { maxLength: 8 })], (lines) => {
      const stored = lines.map((line) => line.stored);
      const { messages, damaged = [] } = readable(stored);
      expect(messages).toStrictEqual(lines.filter(({ sound }) => sound).map((line) => line.stored));
      expect(damaged).toStrictEqual(lines.filter(({ sound }) => !sound).map((line) => line.stored));
      expect(partsOf(messages)).toStrictEqual(messages.map((message) => partsOf([message])[0]));
    });
  });
});

describe("a draft", () => {
  it("is not changed by what the caller does with the value afterwards", () => {
    for (const list of [[1], [1n]] as unknown[][]) {
      const made = draft("msg", list, 1000, null);
      const before = readMessage(STREAM, atRest(101, 1, made.json, made.msg)).msg;
      list.push("later");
      expect(readMessage(STREAM, atRest(101, 1, made.json, made.msg)).msg).toEqual(before);
    }
  });

  it("of a value that cannot be stored is a TypeError that names the argument", () => {
    for (const wrong of [undefined, () => {}, Symbol("a"), { a: () => {} }]) expect(() => draft("msg", wrong, 1000)).toThrow(/`msg(\.a)?`/);
    expect(() => draft("msg", undefined, 1000)).toThrow(TypeError);
  });

  it("over the limit is an OutboxError with its size and the limit, and at the limit it is none", () => {
    const { bytes } = draft("msg", "x".repeat(100), 1000, null);
    expect(draft("msg", "x".repeat(100), bytes, null).bytes).toBe(bytes);
    expect(() => draft("msg", "x".repeat(101), bytes, null)).toThrow(expect.objectContaining({ code: "too_large" }));
  });
});

describe("what names a message", () => {
  it("sorts in put order among the messages of an epoch, and has 52 characters in a real one", () => {
    const stream = { ...STREAM, epoch: crypto.randomUUID() };
    holds([position, position], (one, other) => {
      const [first, second] = [identify(stream, one), identify(stream, other)];
      expect(Math.sign(first.sequence - second.sequence)).toBe(Math.sign(one - other));
      if (first.sequence >= 1e15 || second.sequence >= 1e15) return;
      expect(first.id).toHaveLength(52);
      expect(first.id < second.id).toBe(one < other);
    });
  });

  it("is the caller's own id where there is one", () => {
    expect(identify(STREAM, 103, "mine")).toEqual({ id: "mine", sequence: 3 });
  });
});

it("a message is shown with its id, its source, its sequence and its attempts, and with a key and headers only where it has some", () => {
  const read = { stream: STREAM, stored: "", position: 103, at: 5, msg: { a: 1 } };
  const shown = { id: "epoch-000000000000003", msg: { a: 1 }, source: "object:epoch", sequence: 3, attempts: 2, timestamp: 5 };
  expect(present({ ...read, more: { due: 9, error: "e" } }, 2)).toEqual(shown);
  expect(present({ ...read, more: { id: "mine", key: "k", headers: { a: "b" } } }, 2)).toEqual({
    ...shown,
    id: "mine",
    key: "k",
    headers: { a: "b" },
  });
  expect(sourceOf(STREAM)).toBe("object:epoch");
});
