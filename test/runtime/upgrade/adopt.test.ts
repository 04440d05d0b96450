/** The upgrade from version 0.1.0: its messages are delivered once and in order, its own alarm goes on, and its rows go. */
import { evictDurableObject } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import type { OutboxEvent } from "../../../src/index.ts";
import { callsOf, numbers } from "../support/batches.ts";
import {
  again,
  type Backend,
  by,
  eventually,
  expectUntouched,
  handedOver,
  inside,
  native,
  onBothBackends,
  type Stub,
  sent,
  unhurried,
} from "../support/harness.ts";
import { counted, type Ledger } from "../support/ledger.ts";
import { expectClean, keysOf, laidDown, putAt, rowsLeft, ulid, upgraded, VERSIONS } from "../support/original-rows.ts";
import { idle } from "../support/standing.ts";
import { type BoxEnv, type Form, stageOf } from "../support/worker.ts";
import { alarmsOf, expectFired, expectNoOther, getAlarm } from "../support/worlds.ts";

/** Starts an object on what the original has left. */
async function upgradedFrom(backend: Backend, rows: Record<string, unknown>, alarm?: number, next: Form = upgraded()): Promise<Stub> {
  const stub = await laidDown(backend, rows, next, alarm);
  await inside(stub, () => {});
  return stub;
}

