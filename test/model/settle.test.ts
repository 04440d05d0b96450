/** `settleWithinSeconds`: deliveries are recorded with what is written next, or by themselves in time. What a crash repeats is what was delivered in that time. */
import { describe, expect, it } from "vitest";
import { RESERVED } from "../../src/storage/rows.ts";
import { size } from "../support/random.ts";
import type { Lateness } from "./alarms.ts";
import { finish } from "./ending.ts";
import * as script from "./script.ts";
import { Story } from "./story.ts";

const BACKENDS = ["sqlite", "kv"] as const;
const ALARMS: readonly Lateness[] = ["punctual", "late", "very late", "never"];
/** An hour in the proof. */
const STEADY_SECONDS = size(900, 3600);
/** An idle object stays in memory for so long, in seconds. */
const AWAKE_SECONDS = 10;
/** With `dispatch: "immediate"` an alarm is set so far ahead, in seconds. */
const SAFETY_SECONDS = 10;

interface World {
  readonly backend?: (typeof BACKENDS)[number];
  readonly alarms?: Lateness;
}

function storyWith(settleWithinSeconds: number, { backend = "sqlite", alarms = "punctual" }: World = {}): Story {
  return new Story({ backend, tempo: "split", seed: 7, alarms, options: { dispatch: "immediate", settleWithinSeconds } });
}

/** Counts the outbox's rows that are written and deleted, and the alarms that are set, from now on. */
function billOf({ world: { disk, alarms } }: Story): () => { rows: number; alarms: number } {
  let rows = 0;
  const { sets } = alarms;
  const own = { set: disk.rows.set.bind(disk.rows), delete: disk.rows.delete.bind(disk.rows) };
  const count = (key: string): void => {
    if (key.startsWith(RESERVED)) rows++;
  };
  disk.rows.set = (key, value) => {
    count(key);
    return own.set(key, value);
  };
  disk.rows.delete = (key) => {
    count(key);
    return own.delete(key);
  };
  return () => ({ rows, alarms: alarms.sets - sets });
}

/** The labels of all calls, in order. */
function labelsOf({ happenings }: Story): number[] {
  return happenings.flatMap((happening) => (happening.type === "send" ? happening.messages.map(({ label }) => label) : []));
}

/** What is stored as waiting. */
const stored = (story: Story): number[] => story.durable.pending.map(({ label }) => label);

/** The object dies, and is called again. */
async function crash(story: Story): Promise<void> {
  story.world.crash("as the test says");
  await story.act((outbox) => outbox.stats());
  await story.wait(0.5);
}

