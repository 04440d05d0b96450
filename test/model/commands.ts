/** The commands of a random story: each is plain data that fast-check makes and shrinks, and what it does to the story. */

import fc from "fast-check";
import type { OutboxPutOptions } from "../../src/index.ts";
import { type DeadEnd, ENDS } from "./dead.ts";
import { MEDDLES, type Meddle } from "./destination.ts";
import * as script from "./script.ts";
import type { Step } from "./steps.ts";
import type { Story } from "./story.ts";
import { beside, transact, transactSync } from "./transact.ts";
import { walk } from "./walk.ts";

/** What goes with a message. */
interface Extra {
  readonly key?: "a" | "b";
  readonly delay?: number;
  readonly expires?: number;
  readonly id?: "x" | "y";
}

export type Command =
  | { readonly do: "put" | "send" | "remove" | "put and unconfirmed"; readonly extra: Extra }
  | { readonly do: "burst"; readonly count: number; readonly extra: Extra }
  | { readonly do: "large" | "flush" | "evict" | "pause" | "resume" | "redrive" | "redrive one" | "discard" | "own delete" | "new epoch" }
  | { readonly do: "crash" | "up" | "own throws" | "lose alarm" | "deleteAll" | "deleteAll with message" }
  | {
      readonly do: "transaction";
      readonly end: "return" | "throw" | "rollback";
      readonly through: "txn" | "manager";
      readonly extra: Extra;
    }
  | { readonly do: "transactionSync"; readonly end: "return" | "throw"; readonly extra: Extra }
  | { readonly do: "cancel" | "discard waiting" | "retry now" | "poison" | "retry" | "reject" | "ack"; readonly back: number }
  | { readonly do: "down" | "hang" | "asks to pause" }
  | { readonly do: "partial"; readonly count: number }
  | { readonly do: "subrequests"; readonly limit: number }
  | { readonly do: "delay answers"; readonly ms: number }
  | { readonly do: "own set"; readonly seconds: number }
  | { readonly do: "wait"; readonly seconds: number }
  | { readonly do: "jump"; readonly seconds: number }
  | { readonly do: "crash in"; readonly steps: number }
  | { readonly do: "options"; readonly batchSize: number; readonly immediate: boolean }
  | {
      readonly do: "transact" | "transact openly" | "transact at once";
      readonly steps: readonly Step[];
      readonly end: "return" | "throw" | "rollback";
      readonly through: "txn" | "manager";
      readonly late?: Step | undefined;
    }
  | {
      readonly do: "beside";
      readonly end: "return" | "throw" | "rollback";
      readonly ticks: number;
      readonly within?: Step | undefined;
      readonly step: Step;
    }
  | { readonly do: "ask"; readonly steps: readonly Step[] }
  | { readonly do: "ask in handler" | "ask in block"; readonly step: Step }
  | { readonly do: "meddle"; readonly how: Meddle }
  | { readonly do: "next dead message"; readonly how: DeadEnd }
  | { readonly do: "own dies"; readonly times: number }
  | { readonly do: "walk"; readonly state: "pending" | "delayed" | "dead"; readonly limit: number; readonly between: readonly Step[] }
  | { readonly do: "look" | "sync" };

const extra: fc.Arbitrary<Extra> = fc.record(
  {
    key: fc.constantFrom("a" as const, "b" as const),
    delay: fc.constantFrom(1, 5, 30),
    expires: fc.constantFrom(2, 20),
    id: fc.constantFrom("x" as const, "y" as const),
  },
  { requiredKeys: [] },
);
/** Most messages are plain. */
const some: fc.Arbitrary<Extra> = fc.oneof(
  { weight: 3, arbitrary: fc.constant({}) },
  { weight: 3, arbitrary: extra },
  { weight: 2, arbitrary: fc.record({ key: fc.constantFrom("a" as const, "b" as const) }) },
);
/** Which of the last messages. */
const back = fc.integer({ min: 0, max: 5 });
const seconds = fc.constantFrom(0, 0.001, 0.05, 1, 3, 10, 60, 3600);

/** What is asked of the outbox in a transaction, in a handler, beside something else. */
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ step: fc.constantFrom("put" as const, "send" as const, "remove" as const), options: some.map(optionsOf) }),
  },
  { weight: 1, arbitrary: fc.record({ step: fc.constant("sql" as const), options: some.map(optionsOf) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      step: fc.constant("put" as const),
      options: some.map((extra) => ({ ...optionsOf(extra), allowUnconfirmed: true })),
    }),
  },
  { weight: 3, arbitrary: fc.record({ step: fc.constantFrom(...(["cancel", "cancel", "discard waiting", "retry now"] as const)), back }) },
  { weight: 1, arbitrary: fc.record({ step: fc.constant("own set" as const), seconds: fc.constantFrom(1, 7, 100) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      step: fc.constantFrom(
        ...(["own delete", "redrive", "redrive one", "discard", "pause", "resume", "flush", "new epoch", "look"] as const),
      ),
    }),
  },
);
const refused: fc.Arbitrary<Step> = fc.constant({ step: "deleteAll" });
const waiting: fc.Arbitrary<Step> = fc.record({ step: fc.constant("wait" as const), ms: fc.constantFrom(0, 5, 3000) });
const end = fc.constantFrom("return" as const, "throw" as const, "rollback" as const);
const nested: fc.Arbitrary<Step> = fc.record({
  step: fc.constant("nested" as const),
  steps: fc.array(step, { minLength: 1, maxLength: 2 }),
  end,
});

