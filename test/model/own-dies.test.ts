/** The object's own alarm that dies with its isolate: the platform's count, delays and limit hold, and what waits is sent all the same. */
import { describe, expect, it } from "vitest";
import type { Lateness } from "./alarms.ts";
import { finish } from "./ending.ts";
import * as script from "./script.ts";
import { msgOf, Story, stateKey } from "./story.ts";

/** The platform calls an alarm that fails seven times in all, over 126 s. */
const CALLS = 7;
const OVER_S = 200;
const DEATHS = [1, 2, 20];
const BACKENDS = ["sqlite", "kv"] as const;
const TEMPOS = ["split", "joined"] as const;

interface World {
  readonly backend: "sqlite" | "kv";
  readonly tempo: "split" | "joined";
  readonly deaths: number;
}

const WORLDS: World[] = BACKENDS.flatMap((backend) => TEMPOS.flatMap((tempo) => DEATHS.map((deaths) => ({ backend, tempo, deaths }))));

function told({ deaths, ...world }: World, alarms: Lateness = "punctual"): Story {
  const story = new Story({ ...world, seed: 3, alarms });
  story.rough = true;
  story.own.dies = deaths;
  return story;
}

/** Asserts that the own alarm was called as often as the platform would, and that everything else is well. */
async function expectWell(story: Story, { deaths }: World): Promise<void> {
  const { calls } = story.own;
  expect(await finish(story)).toEqual([]);
  expect(story.own.calls).toBe(calls);
  expect(calls).toBe(Math.min(deaths + 1, CALLS));
}

/** A put in the handler itself, durable before it dies. */
async function putInside(story: Story): Promise<void> {
  story.onAlarm = async ({ outbox, ctx }) => {
    const label = story.promise();
    await outbox.put(stateKey(label), label, msgOf(label));
    await ctx.storage.sync();
  };
}

describe.each(WORLDS)("an own alarm that dies $deaths times ($backend, $tempo)", (world) => {
  it("alone is repeated as on the platform", async () => {
    const story = told(world);
    await script.ownAlarm(story, 1);
    await story.wait(OVER_S);
    await expectWell(story, world);
  });

  it.each([1500, 300])("with puts from outside every %i ms is, too, and they are sent within seconds", async (everyMs) => {
    const story = told(world);
    await script.ownAlarm(story, 1);
    for (let ms = 0; ms < 150_000; ms += everyMs) {
      await story.put();
      await story.world.advance(everyMs);
      const oldest = story.durable.pending[0]?.label ?? Number.POSITIVE_INFINITY;
      expect((story.last - oldest) * everyMs).toBeLessThan(6000);
    }
    await story.wait(OVER_S);
    await expectWell(story, world);
  });

  it("with a put inside is, too, and the put is sent", async () => {
    const story = told(world);
    await putInside(story);
    await script.ownAlarm(story, 1);
    await story.wait(OVER_S);
    expect(story.durable.pending).toEqual([]);
    await expectWell(story, world);
  });

  it("beside a destination that is down is, too, and what waits is sent once it is up", async () => {
    const story = told(world);
    story.destination.down = true;
    await story.put();
    await script.ownAlarm(story, 3);
    await story.wait(OVER_S);
    story.destination.down = false;
    await story.wait(61);
    expect(story.durable.pending).toEqual([]);
    await expectWell(story, world);
  });

  it("and asks not to be repeated leaves nothing that waits without an alarm", async () => {
    const story = told(world);
    story.own.abandons = true;
    await putInside(story);
    await script.ownAlarm(story, 1);
    await story.wait(OVER_S);
    expect(story.durable.pending).toEqual([]);
    expect(story.own.calls).toBeLessThanOrEqual(CALLS);
    expect(await finish(story)).toEqual([]);
  });

  it.each(["late", "random", "very late"] as const)("is repeated no sooner and no more often when alarms are %s", async (alarms) => {
    const story = told(world, alarms);
    await script.ownAlarm(story, 1);
    for (let n = 0; n < 60; n++) {
      await story.put();
      await story.world.advance(700);
    }
    await story.wait(7200);
    await expectWell(story, world);
  });
});

