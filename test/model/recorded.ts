/** What the real runtime gave for each list of operations (workerd 1.20260730): both sides of the conformance suite are held against it. */

export const RECORDED: Readonly<Record<string, unknown>> = {
  "gives back what was put": [
    [
      null,
      {
        n: [1, null, "x"],
      },
      null,
    ],
  ],
  "keeps what was put at the call": [[null, [["m", "date 5"]]]],
  "gets several, in the order of their keys": [
    [
      null,
      [
        ["a", 1],
        ["c", 3],
      ],
      [],
    ],
  ],
  "deletes, and says whether it was there": [[null, true, false, null]],
  "deletes several, and counts them": [
    [
      null,
      2,
      [
        ["c", 3],
        ["d", 4],
      ],
    ],
  ],
  "counts a key that is deleted twice once": [
    [
      null,
      1,
      [
        ["b", 2],
        ["c", 3],
        ["d", 4],
      ],
    ],
  ],
  "puts nothing without entries": [[null, []]],
  "refuses undefined": [["TypeError", []]],
  "drops undefined among others": [[null, [["b", 1]]]],
  "keeps what stood where undefined was dropped": [
    [
      null,
      null,
      [
        ["a", 1],
        ["b", 9],
        ["c", 3],
        ["d", 4],
      ],
    ],
  ],
  "refuses what can't be cloned": [["DataCloneError", []]],
  "writes nothing of many when one is bad": [["DataCloneError", []]],
  "lists by bytes": [
    [
      null,
      [
        ["", 5],
        ["z", 3],
        ["\ufffd", 2],
        ["\ud83d\ude00", 4],
        ["\udbff\udfffz", 1],
      ],
    ],
  ],
  "lists ranges": [
    [
      null,
      [
        ["b", 2],
        ["c", 3],
        ["d", 4],
      ],
      [
        ["c", 3],
        ["d", 4],
      ],
      [
        ["a", 1],
        ["b", 2],
      ],
      [
        ["b", 2],
        ["c", 3],
      ],
      [
        ["a", 1],
        ["b", 2],
      ],
      [
        ["d", 4],
        ["c", 3],
      ],
      [
        ["d", 4],
        ["c", 3],
        ["b", 2],
      ],
      [["c", 3]],
      [["b", 2]],
      [
        ["a", 1],
        ["b", 2],
        ["c", 3],
        ["d", 4],
      ],
      [],
      [],
      [
        ["d", 4],
        ["c", 3],
      ],
    ],
  ],
  "refuses odd ranges": [["TypeError", "TypeError", "TypeError"]],
  "knows no alarm at first": [[null, null, null]],
  "sets, moves and deletes an alarm": [[null, 90000, null, 80000, null, null]],
  "refuses an alarm at no time": [["TypeError", "TypeError", null]],
  "keeps what is durable": [
    [null, null],
    [
      [
        ["a", 1],
        ["b", 2],
        ["c", 3],
        ["d", 4],
      ],
      90000,
    ],
  ],
  "drops what a crash finds in its own turn": [[null], [], [[["a", 1]], null]],
  "drops a delete that a crash finds in its own turn": [
    [null, null],
    [],
    [
      [
        ["a", 1],
        ["b", 2],
        ["c", 3],
        ["d", 4],
      ],
      90000,
    ],
  ],
  "reads what the same turn has written": [[[null, 1, true, null, null, 9000]]],
  "deletes everything": [
    [null, null, []],
    [[], null],
  ],
  "deletes the alarm with everything": [
    [null, null, null, null],
    [[], null],
  ],
  "keeps what is put after deleting everything": [
    [null, [null, null]],
    [[["z", 1]], null],
  ],
  "commits a transaction": [
    [
      null,
      [
        null,
        true,
        9,
        [
          ["a", 9],
          ["c", 3],
          ["d", 4],
        ],
        null,
        9000,
      ],
    ],
    [
      [
        ["a", 9],
        ["c", 3],
        ["d", 4],
      ],
      9000,
    ],
  ],
  "rolls a transaction back that throws": [
    [
      null,
      null,
      "Error",
      [
        ["a", 1],
        ["b", 2],
        ["c", 3],
        ["d", 4],
      ],
      90000,
    ],
  ],
  "rolls back by hand": [
    [
      null,
      [null, null, "Error"],
      [
        ["a", 1],
        ["b", 2],
        ["c", 3],
        ["d", 4],
      ],
      null,
    ],
  ],
  "deletes nothing inside a transaction": [
    [
      null,
      ["Error"],
      [
        ["a", 1],
        ["b", 2],
        ["c", 3],
        ["d", 4],
      ],
    ],
  ],
  "joins what storage writes inside a transaction": [
    [
      null,
      "Error",
      [
        ["a", 1],
        ["b", 2],
        ["c", 3],
        ["d", 4],
      ],
      null,
    ],
  ],
  "takes more than 128 keys": [
    [
      null,
      150,
      [
        ["k150", 150],
        ["k151", 151],
      ],
    ],
  ],
  "takes values up to 2 MiB": [[null, "Error", null]],
  "puts, gets, deletes and lists at once": [
    [
      null,
      null,
      1,
      1,
      [["b", 2]],
      true,
      false,
      null,
      null,
      "DataCloneError",
      [["c", null]],
      [
        ["b", 2],
        ["c", null],
      ],
    ],
    [
      [
        ["b", 2],
        ["c", null],
      ],
      null,
    ],
  ],
  "commits and rolls back at once": [
    [
      null,
      [null, 9],
      "Error",
      [
        ["a", 9],
        ["b", 2],
        ["c", 3],
        ["d", 4],
      ],
      [null, "Error", 5],
      [
        ["a", 9],
        ["b", 2],
        ["c", 5],
        ["d", 4],
      ],
    ],
    [
      [
        ["a", 9],
        ["b", 2],
        ["c", 5],
        ["d", 4],
      ],
      null,
    ],
  ],
  "drops what was written at once with the turn": [[null], [], [[["a", 1]], null]],
  "hides the alarm that fires, until another is set": [[[1000, 0, false, [null, null, 60000]]], 60000, []],
  "has no alarm after its handler": [[[1000, 0, false, []]], null, []],
  "shows an alarm that waits for its retry": [[[1000, 0, false, []]], 1000, []],
  "calls a handler that throws again": [
    [
      [1000, 0, false, [null]],
      [1000, 1, true, [null]],
    ],
    null,
    [],
  ],
  "calls again after a death": [
    [
      [1000, 0, false, [null]],
      [1000, 1, true, [null]],
    ],
    null,
    [],
  ],
  "calls again after a death that took a new alarm with it": [
    [
      [1000, 0, false, []],
      [1000, 1, true, [null]],
    ],
    null,
    [],
  ],
  "does not retry where the alarm was deleted": [[[1000, 0, false, [null]]], null, []],
  "hides the alarm that starts the object, before its handler is called": [[[4000, 0, false, [null]]], null, [null, null]],
  "takes an alarm that was set before the throw for the retry": [
    [
      [1000, 0, false, [null]],
      [4000, 0, false, [null]],
    ],
    null,
    [],
  ],
  "takes an alarm that was durable before the death for the retry": [
    [
      [1000, 0, false, [null, null]],
      [4000, 0, false, [null]],
    ],
    null,
    [],
  ],
  "does not call for an alarm that is moved while its call waits": [[[4000, 0, false, [null]]], null, []],
  "does not call for an alarm that is deleted while its call waits": [[], null, []],
  "retries with a count": [
    [
      [1000, 0, false, []],
      [1000, 1, true, []],
      [1000, 2, true, []],
    ],
    null,
    [],
  ],
  "calls for an alarm that starts the object although the start moves it": [
    [
      [4000, 0, false, [8000]],
      [8000, 0, false, []],
    ],
    null,
    [null, null],
  ],
};
