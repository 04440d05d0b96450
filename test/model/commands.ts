/** The commands of a random story: each is plain data that fast-check makes and shrinks, and what it does to the story. */

import fc from "fast-check";
import type { OutboxPutOptions } from "../../src/index.ts";
import * as script from "./script.ts";
import type { Story } from "./story.ts";

/** What goes with a message. */
interface Extra {
  readonly key?: "a" | "b";
  readonly delay?: number;
  readonly expires?: number;
  readonly id?: "x" | "y";
}

export type Command =
  | { readonly do: "put" | "send" | "remove"; readonly extra: Extra }
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
  | { readonly do: "cancel" | "poison" | "retry" | "reject" | "ack"; readonly back: number }
  | { readonly do: "down" | "hang" }
  | { readonly do: "partial"; readonly count: number }
  | { readonly do: "delay answers"; readonly ms: number }
  | { readonly do: "own set"; readonly seconds: number }
  | { readonly do: "wait"; readonly seconds: number }
  | { readonly do: "jump"; readonly seconds: number }
  | { readonly do: "crash in"; readonly steps: number }
  | { readonly do: "options"; readonly batchSize: number; readonly immediate: boolean };

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

export const commands: fc.Arbitrary<Command[]> = fc.array(
  fc.oneof(
    { weight: 10, arbitrary: fc.record({ do: fc.constantFrom("put" as const, "send" as const), extra: some }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("remove" as const), extra: some }) },
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
        do: fc.constantFrom("cancel" as const, "poison" as const, "retry" as const, "reject" as const, "ack" as const),
        back,
      }),
    },
    { weight: 3, arbitrary: fc.record({ do: fc.constantFrom("down" as const, "hang" as const, "up" as const) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("partial" as const), count: fc.integer({ min: 1, max: 3 }) }) },
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
    case "options":
      story.options = { ...story.options, batchSize: command.batchSize, dispatch: command.immediate ? "immediate" : "alarm" };
      return world.crash("a deploy");
    default:
      return afflict(story, command);
  }

  /** What the destination does from now on. */
  function afflict(story: Story, command: Command): void {
    switch (command.do) {
      case "down":
        destination.down = true;
        return;
      case "hang":
        destination.hangs = true;
        return;
      case "up":
        destination.down = destination.hangs = false;
        destination.poison.clear();
        return;
      case "partial":
        destination.partial = command.count;
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
