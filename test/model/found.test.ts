/** Stories that chance has found, each once wrong: whatever the seed, they are told again. */
import { expect, it } from "vitest";
import { type Command, perform } from "./commands.ts";
import { finish } from "./ending.ts";
import { Story } from "./story.ts";

const FOUND: readonly (readonly [string, readonly Command[]])[] = [
  [
    "a message is not tried again before one of its key that has been redriven while it was in hand",
    [
      { do: "put", extra: { key: "b", delay: 1, expires: 2 } },
      { do: "put", extra: { key: "b" } },
      { do: "down" },
      { do: "hang" },
      { do: "wait", seconds: 3600 },
      { do: "large" },
      { do: "redrive" },
    ],
  ],
  [
    "a redriven message waits for those of its key in the queue also when an earlier one stands before it in the lane",
    [
      { do: "put", extra: { key: "a", delay: 1 } },
      { do: "down" },
      { do: "burst", count: 17, extra: {} },
      { do: "put", extra: { key: "a" } },
      { do: "remove", extra: { key: "a", expires: 2 } },
      { do: "wait", seconds: 3600 },
      { do: "redrive" },
    ],
  ],
  [
    "the same behind many of another key",
    [
      { do: "remove", extra: { key: "a", delay: 1 } },
      { do: "burst", count: 17, extra: { key: "b" } },
      { do: "burst", count: 2, extra: { key: "a" } },
      { do: "put", extra: { key: "a", expires: 2 } },
      { do: "down" },
      { do: "wait", seconds: 3600 },
      { do: "redrive" },
    ],
  ],
];

it.each(FOUND)("%s", async (_, commands) => {
  const story = new Story({ backend: "sqlite", tempo: "split", parameters: 1, seed: 1 });
  story.rough = true;
  for (const command of commands) await perform(story, command);
  expect(await finish(story)).toEqual([]);
});
