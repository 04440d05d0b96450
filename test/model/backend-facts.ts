/** Lists of storage operations for one backend. What production does and no local runtime shows is held on the model alone. */

import { COMMON_FACTS } from "./facts.ts";
import type { Chapter, Fact, Operation } from "./operations.ts";

/** No data, and so nothing that storage takes. */
const FUNCTION = (): void => {};
const many = (count: number): Record<string, number> =>
  Object.fromEntries(Array.from({ length: count }, (_, n) => [`k${String(n).padStart(3, "0")}`, n]));
const abc: Operation = ["put all", { a: 1, b: 2, c: 3, d: 4 }];
const all: Chapter = { does: [["list"], ["get alarm"]] };

const BACKEND_FACTS: readonly Fact[] = [
  {
    title: "joins what storage writes inside a transaction",
    only: "sqlite",
    chapters: [
      {
        does: [
          abc,
          [
            "transaction",
            [
              ["outside", ["put", "a", 9]],
              ["get", "a"],
              ["outside", ["set alarm", 9000]],
            ],
            "throw",
          ],
          ["list"],
          ["get alarm"],
        ],
      },
    ],
  },
  {
    title: "leaves out of a transaction what storage writes meanwhile (the local runtime can't show it: its KV-backed objects are SQLite)",
    only: "kv",
    chapters: [
      {
        does: [
          abc,
          [
            "transaction",
            [
              ["outside", ["put", "a", 9]],
              ["put", "b", 9],
              ["outside", ["get", "b"]],
            ],
            "throw",
          ],
          ["get", "a"],
          ["get", "b"],
        ],
      },
    ],
    production: [null, "Error", 9, 2],
  },
  {
    title: "refuses a key of more than 2,048 bytes (no limit is enforced locally)",
    only: "kv",
    chapters: [
      {
        does: [
          ["put", "x".repeat(2049), 1],
          ["put", "x".repeat(2048), 1],
          ["get", "é".repeat(1025)],
        ],
      },
    ],
    production: ["RangeError", null, "RangeError"],
  },
  {
    title: "refuses a value of more than 128 KiB (no limit is enforced locally)",
    only: "kv",
    chapters: [
      {
        does: [
          ["put", "a", "x".repeat(131_073)],
          ["put all", { b: 1, c: "x".repeat(140_000) }],
          ["put", "d", "x".repeat(131_000)],
          ["get all", ["a", "b", "c"]],
        ],
      },
    ],
    production: ["RangeError", "RangeError", null, []],
  },
  {
    title: "refuses more than 128 keys (no limit is enforced locally)",
    only: "kv",
    chapters: [
      {
        does: [
          ["put all", many(129)],
          ["put all", many(128)],
          ["get all", Object.keys(many(129))],
          ["delete all", Object.keys(many(129))],
        ],
      },
    ],
    production: ["RangeError", null, "RangeError", "RangeError"],
  },
  {
    title: "has no synchronous storage and no SQL",
    only: "kv",
    chapters: [
      {
        does: [
          ["kv get", "a"],
          ["kv put", "a", 1],
          ["transactionSync", [], "return"],
        ],
      },
    ],
    production: ["Error", "Error", "Error"],
  },
  {
    title: "takes more than 128 keys",
    only: "sqlite",
    chapters: [
      {
        does: [
          ["put all", many(200)],
          ["delete all", Object.keys(many(150))],
          ["list", { limit: 2 }],
        ],
      },
    ],
  },
  {
    title: "takes values up to 2 MiB",
    only: "sqlite",
    chapters: [
      {
        does: [
          ["put", "a", "x".repeat(2_000_000)],
          ["put", "b", "x".repeat(2_200_000)],
          ["get", "b"],
        ],
      },
    ],
  },
  {
    title: "puts, gets, deletes and lists at once",
    only: "sqlite",
    chapters: [
      {
        does: [
          ["kv put", "a", 1],
          ["kv put", "b", 2],
          ["kv get", "a"],
          ["get", "a"],
          ["kv list", { start: "b" }],
          ["kv delete", "a"],
          ["kv delete", "a"],
          ["kv get", "a"],
          ["kv put", "c", undefined],
          ["kv put", "c", FUNCTION],
          ["kv list", { limit: 1, reverse: true }],
          ["kv list"],
        ],
        ends: "sync",
      },
      all,
    ],
  },
  {
    title: "commits and rolls back at once",
    only: "sqlite",
    chapters: [
      {
        does: [
          abc,
          [
            "transactionSync",
            [
              ["kv put", "a", 9],
              ["kv get", "a"],
            ],
            "return",
          ],
          [
            "transactionSync",
            [
              ["kv put", "a", 10],
              ["kv delete", "b"],
              ["kv get", "a"],
            ],
            "throw",
          ],
          ["list"],
          [
            "transaction",
            [
              ["put", "c", 5],
              ["outside", ["transactionSync", [["kv put", "d", 6]], "throw"]],
              ["get", "c"],
            ],
            "return",
          ],
          ["list"],
        ],
        ends: "sync",
      },
      all,
    ],
  },
  {
    title: "drops what was written at once with the turn",
    only: "sqlite",
    chapters: [
      { does: [["kv put", "a", 1]], ends: "sync" },
      {
        does: [
          ["kv put", "a", 2],
          ["transactionSync", [["kv put", "b", 2]], "return"],
        ],
        ends: "abort",
      },
      all,
    ],
  },
];

/** All lists. */
export const FACTS: readonly Fact[] = [...COMMON_FACTS, ...BACKEND_FACTS];
