/** The Agents SDK: its schedules and its queue fire beside any outbox, and its destroy() takes no message with it. */
import { evictDurableObject } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import type { BareAgent } from "./agents.ts";
import {
  backlogged,
  by,
  delivered,
  details,
  down,
  drained,
  eventually,
  expectAt,
  expectInOrder,
  fresh,
  gate,
  handedOver,
  inside,
  kind,
  native,
  notes,
  reborn,
  type Stub,
  sent,
  unhurried,
  up,
} from "./harness.ts";
import { stageOf } from "./stage.ts";
import { inEveryWorld } from "./worlds.ts";

const AGENT = kind("Agent");

/** Schedules the task so many seconds ahead, and gives its time in milliseconds: the SDK keeps whole seconds. */
const schedule = (stub: Stub, seconds: number, payload: unknown): Promise<number> =>
  inside(stub, async (agent: BareAgent) => (await agent.schedule(seconds, "task", payload)).time * 1000);

inEveryWorld("an agent", AGENT, ({ begin, end, evict }) => {
  it("runs its schedules at their times, each once and with its payload", async () => {
    const stub = await begin();
    // In one turn, so that the later one is never due before the earlier one is made.
    const [first, second] = await inside(stub, async (agent: BareAgent) => {
      const second = agent.schedule(3, "task", "second");
      const first = agent.schedule(new Date(Date.now() + 1000), "task", { name: "first" });
      return [(await first).time * 1000, (await second).time * 1000] as const;
    });
    await expectAt(stub, "task", 1, first);
    await expectAt(stub, "task", 2, second);
    expectInOrder(stub, "task", second, [{ name: "first" }, "second"]);
    // Deleted once it has been called.
    await eventually(async () => (await inside(stub, (agent: BareAgent) => agent.listSchedules())).length === 0);
    await end(stub);
    expect(details(stub, "task")).toHaveLength(2);
  });

  it("repeats a schedule until it is cancelled", async () => {
    const stub = await begin();
    const { id, time } = await inside(stub, (agent: BareAgent) => agent.scheduleEvery(1, "task", "again"));
    await expectAt(stub, "task", 1, time * 1000);
    await expectAt(stub, "task", 2, time * 1000 + 1000);
    await inside(stub, (agent: BareAgent) => agent.cancelSchedule(id));
    const times = notes(stub, "task").length;
    await expectAt(stub, "task", times + 1, await schedule(stub, 2, "last"));
    expect(details(stub, "task")).toEqual([...Array(times).fill("again"), "last"]);
    await end(stub);
  });

  it("runs what it has queued in order, each once", async () => {
    const stub = await begin();
    await inside(stub, async (agent: BareAgent) => {
      for (const n of [1, 2, 3]) await agent.queue("task", n);
    });
    await eventually(() => details(stub, "task").length === 3);
    await expectAt(stub, "task", 4, await schedule(stub, 1, "last"));
    expect(details(stub, "task")).toEqual([1, 2, 3, "last"]);
    await end(stub);
  });

  it("runs its schedules in its next life", async () => {
    const stub = await begin();
    const time = await schedule(stub, 3, "later");
    await evict(stub);
    await expectAt(stub, "task", 1, time);
    expect(details(stub, "task")).toEqual(["later"]);
    await end(stub);
  });
});

describe.concurrent.each([
  { destination: "is well", begin: async () => fresh(AGENT.wrapped), earlier: [] },
  { destination: "was down until then", begin: () => backlogged(AGENT.wrapped), earlier: ["waits"] },
])("an agent whose destination $destination", ({ begin, earlier }) => {
  it("delivers what its scheduled task puts", async () => {
    const stub = await begin();
    stageOf(stub).act = ({ outbox }) => {
      up(stub);
      return outbox.put("order", 1, "from the task");
    };
    await schedule(stub, 1, "task");
    await delivered(stub, ...earlier, "from the task");
    await drained(stub);
    expect(details(stub, "task")).toEqual(["task"]);
  });

  it("delivers what is put while its scheduled task runs, before that has ended", async () => {
    const stub = await begin();
    const { open, passed } = gate();
    stageOf(stub).act = passed;
    await schedule(stub, 1, "slow");
    await eventually(() => notes(stub, "task").length === 1);
    up(stub);
    await inside(stub, ({ outbox }) => outbox.send("meanwhile"));
    await delivered(stub, ...earlier, "meanwhile").finally(open);
    await drained(stub);
    expect(details(stub, "task")).toEqual(["slow"]);
  });
});