/** What is done to the outbox as a whole: in transactions, beside them, in handlers. */
const asked: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom("transact" as const, "transact openly" as const, "transact at once" as const),
      steps: fc.array(
        fc.oneof(
          { weight: 8, arbitrary: step },
          { weight: 2, arbitrary: nested },
          { weight: 1, arbitrary: refused },
          { weight: 1, arbitrary: waiting },
        ),
        { minLength: 1, maxLength: 3 },
      ),
      end,
      through: fc.constantFrom("txn" as const, "manager" as const),
      late: fc.option(step, { nil: undefined, freq: 3 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("beside" as const),
      end,
      ticks: fc.integer({ min: 0, max: 8 }),
      within: fc.option(step, { nil: undefined }),
      step,
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("ask in handler" as const, "ask in block" as const), step }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("ask" as const), steps: fc.array(step, { minLength: 1, maxLength: 3 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("meddle" as const), how: fc.constantFrom(...MEDDLES) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("next dead message" as const), how: fc.constantFrom(...ENDS) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("own dies" as const), times: fc.constantFrom(1, 2, 7) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("look" as const, "sync" as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("walk" as const),
      state: fc.constantFrom("pending" as const, "delayed" as const, "dead" as const),
      limit: fc.integer({ min: 1, max: 3 }),
      between: fc.array(fc.oneof({ weight: 3, arbitrary: step }, { weight: 1, arbitrary: waiting }), { maxLength: 4 }),
    }),
  },
);

export const commands: fc.Arbitrary<Command[]> = fc.array(
  fc.oneof(
    { weight: 14, arbitrary: asked },
    { weight: 10, arbitrary: fc.record({ do: fc.constantFrom("put" as const, "send" as const), extra: some }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("remove" as const), extra: some }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("put and unconfirmed" as const), extra: some }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("burst" as const), count: fc.constantFrom(2, 3, 17), extra: some }) },
    {
      weight: 3,
      arbitrary: fc.record({
        do: fc.constant("transaction" as const),
        end: fc.constantFrom("return" as const, "throw" as const, "rollback" as const),
        through: fc.constantFrom("txn" as const, "manager" as const),
        extra: some,
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        do: fc.constant("transactionSync" as const),
        end: fc.constantFrom("return" as const, "throw" as const),
        extra: some,
      }),
    },
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constantFrom(
          "cancel" as const,
          "discard waiting" as const,
          "retry now" as const,
          "poison" as const,
          "retry" as const,
          "reject" as const,
          "ack" as const,
        ),
        back,
      }),
    },
    { weight: 3, arbitrary: fc.record({ do: fc.constantFrom("down" as const, "hang" as const, "up" as const, "asks to pause" as const) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("partial" as const), count: fc.integer({ min: 1, max: 3 }) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("subrequests" as const), limit: fc.integer({ min: 1, max: 6 }) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("delay answers" as const), ms: fc.constantFrom(0, 5, 2000) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("own set" as const), seconds: fc.constantFrom(1, 7, 100) }) },
    { weight: 14, arbitrary: fc.record({ do: fc.constant("wait" as const), seconds }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("jump" as const), seconds: fc.constantFrom(-3600, -1, 1, 3600) }) },
    { weight: 5, arbitrary: fc.record({ do: fc.constant("crash in" as const), steps: fc.integer({ min: 1, max: 40 }) }) },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constant("options" as const), batchSize: fc.constantFrom(1, 2, 5), immediate: fc.boolean() }),
    },
    {
      weight: 12,
      arbitrary: fc.record({
        do: fc.constantFrom(
          ...(["large", "flush", "evict", "pause", "resume", "redrive", "redrive one", "discard", "own delete", "own throws"] as const),
          ...(["crash", "lose alarm", "deleteAll", "deleteAll with message", "new epoch"] as const),
        ),
      }),
    },
  ),
  { maxLength: 40, size: "max" },
);

export function optionsOf({ key, delay, expires, id }: Extra): OutboxPutOptions {
  return {
    ...(key !== undefined && { key }),
    ...(delay !== undefined && { delaySeconds: delay }),
    ...(expires !== undefined && { expiresInSeconds: expires }),
    ...(id !== undefined && { id }),
  };
}

