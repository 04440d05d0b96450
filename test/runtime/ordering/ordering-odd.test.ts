/** Ordering keys that a careless store would mix up or lose: each is a lane of its own, in every life. */
import { expect, it } from "vitest";
import { boxWith } from "../support/batches.ts";
import { crash, fresh, inside, onBothBackends, type Stub, sent } from "../support/harness.ts";
import { flush, forward, stats } from "../support/lanes.ts";
import { idle } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

const ODD: string[] = [
  "\0",
  "\0\0",
  "a",
  "a\0",
  "a\0b",
  "ab",
  "a:",
  "a:b",
  "a/b",
  "A",
  " a",
  "'",
  '"',
  "\\",
  "`;--",
  "%",
  "_",
  "1",
  "01",
  "1e0",
  "null",
  "undefined",
  "__proto__",
  "constructor",
  "toString",
  "\n",
  "é", // One code point,
  "e\u0301", // and two that look the same.
  "👩‍👩‍👧",
  "👩",
  "\u{FFFF}",
  "\u{10FFFF}",
  "\u{10FFFF}outbox",
  "x".repeat(255),
  "x".repeat(256),
  `${"x".repeat(255)}y`,
  "\u{10FFFF}".repeat(128),
  "\0".repeat(256),
  "\uD800", // Half a character,
  "\uD801", // and another, which UTF-8 can't tell from it.
];

/** Sends one message of each of these keys in one turn, and one without a key at the end. */
function sendEach(stub: Stub, keys: string[], n: number): Promise<unknown> {
  return inside(stub, (_, outbox) => Promise.all([...keys.map((key) => outbox.send({ key, n }, { key })), outbox.send({ n })]));
}

interface Told {
  key?: string;
  n: number;
}

/** The numbers of the messages of this key, in the order in which they were handed over. */
const numbersOf = (stub: Stub, wanted: string | undefined): number[] =>
  sent(stub)
    .filter(({ key }) => key === wanted)
    .map(({ msg }) => (msg as Told).n);

onBothBackends("odd ordering keys", (backend) => {
  it("reach sendMessages as they were given", async () => {
    const stub = fresh(backend);
    await sendEach(stub, ODD, 1);
    await idle(stub);
    expect(sent(stub).map(({ key }) => key)).toEqual([...ODD, undefined]);
    expect(sent(stub).map(({ msg }) => (msg as Told).key)).toEqual([...ODD, undefined]);
  });

  it.each([0, 1])("hold back their own messages only, every second one from %i on", async (parity) => {
    const stub = boxWith(backend, { batchSize: 7 });
    const waiting = ODD.filter((_, index) => index % 2 === parity);
    const flowing = ODD.filter((_, index) => index % 2 !== parity);
    stageOf(stub).rest = (messages, delivery) => {
      for (const { id, key, attempts } of messages)
        if (key !== undefined && waiting.includes(key) && attempts === 1 && numbersOf(stub, key).length === 1)
          delivery.retry(id, { delaySeconds: 60 });
    };
    for (const n of [1, 2, 3]) await sendEach(stub, ODD, n);
    await stats(stub, { pending: 0, delayed: waiting.length, blocked: 2 * waiting.length });
    for (const key of waiting) expect([key, numbersOf(stub, key)]).toEqual([key, [1]]);
    for (const key of [...flowing, undefined]) expect([key, numbersOf(stub, key)]).toEqual([key, [1, 2, 3]]);

    const next = await crash(stub);
    await sendEach(next, ODD, 4);
    await stats(next, { pending: 0, delayed: waiting.length, blocked: 3 * waiting.length });
    forward(61);
    await flush(next);
    for (const key of waiting) expect([key, numbersOf(stub, key)]).toEqual([key, [1, 1, 2, 3, 4]]);
    for (const key of [...flowing, undefined]) expect([key, numbersOf(stub, key)]).toEqual([key, [1, 2, 3, 4]]);
    await stats(next, { pending: 0, delayed: 0, blocked: 0, dead: 0 });
  });
});
