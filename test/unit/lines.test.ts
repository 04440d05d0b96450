/** The messages of a row as one string: what goes in comes out, in order, and its bytes are never counted too few. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encoded, joined, lineOf, linesOf, messagesIn, NO_LINES } from "../../src/storage/lines.ts";
import { atRest, draft, type StoredMessage } from "../../src/storage/message.ts";
import { decode } from "../../src/storage/rows.ts";
import { holds } from "./property.ts";
import { storedBytes } from "./stored-bytes.ts";
import { any, json } from "./values.ts";

const HEAD = { v: 1 as const, object: "object", epoch: "epoch", base: 7 };
/** What a stored message takes beside its draft, as the store counts it. */
const MESSAGE_BYTES = 40;

const values = fc.array(
  any.filter((value) => value !== undefined),
  { maxLength: 20 },
);

/** Messages at rest, as `put` makes them, and what each takes. */
function storedOf(msgs: readonly unknown[]): { stored: StoredMessage; bytes: number }[] {
  return msgs.map((msg, i) => {
    const made = draft("msg", msg, 1e9, null);
    return { stored: atRest(i + 1, 1_800_000_000_000 + i, made.json, made.msg), bytes: made.bytes + MESSAGE_BYTES };
  });
}

describe("lines", () => {
  it("give back the messages from which they were made, at once or one by one", () => {
    holds([values], (msgs) => {
      const stored = storedOf(msgs);
      const plain = stored.map((each) => each.stored);
      expect(messagesIn(linesOf(plain))).toStrictEqual(plain);
      const grown = stored.reduce((lines, each) => joined(lines, lineOf(each.stored, each.bytes)), NO_LINES);
      expect(messagesIn(grown)).toStrictEqual(plain);
      expect(grown.count).toBe(plain.length);
    });
  });

  it("are not changed by what is joined to them", () => {
    holds([values, values], (first, second) => {
      const [one, two] = [first, second].map((msgs) => linesOf(storedOf(msgs).map(({ stored }) => stored)));
      if (!one || !two) return;
      const before = messagesIn(one);
      expect(messagesIn(joined(one, two))).toStrictEqual([...before, ...messagesIn(two)]);
      expect(messagesIn(one)).toStrictEqual(before);
    });
  });

  it("come back from a row with its head, and take no more bytes than they count", () => {
    holds([values], (msgs) => {
      const stored = storedOf(msgs);
      const lines = stored.reduce((all, each) => joined(all, lineOf(each.stored, each.bytes)), NO_LINES);
      const row = encoded(JSON.stringify(HEAD), lines);
      expect(decode(structuredClone(row))).toStrictEqual({ ...HEAD, messages: stored.map((each) => each.stored) });
      const wide = typeof row === "string" ? 1 : 0;
      const head = storedBytes(JSON.stringify(HEAD)) * (1 + wide) + 32 * (1 + lines.count);
      expect(storedBytes(row) - head).toBeLessThanOrEqual(wideLines(row, lines.bytes));
    });
  });

  it("are one string where JSON holds all messages, and a list where it does not", () => {
    holds([fc.array(json, { minLength: 1, maxLength: 8 })], (msgs) => {
      const stored = storedOf(msgs).map((each) => each.stored);
      expect(typeof encoded("{}", linesOf(stored))).toBe("string");
      expect(typeof encoded("{}", linesOf([...stored, [99, 1, 1n]]))).toBe("object");
    });
  });
});

/** One wide character makes storage take two bytes for each of the whole row. */
function wideLines(row: unknown, bytes: number): number {
  return typeof row === "string" ? bytes * 2 : bytes;
}
