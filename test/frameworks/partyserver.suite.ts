/** PartyServer: its alarm, its requests and its hibernating WebSockets beside any outbox, on both backends. */
import { evictDurableObject } from "cloudflare:test";
import { getServerByName, routePartykitRequest } from "partyserver";
import { describe, expect, it } from "vitest";
import {
  backlogged,
  by,
  delivered,
  drained,
  eventually,
  expectAt,
  fresh,
  handedOver,
  inside,
  kind,
  native,
  notes,
  type Stub,
  sent,
  unhurried,
  up,
} from "./harness.ts";
import type { BareParty } from "./partyserver.ts";
import { stageOf } from "./stage.ts";
import { inEveryWorld } from "./worlds.ts";

const BACKENDS = [
  { backend: "SQLite-backed", party: kind("Party") },
  { backend: "KV-backed", party: kind("KvParty") },
];

/** Sets the server's alarm, and gives its time. */
const setIn = (stub: Stub, ms: number): Promise<number> =>
  inside(stub, async (_: BareParty, { storage }) => {
    const time = Date.now() + ms;
    await storage.setAlarm(time);
    return time;
  });

describe.each(BACKENDS)("$backend", ({ party }) => {
  inEveryWorld("a server", party, ({ begin, end, evict }) => {
    it("has its alarms at their times, each once", async () => {
      const stub = await begin();
      await expectAt(stub, "alarm", 1, await setIn(stub, 300));
      await expectAt(stub, "alarm", 2, await setIn(stub, 400));
      expect(notes(stub, "alarm")).toHaveLength(2);
      await end(stub);
      expect(notes(stub, "alarm")).toHaveLength(2);
    });

    it("has no alarm that it has deleted", () =>
      unhurried(1000, async (ms) => {
        const stub = await begin();
        const time = await setIn(stub, ms);
        await by(time, () => inside(stub, (_, { storage }) => storage.deleteAlarm()));
        await expectAt(stub, "alarm", 1, await setIn(stub, ms + 500));
        await end(stub);
        expect(notes(stub, "alarm")).toHaveLength(1);
      }));

    it("has its alarm in its next life, once it has started", () =>
      unhurried(2000, async (ms) => {
        const stub = await begin();
        const time = await setIn(stub, ms);
        await by(time, () => evict(stub));
        await expectAt(stub, "alarm", 1, time);
        const { what } = stageOf(stub).notes.at(-2) ?? {};
        expect(what).toBe("start");
        await end(stub);
        expect(notes(stub, "alarm")).toHaveLength(1);
      }));

    it("has the alarm that it sets when it starts, and the one that its alarm sets", async () => {
      const stub = await begin();
      const times: number[] = [];
      stageOf(stub).act = async (_, { storage }, what) => {
        if (what === "request" || times.length === 2) return;
        times.push(Date.now() + 200);
        await storage.setAlarm(times.at(-1) ?? 0);
      };
      await evict(stub);
      await stub.fetch("http://party/");
      await expectAt(stub, "alarm", 1, times[0] ?? Number.NaN);
      await expectAt(stub, "alarm", 2, times[1] ?? Number.NaN);
      await end(stub);
      expect(notes(stub, "alarm")).toHaveLength(2);
    });
  });

  describe.concurrent("a wrapped server", () => {
    it("serves who asks for it by name and by route", async () => {
      const stub = fresh(party.wrapped);
      const byName = await getServerByName(party.wrapped as never, stub.name ?? "");
      expect(await (await byName.fetch("http://party/one")).text()).toBe(`${stub.name} has served /one`);
      const byRoute = await routePartykitRequest(new Request("http://host/parties/main/routed/two"), { main: party.wrapped as never });
      expect(await byRoute?.text()).toBe("routed has served /parties/main/routed/two");
    });

    it("puts what its sockets tell it, in each of its lives", async () => {
      const stub = fresh(party.wrapped);
      const [first, second] = [await socket(stub), await socket(stub)];
      first.socket.send("one");
      await eventually(() => first.heard.length === 1 && second.heard.length === 1);
      await handedOver(stub, 1);
      await drained(stub);
      await evictDurableObject(stub);
      second.socket.send("two");
      await eventually(() => first.heard.length === 2 && second.heard.length === 2);
      expect(await handedOver(stub, 2)).toEqual(["one", "two"]);
      expect(first.heard).toEqual(["told one", "all were told two"]);
      expect(second.heard).toEqual(["all were told one", "told two"]);
      expect(await inside(stub, (_, { storage }) => storage.get("last"))).toBe("two");
      await drained(stub);
      for (const { socket } of [first, second]) socket.close();
    });

    it("delivers what it puts in its alarm", async () => {
      const stub = fresh(party.wrapped);
      stageOf(stub).act = ({ outbox }, _, what) => what === "alarm" && outbox.put("a", 1, "from the alarm");
      await setIn(stub, 100);
      await delivered(stub, "from the alarm");
      await drained(stub);
      expect(notes(stub, "alarm")).toHaveLength(1);
    });

    it("may be handed messages before its onStart, in a life that they have started", async () => {
      const stub = fresh(party.wrapped);
      await inside(stub, ({ outbox }) => outbox.send("later", { delaySeconds: 1 }));
      await evictDurableObject(stub);
      const starts = notes(stub, "start").length;
      await delivered(stub, "later");
      expect(notes(stub, "start")).toHaveLength(starts);
      await stub.fetch("http://party/");
      expect(notes(stub, "start")).toHaveLength(starts + 1);
    });

    it("that deletes its alarm and all that is its own keeps its pending messages, and the wake-up for them", async () => {
      const stub = await backlogged(party.wrapped);
      await setIn(stub, 600_000);
      await inside(stub, async (_, { storage }) => {
        await storage.put("own", 1);
        await storage.deleteAlarm();
        await storage.deleteAll();
        expect(await storage.getAlarm()).toBeNull();
        expect([...(await storage.list({ end: "\u{10FFFF}" })).keys()]).toEqual([]);
      });
      await handedOver(stub, sent(stub).length + 1); // Nobody but its alarm starts the object.
      up(stub);
      await delivered(stub, "waits");
      await drained(stub);
      expect(notes(stub, "alarm")).toEqual([]);
      expect(await inside(stub, (_, state) => native(state).getAlarm())).toBeNull();
    });
  });
});

/** A WebSocket to the server, and what it has heard. */
async function socket(stub: Stub): Promise<{ socket: WebSocket; heard: unknown[] }> {
  const { webSocket } = await stub.fetch("http://party/", { headers: { Upgrade: "websocket" } });
  const heard: unknown[] = [];
  webSocket?.addEventListener("message", ({ data }) => void heard.push(data));
  webSocket?.accept();
  return { socket: webSocket ?? expect.fail("no socket"), heard };
}
