/** Sentry around the outbox and within it: every handler is called once, and Sentry sees what it sees without an outbox. */
import { describe, expect, it } from "vitest";
import type { InspectedObject } from "../../src/inspector/index.ts";
import type { BareAgent } from "./agents.ts";
import { delivered, details, drained, eventually, expectAt, fresh, inside, kind, notes, type Stub } from "./harness.ts";
import { reported } from "./sentry.ts";
import { stageOf } from "./stage.ts";
import { inEveryWorld } from "./worlds.ts";

const ORDERS = [
  { name: "SentryAround", where: "within Sentry 11" },
  { name: "SentryWithin", where: "around Sentry 11" },
  { name: "Sentry10Around", where: "within Sentry 10" },
  { name: "Sentry10Within", where: "around Sentry 10" },
];

async function setIn(stub: Stub, ms: number): Promise<number> {
  const time = Date.now() + ms;
  await inside(stub, (_, { storage }) => storage.setAlarm(time));
  return time;
}

describe.each(ORDERS)("an outbox $where", ({ name }) => {
  const objects = kind(name);
  const agents = kind(name.replace(/(Around|Within)/, "Agent$1"));

  inEveryWorld("an object", objects, ({ begin, end, evict }) => {
    it("has its own alarms, each once and at its time, in each of its lives", async () => {
      const stub = await begin();
      const before = reported.filter((what) => what === "alarm").length;
      await expectAt(stub, "alarm", 1, await setIn(stub, 300));
      const time = await setIn(stub, 1500);
      await evict(stub);
      await expectAt(stub, "alarm", 2, time);
      await end(stub);
      expect(notes(stub, "alarm")).toHaveLength(2);
      await eventually(() => reported.filter((what) => what === "alarm").length > before);
    });
  });

  inEveryWorld("an agent", agents, ({ begin, end }) => {
    it("runs its schedules at their times, each once", async () => {
      const stub = await begin();
      const time = await inside(stub, async (agent: BareAgent) => (await agent.schedule(1, "task", "scheduled")).time * 1000);
      await expectAt(stub, "task", 1, time);
      await end(stub);
      expect(details(stub, "task")).toEqual(["scheduled"]);
    });
  });

  describe.concurrent("a wrapped object", () => {
    it.each([objects.wrapped, agents.wrapped])("can be inspected", async (wrapped) => {
      const stub = fresh(wrapped) as unknown as InspectedObject;
      expect(await stub.inspectOutbox({ read: "overview" })).toMatchObject({ ok: true, overview: { destinations: [{ name: "default" }] } });
    });

    it("stores and delivers what a request puts, and the platform repeats an alarm that has thrown and was reported", async () => {
      const stub = fresh(objects.wrapped);
      const error = `the alarm of ${name} fails`;
      stageOf(stub).act = () => {
        if (notes(stub, "alarm").length === 1) throw new Error(error);
      };
      expect((await stub.fetch("http://shop/orders/one", { method: "POST", body: JSON.stringify("first") })).status).toBe(201);
      await delivered(stub, "one");
      await drained(stub);
      await setIn(stub, 100);
      await eventually(() => notes(stub, "alarm").length === 2);
      await eventually(() => reported.includes(error));
    });
  });
});