it.each(BACKENDS)("an own alarm beside a message that waits is called once it is durable that it is (%s)", async (backend) => {
  const story = new Story({ backend, tempo: "split", seed: 3, commits: "slow" });
  await story.put({ delaySeconds: 60 });
  const underWay: (boolean | undefined)[] = [];
  story.onAlarm = async () => underWay.push(story.world.life?.commits.underWay);
  await script.ownAlarm(story, 1);
  await story.wait(10);
  expect(underWay).toEqual([false]);
  expect(await finish(story)).toEqual([]);
});

it("an own alarm that dies while the last message goes in the same call is repeated", async () => {
  const story = told({ backend: "sqlite", tempo: "joined", deaths: 1 });
  await story.put({ delaySeconds: 5, expiresInSeconds: 2 });
  await script.ownAlarm(story, 7);
  await script.transactionSync(story, "return");
  story.world.crashIn(15);
  expect(await finish(story)).toEqual([]);
  expect(story.own.calls).toBe(2);
});

describe("an own alarm that dies during a send", () => {
  /** The deaths that were told, with the messages that were blamed for each. */
  function deathsOf(story: Story): string[][] {
    const deaths: string[][] = [];
    const { onEvent } = story.options;
    story.options = {
      ...story.options,
      onEvent(event) {
        if (event.type === "died") deaths.push(event.ids);
        return onEvent?.(event);
      },
    };
    return deaths;
  }

  it.each([0, -60])("is not taken for a send that has died, also where the clock jumps by %i s", async (jump) => {
    const story = told({ backend: "sqlite", tempo: "split", deaths: 1 });
    const deaths = deathsOf(story);
    story.destination.delayMs = 3000;
    await script.ownAlarm(story, 1);
    await story.put();
    await story.wait(1.5);
    if (jump) story.jump(jump);
    await story.wait(OVER_S);
    expect(story.own.calls).toBe(2);
    expect(deaths).toEqual([]);
    expect(await finish(story)).toEqual([]);
  });

  it("is not blamed on the message that was tried alone, because an earlier send had died", async () => {
    const story = told({ backend: "sqlite", tempo: "split", deaths: 0 });
    const deaths = deathsOf(story);
    story.destination.delayMs = 3000;
    await story.put();
    await story.wait(1);
    story.world.crash("during a send");
    await script.ownAlarm(story, 3);
    await story.wait(2.5);
    expect(story.destination.under).toBe(1);
    story.own.dies = 1;
    await story.wait(OVER_S);
    expect(story.own.calls).toBe(2);
    expect(deaths).toEqual([[]]);
    expect(await finish(story)).toEqual([]);
  });
});

it("an own alarm that has died before takes no send with it when it dies within a second of its call", async () => {
  const story = told({ backend: "sqlite", tempo: "split", deaths: 3 });
  story.onAlarm = () => new Promise((resolve) => setTimeout(resolve, 500));
  story.destination.delayMs = 700;
  await script.ownAlarm(story, 1);
  await story.wait(2);
  const first = story.happenings.length;
  // Due at the very call that repeats the alarm.
  await story.put({ delaySeconds: 1.499 });
  await story.wait(OVER_S);
  const deaths = story.happenings.slice(first).filter((happening) => happening.type === "crash");
  expect(deaths.map(({ inHand }) => inHand)).toEqual([[], []]);
  expect(await finish(story)).toEqual([]);
});

it("an own alarm that the platform repeats very late keeps its count when messages begin to pass", async () => {
  const story = told({ backend: "sqlite", tempo: "split", deaths: 9 }, "very late");
  await story.act((outbox) => outbox.pause());
  await script.ownAlarm(story, 1);
  await story.put();
  await story.wait(3600);
  expect(await finish(story)).toEqual([]);
  expect(story.own.calls).toBe(CALLS);
});

it("an own alarm that asks not to be repeated is not, while nothing waits", async () => {
  const story = told({ backend: "sqlite", tempo: "split", deaths: 1 });
  story.own.abandons = true;
  await script.ownAlarm(story, 1);
  await story.wait(OVER_S);
  expect(story.own.calls).toBe(1);
});
