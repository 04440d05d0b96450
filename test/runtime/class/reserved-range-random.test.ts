/** The reserved range, at random: with any keys of its own, an object with a full outbox gives the lists of an object that has none. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { SEED, size } from "../../support/random.ts";
import { crowded } from "../support/crowded.ts";
import { declared, inside, native, onBothBackends } from "../support/harness.ts";
import { Box } from "../support/worker.ts";

console.log(`reserved-range-random: VITE_SEED=${SEED}`);

const RESERVED = "\u{10FFFF}";

/** Keys around every edge of the order: of UTF-8, of UTF-16, and of the reserved range. */
const EDGES = [
  "",
  "\0",
  "a",
  "a\0",
  "ab",
  "b",
  "~",
  "é",
  "\ud7ff",
  "\ue000",
  "\ufffd",
  "\uffff",
  "😀",
  "\u{10FFFE}",
  "\u{10FFFE}\u{10FFFF}",
];
/** Halves of a pair, which storage keeps as U+FFFD: also those of U+10FFFF itself. */
const LONE = ["\ud800", "\udbff", "\udfff", "\udfff\udbff", "a\ud800", "\udbffa"];

const own = fc
  .oneof(
    { weight: 4, arbitrary: fc.constantFrom(...EDGES, ...LONE) },
    { weight: 2, arbitrary: fc.string({ unit: "binary", maxLength: 4 }) },
    {
      weight: 1,
      arbitrary: fc.string({ unit: fc.integer({ min: 0xd7f0, max: 0xe00f }).map((code) => String.fromCharCode(code)), maxLength: 3 }),
    },
    { weight: 1, arbitrary: fc.tuple(fc.constantFrom(...EDGES), fc.constantFrom(...EDGES)).map((both) => both.join("")) },
  )
  .filter((key) => !key.startsWith(RESERVED));

/** A bound of a list: an own key, or a text at, within or behind the reserved range. */
const bound = fc.oneof(
  { weight: 3, arbitrary: own },
  {
    weight: 2,
    arbitrary: fc
      .constantFrom("", "o", "outbox/", "outbox/h", "outbox/h\0", "outbox/i", "outbox/s000000000000002", "z", RESERVED)
      .map((rest) => RESERVED + rest),
  },
);

/** Options that are left out, and some that are there and undefined. */
const range = fc
  .record(
    {
      start: bound,
      startAfter: bound,
      end: fc.option(bound, { nil: undefined }),
      prefix: bound,
      reverse: fc.boolean(),
      limit: fc.oneof(fc.integer({ min: 1, max: 12 }), fc.constantFrom(0, 1000, undefined)),
      noCache: fc.boolean(),
    },
    { requiredKeys: [] },
  )
  .map((options) => options as DurableObjectListOptions);

type Answer = [string, unknown][] | string;

/** The entries of a list, in their order, or the text of the error. */
async function answer(list: () => unknown): Promise<Answer> {
  try {
    return [...((await list()) as Iterable<[string, unknown]>)];
  } catch (error) {
    return String(error);
  }
}

onBothBackends("every list", (backend) => {
  it("of storage, kv and a transaction is that of an object without an outbox", async () => {
    const [full, plain] = [await crowded(backend), declared(backend, Box)];
    let shown = 0;

    const asked = fc.asyncProperty(
      fc.uniqueArray(own, { maxLength: 12 }),
      fc.array(own, { maxLength: 3 }),
      fc.array(range, { minLength: 10, maxLength: 10 }),
      async (keys, inTransaction, ranges) => {
        const entries = Object.fromEntries(keys.map((key, n) => [key, n]));
        const more = Object.fromEntries(inTransaction.map((key, n) => [key, `in the transaction ${n}`]));

        /** The lists, outside a transaction and in one that has written by itself, and which is rolled back. */
        const lists = (state: DurableObjectState, write: (txn: DurableObjectTransaction) => Promise<unknown>) =>
          state.blockConcurrencyWhile(async () => {
            const { storage } = state;
            await storage.delete([...(await native(state).list({ end: RESERVED })).keys()]);
            await storage.put(entries);
            const outside = await Promise.all(ranges.map((one) => answer(() => storage.list(one))));
            let inside: Answer[] = [];
            await storage.transaction(async (txn) => {
              await txn.put(more);
              await write(txn);
              inside = await Promise.all(ranges.map((one) => answer(() => txn.list(one))));
              txn.rollback();
            });
            const sync: Answer[] = [];
            // One after the other: a new list of kv ends the one before.
            if (backend.name === "sqlite") for (const one of ranges) sync.push(await answer(() => storage.kv.list(one)));
            return { outside, inside, sync };
          });

        const expected = await inside(plain, (_, __, state) => lists(state, async () => {}));
        const seen = await inside(full, (_, outbox, state) => lists(state, () => outbox.send("in the transaction")));
        expect(seen).toEqual(expected);
        shown += expected.outside.flat().length;
      },
    );
    await fc.assert(asked, { seed: SEED, numRuns: size(8, 60) });
    // Ranges that are all empty would prove nothing.
    expect(shown).toBeGreaterThan(30);
  });
});