onBothBackends("an object that version 0.1.0 has left", (backend) => {
  describe.each(VERSIONS)("with its %s task manager", (version) => {
    it.each([0, 1, 16, 17, 100, 1000])("and %i messages delivers each once, in order, and is clean", async (count) => {
      const state = { mine: 1, "key:1": { deep: [1] } };
      const stub = await upgradedFrom(backend, rowsLeft({ version, messages: numbers(count), state }));
      await idle(stub);
      expect(callsOf(stub).flat()).toEqual(numbers(count));
      expect(sent(stub).map(({ sequence }) => sequence)).toEqual(numbers(count));
      expect(sent(stub).map(({ timestamp }) => timestamp)).toEqual(numbers(count).map((n) => putAt(n - 1)));
      expect(new Set(sent(stub).map(({ id }) => id)).size).toBe(count);
      expect(await keysOf(stub)).toEqual(Object.keys(state).sort());
      expect(await getAlarm(stub)).toBeNull();
      expect(await inside(stub, async (_, __, state) => native(state).getAlarm())).toBeNull();
      expect(alarmsOf(stub)).toEqual([]);
    });

    it("is woken by the alarm that stands, and delivers without anybody's call", async () => {
      const stub = await laidDown(backend, rowsLeft({ version, messages: numbers(20) }), upgraded(), Date.now() + 50);
      await handedOver(stub, 20);
      await idle(stub);
      expect(callsOf(stub).flat()).toEqual(numbers(20));
      expect(alarmsOf(stub)).toEqual([]);
      await expectClean(stub);
    });

    it("delivers whatever a message is", async () => {
      const messages = [
        "a text",
        "",
        0,
        null,
        false,
        new Date(1),
        new Map([["a", new Set([1])]]),
        Object.assign([1], { 2: 3 }),
        { gone: undefined, wide: "\u2713" },
        new Uint8Array([1, 2]),
        2n ** 70n,
        "line\nbreak",
      ];
      const stub = await upgradedFrom(backend, rowsLeft({ version, messages }));
      await idle(stub);
      expect(callsOf(stub).flat()).toStrictEqual(messages);
      await expectClean(stub);
    });

    it("leaves the object's own keys and tasks as they are", async () => {
      const id = ulid(Date.now());
      const own = { id, attempt: 2, type: "SINGLE", context: { mine: true }, scheduledAt: Date.now() + 3_600_000 };
      const byId = (name: string, task: object) => ({
        [`$$_tasks::id::${name}`]: { ...task, id: name },
        [`$$_tasks::alarm::${own.scheduledAt}::id::${name}`]: name,
      });
      const state = {
        "!": 1,
        __outgoing_msg: 2,
        "__outgoing_msg::": 3,
        "__outgoing_msg::ie": 4,
        __outgoing_msh: 5,
        $$_task: 6,
        $$_taskt: 7,
        "\u{10FFFD}": 8,
        [`$$_tasks::${id}`]: own,
        [`$$_tasks::${ulid(1)}`]: { ...own, context: undefined, type: "RECURRING" },
        ...byId("a", own),
        ...byId("6b0b9ff4-3c6f-4b52-9a77-0d2d9a2a3c12", { ...own, context: "transactional_outbox2" }),
      };
      const rows = rowsLeft({ version, messages: numbers(17), own: Date.now() + 3_600_000, state });
      const stub = await upgradedFrom(backend, rows);
      await idle(stub);
      expect(callsOf(stub).flat()).toEqual(numbers(17));
      const kept = await inside(stub, (_, __, { storage }) => storage.list());
      expect(Object.fromEntries(kept)).toEqual(state);
    });

    it("finds its tasks among hundreds of the object's own", async () => {
      const state = Object.fromEntries(
        numbers(300).flatMap((n) => {
          const task = { id: `${n}`, attempt: 0, type: "SINGLE", context: n, scheduledAt: 1e12 + n };
          if (version === "first") return [[`$$_tasks::${ulid(n * 2 ** 35)}`, task]];
          return [
            [`$$_tasks::id::${n}`, task],
            [`$$_tasks::alarm::${1e12 + n}::id::${n}`, `${n}`],
          ];
        }),
      );
      const own = Date.now() + 3_600_000;
      const stub = await upgradedFrom(backend, rowsLeft({ version, messages: [1, 2], own, state }));
      await idle(stub);
      expect(callsOf(stub).flat()).toEqual([1, 2]);
      expect(await getAlarm(stub)).toBe(own);
      expect(await keysOf(stub)).toEqual(Object.keys(state).sort());
    });

    it("keeps a message as it is that is larger than one may be, reports it, and delivers the others", async () => {
      const big = "x".repeat((backend.name === "kv" ? 2 ** 17 : 2 ** 21) - 2000);
      const messages = [1, 2, big, 4, ...numbers(16, 5)];
      const key = `__outgoing_msg::id::${ulid(putAt(2), 2)}`;
      const told: OutboxEvent[] = [];
      const next = upgraded({ onEvent: (event) => void (event.type === "unreadable" && told.push(event)) });
      const stub = await upgradedFrom(backend, rowsLeft({ version, messages }), undefined, next);
      await idle(stub);
      expect(callsOf(stub).flat()).toEqual([1, 2, 4, ...numbers(16, 5)]);
      expect(sent(stub).map(({ sequence }) => sequence)).toEqual(numbers(19));
      expect(told).toMatchObject([{ type: "unreadable", row: key, cause: { code: "too_large" } }]);
      await expectClean(stub, [key]);
      expect(await inside(stub, async (_, __, { storage }) => (await storage.get(key)) === big)).toBe(true);
      expect(await getAlarm(stub)).toBeNull();
      await evictDurableObject(stub);
      await inside(again(stub), (_, outbox) => outbox.send("next"));
      await idle(again(stub));
      expect(callsOf(stub).flat().at(-1)).toBe("next");
      expect(told).toHaveLength(1);
    });

    it("delivers what is put from now on behind it", async () => {
      const stub = await laidDown(backend, rowsLeft({ version, messages: numbers(33) }), upgraded());
      expect(await inside(stub, (_, outbox) => outbox.put("a", 1, 34))).toMatchObject({ sequence: 34 });
      await idle(stub);
      expect(callsOf(stub).flat()).toEqual(numbers(34));
    });

    it("reads no more than usual from the second start on", async () => {
      const ledgered: Form = class extends upgraded() {
        ledger: Ledger;
        constructor(ctx: DurableObjectState, env: BoxEnv) {
          const ledger = counted(ctx.storage);
          super(ctx, env as never);
          this.ledger = ledger;
        }
      };
      const stub = await upgradedFrom(backend, rowsLeft({ version, messages: numbers(20) }), undefined, ledgered);
      await idle(stub);
      await evictDurableObject(stub);
      expect(await inside(again(stub), ({ ledger: { reads, rows, alarms } }) => ({ reads, rows, alarms }))).toEqual({
        reads: 1,
        rows: 0,
        alarms: 0,
      });
    });

    it("delivers at once with dispatch immediate, and more than may be pending", async () => {
      const next = upgraded({ dispatch: "immediate", maxPending: 5 });
      const stub = await upgradedFrom(backend, rowsLeft({ version, messages: numbers(20) }), undefined, next);
      await idle(stub);
      expect(callsOf(stub).flat()).toEqual(numbers(20));
      await inside(stub, (_, outbox) => outbox.send("next"));
    });
  });

  it("clears what a crash of the original left without its counterpart", async () => {
    const begun = Date.now();
    const index = { "$$_tasks::alarm::1::id::gone": "gone" };
    const stub = await upgradedFrom(backend, { ...index, "__outgoing_msg::id::not a ULID": "odd" });
    await idle(stub);
    expect(callsOf(stub)).toEqual([["odd"]]);
    expect(sent(stub)[0]?.timestamp).toBeGreaterThanOrEqual(begun);
    expect(sent(stub)[0]?.timestamp).toBeLessThanOrEqual(Date.now());
    await expectClean(stub);
  });
});

