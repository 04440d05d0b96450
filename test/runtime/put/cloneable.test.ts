/** Everything that can be cloned: what storage can read back is delivered as it is, and the rest is rejected before anything is written. */
import { expect, it } from "vitest";
import type { OutboxManager } from "../../../src/index.ts";
import { drained, expectFirst, expectUntouched, fresh, inside, onBothBackends, sent } from "../support/harness.ts";
import { crashDurably, paused, resumed } from "../support/standing.ts";

/** A value in so many levels. */
function nested(levels: number, around: (inner: unknown) => unknown): unknown {
  let value: unknown = new Date(1);
  for (let level = 0; level < levels; level++) value = around(value);
  return value;
}

const AROUND: [string, (inner: unknown) => unknown][] = [
  ["objects", (inner) => ({ inner })],
  ["arrays", (inner) => [inner]],
  ["sparse arrays", (inner) => Object.assign([], { 5: inner })],
  ["maps", (inner) => new Map([[1, inner]])],
  ["map keys", (inner) => new Map([[inner, 1]])],
  ["sets", (inner) => new Set([inner])],
  ["errors", (inner) => Object.assign(new Error("outer", { cause: inner }), { stack: "" })],
];

const resizable = (): ArrayBuffer => new (ArrayBuffer as unknown as new (...args: unknown[]) => ArrayBuffer)(8, { maxByteLength: 16 });

/** One value of each kind that `structuredClone` and storage take, in the runtime that this package is tested with. */
const KINDS: Record<string, () => unknown> = {
  "undefined inside": () => ({ a: undefined }),
  "a hole": () => Object.assign(new Array(3), { 0: 1, 2: 3 }),
  "a sparse array": () => Object.assign([], { 5000: 1 }),
  "an array with properties": () => Object.assign([1], { x: 2 }),
  numbers: () => [Number.NaN, -0, Number.POSITIVE_INFINITY, 2 ** 53, 5e-324],
  bigints: () => [0n, -1n, 2n ** 4000n],
  dates: () => [new Date(5), new Date(Number.NaN)],
  expressions: () => [/a/dgimsuy, RegExp(`[${"a--b"}]`, "v")],
  "boxed values": () => [new String("x"), new Number(1), new Boolean(false), Object(1n)],
  "maps and sets": () => new Map<unknown, unknown>([[{ a: 1 }, new Set([1])]]),
  "a cycle": () => {
    const cycle: Record<string, unknown> = { at: new Date(1) };
    cycle.self = cycle;
    return cycle;
  },
  buffers: () => [new ArrayBuffer(4), new Uint8Array(new ArrayBuffer(8), 2, 3), new DataView(new ArrayBuffer(4)), new Float64Array(2)],
  "resizable buffers": () => [resizable(), new Uint8Array(resizable()), new Uint8Array(resizable(), 2, 2)],
  errors: () => [
    new TypeError("t", { cause: new Map([[1, 2]]) }),
    Object.assign(new Error("x"), { code: 1 }),
    new AggregateError([new Error("a")], "m"),
    new DOMException("m", "AbortError"),
  ],
  "objects of the runtime": () => [new Headers({ a: "b" }), new Request("https://example.com/"), new Blob(["x"])],
  "an instance": () =>
    new (class {
      at = new Date(1);
    })(),
  "no prototype": () => Object.assign(Object.create(null), { a: 1 }),
  "the key __proto__": () => JSON.parse('{"__proto__":{"a":1}}'),
  "halves of a pair": () => ({ "\ud800": "\udc00", at: new Date(1) }),
  "halves of a pair in JSON": () => ({ "\ud800": "\udc00" }),
  "line ends in JSON": () => ({ "a\nb\r\u2028": "],[\n1,2,3" }),
  "numbers in JSON": () => [1e21, 1e-7, 2 ** 53, Number.MAX_VALUE],
};
for (const [name, around] of AROUND) KINDS[`500 levels of ${name}`] = () => nested(500 - 1, around);

const UNREADABLE: Record<string, () => unknown> = {
  "a shared buffer": () => new SharedArrayBuffer(4),
  "a view of a shared buffer": () => [new Uint8Array(new SharedArrayBuffer(4))],
  "a data view of a shared buffer": () => ({ view: new DataView(new SharedArrayBuffer(4)) }),
  "a shared buffer in a map": () => new Map([[new SharedArrayBuffer(4), 1]]),
  "a shared buffer behind an error": () => new Error("why", { cause: new Set([new SharedArrayBuffer(4)]) }),
  "JSON of 501 levels": () => JSON.parse(`${"[".repeat(501)}${"]".repeat(501)}`),
  "JSON of 2,000 levels": () => JSON.parse(`${"[".repeat(2000)}${"]".repeat(2000)}`),
};
for (const [name, around] of AROUND) {
  UNREADABLE[`501 levels of ${name}`] = () => nested(501, around);
  // More than can be cloned where the stack is deep already, and less than what storage takes.
  UNREADABLE[`900 levels of ${name}`] = () => nested(900, around);
}

const WRITES: [string, (outbox: OutboxManager, msg: unknown) => Promise<unknown>][] = [
  ["put", (outbox, msg) => outbox.put("k", 1, msg)],
  ["send with options", (outbox, msg) => outbox.send(msg, { key: "a", headers: { a: "b" } })],
  ["delete", (outbox, msg) => outbox.delete("k", msg)],
  ["txn.send", (outbox, msg) => outbox.transaction((txn) => txn.send(msg))],
];

onBothBackends("what can be cloned", (backend) => {
  it("is delivered in order as it was, also in another life of the object", async () => {
    const stub = await paused(backend);
    const next = await crashDurably(stub, async (outbox) => {
      for (const [name, make] of Object.entries(KINDS)) {
        await outbox.send(make());
        await outbox.send(name);
      }
    });
    await resumed(next);
    const expected = Object.entries(KINDS).flatMap(([name, make]) => [structuredClone(make()), name]);
    const got = sent(next).map(({ msg }) => msg);
    expect(got).toHaveLength(expected.length);
    for (const [i, msg] of got.entries()) expect(shape(msg), String(expected[i + 1])).toEqual(shape(expected[i]));
  });

  it.each(WRITES)("is rejected by %s where storage can't read it back, and nothing is written", async (_, write) => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox, state) => {
      for (const [name, make] of Object.entries(UNREADABLE)) {
        await expect(write(outbox, make()), name).rejects.toMatchObject({
          name: "TypeError",
          message: expect.stringMatching(/`msg` .*(SharedArrayBuffer|nested at most 500 levels deep)/),
        });
      }
      await expectUntouched(state);
    });
    await expectFirst(stub);
  });

  it("can't be read back as a value of the object's own, and the messages beside it are delivered all the same", async () => {
    const stub = fresh(backend);
    await inside(stub, (_, outbox) => outbox.put("shared", new SharedArrayBuffer(4), "a message"));
    await drained(stub);
    expect(sent(stub).map(({ msg }) => msg)).toEqual(["a message"]);
  });
});

/** What of a value can be compared: without the stacks of errors, and with what only the runtime sees. */
function shape(value: unknown): unknown {
  if (value instanceof Headers) return ["Headers", ...value];
  if (value instanceof Request) return ["Request", value.url];
  if (value instanceof Blob) return ["Blob", value.size];
  if (value instanceof Error) return [value.name, value.message, shape(value.cause)];
  return Array.isArray(value) && value.some((part) => Object(part) === part) ? value.map(shape) : value;
}
