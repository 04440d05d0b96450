/** The scenarios that are run with a crash at every step: the least that goes through each part of the outbox. */

import type { OutboxOptions } from "../../src/index.ts";
import type { DeadEnd } from "./dead.ts";
import { FAILURES } from "./failures.ts";
import type { Backend } from "./rules.ts";
import * as script from "./script.ts";
import type { Story } from "./story.ts";

export interface Scenario {
  readonly title: string;
  readonly only?: Backend;
  readonly options?: OutboxOptions<"OUTBOX_MANAGER">;
  readonly parameters?: 1 | 2;
  /** How calls of the class's `deadMessage` end; it has none where nothing is said. */
  readonly deadMessage?: DeadEnd;
  /** What stands on the disk before the object's first life. */
  readonly before?: (story: Story) => void;
  readonly play: (story: Story) => Promise<void>;
}

/** More than a row of messages holds. */
const LARGE = "x".repeat(5000);
const immediate = { dispatch: "immediate" } as const;

export const SCENARIOS: readonly Scenario[] = [
  ...FAILURES,
  { title: "a put", play: async (story) => void (await story.put()) },
  { title: "a put with dispatch immediate", options: immediate, play: async (story) => void (await story.put()) },
  {
    title: "puts on end with dispatch immediate",
    options: immediate,
    async play(story) {
      story.destination.delayMs = 20;
      await story.put();
      await story.put();
      await story.wait(0.01);
      await story.put();
    },
  },
  {
    title: "deliveries that are recorded later",
    options: { dispatch: "immediate", settleWithinSeconds: 2 },
    async play(story) {
      await story.put();
      await story.wait(1);
      await story.put({ key: "a" });
      await script.transaction(story, "throw");
      await story.wait(1);
      await script.ownAlarm(story, 1);
      await story.put({ id: "mine" });
      await story.wait(3);
      await script.burst(story, 7);
      await story.wait(0.5);
      await script.deleteAll(story, false);
      await story.put();
    },
  },
  {
    title: "large puts",
    async play(story) {
      await story.put({}, LARGE);
      await story.put();
      await story.put({}, LARGE);
    },
  },
  { title: "a put of more entries than one call takes", play: (story) => script.putMany(story, 140) },
  { title: "a delete", play: (story) => script.remove(story) },
  { title: "a send beside a state", play: (story) => script.send(story) },
  {
    title: "transactions",
    async play(story) {
      await script.transaction(story, "return");
      await script.transaction(story, "throw");
      await script.transaction(story, "rollback");
      await script.transaction(story, "return", { key: "a" }, "manager");
    },
  },
  {
    title: "a transaction while a send is under way",
    async play(story) {
      story.destination.delayMs = 50;
      await story.put();
      await story.wait(0.01);
      await script.transaction(story, "return");
      await script.transaction(story, "throw");
    },
  },
  {
    title: "synchronous transactions",
    only: "sqlite",
    async play(story) {
      await script.transactionSync(story, "return");
      await script.transactionSync(story, "throw");
      await script.transactionSync(story, "return", { key: "a", delaySeconds: 3 });
    },
  },
  {
    title: "a burst of more than a row, and more than a batch",
    async play(story) {
      await script.burst(story, 18);
    },
  },
  {
    title: "a burst, to a class that settles no single message",
    parameters: 1,
    async play(story) {
      await script.burst(story, 7, { key: "a" });
      story.destination.down = true;
      await story.wait(5);
      story.destination.down = false;
    },
  },
  {
    title: "a put during a send",
    async play(story) {
      story.destination.delayMs = 50;
      await story.put();
      await story.wait(0.01);
      await story.put();
      await story.put({ key: "a" });
    },
  },
  {
    title: "a pause",
    async play(story) {
      await story.act((outbox) => outbox.pause());
      await story.put();
      await story.wait(100);
      await story.act((outbox) => outbox.resume());
    },
  },
  {
    title: "a pause during a send",
    async play(story) {
      story.destination.delayMs = 50;
      await story.put();
      await story.wait(0.01);
      await story.act((outbox) => outbox.pause());
      await story.put();
      await story.wait(1);
      await story.act((outbox) => outbox.resume());
    },
  },
  {
    title: "delayed messages",
    async play(story) {
      await story.put({ delaySeconds: 20 });
      await story.put({ delaySeconds: 5, key: "a" });
      await story.put({ key: "a" });
      await story.put();
    },
  },
  {
    title: "the caller's own ids",
    async play(story) {
      await story.put({ id: "mine" });
      await story.put({ id: "mine" });
      await story.put();
    },
  },
  {
    title: "an id that is put while its message is being sent, and again when both are forgotten",
    async play(story) {
      story.destination.delayMs = 2000;
      await story.put({ id: "mine" });
      await story.wait(1);
      await story.put({ id: "mine" });
      await story.wait(400);
      await story.put({ id: "mine" });
    },
  },
  {
    title: "an id that is put while its message is being sent, which then becomes a dead letter",
    async play(story) {
      story.destination.delayMs = 2000;
      story.destination.outcomes.set(1, ["reject"]);
      await story.put({ id: "mine" });
      await story.wait(1);
      await story.put({ id: "mine" });
      await story.wait(10);
      await script.discard(story);
    },
  },
  {
    title: "a flush during a backoff",
    async play(story) {
      story.destination.down = true;
      await story.put();
      await story.wait(1);
      story.destination.down = false;
      await story.act((outbox) => outbox.flush());
    },
  },
  {
    title: "a new epoch",
    async play(story) {
      await story.put();
      await story.act((outbox) => outbox.newEpoch());
      await story.put();
    },
  },
  {
    title: "deleteAll while nothing waits",
    async play(story) {
      await story.put();
      await story.wait(1);
      await script.deleteAll(story, false);
      await story.put();
    },
  },
  {
    title: "deleteAll while messages wait",
    async play(story) {
      await story.put({ delaySeconds: 20 });
      await story.put({ key: "a", delaySeconds: 5 });
      await story.put({ key: "a" });
      await script.deleteAll(story, false);
      await story.put();
    },
  },
  {
    title: "deleteAll with a message",
    async play(story) {
      await script.deleteAll(story, true);
      await story.put();
      await script.deleteAll(story, true);
    },
  },
  {
    title: "the object's own alarm beside",
    async play(story) {
      await script.ownAlarm(story, 3);
      await story.put();
      await story.wait(1);
      await story.put({ delaySeconds: 5 });
      await story.wait(3);
      await script.ownAlarm(story, 10);
      await story.wait(1);
    },
  },
  {
    title: "the object's own alarm, during a send and deleted",
    async play(story) {
      story.destination.delayMs = 2000;
      await story.put();
      await story.wait(0.01);
      await script.ownAlarm(story, 1);
      await story.wait(4);
      await script.ownAlarm(story, 60);
      await story.put();
      await script.ownAlarm(story, null);
    },
  },
  {
    title: "the object's own alarm that throws, with messages and without",
    async play(story) {
      story.own.throws = 3;
      await script.ownAlarm(story, 1);
      await story.wait(2);
      await story.put({ delaySeconds: 10 });
      await story.wait(20);
    },
  },
  {
    title: "an alarm that the platform has lost",
    async play(story) {
      await story.put({ delaySeconds: 20 });
      story.loseAlarm();
      story.world.evict();
      await story.act((outbox) => outbox.stats());
      await story.wait(2);
      story.loseAlarm();
      await story.put({ delaySeconds: 1 });
    },
  },
  {
    title: "an eviction with messages that wait",
    async play(story) {
      await story.put({ delaySeconds: 20 });
      await story.put({ key: "a" });
      story.world.evict();
      await story.put({ key: "a" });
      await story.wait(1);
      story.world.evict();
    },
  },
  {
    title: "what version 0.1.0 has left behind",
    before(story) {
      const { disk, loop } = story.world;
      for (let n = 1; n <= 18; n++) {
        const ulid = `01J9ZQ0000${String(n).padStart(16, "0")}`;
        disk.rows.set(`__outgoing_msg::id::${ulid}`, { n });
        story.adopt();
      }
      disk.rows.set("$$_tasks::id::outbox", { id: "outbox", context: "transactional_outbox", scheduledAt: loop.clock + 5000 });
      disk.rows.set(`$$_tasks::alarm::${loop.clock + 5000}::id::outbox`, { id: "outbox" });
      disk.alarm = loop.clock + 5000;
      story.world.alarms.changed(null);
    },
    async play(story) {
      await story.put();
    },
  },
];
