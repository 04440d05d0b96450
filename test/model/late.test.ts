/** Alarms that are late: an object that is awake delivers on its own, and the platform is asked for no more alarms than it needs. */
import { describe, expect, it } from "vitest";
import { size } from "../support/random.ts";
import type { Lateness } from "./alarms.ts";
import { finish } from "./ending.ts";
import * as script from "./script.ts";
import { Story } from "./story.ts";

/** How long a message may wait in an object that is awake, in milliseconds, however late the platform is. */
const LAG_MS = 3000;
const LATE: readonly Lateness[] = ["late", "random", "very late"];
const DISPATCHES = ["alarm", "immediate"] as const;
const WORLDS = LATE.flatMap((alarms) => DISPATCHES.map((dispatch) => ({ alarms, dispatch })));

interface Traffic {
  /** The longest time between a put and its first send, in milliseconds. */
  readonly lag: number;
  readonly sends: number;
  readonly sets: number;
  readonly calls: number;
}

/** A put every so many milliseconds, for so long; what became of it. */
async function traffic(story: Story, everyMs: number, seconds: number): Promise<Traffic> {
  const { world, happenings } = story;
  const { sets, calls } = world.alarms;
  const first = happenings.length;
  const puts = new Map<number, number>();
  for (const end = world.loop.now + seconds * 1000; world.loop.now < end; ) {
    const at = world.loop.clock;
    puts.set(await story.put(), at);
    await world.advance(everyMs);
  }
  // What was put last is under way.
  await world.advance(LAG_MS);
  let lag = puts.size > 0 ? 0 : Number.NaN;
  const sends = happenings.slice(first).filter((happening) => happening.type === "send");
  for (const { messages, at } of sends) {
    for (const { label } of messages) {
      lag = Math.max(lag, at - (puts.get(label) ?? at));
      puts.delete(label);
    }
  }
  for (const at of puts.values()) lag = Math.max(lag, world.loop.clock - at);
  return { lag, sends: sends.length, sets: world.alarms.sets - sets, calls: world.alarms.calls - calls };
}

/** The types of the events from now on, which the story is notified of as well. */
function eventsOf(story: Story): string[] {
  const events: string[] = [];
  const { onEvent } = story.options;
  story.options = {
    ...story.options,
    onEvent(event) {
      events.push(event.type);
      return onEvent?.(event);
    },
  };
  return events;
}

describe.each(WORLDS)("with alarms that are $alarms and dispatch $dispatch", ({ alarms, dispatch }) => {
  const told = () => new Story({ backend: "sqlite", tempo: "split", seed: 7, alarms, options: { dispatch, batchSize: 100 } });

  it("steady puts are delivered within three seconds, with one alarm a delivery at most", async () => {
    const story = told();
    const { lag, sends, sets } = await traffic(story, 100, 120);
    expect(lag).toBeLessThanOrEqual(LAG_MS);
    expect(sends).toBeGreaterThan(30);
    expect(sets).toBeLessThanOrEqual(sends);
    expect(await finish(story)).toEqual([]);
  });

  it("seldom puts are, too, and so are those beside the object's own alarm", async () => {
    const story = told();
    story.rough = true;
    await script.ownAlarm(story, 50);
    expect((await traffic(story, 7000, 300)).lag).toBeLessThanOrEqual(LAG_MS);
    expect(await finish(story)).toEqual([]);
  });

  it("a destination that comes back gets everything once and in order, within its backoff", async () => {
    const story = told();
    story.destination.down = true;
    await traffic(story, 400, 30);
    story.destination.down = false;
    await traffic(story, 400, 70);
    expect(await finish(story)).toEqual([]);
  });

  it("what waits in an object that is called again after an eviction or a death is delivered, and nothing is taken for a death that was none", async () => {
    const story = told();
    const events = eventsOf(story);
    for (let n = 0; n < 20; n++) {
      await story.put();
      await story.wait(n % 4 === 0 ? 0.2 : 2);
      story.evict();
      await story.act((outbox) => outbox.stats());
      await story.wait(5);
      expect(story.durable.pending).toEqual([]);
    }
    // At a start with something due, `dispatch: "immediate"` has to take it for a death.
    if (dispatch === "alarm") expect(events).not.toContain("died");
    expect(await finish(story)).toEqual([]);
  });
});

describe.each(DISPATCHES)("while no alarm fires for an hour, with dispatch %s", (dispatch) => {
  it.each([
    ["and steady puts", false, null],
    ["beside the object's own alarm", false, 3000],
    ["and a destination that is down", true, null],
  ] as const)("at most twenty are set: %s", async (_, down, own) => {
    const story = new Story({
      backend: "sqlite",
      tempo: "joined",
      seed: 7,
      alarms: "never",
      options: { dispatch, batchSize: 100, retry: { minDelaySeconds: 1, maxDelaySeconds: 60, jitter: 0 } },
    });
    story.rough = true;
    story.destination.down = down;
    if (own) await script.ownAlarm(story, own);
    const { sets, calls, lag } = await traffic(story, size(10_000, 2000), 3600);
    expect(calls).toBe(0);
    expect(sets).toBeLessThanOrEqual(20);
    if (!down) expect(lag).toBeLessThanOrEqual(LAG_MS);
  });
});

it("a run that dies while the alarm is late is known for one by the next life", async () => {
  const story = new Story({ backend: "sqlite", tempo: "split", seed: 7, alarms: "very late" });
  const events = eventsOf(story);
  await script.burst(story, 4);
  story.destination.delayMs = 1000;
  await story.wait(1.5);
  expect(story.destination.under).toBe(1);
  story.world.crash("while the object delivers on its own");
  await story.put();
  story.destination.delayMs = 0;
  await story.wait(3);
  expect(events).toContain("died");
  expect(await finish(story)).toEqual([]);
});

it("a run that died is known for one although a call starts the object before the platform repeats the alarm", async () => {
  const story = new Story({ backend: "sqlite", tempo: "split", seed: 7 });
  const events = eventsOf(story);
  await script.burst(story, 4);
  story.destination.delayMs = 1000;
  await story.wait(0.5);
  expect(story.destination.under).toBe(1);
  story.world.crash("during a send");
  await story.wait(1.2);
  await story.act((outbox) => outbox.stats());
  story.destination.delayMs = 0;
  await story.wait(5);
  expect(events.filter((type) => type === "died")).toHaveLength(1);
  expect(await finish(story)).toEqual([]);
});
