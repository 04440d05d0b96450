/** Stories that chance has found, each once wrong: whatever the seed, they are told again. */
import { expect, it } from "vitest";
import { type Command, perform } from "./commands.ts";
import { finish } from "./ending.ts";
import { type Setting, Story } from "./story.ts";

/** Deliveries are recorded later. */
const LATER: Partial<Setting> = { parameters: 1, options: { dispatch: "immediate", settleWithinSeconds: 10 } };

const FOUND: readonly (readonly [string, readonly Command[], Partial<Setting>?])[] = [
  [
    "a key that a dead letter holds is held again when the transaction that has deleted the letter is rolled back",
    [
      { do: "put", extra: { key: "a", delay: 1, expires: 2 } },
      { do: "jump", seconds: 3600 },
      { do: "put and unconfirmed", extra: { key: "a" } },
      { do: "transact", steps: [{ step: "discard" }], end: "rollback", through: "txn" },
    ],
    { backend: "sqlite", tempo: "split", parameters: 1, seed: 1, deadMessage: "sends", options: { dispatch: "immediate", onDead: "hold" } },
  ],
  [
    "what is acknowledged by a call that throws all the same may be recorded later",
    [
      { do: "ack", back: 0 },
      { do: "burst", count: 2, extra: { key: "a" } },
      { do: "put", extra: { delay: 1 } },
      { do: "partial", count: 1 },
      { do: "look" },
    ],
    { backend: "sqlite", tempo: "split", parameters: 2, seed: 1, options: { dispatch: "immediate", settleWithinSeconds: 30 } },
  ],
  [
    "what stats() counts may be known as delivered a moment later, when it is listed",
    [
      { do: "put", extra: { key: "a" } },
      { do: "beside", end: "return", ticks: 5, step: { step: "look" } },
    ],
    { backend: "sqlite", tempo: "split", parameters: 1, seed: 1, options: { dispatch: "immediate", settleWithinSeconds: 1 } },
  ],
  [
    "the object's own alarm is set in the turn of the header that records the last delivery, whatever else that is written for",
    [
      { do: "own set", seconds: 1 },
      {
        do: "ask",
        steps: [
          { step: "put", options: {} },
          { step: "own set", seconds: 100 },
        ],
      },
      { do: "redrive one" },
      { do: "crash in", steps: 4 },
      { do: "ask in block", step: { step: "resume" } },
    ],
    { backend: "sqlite", tempo: "split", parameters: 1, seed: 1, options: { dispatch: "immediate", settleWithinSeconds: 1 } },
  ],
  [
    "the object's own alarm is tried again that the platform called for while an earlier one was being committed in its place",
    [
      { do: "own throws" },
      { do: "own set", seconds: 100 },
      {
        do: "transact openly",
        steps: [{ step: "put", options: { delaySeconds: 30, expiresInSeconds: 2 } }],
        end: "return",
        through: "txn",
      },
      { do: "jump", seconds: 3600 },
    ],
    { backend: "sqlite", tempo: "split", parameters: 1, commits: "slow", seed: 1 },
  ],
  [
    "what was handed over in an invocation without subrequests need not count as an attempt",
    [
      { do: "large" },
      { do: "hang" },
      { do: "flush" },
      { do: "burst", count: 17, extra: {} },
      { do: "wait", seconds: 3600 },
      { do: "burst", count: 17, extra: {} },
      { do: "wait", seconds: 3600 },
      { do: "put", extra: { key: "a" } },
      { do: "wait", seconds: 3 },
      { do: "subrequests", limit: 1 },
      { do: "remove", extra: { key: "a" } },
    ],
    { backend: "sqlite", tempo: "split", parameters: 1, alarms: "very late", seed: 1 },
  ],
  [
    "the object's own alarm is set as soon as a delivery is recorded, although the platform has lost the outbox's",
    [{ do: "put", extra: {} }, { do: "lose alarm" }, { do: "wait", seconds: 0 }, { do: "own set", seconds: 100 }],
    { backend: "sqlite", tempo: "split", parameters: 1, options: { dispatch: "immediate", settleWithinSeconds: 30 } },
  ],
  [
    "another message is tried alone after a call whose time has ended because the clock was set ahead",
    [
      { do: "ask", steps: [{ step: "put", options: { key: "a", allowUnconfirmed: true } }] },
      { do: "partial", count: 3 },
      { do: "cancel", back: 0 },
      { do: "delay answers", ms: 2000 },
      { do: "burst", count: 17, extra: {} },
      { do: "flush" },
      { do: "wait", seconds: 10 },
      { do: "jump", seconds: 3600 },
      { do: "transaction", end: "return", through: "txn", extra: {} },
    ],
    { backend: "sqlite", tempo: "split", parameters: 1, options: { dispatch: "immediate" } },
  ],
  [
    "a message that is tried alone while the clock is set ahead comes again: its call has timed out",
    [
      { do: "partial", count: 2 },
      { do: "delay answers", ms: 2000 },
      { do: "burst", count: 2, extra: {} },
      { do: "flush" },
      { do: "wait", seconds: 10 },
      { do: "jump", seconds: 3600 },
      { do: "transaction", end: "return", through: "txn", extra: {} },
    ],
    { backend: "sqlite", tempo: "split", parameters: 1 },
  ],
  [
    "a message is not tried once more ahead of dead letters of its key that were redriven while another was tried in its place",
    [
      { do: "burst", count: 2, extra: { key: "a", expires: 2 } },
      { do: "partial", count: 1 },
      { do: "flush" },
      { do: "put", extra: { key: "a" } },
      { do: "partial", count: 2 },
      { do: "put", extra: {} },
      { do: "delay answers", ms: 2000 },
      { do: "wait", seconds: 10 },
      { do: "redrive" },
    ],
    { parameters: 1 },
  ],
  [
    "an alarm that stays where an extension has nothing to do any more is not taken for the object's own",
    [
      { do: "pause" },
      { do: "put", extra: {} },
      { do: "wait", seconds: 3600 },
      { do: "resume" },
      { do: "pause" },
      { do: "crash in", steps: 1 },
    ],
    { backend: "sqlite", tempo: "split", parameters: 1, reports: true },
  ],
  [
    "what a paused destination has in hand is recorded at once, because no alarm may be set beside a header that says nothing waits",
    [
      { do: "delay answers", ms: 2000 },
      { do: "large" },
      {
        do: "transact",
        steps: [{ step: "nested", steps: [{ step: "put", options: { allowUnconfirmed: true } }], end: "return" }],
        end: "throw",
        through: "txn",
      },
      { do: "crash in", steps: 13 },
      { do: "pause" },
      { do: "wait", seconds: 3600 },
    ],
    { backend: "sqlite", tempo: "split", parameters: 1, seed: 1, options: { dispatch: "immediate", settleWithinSeconds: 30 } },
  ],
  [
    "what is being read to be handed over is due until it has been read: a dead letter that is deleted meanwhile lets its key go",
    [
      { do: "put", extra: { key: "a", delay: 30, expires: 2 } },
      { do: "wait", seconds: 60 },
      { do: "put", extra: { key: "a", expires: 2 } },
      { do: "own throws" },
      { do: "wait", seconds: 10 },
      {
        do: "transact",
        steps: [{ step: "put", options: { key: "a", allowUnconfirmed: true } }, { step: "own delete" }],
        end: "return",
        through: "txn",
      },
      { do: "wait", seconds: 1 },
      { do: "delay answers", ms: 2000 },
      { do: "transact", steps: [{ step: "own set", seconds: 100 }, { step: "redrive" }], end: "return", through: "txn" },
    ],
    {
      ...({ backend: "sqlite", tempo: "split", parameters: 1, seed: 458, alarms: "random", commits: "slow", reports: true } as const),
      options: { onDead: "hold", deadLetters: { max: 3, expiresInSeconds: 60 } },
    },
  ],
  [
    "a report that follows one without an answer counts for the registry, though the clock was set back",
    [
      { do: "transaction", end: "return", through: "txn", extra: { delay: 30, expires: 2 } },
      { do: "put", extra: {} },
      { do: "crash in", steps: 16 },
      { do: "wait", seconds: 3600 },
      { do: "jump", seconds: -3600 },
      { do: "remove", extra: { expires: 2 } },
    ],
    { parameters: 1, alarms: "very late", reports: true, options: { deadLetters: { expiresInSeconds: 10 } } },
  ],
  [
    "a walk visits a message that is retried at once between two pages, wherever it moves",
    [
      { do: "burst", count: 2, extra: { key: "a", delay: 1 } },
      { do: "walk", state: "delayed", limit: 1, between: [{ step: "retry now", back: 0 }] },
    ],
    { parameters: 1 },
  ],
  [
    "a timer that was held while the clock was set back records deliveries in time",
    [
      { do: "put and unconfirmed", extra: { id: "y" } },
      { do: "walk", state: "pending", limit: 1, between: [] },
      { do: "jump", seconds: -3600 },
      { do: "beside", end: "return", ticks: 0, step: { step: "put", options: { id: "y", allowUnconfirmed: true } } },
    ],
    LATER,
  ],
  [
    "an alarm that stays when a delivery is recorded by the object's own alarm is not taken for the object's own",
    [
      { do: "beside", end: "return", ticks: 0, step: { step: "own set", seconds: 1 } },
      { do: "crash in", steps: 24 },
      { do: "put", extra: { key: "a" } },
    ],
    LATER,
  ],
  [
    "a deleteAlarm() that is rolled back during a send leaves the outbox's alarm the outbox's",
    [
      { do: "hang" },
      { do: "put", extra: {} },
      { do: "wait", seconds: 3 },
      { do: "beside", end: "return", ticks: 0, step: { step: "pause" } },
      { do: "beside", end: "throw", ticks: 0, within: { step: "own delete" }, step: { step: "cancel", back: 0 } },
      { do: "crash in", steps: 4 },
      { do: "put", extra: { key: "a" } },
    ],
  ],
  [
    "the call of an alarm of the outbox that comes after a pause in a transaction is not the object's own",
    [
      { do: "remove", extra: {} },
      { do: "own set", seconds: 1 },
      {
        do: "transact",
        steps: [{ step: "pause" }, { step: "wait", ms: 3000 }, { step: "own delete" }],
        end: "return",
        through: "txn",
      },
    ],
  ],
  [
    "an own alarm that is set for the very time of an alarm that the platform has lost is set all the same",
    [{ do: "put", extra: { delay: 1 } }, { do: "lose alarm" }, { do: "own set", seconds: 1 }, { do: "pause" }, { do: "evict" }],
  ],
  [
    "an own alarm that is overdue when it gets the slot back keeps its time after a crash",
    [
      { do: "options", batchSize: 1, immediate: true },
      { do: "own set", seconds: 100 },
      { do: "crash in", steps: 32 },
      { do: "put", extra: {} },
      { do: "put", extra: { key: "a" } },
      { do: "jump", seconds: 3600 },
    ],
  ],
  [
    "a flush before the call of an alarm that is overdue leaves the alarm no later than what waits",
    [
      { do: "crash in", steps: 16 },
      { do: "hang" },
      { do: "own set", seconds: 1 },
      { do: "jump", seconds: 1 },
      { do: "put", extra: {} },
      { do: "flush" },
    ],
  ],
  [
    "a run after a death that has nothing in hand does not hand the alarm to the object's own",
    [
      { do: "own set", seconds: 100 },
      { do: "crash in", steps: 30 },
      { do: "put", extra: { key: "a", expires: 2 } },
      { do: "remove", extra: { key: "a", delay: 30 } },
      { do: "options", batchSize: 1, immediate: true },
      { do: "put", extra: {} },
      { do: "crash in", steps: 10 },
      { do: "crash in", steps: 34 },
      { do: "options", batchSize: 1, immediate: true },
    ],
  ],
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
  [
    "a message that is put while a destination fails for an hour counts its own attempts",
    [
      { do: "down" },
      { do: "put", extra: {} },
      { do: "remove", extra: { key: "a" } },
      { do: "wait", seconds: 3600 },
      { do: "put", extra: {} },
      { do: "wait", seconds: 60 },
      { do: "wait", seconds: 3 },
    ],
  ],
  [
    "attempts are remembered while messages expire behind the one that is tried",
    [
      { do: "down" },
      { do: "put", extra: { key: "a", delay: 30, expires: 2 } },
      { do: "large" },
      { do: "evict" },
      { do: "put", extra: { key: "b" } },
      { do: "crash in", steps: 7 },
      { do: "crash in", steps: 22 },
      { do: "burst", count: 2, extra: { key: "a", expires: 2 } },
      { do: "wait", seconds: 3600 },
    ],
  ],
  [
    "the object's own alarm comes at its time when another was set in a transaction that fails, while a send is in flight",
    [
      { do: "transaction", end: "return", through: "txn", extra: {} },
      { do: "hang" },
      { do: "wait", seconds: 3 },
      { do: "own set", seconds: 7 },
      { do: "transact", steps: [{ step: "own set", seconds: 1 }], end: "throw", through: "txn" },
    ],
  ],
  [
    "pause() beside the commit of a transaction is not overwritten by it",
    [
      { do: "beside", end: "return", ticks: 0, step: { step: "own set", seconds: 1 } },
      { do: "beside", end: "return", ticks: 6, within: { step: "put", options: { key: "a" } }, step: { step: "pause" } },
    ],
    { backend: "kv", tempo: "joined", options: { dispatch: "immediate" } },
  ],
  [
    "nor is discard()",
    [
      { do: "burst", count: 2, extra: { delay: 1, expires: 2 } },
      { do: "put", extra: { key: "a" } },
      { do: "crash in", steps: 13 },
      { do: "wait", seconds: 3 },
      { do: "burst", count: 2, extra: { key: "a" } },
      { do: "beside", end: "return", ticks: 0, within: { step: "cancel", back: 0 }, step: { step: "discard" } },
    ],
    { backend: "kv", tempo: "joined" },
  ],
  [
    "the object's own alarm becomes due while a transaction with a message is open",
    [
      { do: "own set", seconds: 1 },
      { do: "transact", steps: [{ step: "put" }, { step: "wait", ms: 3000 }], end: "return", through: "txn" },
    ],
  ],
  [
    "an own alarm that the platform has given up, because calls died before its handler began, starts over with what waits beside it",
    [
      { do: "own dies", times: 7 },
      { do: "beside", end: "return", ticks: 0, within: { step: "own set", seconds: 1 }, step: { step: "redrive one" } },
      { do: "beside", end: "return", ticks: 0, step: { step: "pause" } },
      { do: "large" },
      { do: "wait", seconds: 60 },
      { do: "put", extra: { delay: 5 } },
      { do: "crash in", steps: 22 },
      { do: "crash in", steps: 23 },
    ],
  ],
  [
    "a delete with a message that died with its object is not taken for done when everything is deleted later",
    [
      { do: "crash in", steps: 18 },
      { do: "ask in handler", step: { step: "remove", options: {} } },
      { do: "burst", count: 2, extra: { key: "a" } },
      { do: "wait", seconds: 10 },
      { do: "deleteAll with message" },
    ],
  ],
  [
    "a message that becomes a dead letter while all of them are put back counts its attempts from 1",
    [
      { do: "beside", end: "return", ticks: 0, step: { step: "cancel", back: 0 } },
      { do: "crash in", steps: 10 },
      { do: "transact", steps: [{ step: "cancel", back: 0 }], end: "return", through: "txn" },
      { do: "put", extra: { id: "x" } },
      { do: "poison", back: 2 },
      { do: "large" },
      { do: "wait", seconds: 60 },
      { do: "crash in", steps: 9 },
      {
        do: "transact",
        steps: [{ step: "own delete" }],
        end: "rollback",
        through: "txn",
        late: { step: "put", options: { key: "a" } },
      },
      { do: "walk", state: "pending", limit: 1, between: [{ step: "resume" }] },
      { do: "reject", back: 2 },
      { do: "redrive one" },
    ],
    { parameters: 2, options: { dispatch: "immediate" } },
  ],
  [
    "a retry of an own alarm keeps its time and its count when everything is deleted, where that leaves the alarm",
    [
      { do: "own dies", times: 7 },
      { do: "own set", seconds: 1 },
      { do: "put", extra: { delay: 1 } },
      { do: "wait", seconds: 60 },
      { do: "deleteAll" },
      { do: "options", batchSize: 1, immediate: false },
    ],
  ],
  [
    "nothing is left of a lane whose expired head is cancelled while the message behind it is handed over",
    [
      { do: "put", extra: { key: "b", delay: 1, expires: 2 } },
      { do: "ask in handler", step: { step: "cancel", back: 5 } },
      { do: "remove", extra: { key: "b" } },
      { do: "crash in", steps: 1 },
      { do: "put", extra: {} },
      { do: "transaction", end: "return", through: "txn", extra: {} },
      { do: "crash in", steps: 11 },
      {
        do: "transact",
        steps: [
          { step: "wait", ms: 0 },
          { step: "cancel", back: 0 },
        ],
        end: "return",
        through: "txn",
      },
      { do: "cancel", back: 2 },
      { do: "crash in", steps: 6 },
      { do: "wait", seconds: 3600 },
      { do: "crash in", steps: 1 },
    ],
  ],
  [
    "a cancellation that has found a message of a transaction that fails takes nothing else back",
    [
      { do: "put", extra: { id: "y" } },
      { do: "wait", seconds: 10 },
      { do: "deleteAll" },
      { do: "put", extra: {} },
      { do: "beside", end: "throw", ticks: 0, within: { step: "sql", options: { id: "y" } }, step: { step: "cancel", back: 2 } },
    ],
    { backend: "kv" },
  ],
  [
    "a message is not blamed for a death that a run under a lease would have tried alone, had the outbox not been paused",
    [
      { do: "own set", seconds: 1 },
      { do: "deleteAll with message" },
      { do: "crash" },
      { do: "put and unconfirmed", extra: { delay: 1 } },
      { do: "put", extra: {} },
      { do: "ask", steps: [{ step: "pause" }] },
    ],
    { commits: "slow", seed: 629, options: { dispatch: "immediate" } },
  ],
  [
    "a message that was put with allowUnconfirmed, and is tried in place of one that failed, is durable before it is sent",
    [
      { do: "beside", end: "return", ticks: 0, step: { step: "put", options: { key: "a" } } },
      { do: "crash in", steps: 31 },
      { do: "burst", count: 2, extra: {} },
      { do: "cancel", back: 0 },
      { do: "partial", count: 1 },
      { do: "transaction", end: "return", through: "manager", extra: { expires: 2, id: "x" } },
      { do: "ask in handler", step: { step: "own delete" } },
      { do: "wait", seconds: 60 },
      { do: "put", extra: {} },
      { do: "burst", count: 2, extra: {} },
      { do: "ask", steps: [{ step: "put", options: { allowUnconfirmed: true } }] },
    ],
    { commits: "slow" },
  ],
  [
    "a message that was tried early, and of which the destination said retry, may come again before those that were put before it",
    [
      { do: "put", extra: { key: "a" } },
      { do: "partial", count: 1 },
      { do: "put and unconfirmed", extra: { key: "a" } },
      { do: "beside", end: "return", ticks: 0, step: { step: "put", options: {} } },
      { do: "jump", seconds: 3600 },
      { do: "partial", count: 2 },
      { do: "crash in", steps: 1 },
      { do: "transactionSync", end: "return", extra: { key: "a" } },
      { do: "remove", extra: {} },
      { do: "transaction", end: "throw", through: "txn", extra: {} },
      { do: "retry", back: 3 },
      { do: "wait", seconds: 0 },
    ],
    { parameters: 2, options: { dispatch: "immediate" } },
  ],
  [
    "a message that waits to be durable before it is sent lets a dead letter of its key go first that is redriven meanwhile",
    [
      { do: "remove", extra: { key: "a", expires: 2 } },
      { do: "jump", seconds: 3600 },
      {
        do: "transact openly",
        steps: [
          { step: "put", options: { key: "a" } },
          {
            step: "nested",
            steps: [
              { step: "put", options: { allowUnconfirmed: true } },
              { step: "cancel", back: 0 },
            ],
            end: "return",
          },
        ],
        end: "return",
        through: "txn",
      },
      { do: "walk", state: "pending", limit: 1, between: [] },
      { do: "ask", steps: [{ step: "redrive one" }] },
    ],
    { tempo: "joined", options: { dispatch: "immediate" } },
  ],
  [
    "deleteAll() with a message, called as deadMessage() is about to be, is not taken for one in its transaction",
    [
      { do: "put and unconfirmed", extra: { delay: 1, expires: 2 } },
      { do: "jump", seconds: 3600 },
      { do: "put", extra: { key: "a" } },
      { do: "deleteAll with message" },
    ],
    { backend: "sqlite", parameters: 1, options: { dispatch: "immediate" }, deadMessage: "sends" },
  ],
  [
    "what is noted before deadMessage() is called again leaves the alarm no later than what waits",
    [
      { do: "put and unconfirmed", extra: { delay: 1, expires: 2 } },
      { do: "put and unconfirmed", extra: { delay: 1 } },
      { do: "put", extra: {} },
      { do: "crash in", steps: 16 },
    ],
    { backend: "sqlite", parameters: 1, deadMessage: "writes" },
  ],
  [
    "an own alarm that is set while a call of the outbox's is not over for the platform is not lost to a clock that was turned back",
    [
      { do: "own set", seconds: 1 },
      { do: "put", extra: {} },
      { do: "wait", seconds: 0 },
      { do: "jump", seconds: -3600 },
      { do: "own set", seconds: 1 },
    ],
    { commits: "slow" },
  ],
  [
    "a call that has dead letters to keep an eye on waits at rest for what a run has in hand, beside the object's own alarm",
    [
      { do: "remove", extra: { key: "b", delay: 30, expires: 2 } },
      { do: "put", extra: {} },
      { do: "wait", seconds: 10 },
      { do: "own set", seconds: 1 },
      { do: "put", extra: { key: "b" } },
    ],
    { parameters: 2, alarms: "very late", commits: "slow", options: { deadLetters: { expiresInSeconds: 10 } } },
  ],
  [
    "an own alarm that is set for the time of one that has fired, after the clock was turned back, is called again",
    [
      { do: "own set", seconds: 1 },
      { do: "wait", seconds: 3600 },
      { do: "jump", seconds: -3600 },
      { do: "ask", steps: [{ step: "own set", seconds: 1 }, { step: "look" }] },
    ],
  ],
  [
    "a walk whose first page shows what has moved back while it was read visits each message once",
    [
      { do: "put", extra: { key: "a", delay: 1, id: "y" } },
      {
        do: "ask",
        steps: [
          { step: "put", options: { id: "y" } },
          { step: "put", options: { key: "a", allowUnconfirmed: true } },
        ],
      },
      { do: "walk", state: "delayed", limit: 1, between: [] },
    ],
    { commits: "slow", seed: 208, options: { dispatch: "immediate" } },
  ],
  [
    "a report with the version of one that arrived before the object died is sent again: the clock was set back to that very time",
    [{ do: "pause" }, { do: "put", extra: {} }, { do: "crash in", steps: 4 }, { do: "wait", seconds: 3 }, { do: "jump", seconds: -3600 }],
    { reports: true },
  ],
  [
    "a report of what was found just now leaves when the header says that it is due, should the object die before the answer",
    [
      { do: "crash in", steps: 26 },
      { do: "put", extra: {} },
      { do: "evict" },
      { do: "jump", seconds: 3600 },
      { do: "wait", seconds: 3 },
      { do: "transact", steps: [{ step: "cancel", back: 0 }], end: "return", through: "txn" },
    ],
    { parameters: 1, alarms: "late", commits: "slow", reports: true, options: { dispatch: "immediate" } },
  ],
];

