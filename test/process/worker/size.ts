/** The worker of `size.test.ts`: stores one value of each kind, and says how large our own estimate of it is. */
import { DurableObject } from "cloudflare:workers";
import { serializedBytes } from "../../../src/storage/size.ts";

interface Env {
  SIZES: DurableObjectNamespace<Sizes>;
}

/** Values that Node and workerd serialise differently, and shapes that a generator seldom makes. */
function samples(): Record<string, unknown> {
  const shared = { a: "shared" };
  const wide = new Uint8Array(1000);
  const sparse: number[] = [];
  sparse[5000] = 1;
  const holes = [1, 2, 3, 4];
  delete holes[1];
  const cyclic: Record<string, unknown> = { name: "cyclic" };
  cyclic.self = cyclic;
  return {
    "array buffer": new ArrayBuffer(300),
    "empty buffer": new ArrayBuffer(0),
    bytes: wide,
    "a view of a part": wide.subarray(10, 20),
    "two views of one buffer": [wide.subarray(0, 10), wide.subarray(10, 20)],
    floats: new Float64Array(100),
    bigints: new BigInt64Array(10),
    "data view": new DataView(new ArrayBuffer(50), 5, 10),
    clamped: new Uint8ClampedArray(77),
    "many small views": Array.from({ length: 50 }, () => new Uint8Array(3)),
    "shared references": [shared, shared, shared],
    "many references": Array.from({ length: 500 }, () => shared),
    sparse,
    holes,
    cyclic,
    zeros: Array.from({ length: 100 }, () => -0),
    "largest small integers": Array.from({ length: 100 }, (_, i) => (i % 2 ? 2 ** 30 - 1 : -(2 ** 30))),
    "index keys": Object.fromEntries(Array.from({ length: 50 }, (_, i) => [String(i * 1_000_003), i])),
    "lone surrogates": "\ud800".repeat(33),
    "two-byte strings": Array.from({ length: 40 }, (_, i) => "ž".repeat(i)),
    "two-byte keys": Object.fromEntries(Array.from({ length: 40 }, (_, i) => ["ž".repeat(i + 1), i])),
    booleans: [true, false, null, undefined],
    "a date": new Date(1e12),
    "a map": new Map<unknown, unknown>([
      ["a", 1],
      [{ b: 2 }, new Set([1, "2", 3n])],
    ]),
    "a large bigint": 2n ** 4000n,
    "a boxed bigint": Object(2n ** 4000n),
    "boxed values": [new Number(1), new Boolean(true), new String("ž".repeat(99))],
    "a long expression": new RegExp("x".repeat(3000), "dgimsuy"),
    "an error": new TypeError("x".repeat(3000), { cause: new Map([["ž".repeat(1000), new Error("deeper")]]) }),
    "an error with properties": Object.assign(new Error("😀"), { code: "x".repeat(3000), at: new Date(1) }),
    "an aggregate error": new AggregateError([new Error("x".repeat(1000)), "y".repeat(1000)], "both"),
    "an exception": new DOMException("x".repeat(3000), "AbortError"),
    headers: new Headers(Array.from({ length: 100 }, (_, i) => [`x-${i}`, "y".repeat(i)] as [string, string])),
    "a request": new Request(`https://example.com/${"x".repeat(1000)}`, {
      method: "PUT",
      headers: { a: "b".repeat(1000) },
      cf: { x: "y".repeat(1000) },
    }),
    "a blob": new Blob(["x".repeat(3000)], { type: "text/plain" }),
    "negative bigints": Array.from({ length: 64 }, (_, i) => -(2n ** BigInt(i * 8))),
  };
}

export class Sizes extends DurableObject<Env> {
  async store(): Promise<Record<string, number>> {
    // A copy is what `put` stores.
    const values = structuredClone(samples());
    await this.ctx.storage.put(values);
    return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, serializedBytes(value)]));
  }
}

export default {
  async fetch(_, env) {
    return Response.json(await env.SIZES.get(env.SIZES.idFromName("a")).store());
  },
} satisfies ExportedHandler<Env>;
