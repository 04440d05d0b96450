/** The log while it grows: what is read of it has no gap, whatever is put between the read and its answer. */
import { expect, it } from "vitest";
import { logOf } from "../../src/log/log.ts";
import { committedPage } from "../../src/log/read.ts";
import { NO_LINES } from "../../src/storage/lines.ts";
import { memoryOf, type Row } from "../../src/storage/memory.ts";
import { draft } from "../../src/storage/message.ts";
import { decode, type SegmentRow } from "../../src/storage/rows.ts";
import type { Store } from "../../src/storage/store.ts";
import { emptyBatch } from "../../src/subscription/batch.ts";
import { newReader } from "../../src/subscription/reader.ts";
import { fill } from "../../src/subscription/take.ts";

const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, n) => first + n);

/** A log of which only the last segment is remembered, so that the others are read. `reading` is called while that is under way. */
function logWith(count: number, reading: (put: (messages: number) => void) => void) {
  const memory = memoryOf("object");
  const reader = newReader("default", 0);
  memory.readers = [reader];
  const stored: Record<string, unknown> = {};
  const log = logOf(
    memory,
    async ({ start = "", end = "", limit }) => {
      const all = Object.entries(stored).sort(([a], [b]) => (a < b ? -1 : 1));
      const rows = all.filter(([key]) => key >= start && key < end).slice(0, limit);
      const read = rows.map(([key, value]): Row => ({ key, data: decode<SegmentRow>(value) }));
      reading(put);
      return read;
    },
    null,
    () => 0,
  );
  const put = (messages: number): void => {
    for (let n = 0; n < messages; n++) {
      log.append(stored, draft("msg", n, 1000), 0);
      reader.queuedCount++;
      reader.queueDueAt = 0;
    }
  };
  put(count);
  memory.recent = memory.recent.slice(-1);
  return { memory, reader, store: { memory, log } as unknown as Store };
}

it("a reader that has read all of a segment which may grow looks into it again", async () => {
  const { memory, store } = logWith(49, () => {});
  const other = newReader("other", 1);
  memory.readers = [...memory.readers, other];
  const { log } = store;
  const last = (): number => Number(memory.recent.at(-1)?.key.slice(-15));
  const end = memory.recent.at(-1)?.last ?? 0;
  // Everything in segments has been passed, and the last of them has room for the tail.
  expect(await log.seek(end, last())).toBe(last());
  const before = last();
  for (let n = 0; n < 17; n++) log.append({}, draft("msg", n, 1000), 0);
  expect(last()).toBe(before);
  expect(memory.recent.at(-1)?.last).toBeGreaterThan(end);
  expect(await log.seek(end, before)).toBe(before);
});

it.each([
  [49, 15],
  [49, 16],
  [49, 17],
  [49, 300],
  [33, 16],
  [65, 1],
])("a batch of a log of %i messages, to which %i are put while it is read, leaves none out", async (before, meanwhile) => {
  let left = meanwhile;
  const { memory, reader, store } = logWith(before, (put) => {
    put(left);
    left = 0;
  });
  const batch = emptyBatch();
  const versions = { isAhead: () => false };
  await fill(store, reader, batch, { limit: 1000, now: 1, onePerKey: false, allowIsolated: true, versions });
  const positions = batch.handed.map(({ position }) => position);
  expect(positions).toEqual(range(1, positions.length));
  expect(batch.looked).toEqual(positions);
  expect(positions.length).toBeGreaterThanOrEqual(before);
  expect(memory.position).toBe(before + meanwhile - left);
});

it("a page of what is committed is returned once it is durable, and read again if something was rolled back meanwhile", async () => {
  const { memory, store } = logWith(20, () => {});
  const committed = Object.assign(store, { open: null, rollbacks: 0, retractions: 0, transactions: 0 });
  const whole = { from: 1, isBackward: false, limit: 100, wants: () => true };
  let durable = 0;
  const first = await committedPage(committed, whole, async () => void durable++);
  expect([durable, first.messages.map(({ position }) => position)]).toEqual([1, range(1, 20)]);
  const second = await committedPage(committed, whole, async () => {
    if (committed.rollbacks > 0) return;
    memory.tail = NO_LINES;
    committed.rollbacks++;
  });
  expect(second.messages.map(({ position }) => position)).toEqual(range(1, 16));
});