onBothBackends("the own alarm that version 0.1.0 has left", (backend) => {
  describe.concurrent.each(VERSIONS)("with its %s task manager", (version) => {
    it.each([
      [0, "and no native alarm", false],
      [0, "and the native one", true],
      [20, "and no native alarm", false],
      [20, "and the native one", true],
    ])("keeps an own alarm that is still to come, with %i messages %s: it fires once, at its time", (count, _, stands) =>
      unhurried(1000, async (ms) => {
        const own = Date.now() + ms;
        const stub = await by(own, async () => {
          const stub = await upgradedFrom(backend, rowsLeft({ version, messages: numbers(count), own }), stands ? own : undefined);
          expect(await getAlarm(stub)).toBe(own);
          return stub;
        });
        await expectFired(stub, 1, own);
        await idle(stub);
        expect(callsOf(stub).flat()).toEqual(numbers(count));
        expect(await getAlarm(stub)).toBeNull();
        await expectClean(stub);
        await expectNoOther(stub, 1);
      }),
    );

    it("keeps an own alarm while the destination is down, in this life and the next, and when it is up again", async () => {
      const own = Date.now() + 3_600_000;
      const stub = await laidDown(backend, rowsLeft({ version, messages: [1], own }), upgraded());
      stageOf(stub).rest = () => Promise.reject(new Error("down"));
      expect(await getAlarm(stub)).toBe(own);
      await handedOver(stub, 1);
      await evictDurableObject(stub);
      expect(await getAlarm(again(stub))).toBe(own);
      stageOf(stub).rest = () => {};
      await idle(again(stub));
      expect(await getAlarm(again(stub))).toBe(own);
      expect(await inside(again(stub), (_, __, state) => native(state).getAlarm())).toBe(own);
    });

    it("fires an own alarm at once that has become due meanwhile", async () => {
      const own = Date.now() - 3_600_000;
      const stub = await upgradedFrom(backend, rowsLeft({ version, messages: [1], own }));
      await expectFired(stub, 1, own);
      await idle(stub);
      expect(callsOf(stub)).toEqual([[1]]);
      await expectNoOther(stub, 1);
    });
  });

  it.concurrent("keeps no own alarm that was deleted or has fired, whatever native alarm stands", async () => {
    const id = ulid(Date.now());
    const past = Date.now() - 60_000;
    const alarm = (scheduledAt: number) => ({ id, attempt: 0, type: "ALARM", context: undefined, scheduledAt });
    // The first task manager left the task where the alarm was deleted, and its time where it had fired.
    const LEFT = [{ [`$$_tasks::${id}`]: alarm(Date.now() + 200) }, { [`$$_tasks::${id}`]: alarm(past) }, { $$_tasks_alarm: past }];
    for (const rows of LEFT) {
      for (const messages of [[], [1]]) {
        const all = { ...rows, ...rowsLeft({ version: "first", messages, state: { mine: 1 } }) };
        const stub = await upgradedFrom(backend, all, Date.now() + 600_000);
        expect(await getAlarm(stub)).toBeNull();
        await idle(stub);
        expect(callsOf(stub).flat()).toEqual(messages);
        if (messages.length === 0) await inside(stub, (_, __, state) => expectUntouched(state, { mine: 1 }));
        await expectNoOther(stub, 0);
      }
    }
  });

  it.concurrent.each([[[]], [[1]]])(
    "calls no own alarm that was deleted or has fired, when the native one that was left starts the object (%j)",
    async (messages) => {
      const id = ulid(Date.now());
      const past = Date.now() - 60_000;
      const alarm = (scheduledAt: number) => ({ id, attempt: 0, type: "ALARM", context: undefined, scheduledAt });
      for (const rows of [
        { [`$$_tasks::${id}`]: alarm(Date.now() + 200) },
        { [`$$_tasks::${id}`]: alarm(past) },
        { $$_tasks_alarm: past },
      ]) {
        let started = false;
        const next = class extends upgraded() {
          constructor(ctx: DurableObjectState, env: never) {
            super(ctx, env);
            started = true;
          }
        };
        const left = { ...rows, ...rowsLeft({ version: "first", messages, state: { mine: 1 } }) };
        const stub = await laidDown(backend, left, next, Date.now() + 300);
        await eventually(() => started);
        await idle(stub);
        expect(callsOf(stub).flat()).toEqual(messages);
        await expectNoOther(stub, 0);
        expect(await getAlarm(stub)).toBeNull();
        await expectClean(stub);
      }
    },
  );

  it.concurrent("keeps the own alarm that was set last, where earlier ones left their tasks", () =>
    unhurried(1000, async (ms) => {
      const [earlier, own] = [Date.now() + ms / 10, Date.now() + ms];
      const rows = rowsLeft({ version: "first", messages: [1], own });
      const id = ulid(1);
      const left = { ...rows, [`$$_tasks::${id}`]: { id, attempt: 0, type: "ALARM", scheduledAt: earlier } };
      const stub = await by(own, () => upgradedFrom(backend, left, earlier));
      await expectFired(stub, 1, own);
      await expectNoOther(stub, 1);
      await expectClean(stub);
    }));
});
