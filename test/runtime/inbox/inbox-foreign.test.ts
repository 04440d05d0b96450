/** Ids without a number: how long they are remembered, and how the shared alarm forgets them beside the object's own alarm and the outbox. */
import { expect, it } from "vitest";
import type { InboxManager } from "../../../src/inbox/index.ts";
import { by, eventually, inside, onBothBackends, outboxRows, type Stub, sent, unhurried } from "../support/harness.ts";
import {
  counting,
  diesAfter,
  effects,
  foreign,
  inboxOf,
  nativeAlarm,
  numbered,
  once,
  onThreeStacks,
  receive,
  rows,
  within,
} from "../support/inbox.ts";
import { forward, ringAt } from "../support/lanes.ts";
import { stageOf } from "../support/worker.ts";

const DAY = 86_400;
const RETENTION = 14 * DAY;

const receiveAll = (stub: Stub, count: number) =>
  within(stub, async (inbox) => {
    for (let n = 0; n < count; n++) await inbox.receive(foreign(`id ${n}`), () => {});
  });

const ids = async (stub: Stub): Promise<number> => {
  const kinds = [...(await rows(stub)).keys()].map(([kind]) => kind);
  const [ids, times] = ["i", "t"].map((wanted) => kinds.filter((kind) => kind === wanted).length);
  expect(ids).toBe(times);
  return ids ?? 0;
};

/** Fires the alarm that stands, as the platform would at its time. Gives whether one stood that is due. */
async function ring(stub: Stub): Promise<boolean> {
  const due = await nativeAlarm(stub);
  if (due === null || due > Date.now()) return false;
  await ringAt(stub, due);
  return true;
}