// "$title" would cut titles short.
it.each(FOUND.map(([title, commands, setting = {}]) => [title, commands, setting] as const))("%s", async (_, commands, setting) => {
  const story = new Story({ backend: "sqlite", tempo: "split", parameters: 1, seed: 1, ...setting });
  story.rough = true;
  for (const command of commands) await perform(story, command);
  expect(await finish(story)).toEqual([]);
});

it("a message that is cancelled while it is about to be a dead letter, because it has expired, is not reported as one", async () => {
  const story = new Story({ backend: "sqlite", tempo: "split", parameters: 1, seed: 1 });
  const dead: string[] = [];
  story.options = { ...story.options, onEvent: (event) => void (event.type === "dead" && dead.push(event.id)) };
  story.rough = true;
  const commands: Command[] = [
    { do: "put", extra: { key: "b", delay: 1, expires: 2 } },
    { do: "ask in handler", step: { step: "cancel", back: 2 } },
    { do: "remove", extra: { key: "b" } },
    { do: "put", extra: {} },
    { do: "pause" },
    { do: "wait", seconds: 3 },
    { do: "resume" },
    { do: "wait", seconds: 1 },
  ];
  for (const command of commands) await perform(story, command);
  expect(await finish(story)).toEqual([]);
  expect(story.promised.get(1)).toMatchObject({ withdrawn: true });
  expect(dead).toEqual([]);
});

