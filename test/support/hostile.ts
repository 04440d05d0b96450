/** Twenty payloads that a page must show as what they are: text. */

function deep(levels: number): unknown {
  let value: unknown = "the bottom";
  for (let level = 0; level < levels; level++) value = { inner: value };
  return value;
}

const circular: { name: string; self?: unknown } = { name: "circular" };
circular.self = circular;

export const HOSTILE: readonly unknown[] = [
  "<script>hacked()</script>",
  "<img src=x onerror=hacked()>",
  "</pre></style></script><svg onload=hacked()>",
  "javascript:hacked()",
  "data:text/html,<script>hacked()</script>",
  "{{constructor.constructor('hacked()')()}}",
  "\u202egnirts desrever\u202c and \u2066isolated\u2069",
  "עברית ואז English",
  "lone \ud800 halves \udc00",
  "\u0000\u0007\u001b[31mred\u001b[0m",
  "zero\u200bwidth\ufeff",
  "a".repeat(100_000),
  `${"й".repeat(30_000)}<b>`,
  deep(400),
  circular,
  9_007_199_254_740_993n,
  new Uint8Array(5000).fill(60),
  new Map<unknown, unknown>([[new Date(0), new Set([Number.NaN, -0, undefined, Number.POSITIVE_INFINITY])]]),
  { __proto__: null, constructor: "<i>", toString: "x", "__proto__ ": { polluted: true }, '"><img src=x onerror=hacked()>': 1 },
  [undefined, null, new Error("<u>boo</u>"), /<\/script>/g, Array.from({ length: 3 }, () => "\u202e")],
];