onThreeStacks("an id", (make) => {
  it("is remembered for fourteen days, and forgotten by an alarm after that", async () => {
    const stub = make();
    const begun = Date.now();
    await receive(stub, foreign("a"));
    const due = (await nativeAlarm(stub)) ?? 0;
    expect(due - begun).toBeGreaterThanOrEqual(RETENTION * 1000);
    expect(due - Date.now()).toBeLessThanOrEqual((RETENTION * 17 * 1000) / 16);
    forward(RETENTION - DAY / 2);
    expect(await receive(stub, foreign("a"))).toBe("duplicate");
    expect(await ring(stub)).toBe(false);
    forward(RETENTION / 16 + DAY);
    expect(await ring(stub)).toBe(true);
    expect(await ids(stub)).toBe(0);
    expect(await nativeAlarm(stub)).toBeNull();
    expect(await receive(stub, foreign("a"))).toBe("processed");
    // The object's own alarm was not called for it.
    expect(stageOf(stub).alarms).toEqual([]);
  });

  it("is forgotten in steps of sixty-four, each one commit, with no step for what is younger", async () => {
    const stub = make();
    await receiveAll(stub, 150);
    forward(3 * DAY);
    await receive(stub, foreign("young"));
    forward(RETENTION - 1.5 * DAY);
    const left: number[] = [];
    while (await ring(stub)) left.push(await ids(stub));
    expect(left).toEqual([87, 23, 1]);
    expect(await nativeAlarm(stub)).toBeGreaterThan(Date.now());
    forward(3 * DAY);
    expect(await ring(stub)).toBe(true);
    expect(await ids(stub)).toBe(0);
    expect(await nativeAlarm(stub)).toBeNull();
  });

  it("is forgotten in later lives as well, by an alarm that is armed again where it is missing", async () => {
    let stub = make();
    await receiveAll(stub, 3);
    stub = await diesAfter(stub, (_, __, state) => Object.getPrototypeOf(state.storage).deleteAlarm.call(state.storage));
    await inside(stub, () => {});
    expect(await eventually(() => nativeAlarm(stub))).toBeGreaterThan(Date.now());
    forward(RETENTION * 2);
    await ring(stub);
    expect(await ids(stub)).toBe(0);
  });

  it("is refused beyond maxIds before its handler runs, and there is room again when others are forgotten", async () => {
    const stub = make({ maxIds: 2 });
    await receiveAll(stub, 2);
    const refused = (inbox: InboxManager) =>
      expect(inbox.receive(foreign("third"), () => expect.fail("The handler runs."))).rejects.toMatchObject({ code: "inbox_full" });
    await within(stub, refused);
    expect(await receive(stub, foreign("id 0"))).toBe("duplicate");
    // Numbers take no room.
    expect(await receive(stub, numbered(9))).toBe("processed");
    const next = await diesAfter(stub, refused);
    forward(RETENTION * 2);
    await ring(next);
    expect(await receive(next, foreign("third"))).toBe("processed");
    expect(await effects(next)).toEqual(once(["sender-9", "third"]));
  });

  it("takes no room when its handler throws", async () => {
    const stub = make({ maxIds: 1 });
    for (let n = 0; n < 3; n++) {
      await within(stub, (inbox) => expect(inbox.receive(foreign(`${n}`), () => Promise.reject(new Error("no")))).rejects.toThrow("no"));
    }
    expect(await receive(stub, foreign("a"))).toBe("processed");
  });

  it("leaves the object's own alarm its time and its one call", () =>
    unhurried(800, async (ms) => {
      const stub = make({ retentionSeconds: (1.5 * ms) / 1000 });
      const time = Date.now() + ms;
      await by(time, () =>
        within(stub, async (inbox, _, { storage }) => {
          await storage.setAlarm(time);
          for (let n = 0; n < 5; n++) await inbox.receive(foreign(`id ${n}`), () => {});
          expect(await storage.getAlarm()).toBe(time);
        }),
      );
      // By real alarms: the own one, and then the cleaning.
      await eventually(() => stageOf(stub).alarms.length > 0);
      await eventually(async () => (await ids(stub)) === 0);
      const { alarms } = stageOf(stub);
      expect(alarms).toHaveLength(1);
      expect(alarms[0]?.info).toEqual({ scheduledTime: time, retryCount: 0, isRetry: false });
      expect(await inside(stub, (_, __, { storage }) => storage.getAlarm())).toBeNull();
      expect(await nativeAlarm(stub)).toBeNull();
    }));

  it("leaves an own alarm alone that is later than its cleaning, also over a crash", async () => {
    let stub = make({ retentionSeconds: 600 });
    await receiveAll(stub, 1);
    const time = Date.now() + 3_600_000;
    stub = await diesAfter(stub, (_, __, { storage }) => storage.setAlarm(time));
    expect(await inside(stub, (_, __, { storage }) => storage.getAlarm())).toBe(time);
    expect(await nativeAlarm(stub)).toBeLessThan(time);
    forward(1200);
    expect(await ring(stub)).toBe(true);
    expect(await ids(stub)).toBe(0);
    expect([await nativeAlarm(stub), await inside(stub, (_, __, { storage }) => storage.getAlarm())]).toEqual([time, time]);
    expect(stageOf(stub).alarms).toEqual([]);
    await inside(stub, (_, __, { storage }) => storage.deleteAlarm());
    expect(await nativeAlarm(stub)).toBeNull();
  });
});

onBothBackends("cleaning beside an outbox whose destination is down", (backend) => {
  it("goes on, and neither postpones the other", async () => {
    const { stub } = inboxOf(backend, "the outbox around the inbox", { retentionSeconds: 1 });
    stageOf(stub).rest = () => Promise.reject(new Error("down"));
    await within(stub, async (inbox) => {
      await inbox.receive(foreign("a"), async (txn, message) => {
        await counting(txn, message);
        await txn.send("an answer");
      });
    });
    await eventually(async () => (await ids(stub)) === 0);
    const calls = stageOf(stub).calls.length;
    expect(calls).toBeGreaterThan(0);
    await eventually(() => stageOf(stub).calls.length > calls);
    stageOf(stub).rest = () => {};
    await eventually(async () => (await inside(stub, (_, outbox) => outbox.stats())).pending === 0);
    expect(new Set(sent(stub).map(({ msg }) => msg))).toEqual(new Set(["an answer"]));
    expect(await effects(stub)).toEqual(once(["a"]));
    // Nothing is left but the marker.
    await inside(stub, async (_, __, state) => expect((await outboxRows(state)).size).toBe(1));
    expect(await nativeAlarm(stub)).toBeNull();
  });
});
