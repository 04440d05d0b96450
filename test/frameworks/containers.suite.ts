/**
 * The Containers package: its schedules, its sleep timer and its alarm loop beside any outbox. There is no container
 * engine here: the Container class is the real one, and what it asks of `ctx.container` is answered by engine.ts.
 */
import { describe, expect, it } from "vitest";
import type { BareBoxed } from "./containers.ts";
import {
  backlogged,
  delivered,
  details,
  drained,
  eventually,
  expectAt,
  expectInOrder,
  fresh,
  handedOver,
  inside,
  kind,
  native,
  notes,
  type Stub,
  sent,
  up,
} from "./harness.ts";
import { stageOf } from "./stage.ts";
import { inEveryWorld } from "./worlds.ts";

const BOXED = kind("Boxed");

/** Schedules the task so many seconds ahead, and gives its time in milliseconds: the class keeps whole seconds. */
const schedule = (stub: Stub, seconds: number, payload: unknown): Promise<number> =>
  inside(stub, async (boxed: BareBoxed) => (await boxed.schedule(seconds, "task", payload)).time * 1000);

/** Starts the container with a request. */
async function served(stub: Stub): Promise<void> {
  expect(await (await stub.fetch("http://boxed/path")).text()).toBe("the container has served /path");
}

inEveryWorld("an object with a container", BOXED, ({ begin, end }) => {
  it("runs its schedules at their times, each once and with its payload", async () => {
    const stub = await begin();
    // In one turn, so that the later one is never due before the earlier one is made.
    const [first, second] = await inside(stub, async (boxed: BareBoxed) => {
      const second = boxed.schedule(4, "task", "second");
      const first = boxed.schedule(new Date(Date.now() + 2000), "task", { name: "first" });
      return [(await first).time * 1000, (await second).time * 1000] as const;
    });
    await expectAt(stub, "task", 1, first);
    await expectAt(stub, "task", 2, second);
    expectInOrder(stub, "task", second, [{ name: "first" }, "second"]);
    await end(stub);
    expect(details(stub, "task")).toHaveLength(2);
  });

  it("serves from its container, and stops it once when it has not been asked for long enough", async () => {
    const stub = await begin();
    await served(stub);
    const from = Date.now();
    await expectAt(stub, "stop", 1, from + 1900);
    await served(stub);
    await eventually(() => notes(stub, "stop").length === 2);
    expect(stageOf(stub).notes.map(({ what }) => what)).toEqual(["start", "stop", "start", "stop"]);
    await end(stub);
  });

  it("runs its schedules while its container runs", async () => {
    const stub = await begin();
    await served(stub);
    await expectAt(stub, "task", 1, await schedule(stub, 1, "beside the container"));
    await expectAt(stub, "stop", 1, 0);
    expect(details(stub, "task")).toEqual(["beside the container"]);
    await end(stub);
  });

  it("sets no further alarm once it has nothing to do", async () => {
    const stub = await begin();
    await schedule(stub, 1, "only");
    await eventually(() => details(stub, "task").length === 1);
    await eventually(() => inside(stub, async (_, { storage }) => (await storage.getAlarm()) === null));
    await end(stub);
    expect(await inside(stub, (_, { storage }) => storage.getAlarm())).toBeNull();
  });
});

/** An object whose container runs, and whose alarm handler has begun to wait for the container's end: for minutes, if nobody stops it. */
async function waiting(stub: Stub): Promise<Stub> {
  await served(stub);
  await inside(stub, (boxed: BareBoxed) => {
    boxed.sleepAfter = "1h";
    boxed.renewActivityTimeout();
  });
  // The class has no hook that tells; while its handler waits it keeps the timer of that wait.
  await eventually(() => inside(stub, (boxed: BareBoxed) => (boxed as unknown as { timeout?: unknown }).timeout !== undefined));
  return stub;
}

/** Stops the container, and waits until the class has nothing more to do. */
async function stopped(stub: Stub): Promise<void> {
  await inside(stub, (boxed: BareBoxed) => boxed.stop());
  await eventually(() => notes(stub, "stop").length === 1);
  await drained(stub);
  await eventually(() => inside(stub, async (_, { storage }) => (await storage.getAlarm()) === null));
}

describe.concurrent("a wrapped object with a container", () => {
  it("delivers what is put while its alarm handler waits for the container, before that has ended", async () => {
    const stub = await waiting(fresh(BOXED.wrapped));
    await inside(stub, ({ outbox }) => outbox.put("a", 1, "meanwhile"));
    await delivered(stub, "meanwhile");
    await stopped(stub);
  });

  it("goes on asking a destination that is down while its alarm handler waits for the container", async () => {
    const stub = await waiting(await backlogged(BOXED.wrapped));
    await handedOver(stub, sent(stub).length + 2);
    up(stub);
    await delivered(stub, "waits");
    await stopped(stub);
  });

  it("delivers what its schedules and its hooks put", async () => {
    const stub = fresh(BOXED.wrapped);
    stageOf(stub).act = ({ outbox }, _, what) => outbox.send(what);
    await served(stub);
    await schedule(stub, 1, "task");
    await delivered(stub, "start", "task", "stop");
    await drained(stub);
  });

  it("keeps its pending messages, and their wake-up, when everything else is deleted", async () => {
    const stub = await backlogged(BOXED.wrapped);
    await inside(stub, async (_, { storage }) => {
      await storage.deleteAlarm();
      await storage.deleteAll();
    });
    await handedOver(stub, sent(stub).length + 1); // Nobody but its alarm starts the object.
    up(stub);
    await delivered(stub, "waits");
    await drained(stub);
    expect(await inside(stub, (_, state) => native(state).getAlarm())).toBeNull();
  });
});