it.each(["sqlite", "kv"] as const)(
  "an alarm of the outbox that is repeated after its handler has returned is not the object's own (%s)",
  async (backend) => {
    for (let steps = 1; ; steps++) {
      const story = new Story({ backend, tempo: "split", parameters: 1, commits: "slow", seed: 1 });
      story.rough = true;
      // The header is written in the moment in which the handler has returned and its call is not over.
      await perform(story, { do: "crash in", steps });
      await perform(story, { do: "send", extra: {} });
      await perform(story, { do: "ask in block", step: { step: "new epoch" } });
      await perform(story, { do: "resume" });
      const crashed = story.world.crashes > 0;
      expect(await finish(story), `a crash in ${steps} steps`).toEqual([]);
      if (!crashed) return;
    }
  },
);

it("an alarm of the outbox that is repeated after a handler that paused has failed is not the object's own", async () => {
  for (let steps = 1; ; steps++) {
    const story = new Story({ backend: "sqlite", tempo: "split", parameters: 1, commits: "slow", seed: 4 });
    story.rough = true;
    await perform(story, { do: "ask in handler", step: { step: "pause" } });
    await perform(story, { do: "partial", count: 1 });
    await perform(story, { do: "put", extra: {} });
    await perform(story, { do: "crash in", steps });
    await perform(story, { do: "wait", seconds: 0.05 });
    // The header is written in the moment in which the handler has returned and its call is not over.
    await perform(story, { do: "put and unconfirmed", extra: { key: "a" } });
    const crashed = story.world.crashes > 0;
    expect(await finish(story), `a crash in ${steps} steps`).toEqual([]);
    if (!crashed) return;
  }
});
