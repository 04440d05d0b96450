/** The header: what a restart needs of an outbox comes back from the row that every put writes. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { OwnAlarm } from "../../src/alarm/retries.ts";
import { headerOf, loadHeader, loadReader, readersIn } from "../../src/storage/header.ts";
import { linesOf } from "../../src/storage/lines.ts";
import { type Memory, memoryOf, NEVER, NO_EXTENSIONS } from "../../src/storage/memory.ts";
import { decode, type HeaderRow } from "../../src/storage/rows.ts";
import { type Breaker, CLOSED } from "../../src/subscription/breaker.ts";
import { ack, cursorAt } from "../../src/subscription/cursor.ts";
import { newReader, type Reader } from "../../src/subscription/reader.ts";
import { holds } from "./property.ts";
import { text } from "./values.ts";

const count = fc.oneof(fc.constant(0), fc.nat());
const time = fc.integer({ min: 1, max: 8.64e15 });
const own: fc.Arbitrary<OwnAlarm | null> = fc.option(fc.record({ time, due: time, retryCount: fc.nat(6) }));
const trouble: fc.Arbitrary<Breaker> = fc.oneof(
  fc.constant(CLOSED),
  fc.record({
    failures: fc.nat(100),
    retryAt: time,
    suspects: fc.nat(1000),
    proven: fc.boolean(),
    controls: fc.nat(10),
    lease: fc.boolean(),
    alone: fc.nat(),
    vain: fc.array(fc.tuple(fc.nat(), fc.nat(100)), { maxLength: 16 }),
  }),
);
/** The names of counts at rest, and in memory. */
const COUNTS = {
  aside: "delayedCount",
  ready: "redrivenCount",
  laned: "blockedCount",
  dead: "deadCount",
  late: "timedCount",
  scheduled: "scheduledCount",
  since: "oldestDelayedAt",
} as const;
const reader: fc.Arbitrary<Reader> = fc
  .record({
    delayedCount: count,
    redrivenCount: count,
    blockedCount: count,
    deadCount: count,
    timedCount: count,
    scheduledCount: count,
    oldestDelayedAt: count,
    typesHash: count,
    breaker: trouble,
    queuedCount: fc.nat(),
    cursor: fc.record({ ackFloor: fc.nat(), acked: fc.constantFrom([], [[7, 9] as const]) }),
    paused: fc.boolean(),
  })
  .map((state) => ({ ...newReader("default", 0), ...state }));
const numbers = fc.record({ base: fc.nat(), position: fc.nat(), first: fc.nat(), last: fc.nat(), foreign: count });
const rest = fc.record({
  epoch: fc.uuid(),
  ownAlarm: own,
  outboxAlarmAtRest: count,
  adopting: fc.boolean(),
  chore: fc.oneof(fc.constant(NEVER), time),
  extensions: fc.constantFrom(NO_EXTENSIONS, { fleet: { at: 5, told: "0:3" } }),
  tail: fc.array(fc.constantFrom('1,2,"three"', "4,5,{}"), { maxLength: 3 }).map(linesOf),
});
const memory: fc.Arbitrary<Memory> = fc
  .tuple(reader, numbers, rest)
  .map(([reader, numbers, rest]) => ({ ...memoryOf("object"), ...numbers, ...rest, readers: [reader] }));

/** What is known of an object whose `sendMessages` is the only reader. */
const memoryWith = (state: Partial<Memory> = {}, reader: Partial<Reader> = {}): Memory => ({
  ...memoryOf("object"),
  readers: [{ ...newReader("default", 0), ...reader }],
  ...state,
});

/** The only reader. */
const readerOf = ({ readers: [reader] }: Memory): Reader => reader as Reader;

/** The header of a memory of which a start finds the cursor by itself, unless `start` says otherwise. */
const written = (memory: Memory, waits = true, start = readerOf(memory).cursor.ackFloor): unknown =>
  headerOf("object")(memory, waits, start);

/** What of memory must come back: where the header leaves it out, the default. */
const read = (row: unknown): Partial<HeaderRow> => decode<HeaderRow>(row);