/** An agent with state, a row, a key, a queued schedule and a message that is not delivered yet. */
async function furnished(): Promise<Stub> {
  const stub = fresh(AGENT.wrapped);
  down(stub);
  await inside(stub, async (agent: BareAgent, { storage }) => {
    agent.setState({ count: 7 });
    void agent.sql`CREATE TABLE orders (id INTEGER)`;
    void agent.sql`INSERT INTO orders VALUES (1)`;
    await storage.put("own", 1);
    await agent.schedule(3600, "task", "after its end");
    for (const msg of ["first", "second"]) await agent.outbox.send(msg);
  });
  await handedOver(stub, 2);
  return stub;
}

/** Asserts that a destroyed agent has begun anew: nothing of its own is left, and it works as at its first start. */
async function expectReborn(broken: Stub): Promise<void> {
  const stub = await reborn(AGENT.wrapped, broken);
  await drained(stub);
  await inside(stub, async (agent: BareAgent, { storage }) => {
    expect(agent.state).toEqual({ count: 0 });
    expect(await agent.listSchedules()).toEqual([]);
    expect(await storage.get("own")).toBeUndefined();
    expect(() => storage.sql.exec("SELECT * FROM orders")).toThrow(/no such table/);
  });
  await expectAt(stub, "task", notes(stub, "task").length + 1, await schedule(stub, 1, "reborn"));
  expect(details(stub, "task").at(-1)).toBe("reborn");
}

describe.concurrent("an agent that is destroyed", () => {
  it("keeps its pending messages and delivers them, although it has deleted its alarm and everything else", async () => {
    const stub = await furnished();
    await inside(stub, (agent: BareAgent) => agent.destroy());
    const count = sent(stub).length;
    await handedOver(stub, count + 2); // Nobody but its alarm starts the object.
    up(stub);
    await delivered(stub, "first", "second");
    await expectReborn(stub);
  });

  it("in its scheduled task keeps its pending messages and delivers them", async () => {
    const stub = await furnished();
    stageOf(stub).act = (agent) => {
      stageOf(stub).act = () => {};
      return (agent as BareAgent).destroy();
    };
    await schedule(stub, 1, "destroys");
    await eventually(() => notes(stub, "task").length === 1);
    const count = sent(stub).length;
    await handedOver(stub, count + 2); // Nobody but its alarm starts the object.
    up(stub);
    await delivered(stub, "first", "second");
    await expectReborn(stub);
  });

  it("in its scheduled task leaves an alarm for its messages: it asks the platform not to repeat the one that fires", () =>
    unhurried(3000, async (ms) => {
      const stub = fresh(AGENT.wrapped);
      const alarms: unknown[] = [];
      stageOf(stub).act = async (agent, state) => {
        stageOf(stub).act = () => {};
        await (agent as BareAgent).destroy();
        alarms.push(await native(state).getAlarm());
      };
      await schedule(stub, 1, "destroys");
      const due = Date.now() + ms;
      await inside(stub, ({ outbox }) => outbox.send("later", { delaySeconds: ms / 1000 }));
      await by(due, () => eventually(() => alarms.length === 1));
      expect(alarms).toEqual([expect.any(Number)]);
      await delivered(stub, "later");
    }));

  it("with nothing pending leaves neither row nor alarm", async () => {
    const stub = fresh(AGENT.wrapped);
    await inside(stub, (agent: BareAgent) => agent.outbox.send("delivered"));
    await drained(stub);
    await schedule(stub, 60, "task");
    const left = await inside(stub, async (agent: BareAgent, state) => {
      await agent.destroy();
      return [[...(await native(state).list()).keys()], await native(state).getAlarm()];
    });
    expect(left).toEqual([[], null]);
    await expectReborn(stub);
  });
});

describe.concurrent("a wrapped agent", () => {
  it("may be handed messages before its onStart, in a life that they have started", async () => {
    const stub = fresh(AGENT.wrapped);
    await inside(stub, ({ outbox }) => outbox.send("later", { delaySeconds: 1 }));
    await evictDurableObject(stub);
    const starts = notes(stub, "start").length;
    await delivered(stub, "later");
    expect(notes(stub, "start")).toHaveLength(starts);
    await stub.fetch("http://agent/a");
    expect(notes(stub, "start")).toHaveLength(starts + 1);
  });

  it("serves requests, keeps its state over an eviction, and delivers each message once", async () => {
    const stub = fresh(AGENT.wrapped);
    expect(await (await stub.fetch("http://agent/a")).json()).toEqual({ count: 1 });
    await handedOver(stub, 1);
    await drained(stub);
    await evictDurableObject(stub);
    expect(await (await stub.fetch("http://agent/b")).json()).toEqual({ count: 2 });
    await delivered(stub, "/a", "/b");
    await drained(stub);
  });
});
