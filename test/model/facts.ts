/** Lists of storage operations that give the same on both backends, on the model and on the real runtime. */

import type { Chapter, Fact, Operation } from "./operations.ts";

/** No data, and so nothing that storage takes. */
const FUNCTION = (): void => {};
const abc: Operation = ["put all", { a: 1, b: 2, c: 3, d: 4 }];
const all: Chapter = { does: [["list"], ["get alarm"]] };

export const COMMON_FACTS: readonly Fact[] = [
  {
    title: "gives back what was put",
    chapters: [
      {
        does: [
          ["put", "a", { n: [1, null, "x"] }],
          ["get", "a"],
          ["get", "b"],
        ],
      },
    ],
  },
  {
    title: "keeps what was put at the call",
    chapters: [
      {
        does: [
          ["put", "a", new Map([["m", new Date(5)]])],
          ["get", "a"],
        ],
      },
    ],
  },
  { title: "gets several, in the order of their keys", chapters: [{ does: [abc, ["get all", ["c", "z", "a"]], ["get all", []]] }] },
  { title: "deletes, and says whether it was there", chapters: [{ does: [abc, ["delete", "a"], ["delete", "a"], ["get", "a"]] }] },
  { title: "deletes several, and counts them", chapters: [{ does: [abc, ["delete all", ["a", "x", "b"]], ["list"]] }] },
  { title: "counts a key that is deleted twice once", chapters: [{ does: [abc, ["delete all", ["a", "a"]], ["list"]] }] },
  { title: "puts nothing without entries", chapters: [{ does: [["put all", {}], ["list"]] }] },
  { title: "refuses undefined", chapters: [{ does: [["put", "a", undefined], ["list"]] }] },
  { title: "drops undefined among others", chapters: [{ does: [["put all", { a: undefined, b: 1 }], ["list"]] }] },
  { title: "keeps what stood where undefined was dropped", chapters: [{ does: [abc, ["put all", { a: undefined, b: 9 }], ["list"]] }] },
  { title: "refuses what can't be cloned", chapters: [{ does: [["put", "a", FUNCTION], ["list"]] }] },
  { title: "writes nothing of many when one is bad", chapters: [{ does: [["put all", { a: 1, b: FUNCTION, c: 3 }], ["list"]] }] },
  {
    title: "lists by bytes",
    chapters: [{ does: [["put all", { "\u{10FFFF}z": 1, "\uFFFD": 2, z: 3, "\u{1F600}": 4, "": 5 }], ["list"]] }],
  },
  {
    title: "lists ranges",
    chapters: [
      {
        does: [
          abc,
          ["list", { start: "b" }],
          ["list", { startAfter: "b" }],
          ["list", { end: "c" }],
          ["list", { start: "b", end: "d" }],
          ["list", { limit: 2 }],
          ["list", { limit: 2, reverse: true }],
          ["list", { start: "b", reverse: true }],
          ["list", { startAfter: "b", limit: 1 }],
          ["list", { prefix: "b" }],
          ["list", { prefix: "" }],
          ["list", { start: "d", end: "b" }],
          ["list", { prefix: "a", start: "b" }],
          ["list", { reverse: true, startAfter: "b" }],
        ],
      },
    ],
  },
  {
    title: "refuses odd ranges",
    chapters: [
      {
        does: [
          ["list", { limit: 0 }],
          ["list", { limit: -1 }],
          ["list", { start: "a", startAfter: "b" }],
        ],
      },
    ],
  },
  { title: "knows no alarm at first", chapters: [{ does: [["get alarm"], ["delete alarm"], ["get alarm"]] }] },
  {
    title: "sets, moves and deletes an alarm",
    chapters: [{ does: [["set alarm", 90_000], ["get alarm"], ["set alarm", 80_000], ["get alarm"], ["delete alarm"], ["get alarm"]] }],
  },
  {
    title: "refuses an alarm at no time",
    chapters: [{ does: [["set alarm", Number.NaN], ["set alarm", Number.NEGATIVE_INFINITY], ["get alarm"]] }],
  },
  { title: "keeps what is durable", chapters: [{ does: [abc, ["set alarm", 90_000]], ends: "sync" }, all] },
  {
    title: "drops what a crash finds in its own turn",
    chapters: [
      { does: [["put", "a", 1]], ends: "sync" },
      {
        does: [
          [
            "at once",
            [
              ["put", "a", 2],
              ["put", "b", 2],
              ["set alarm", 90_000],
            ],
          ],
        ],
        ends: "abort",
      },
      all,
    ],
  },
  {
    title: "drops a delete that a crash finds in its own turn",
    chapters: [
      { does: [abc, ["set alarm", 90_000]], ends: "sync" },
      { does: [["at once", [["delete", "a"], ["delete alarm"]]]], ends: "abort" },
      all,
    ],
  },
  {
    title: "reads what the same turn has written",
    chapters: [{ does: [["at once", [["put", "a", 1], ["get", "a"], ["delete", "a"], ["get", "a"], ["set alarm", 9000], ["get alarm"]]]] }],
  },
  { title: "deletes everything", chapters: [{ does: [abc, ["deleteAll"], ["list"]], ends: "sync" }, all] },
  {
    title: "deletes the alarm with everything",
    chapters: [{ does: [abc, ["set alarm", 90_000], ["deleteAll"], ["get alarm"]], ends: "sync" }, all],
  },
  {
    title: "keeps what is put after deleting everything",
    chapters: [{ does: [abc, ["at once", [["deleteAll"], ["put", "z", 1]]]], ends: "sync" }, all],
  },
  {
    title: "commits a transaction",
    chapters: [
      {
        does: [
          abc,
          ["transaction", [["put", "a", 9], ["delete", "b"], ["get", "a"], ["list"], ["set alarm", 9000], ["get alarm"]], "return"],
        ],
      },
      all,
    ],
  },
  {
    title: "rolls a transaction back that throws",
    chapters: [
      {
        does: [
          abc,
          ["set alarm", 90_000],
          ["transaction", [["put", "a", 9], ["delete", "b"], ["delete alarm"]], "throw"],
          ["list"],
          ["get alarm"],
        ],
      },
    ],
  },
  {
    title: "rolls back by hand",
    chapters: [
      {
        does: [
          abc,
          [
            "transaction",
            [
              ["put", "a", 9],
              ["set alarm", 9000],
            ],
            "rollback",
          ],
          ["list"],
          ["get alarm"],
        ],
      },
    ],
  },
  {
    title: "deletes nothing inside a transaction",
    chapters: [{ does: [abc, ["transaction", [["outside", ["deleteAll"]]], "return"], ["list"]] }],
  },
];
