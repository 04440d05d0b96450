/** The scenarios of what fails: the destination, single messages, and what becomes of them. */

import type { Scenario } from "./scenarios.ts";
import * as script from "./script.ts";

export const FAILURES: readonly Scenario[] = [
  {
    title: "a destination that is down for a while",
    async play(story) {
      story.destination.down = true;
      await story.put();
      await story.put({ key: "a" });
      await story.wait(7);
      story.destination.down = false;
    },
  },
  {
    title: "a destination that never answers",
    async play(story) {
      story.destination.hangs = true;
      await story.put();
      await story.wait(6);
      story.destination.hangs = false;
    },
  },
  {
    title: "a partial failure",
    async play(story) {
      story.destination.partial = 1;
      story.destination.outcomes.set(1, ["ack"]).set(2, ["retry"]);
      await script.burst(story, 3);
      await story.wait(3);
    },
  },
  {
    title: "an invocation that has few subrequests",
    async play(story) {
      story.destination.subrequests = 2;
      await script.burst(story, 3);
      await script.burst(story, 2, { key: "a" });
      await story.wait(3);
    },
  },
  {
    title: "a retry, with others of its key behind it",
    async play(story) {
      story.destination.outcomes.set(1, ["retry", "retry"]);
      await script.burst(story, 2, { key: "a" });
      await story.put();
      await story.wait(1);
      await story.put({ key: "a" });
      await story.wait(3);
    },
  },
  {
    title: "a message that breaks its batch",
    async play(story) {
      story.destination.poison.add(2);
      await script.burst(story, 3);
      await story.wait(30);
    },
  },
  {
    title: "deadMessage for some of a batch, which sends",
    deadMessage: "sends",
    async play(story) {
      story.destination.outcomes.set(1, ["reject"]).set(3, ["reject"]);
      await script.burst(story, 3, { key: "a" });
      await story.wait(1);
    },
  },
  {
    title: "deadMessage for messages that have expired, one of which fails",
    deadMessage: "writes",
    async play(story) {
      story.dead.next = "throws";
      await story.act((outbox) => outbox.pause());
      await story.put({ expiresInSeconds: 1 });
      await story.put({ expiresInSeconds: 1, key: "a", delaySeconds: 1 });
      await story.put({ key: "a" });
      await story.wait(3);
      await story.act((outbox) => outbox.resume());
      await story.wait(3);
    },
  },
  {
    title: "deadMessage that hangs once",
    deadMessage: "writes",
    async play(story) {
      story.destination.outcomes.set(1, ["reject"]);
      story.dead.next = "hangs";
      await story.put();
      await story.wait(15);
    },
  },
  {
    title: "more dead letters than are kept, and then the others expire",
    options: { deadLetters: { max: 2, expiresInSeconds: 20 } },
    async play(story) {
      for (const n of [1, 2, 3, 4]) story.destination.outcomes.set(n, ["reject"]);
      await story.put({ key: "a" });
      await script.burst(story, 3);
      await story.wait(5);
      await script.ownAlarm(story, 100);
      story.destination.outcomes.set(5, ["reject"]);
      await story.put();
      await story.wait(17);
    },
  },
  {
    title: "a held key, its dead letter put back",
    options: { onDead: "hold" },
    async play(story) {
      story.destination.outcomes.set(1, ["reject"]);
      await story.put({ key: "a" });
      await script.burst(story, 2, { key: "a" });
      await story.put({ key: "b" });
      await story.wait(3);
      await script.ownAlarm(story, 60);
      story.evict();
      await story.put({ key: "a" });
      await story.wait(3);
      await script.redrive(story);
      await story.put({ key: "a" });
    },
  },
  {
    title: "a held key, its dead letter discarded",
    options: { onDead: "hold" },
    deadMessage: "writes",
    async play(story) {
      await story.act((outbox) => outbox.pause());
      await story.put({ key: "a", expiresInSeconds: 1 });
      await story.put({ key: "a", expiresInSeconds: 1 });
      await story.put({ key: "a" });
      await story.wait(3);
      await story.act((outbox) => outbox.resume());
      await story.wait(3);
      await script.discard(story);
      await story.wait(3);
      await script.discard(story);
    },
  },
  {
    title: "a rejection",
    async play(story) {
      story.destination.outcomes.set(1, ["reject"]);
      await story.put({ key: "a" });
      await story.put({ key: "a", id: "mine" });
    },
  },
  {
    title: "a dead letter after as many attempts as may be",
    async play(story) {
      story.destination.outcomes.set(1, ["retry", "retry", "retry"]);
      await story.put({ id: "mine" });
      await story.wait(20);
    },
  },
  {
    title: "expired messages",
    async play(story) {
      story.destination.down = true;
      await story.put({ expiresInSeconds: 3 });
      await story.put({ expiresInSeconds: 3, key: "a" });
      await story.put({ key: "a" });
      await story.wait(10);
      story.destination.down = false;
      await story.wait(10);
    },
  },
  {
    title: "dead letters that are put back",
    async play(story) {
      story.destination.outcomes.set(1, ["reject"]).set(2, ["reject"]);
      await story.put();
      await story.put({ key: "a", id: "mine" });
      await story.put({ key: "a" });
      await story.wait(1);
      await script.redrive(story);
      await story.wait(1);
    },
  },
  {
    title: "a dead letter that is discarded",
    async play(story) {
      story.destination.outcomes.set(1, ["reject"]);
      await story.put({ id: "mine" });
      await story.wait(1);
      await script.discard(story);
    },
  },
  {
    title: "messages that are cancelled",
    async play(story) {
      const first = await story.put({ delaySeconds: 60 });
      const second = await story.put({ key: "a" });
      await script.cancel(story, second);
      await story.wait(1);
      await script.cancel(story, first);
    },
  },
  {
    title: "messages that have failed and are cancelled or discarded, and the next of their key goes on",
    async play(story) {
      story.destination.outcomes.set(1, ["retry"]).set(2, ["retry"]);
      const first = await story.put();
      const second = await story.put({ key: "a", id: "mine" });
      await story.put({ key: "a" });
      await story.wait(0.5);
      await script.cancel(story, first);
      await script.cancel(story, second, "discard");
      await story.wait(10);
    },
  },
  {
    title: "a message of a destination that is down is cancelled",
    async play(story) {
      story.destination.down = true;
      await script.burst(story, 3);
      await story.wait(4);
      await script.cancel(story, 2);
      story.destination.down = false;
      await story.wait(10);
    },
  },
  {
    title: "a destination that asks to pause, and resume()",
    async play(story) {
      story.destination.pauses = 1;
      story.destination.outcomes.set(1, ["ack"]).set(2, ["retry"]);
      await script.burst(story, 3);
      await story.put({ key: "a", delaySeconds: 2 });
      await story.wait(20);
      await story.act((outbox) => outbox.resume());
      await story.wait(10);
    },
  },
];
