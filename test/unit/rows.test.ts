/** The keys of the outbox's rows: their order in storage is the order of what they name, and none is mistaken for another. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  endOfReaders,
  HEADER,
  idKey,
  keyNumber,
  kindOf,
  LAST_NUMBER,
  laneKey,
  laneName,
  lanePrefix,
  lanesOf,
  numberedKey,
  OUTBOX,
  READERS,
  RESERVED,
  readerPrefix,
  rowsOf,
  segmentKey,
  segmentNumber,
  slotIn,
  timerKey,
} from "../../src/storage/rows.ts";
import { holds } from "./property.ts";
import { text } from "./values.ts";

const number = fc.oneof(fc.nat(1000), fc.integer({ min: 0, max: LAST_NUMBER }));
const kind = fc.constantFrom("t" as const, "d" as const);
/** An ordering key, or an id: 1 to 256 UTF-16 units. */
const name = fc.oneof(text, fc.string({ unit: "binary", maxLength: 256 })).filter(({ length }) => length > 0 && length <= 256);

const utf8 = new TextEncoder();
/** As storage sorts: by UTF-8 bytes. */
function compared(one: string, other: string): number {
  const [a, b] = [utf8.encode(one), utf8.encode(other)];
  const at = a.findIndex((byte, i) => byte !== b[i]);
  return at < 0 ? a.length - b.length : (a[at] ?? 0) - (b[at] ?? -1);
}

/** What the rows of a reader begin with: those of `sendMessages`, and of readers with names. */
const prefix = fc.oneof(fc.constant(0), fc.constant(1), fc.nat(1000)).map(readerPrefix);

describe("a key that ends in a number", () => {
  it("sorts as its number does, and gives the number and the kind back", () => {
    holds([prefix, kind, number, number], (prefix, kind, one, other) => {
      expect(Math.sign(compared(numberedKey(prefix, kind, one), numberedKey(prefix, kind, other)))).toBe(Math.sign(one - other));
      expect(keyNumber(prefix, numberedKey(prefix, kind, one))).toBe(one);
      expect(kindOf(prefix, numberedKey(prefix, kind, one))).toBe(kind);
    });
  });

  it("is in the range of its reader and its kind, and in no other's", () => {
    holds([prefix, prefix, kind, kind, number], (prefix, otherPrefix, kind, other, number) => {
      const key = numberedKey(prefix, kind, number);
      const last = numberedKey(otherPrefix, other, LAST_NUMBER + 1);
      const inRange = compared(rowsOf(otherPrefix, other), key) <= 0 && compared(key, last) < 0;
      expect(inRange).toBe(kind === other && prefix === otherPrefix);
    });
  });

  it("of a reader with a name says in which slot that is, and is in the range of such readers", () => {
    holds([fc.integer({ min: 1, max: 1e6 }), kind, number], (slot, kind, number) => {
      const key = numberedKey(readerPrefix(slot), kind, number);
      expect(slotIn(key)).toBe(slot);
      expect(compared(READERS, key) < 0 && compared(key, endOfReaders) < 0).toBe(true);
    });
  });

  it("of a segment sorts as its number does, gives it back, and is in no reader's range", () => {
    holds([number, number, prefix, kind], (one, other, prefix, kind) => {
      expect(Math.sign(compared(segmentKey(one), segmentKey(other)))).toBe(Math.sign(one - other));
      expect(segmentNumber(segmentKey(one))).toBe(one);
      const first = rowsOf(prefix, kind);
      const last = numberedKey(prefix, kind, LAST_NUMBER + 1);
      expect(compared(first, segmentKey(one)) <= 0 && compared(segmentKey(one), last) < 0).toBe(false);
    });
  });
});

it("messages that wait for a time sort by that time, and by position within it", () => {
  holds([prefix, number, number, number, number], (prefix, due, position, otherDue, otherPosition) => {
    const wanted = Math.sign(due - otherDue) || Math.sign(position - otherPosition);
    expect(Math.sign(compared(timerKey(prefix, due, position), timerKey(prefix, otherDue, otherPosition)))).toBe(wanted);
    expect(keyNumber(prefix, timerKey(prefix, due, position))).toBe(due);
  });
});

describe("the keys of an ordering key or an id", () => {
  it("belong to one name only: none begins as another's", () => {
    const pair = fc.oneof(
      fc.tuple(name, name),
      fc.tuple(name, text).map(([name, more]) => [name, name + more] as const),
    );
    holds([prefix, pair, fc.boolean()], (prefix, pair, turned) => {
      const [one, other] = turned ? pair : [pair[1], pair[0]];
      if (one === other) return;
      expect(numberedFrom(lanePrefix(prefix, one)).startsWith(lanePrefix(prefix, other))).toBe(false);
      expect(laneKey(prefix, one)).not.toBe(laneKey(prefix, other));
      expect(idKey(one)).not.toBe(idKey(other));
    });
  });

  it("give the ordering key back, whatever its characters", () => {
    holds([prefix, name], (prefix, name) => expect(laneName(prefix, laneKey(prefix, name))).toBe(name));
  });

  it("are of their own kind, and fit in what a KV-backed object takes as a key", () => {
    holds([prefix, name], (prefix, name) => {
      const keys = [numberedFrom(lanePrefix(prefix, name)), laneKey(prefix, name)];
      expect(keys.map((key) => kindOf(prefix, key))).toEqual(["k", "l"]);
      for (const key of [...keys, idKey(name)]) expect(utf8.encode(key).length).toBeLessThanOrEqual(2048);
    });
  });
});

it("every key is in the reserved range", () => {
  for (const key of [
    HEADER,
    lanesOf(OUTBOX),
    segmentKey(1),
    timerKey(OUTBOX, 1, 1),
    lanePrefix(OUTBOX, "a"),
    laneKey(OUTBOX, "a"),
    idKey("a"),
  ])
    expect(key.startsWith(RESERVED)).toBe(true);
});

function numberedFrom(prefix: string): string {
  return `${prefix}000000000000001`;
}
