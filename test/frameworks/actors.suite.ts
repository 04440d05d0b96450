/** The Actors package: its alarms fire beside any outbox, and its destroy() takes no message with it. */
import { describe, expect, it } from "vitest";
import type { BarePlayer } from "./actors.ts";
import {
  delivered,
  details,
  down,
  drained,
  eventually,
  expectAt,
  expectInOrder,
  fresh,
  handedOver,
  inside,
  kind,
  type Namespace,
  notes,
  reborn,
  type Stub,
  sent,
  up,
} from "./harness.ts";
import { stageOf } from "./stage.ts";
import { inEveryWorld } from "./worlds.ts";

const PLAYER = kind("Player");

/** Schedules the task so many seconds ahead, and gives its time in milliseconds: the package keeps whole seconds. */
const schedule = (stub: Stub, seconds: number, payload: string): Promise<number> =>
  inside(stub, async (player: BarePlayer) => (await player.alarms.schedule(seconds, "task", payload)).time * 1000);

inEveryWorld("an actor", PLAYER, ({ begin, end, evict }) => {
  it("runs its schedules at their times, each once and with its payload", async () => {
    const stub = await begin();
    const second = await schedule(stub, 3, "second");
    const first = await schedule(stub, 1, "first");
    await expectAt(stub, "task", 1, first);
    await expectAt(stub, "task", 2, second);
    expectInOrder(stub, "task", second, ["first", "second"]);
    // Deleted once it has been called.
    await eventually(async () => (await inside(stub, (player: BarePlayer) => player.alarms.getSchedules())).length === 0);
    await end(stub);
    expect(details(stub, "task")).toHaveLength(2);
    // One where the machine was so slow that both were due.
    expect([1, 2]).toContain(notes(stub, "alarm").length);
  });

  it("runs no schedule that it has cancelled", async () => {
    const stub = await begin();
    const { id } = await inside(stub, (player: BarePlayer) => player.alarms.schedule(2, "task", "cancelled"));
    await inside(stub, (player: BarePlayer) => player.alarms.cancelSchedule(id));
    await expectAt(stub, "task", 1, await schedule(stub, 3, "kept"));
    expect(details(stub, "task")).toEqual(["kept"]);
    await end(stub);
  });

  it("runs its schedules in its next life", async () => {
    const stub = await begin();
    const time = await schedule(stub, 3, "later");
    await evict(stub);
    await expectAt(stub, "task", 1, time);
    await end(stub);
    expect(details(stub, "task")).toEqual(["later"]);
  });
});

/** An actor with a row, a key, a schedule and messages that are not delivered yet. */
async function furnished(namespace: Namespace = PLAYER.wrapped, pending: string[] = ["first", "second"]): Promise<Stub> {
  const stub = fresh(namespace);
  down(stub);
  await inside(stub, async (player: BarePlayer, { storage }) => {
    storage.sql.exec("CREATE TABLE orders (id INTEGER)");
    await storage.put("own", 1);
    await player.alarms.schedule(60, "task", "after its end");
    for (const msg of pending) await player.outbox.send(msg);
  });
  await handedOver(stub, pending.length);
  return stub;
}

/** Asserts that both messages are tried again without anybody starting the object, and delivered once the destination is well. */
async function expectDelivered(stub: Stub): Promise<void> {
  await handedOver(stub, sent(stub).length + 2);
  up(stub);
  await delivered(stub, "first", "second");
}

/** Asserts that nothing of the actor's own is left, and that it works as at its first start. */
async function expectAnew(stub: Stub): Promise<void> {
  await inside(stub, async (player: BarePlayer, { storage }) => {
    expect(player.alarms.getSchedules()).toEqual([]);
    expect(await storage.get("own")).toBeUndefined();
    expect(() => storage.sql.exec("SELECT * FROM orders")).toThrow(/no such table/);
  });
  await expectAt(stub, "task", notes(stub, "task").length + 1, await schedule(stub, 1, "anew"));
}

describe.concurrent.each([
  { actor: "without an outbox", namespace: PLAYER.bare, pending: [] },
  { actor: "without a message", namespace: PLAYER.wrapped, pending: [] },
  { actor: "with pending messages", namespace: PLAYER.wrapped, pending: ["first", "second"] },
])("an actor $actor", ({ namespace, pending }) => {
  it("has nothing of its own left once it has been destroyed and aborted", async () => {
    const stub = await furnished(namespace, pending);
    await expect(inside(stub, (player: BarePlayer) => player.destroy({ forceEviction: true }))).rejects.toThrow("destroyed");
    await expectAnew(await reborn(namespace, stub));
  });
});

describe.concurrent("a wrapped actor", () => {
  it("serves requests and delivers what its tasks put, each once", async () => {
    const stub = fresh(PLAYER.wrapped);
    stageOf(stub).act = ({ outbox }, _, what) => what === "task" && outbox.put("a", 1, "from the task");
    await inside(stub, (player: BarePlayer) => player.setName("named"));
    expect(await (await stub.fetch("http://player/path")).text()).toBe("named has served");
    await schedule(stub, 1, "task");
    await delivered(stub, "/path", "from the task");
    await drained(stub);
    expect(details(stub, "task")).toEqual(["task"]);
  });

  it("that is destroyed keeps its pending messages and delivers them, and its own alarm is gone", async () => {
    const stub = await furnished();
    await inside(stub, (player: BarePlayer) => player.destroy());
    await expectDelivered(stub);
    expect(notes(stub, "alarm")).toEqual([]);
    // The package makes its tables when an object starts.
    await expect(inside(stub, (_, state) => state.abort("the next life"))).rejects.toThrow("the next life");
    await expectAnew(await reborn(PLAYER.wrapped, stub));
  });

  it("that is destroyed and aborted keeps its pending messages and delivers them", async () => {
    const stub = await furnished();
    await expect(inside(stub, (player: BarePlayer) => player.destroy({ forceEviction: true }))).rejects.toThrow("destroyed");
    await expectDelivered(stub);
    await expectAnew(await reborn(PLAYER.wrapped, stub));
  });

  it("that is destroyed in its task keeps its pending messages and delivers them", async () => {
    const stub = await furnished();
    stageOf(stub).act = (player, _, what) => what === "task" && (player as BarePlayer).destroy({ forceEviction: true });
    await schedule(stub, 1, "destroys");
    await eventually(() => notes(stub, "task").length === 1);
    stageOf(stub).act = () => {};
    await expectDelivered(stub);
    await expectAnew(await reborn(PLAYER.wrapped, stub));
  });
});