describe.each(BACKENDS)("deliveries that are recorded later (%s)", (backend) => {
  it.each([
    [0, 2.05, 2.2],
    [2, 1.05, 1.25],
    [10, 1.05, 1.25],
  ])("a message a second, recorded within %s s, costs %s to %s rows, alarms included", async (seconds, least, most) => {
    const story = storyWith(seconds, { backend });
    await story.put();
    await story.wait(1);
    const bill = billOf(story);
    for (let n = 0; n < STEADY_SECONDS; n++) {
      await story.put();
      await story.wait(1);
    }
    const { rows, alarms } = bill();
    const each = (rows + alarms) / STEADY_SECONDS;
    console.log(
      `${backend}, within ${seconds} s: ${rows} rows and ${alarms} alarms for ${STEADY_SECONDS} messages: ${each.toFixed(3)} a message`,
    );
    expect(each).toBeLessThanOrEqual(most);
    expect(each).toBeGreaterThanOrEqual(least);
    expect(labelsOf(story)).toEqual(Array.from({ length: STEADY_SECONDS + 1 }, (_, n) => n + 1));
    expect(await finish(story)).toEqual([]);
  });

  it.each([2, 10, 60])(
    "cost at most a tenth more than what is recorded at once, however seldom messages come (within %s s)",
    async (seconds) => {
      const cost = async (settleWithinSeconds: number, everySeconds: number) => {
        const story = storyWith(settleWithinSeconds, { backend });
        const bill = billOf(story);
        for (let n = 0; n < 20; n++) {
          await story.put();
          await story.wait(everySeconds);
        }
        expect(await finish(story)).toEqual([]);
        const { rows, alarms } = bill();
        return rows + alarms;
      };
      for (const every of [0.1, 1, 5, 9, 11, 30, 100, 1000])
        expect(await cost(seconds, every)).toBeLessThanOrEqual(1.1 * (await cost(0, every)));
    },
  );

  it.each(ALARMS)("are recorded in time by themselves, and before the object leaves memory, with alarms that are %s", async (alarms) => {
    const story = storyWith(5, { backend, alarms });
    // One alarm after the other rings within the time, or is late.
    for (let n = 1; n <= 8; n++) {
      await story.put();
      await story.wait(4.9);
      expect(labelsOf(story).at(-1)).toBe(n);
      if (n % 2 === 0) continue;
      await story.wait(0.2);
      expect(stored(story)).toEqual([]);
    }
    await story.wait(AWAKE_SECONDS);
    story.world.evict();
    await story.act((outbox) => outbox.stats());
    await story.wait(1);
    expect(labelsOf(story)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(await finish(story)).toEqual([]);
  });

  it("a crash repeats what was delivered since the last put, with the same ids, and nothing else", async () => {
    const story = storyWith(10, { backend });
    for (let n = 0; n < 3; n++) {
      await story.put();
      await story.wait(5);
    }
    expect(stored(story)).toEqual([3]);
    await crash(story);
    expect(labelsOf(story)).toEqual([1, 2, 3, 3]);
    expect(await finish(story)).toEqual([]);
  });

  it("a crash repeats nothing once the time is over", async () => {
    const story = storyWith(2, { backend });
    await story.put();
    await story.wait(1.9);
    expect(stored(story)).toEqual([1]);
    await story.wait(0.2);
    await crash(story);
    expect(labelsOf(story)).toEqual([1]);
    expect(await finish(story)).toEqual([]);
  });

  it("several batches are recorded in time of the first of them", async () => {
    const story = storyWith(2, { backend });
    story.options = { ...story.options, batchSize: 1 };
    story.destination.delayMs = 1500;
    await script.burst(story, 5);
    // The first call ends after 1.5 s.
    await story.wait(3.4);
    expect(stored(story)).toContain(1);
    await story.wait(0.2);
    expect(stored(story)).not.toContain(1);
    expect(await finish(story)).toEqual([]);
  });

  it("one that is due by its alarm is recorded at once, because another alarm would cost as much", async () => {
    const story = storyWith(10, { backend });
    const bill = billOf(story);
    await story.put({ delaySeconds: 3 });
    await story.wait(3.01);
    expect(labelsOf(story)).toEqual([1]);
    expect(stored(story)).toEqual([]);
    expect(bill()).toEqual({ rows: 2, alarms: 1 });
    expect(await finish(story)).toEqual([]);
  });

  it("an alarm stands all the time for what is not recorded, no later than any that stands for a message", async () => {
    const story = storyWith(10, { backend });
    const { world } = story;
    for (let n = 0; n < 100; n++) {
      if (n % 3 === 0) await story.put();
      await story.wait(1.7);
      if (stored(story).length === 0) continue;
      expect(world.disk.alarm).not.toBeNull();
      expect((world.disk.alarm ?? 0) - world.loop.clock).toBeLessThanOrEqual(SAFETY_SECONDS * 1000 + 2);
    }
    expect(await finish(story)).toEqual([]);
  });

  it("are what stats(), list() and cancel() say: they do not wait any more", async () => {
    const story = storyWith(10, { backend });
    await story.put();
    await story.wait(1);
    expect(stored(story)).toEqual([1]);
    const id = story.ids.get(1) ?? "";
    const said = await story.act(async (outbox) => [
      (await outbox.stats()).pending,
      (await outbox.list()).length,
      await outbox.cancel(id),
      (await outbox.stats()).nextAttemptAt,
    ]);
    expect(said).toEqual([0, 0, false, null]);
    expect(stored(story)).toEqual([1]);
    expect(await finish(story)).toEqual([]);
  });

  it.each<[string, (story: Story) => Promise<unknown>]>([
    ["pause()", (story) => story.act((outbox) => outbox.pause())],
    ["a transaction", (story) => script.transaction(story, "return")],
    ["a delete", (story) => script.remove(story)],
    ["the object's own alarm", (story) => script.ownAlarm(story, 60)],
    ["deleteAll()", (story) => script.deleteAll(story, false)],
    ["deleteAll() with a message", (story) => script.deleteAll(story, true)],
    ["a put that storage refuses", (story) => story.act((outbox) => outbox.put("own:bad", () => {}, { n: 0 }).catch(() => {}))],
    ["a new epoch", (story) => story.act((outbox) => outbox.newEpoch())],
  ])("%s records them", async (_, write) => {
    const story = storyWith(10, { backend });
    await story.put();
    await story.wait(1);
    expect(stored(story)).toEqual([1]);
    await write(story);
    expect(stored(story)).not.toContain(1);
    await crash(story);
    expect(labelsOf(story).filter((label) => label === 1)).toEqual([1]);
    expect(await finish(story)).toEqual([]);
  });

  it("a transaction that rolls back leaves them unrecorded, and they are recorded in time", async () => {
    const story = storyWith(3, { backend });
    await story.put();
    await story.wait(1);
    await script.transaction(story, "throw");
    await script.transaction(story, "rollback");
    expect(stored(story)).toEqual([1]);
    await story.wait(2.1);
    expect(stored(story)).toEqual([]);
    expect(labelsOf(story)).toEqual([1]);
    expect(await finish(story)).toEqual([]);
  });

  it("what fails, is set aside or dies is recorded at once, with what was delivered before", async () => {
    const story = storyWith(10, { backend });
    story.destination.outcomes.set(2, ["reject"]);
    story.destination.outcomes.set(3, ["retry"]);
    await story.put();
    await story.wait(0.1);
    await story.put();
    await story.wait(0.1);
    expect(story.durable.dead.map(({ label }) => label)).toEqual([2]);
    await story.put();
    await story.wait(0.1);
    expect(story.durable.pending).toMatchObject([{ label: 3, kind: "t" }]);
    await crash(story);
    story.destination.down = true;
    await story.put();
    await story.wait(0.1);
    expect(story.durable.header.trouble?.failures).toBe(1);
    expect(await finish(story)).toEqual([]);
  });

  it("one whose id is put again is known, in time and after a crash", async () => {
    const story = storyWith(10, { backend });
    await story.put({ id: "mine" });
    await story.wait(1);
    expect(await story.act((outbox) => outbox.send({ n: 1 }, { id: "mine" }))).toMatchObject({ deduplicated: true });
    await crash(story);
    expect(await story.act((outbox) => outbox.send({ n: 1 }, { id: "mine" }))).toMatchObject({ deduplicated: true });
    expect(labelsOf(story)).toEqual([1, 1]);
    expect(await finish(story)).toEqual([]);
  });
});
