/** Outcomes of a `sendMessages` that does as it likes with what it is given. */
import { expect, it } from "vitest";
import { callsOf, down, numbers, putMany } from "../support/batches.ts";
import { fresh, onEitherBackend } from "../support/harness.ts";
import { deadOf, idle, listed } from "../support/standing.ts";
import { type Sent, stageOf } from "../support/worker.ts";

type Step = (messages: Sent, delivery: Parameters<ReturnType<typeof stageOf>["rest"]>[1]) => unknown;

/** Sets 2 aside, rejects 4, and leaves the others to what follows. */
const settle: Step = (messages, delivery) => {
  for (const { id, msg } of messages) {
    if (msg === 2) delivery.retry(id);
    if (msg === 4) delivery.reject(id);
  }
};

const ODD: [string, Step][] = [
  [
    "empties its list as it goes",
    (messages, delivery) => {
      for (let message = messages.shift(); message; message = messages.shift()) settle([message], delivery);
    },
  ],
  [
    "turns its list around",
    (messages, delivery) => {
      messages.reverse();
      return settle(messages, delivery);
    },
  ],
  [
    "adds to its list",
    (messages, delivery) => {
      messages.unshift({ ...(messages[0] as Sent[number]), id: "made up" });
      return settle(messages, delivery);
    },
  ],
  [
    "changes its messages",
    (messages, delivery) => {
      settle(messages, delivery);
      for (const message of messages) Object.assign(message, { id: "changed", msg: "changed", sequence: 0, key: "k", headers: {} });
    },
  ],
  [
    "changes its messages first and keeps their ids",
    (messages, delivery) => {
      const copies = structuredClone(messages);
      for (const message of messages) Object.assign(message, { id: `${Math.random()}` });
      return settle(copies, delivery);
    },
  ],
];

onEitherBackend("a sendMessages that", (backend) => {
  it.each(ODD)("%s is understood all the same", async (_, step) => {
    const stub = fresh(backend);
    stageOf(stub).script.push(step);
    await putMany(stub, 5);
    await idle(stub);
    expect(callsOf(stub)).toEqual([numbers(5), [2]]);
    expect(await deadOf(stub)).toEqual([4]);
  });

  it.each(ODD)("%s and then throws keeps what it has not settled", async (_, step) => {
    const stub = fresh(backend);
    stageOf(stub).script.push(async (messages, delivery) => {
      await step(messages, delivery);
      await down();
    });
    await putMany(stub, 5);
    await idle(stub);
    expect(callsOf(stub).slice(1).flat().sort()).toEqual([1, 2, 3, 5]);
    expect(await deadOf(stub)).toEqual([4]);
  });

  const REASONS: [string, unknown, string | RegExp][] = [
    ["an error", new Error("no such customer"), "no such customer"],
    ["nothing", undefined, ""],
    ["null", null, ""],
    ["an object", { code: 5 }, /./],
    ["a number", 404, "404"],
    ["a symbol", Symbol("why"), /why/],
    ["an error without end", Object.assign(new Error("a"), { message: "x".repeat(10_000) }), "x".repeat(500)],
    ["an error that would be cut within a character", new Error(`${"x".repeat(499)}😀`), "x".repeat(499)],
    ["an error of just the length that is kept", new Error(`${"x".repeat(498)}😀`), `${"x".repeat(498)}😀`],
    [
      "an object that can't be a text",
      {
        toString() {
          throw new Error("no text");
        },
      },
      /./,
    ],
    ["an object without a prototype", Object.create(null), /./],
    ["an error whose message is no text", Object.assign(new Error("a"), { message: { deep: 1 } }), /./],
  ];

  it.each(REASONS)("rejects with %s makes a dead letter, with a text", async (_, reason, text) => {
    const stub = fresh(backend);
    stageOf(stub).script.push((messages, delivery) => {
      for (const { id } of messages) delivery.reject(id, reason as string);
    });
    await putMany(stub, 1);
    await idle(stub);
    const [dead] = await listed(stub, "dead");
    expect(dead).toMatchObject({ msg: 1, reason: "rejected", error: typeof text === "string" ? text : expect.stringMatching(text) });
    expect(callsOf(stub)).toEqual([[1]]);
  });
});