function unnamed({ id: _, ...rest }: Extra): OutboxPutOptions {
  return optionsOf(rest);
}

/** One command. Those that make no sense where the story stands do nothing, so that whatever is left of a list after shrinking can run. */
export async function perform(story: Story, command: Command): Promise<unknown> {
  const { world, destination } = story;
  switch (command.do) {
    case "put":
      return story.put(optionsOf(command.extra));
    case "large":
      return story.put({}, "x".repeat(5000));
    case "send":
      // With an id, on a KV-backed object, the message is written later than the state beside it.
      return script.send(story, unnamed(command.extra));
    case "remove":
      return script.remove(story, unnamed(command.extra));
    case "put and unconfirmed":
      return script.ask(story, [
        { step: "put", options: unnamed(command.extra) },
        { step: "put", options: { ...optionsOf(command.extra), allowUnconfirmed: true } },
      ]);
    case "burst":
      return script.burst(story, command.count, unnamed(command.extra));
    case "transaction":
      return script.transaction(story, command.end, optionsOf(command.extra), command.through);
    case "transactionSync":
      return world.choice.backend === "kv" ? undefined : script.transactionSync(story, command.end, optionsOf(command.extra));
    case "deleteAll":
      return script.deleteAll(story, false);
    case "deleteAll with message":
      return script.deleteAll(story, true);
    case "cancel":
      return script.cancel(story, story.last - command.back);
    case "discard waiting":
      return script.cancel(story, story.last - command.back, "discard");
    case "retry now":
      return script.retryNow(story, story.last - command.back);
    case "redrive":
      return script.redrive(story);
    case "redrive one":
      return script.redrive(story, false);
    case "discard":
      return script.discard(story);
    case "new epoch":
      return story.act((outbox) => outbox.newEpoch());
    case "flush":
      return story.act((outbox) => outbox.flush());
    case "pause":
      return story.act((outbox) => outbox.pause());
    case "resume":
      return story.act((outbox) => outbox.resume());
    case "own set":
      return script.ownAlarm(story, command.seconds);
    case "own delete":
      return script.ownAlarm(story, null);
    case "own dies":
      story.own.dies = command.times;
      return;
    case "own throws":
      story.own.throws = 1;
      return;
    case "wait":
      return story.wait(command.seconds);
    case "jump":
      return story.jump(command.seconds);
    case "evict":
      return story.evict();
    case "crash":
      return world.crash("as the story says");
    case "crash in":
      return world.crashIn(command.steps);
    case "lose alarm":
      return story.loseAlarm();
    case "transact":
    case "transact openly":
      return transact(story, command, command.do === "transact openly");
    case "transact at once":
      return world.choice.backend === "kv" ? undefined : transactSync(story, command);
    case "beside":
      return beside(story, command.end, command.ticks, command.within, command.step);
    case "ask":
      return script.ask(story, command.steps);
    case "ask in handler":
      return script.askInHandler(story, command.step);
    case "ask in block":
      // The platform would end a block that waits for a call that hangs.
      if (command.step.step === "flush" && destination.hangs) return;
      return script.ask(story, [command.step], true);
    case "look":
      return script.ask(story, [{ step: "look" }]);
    case "sync":
      return story.act((_, storage) => storage.sync());
    case "walk":
      return walk(story, command);
    case "options":
      story.options = {
        ...story.options,
        batchSize: command.batchSize,
        dispatch: command.immediate ? "immediate" : "alarm",
        settleWithinSeconds: command.immediate ? story.settleWithinSeconds : 0,
      };
      return world.crash("a deploy");
    default:
      return afflict(story, command);
  }

  /** What the destination does from now on. */
  function afflict(story: Story, command: Command): void {
    switch (command.do) {
      case "meddle":
        destination.meddles = command.how;
        return;
      case "next dead message":
        story.dead.next = command.how;
        return;
      case "down":
        destination.down = true;
        return;
      case "asks to pause":
        destination.pauses++;
        return;
      case "hang":
        destination.hangs = true;
        return;
      case "up":
        destination.down = destination.hangs = false;
        destination.pauses = 0;
        destination.meddles = null;
        destination.poison.clear();
        return;
      case "partial":
        destination.partial = command.count;
        return;
      case "subrequests":
        destination.subrequests = command.limit;
        return;
      case "delay answers":
        destination.delayMs = command.ms;
        return;
      case "poison":
        destination.poison.add(story.last - command.back + 2);
        return;
      case "ack":
      case "retry":
      case "reject": {
        // Of a message that is still to come, or that waits.
        const label = story.last - command.back + 2;
        destination.outcomes.set(label, [...(destination.outcomes.get(label) ?? []), command.do]);
      }
    }
  }
}