describe("a header", () => {
  it("holds everything that is not at its default, and the messages", () => {
    holds([memory], (memory) => {
      const { messages, own, trouble, main, chore, ext, ...row } = read(written(memory));
      expect(messages).toEqual(memory.tail.text === "" ? [] : memory.tail.text.split("\n"));
      for (const name of ["v", "object", "epoch", "base", "position", "first", "last"] as const) expect(row[name]).toBe(memory[name]);
      const reader = readerOf(memory);
      for (const [name, count] of Object.entries(COUNTS)) expect(row[name as keyof typeof COUNTS] ?? 0).toBe(reader[count]);
      expect([row.foreign ?? 0, row.firing ?? 0]).toEqual([memory.foreign, memory.outboxAlarmAtRest]);
      expect([row.paused ?? false, row.adopting ?? false]).toEqual([reader.paused, memory.adopting]);
      expect(own ?? null).toEqual(memory.ownAlarm);
      expect(trouble ?? CLOSED).toEqual(reader.breaker);
      expect(chore ?? NEVER).toBe(memory.chore);
      expect(ext ?? NO_EXTENSIONS).toEqual(memory.extensions);
      expect(main ?? memory.position - reader.cursor.ackFloor).toBe(reader.queuedCount);
    });
  });

  it("of a quiet object is its numbers alone", () => {
    const row = written(memoryWith({ epoch: "epoch", base: 3, position: 9, first: 5, last: 4 }, { cursor: cursorAt(9) }), false);
    expect(row).toBe('{"v":1,"object":"object","epoch":"epoch","base":3,"position":9,"first":5,"last":4}');
  });

  it("counts the messages of the queue while there are gaps in it", () => {
    const gaps = (queuedCount: number): Memory => memoryWith({ position: 9 }, { cursor: cursorAt(4), queuedCount });
    expect(read(written(gaps(3))).main).toBe(3);
    expect(read(written(gaps(5))).main).toBeUndefined();
  });

  it("holds the cursor where the first stored message does not say how far delivery has come", () => {
    const memory = (cursor = cursorAt(10)): Memory => memoryWith({ position: 30 }, { queuedCount: 20, cursor });
    expect(read(written(memory(), true, 10)).cursor).toBeUndefined();
    expect(read(written(memory(), true, 4)).cursor).toEqual([10]);
    expect(read(written(memory(ack(cursorAt(10), 12, 13)), true, 10)).cursor).toEqual([10, [12, 13]]);
  });

  it("keeps the fields that this deployment does not know, and refuses a form that it does not know", () => {
    const given = { v: 1, object: "object", epoch: "e", base: 0, position: 4, first: 1, last: 0, dead: 2, later: { "✓": [1] } };
    const memory = memoryWith();
    loadHeader(memory, given);
    loadReader(readerOf(memory), given);
    expect([memory.position, readerOf(memory).deadCount]).toEqual([4, 2]);
    readerOf(memory).cursor = cursorAt(4);
    expect(read(written(memory))).toEqual({ ...given, messages: [] });
    expect(() => loadHeader(memoryOf("object"), { ...given, v: 2 })).toThrow("format 2");
  });

  it("keeps the own alarm whose handler runs, and says that it does, as long as the platform would repeat it", () => {
    const running = { time: 5, due: 7, retryCount: 2 };
    expect(read(written(memoryWith({ runningAlarm: running }))).own).toEqual({ ...running, running: true });
    expect(read(written(memoryWith({ runningAlarm: { ...running, retryCount: 7 } }))).own).toBeUndefined();
  });

  it("leaves the own alarm to the platform's slot while the outbox wants nothing", () => {
    const own = { time: 5, due: 5, retryCount: 0 };
    expect(read(written(memoryWith({ ownAlarm: own }), false)).own).toBeUndefined();
    expect(read(written(memoryWith({ ownAlarm: { ...own, due: 7 } }), false)).own).toMatchObject({ due: 7 });
  });

  it("gives each reader back by its name and its slot, with fields that this deployment does not know", () => {
    holds([fc.uniqueArray(text.filter(Boolean), { minLength: 1, maxLength: 4 }), reader, fc.boolean()], (names, state, hasDefault) => {
      const named = names.map((name, i): Reader => ({ ...state, name, slot: i + 1, unknown: `,"later":{"n":${i}}` }));
      const readers = hasDefault ? [{ ...newReader("default", 0), deadCount: 3 }, ...named] : named;
      const row = read(written(memoryWith({ position: 100, readers }), true, 0));
      expect(readersIn(row).map(({ name, slot }) => [name, slot])).toEqual(readers.map(({ name, slot }) => [name, slot]));
      for (const { name, slot } of named) {
        const loaded = newReader(name, slot);
        loadReader(loaded, readersIn(row).find((each) => each.slot === slot) ?? {});
        for (const count of Object.values(COUNTS)) expect(loaded[count]).toBe(state[count]);
        expect([loaded.breaker, loaded.paused, loaded.unknown]).toEqual([state.breaker, state.paused, `,"later":{"n":${slot - 1}}`]);
      }
      expect(row.dead).toBe(hasDefault ? 3 : undefined);
    });
  });

  it("of an object with sendMessages alone names no reader", () => {
    expect(readersIn(read(written(memoryWith())))).toEqual([{ name: "default", slot: 0 }]);
    expect(read(written(memoryWith())).readers).toBeUndefined();
  });

  it("follows its object, its epoch and its base: none is taken from the row before", () => {
    const rows = [
      ["a", 1],
      ["a", 2],
      ["b", 2],
      ["a", 1],
    ] as const;
    const header = headerOf("object");
    for (const [epoch, base] of rows) expect(read(header(memoryWith({ epoch, base }), true, 0))).toMatchObject({ epoch, base });
  });

  it("of an object with any name is read back", () => {
    holds([text], (object) => expect(read(headerOf(object)(memoryWith(), true, 0)).object).toBe(object));
  });
});
