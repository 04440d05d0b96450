/** Time: messages that wait until they are due, and messages that expire. */
import { evictDurableObject } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import type { OutboxManager, OutboxPutOptions } from "../../../src/index.ts";
import { boxWith, callsOf, down, numbers, putMany } from "../support/batches.ts";
import {
  again,
  by,
  eventually,
  expectFirst,
  expectUntouched,
  fresh,
  handedOver,
  inside,
  native,
  onEitherBackend,
  type Stub,
  sent,
  unhurried,
} from "../support/harness.ts";
import { flush, forward } from "../support/lanes.ts";
import { crashDurably, deadOf, idle, listed, paused, resumed, statsOf } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

/** When each message was handed over last, by its content. */
function watched(stub: Stub): Map<unknown, number> {
  const at = new Map<unknown, number>();
  stageOf(stub).rest = (messages) => {
    for (const { msg } of messages) at.set(msg, Date.now());
  };
  return at;
}

const send = (stub: Stub, msg: unknown, options?: OutboxPutOptions) => inside(stub, (_, outbox) => outbox.send(msg, options));
const nativeAlarm = (stub: Stub) => inside(stub, (_, __, state) => native(state).getAlarm());

const WRITES: [string, (outbox: OutboxManager, options: OutboxPutOptions) => Promise<unknown>][] = [
  ["put", (outbox, options) => outbox.put("key", 1, "message", options)],
  ["put of entries", (outbox, options) => outbox.put({ a: 1, b: 2 }, "message", options)],
  ["put of 200 entries", (outbox, options) => outbox.put(Object.fromEntries(numbers(200).map((n) => [`${n}`, n])), "message", options)],
  ["delete", (outbox, options) => outbox.delete("key", "message", options)],
  ["delete of keys", (outbox, options) => outbox.delete(["a", "b"], "message", options)],
  ["send", (outbox, options) => outbox.send("message", options)],
];

onEitherBackend("a delayed message", (backend) => {
  const FORMS: [string, (ms: number) => OutboxPutOptions][] = [
    ["delaySeconds", (ms) => ({ delaySeconds: ms / 1000 })],
    ["deliverAt as a number", (ms) => ({ deliverAt: Date.now() + ms })],
    ["deliverAt as a Date", (ms) => ({ deliverAt: new Date(Date.now() + ms) })],
  ];

  describe.each(FORMS)("with %s", (_, options) => {
    it("comes not before it is due, and holds back nobody", () =>
      unhurried(300, async (ms) => {
        const stub = fresh(backend);
        const at = watched(stub);
        const due = Date.now() + ms;
        await by(due, async () => {
          await inside(stub, (_, outbox) => Promise.all([outbox.send("late", options(ms)), outbox.send("a"), outbox.put("key", 1, "b")]));
          await handedOver(stub, 2);
          expect(callsOf(stub).flat()).toEqual(["a", "b"]);
        });
        // Runs that come before its time leave it alone.
        for (let n = 0; n < 15; n++) {
          await send(stub, n);
          await eventually(() => at.has(n));
        }
        await eventually(() => at.has("late"));
        expect(at.get("late")).toBeGreaterThanOrEqual(due);
        expect(sent(stub).filter(({ msg }) => msg === "late")).toMatchObject([{ sequence: 1, attempts: 1 }]);
        expect(await idle(stub)).toMatchObject({ nextAttemptAt: null });
        expect(await nativeAlarm(stub)).toBeNull();
      }));
  });

  it.each(WRITES)("can be stored by %s, and keeps its time in the object's next lives", async (_, write) => {
    const stub = fresh(backend);
    const at = watched(stub);
    const due = Date.now() + 400;
    const next = await crashDurably(stub, (outbox) => write(outbox, { deliverAt: due }));
    await inside(next, () => {});
    await evictDurableObject(next);
    await handedOver(stub, 1);
    expect(at.get("message")).toBeGreaterThanOrEqual(due);
    await idle(again(stub));
    expect(sent(stub)).toHaveLength(1);
  });

  it.each([{ delaySeconds: 0 }, { deliverAt: 0 }, { deliverAt: new Date(0) }, { deliverAt: 1.5 }])(
    "with %o comes at once, in its place",
    async (options) => {
      const stub = fresh(backend);
      await inside(stub, (_, outbox) => Promise.all([outbox.send(1), outbox.send(2, options), outbox.send(3)]));
      await idle(stub);
      expect(callsOf(stub)).toEqual([[1, 2, 3]]);
    },
  );

  it("costs one alarm, and is seen with its time", async () => {
    const stub = fresh(backend);
    const deliverAt = Date.now() + 600_000;
    const { id } = await send(stub, "late", { deliverAt });
    await send(stub, "now");
    await handedOver(stub, 1);
    await eventually(async () => (await statsOf(stub)).pending === 0);
    expect(await listed(stub, "delayed")).toMatchObject([{ id, msg: "late", sequence: 1, attempts: 0, deliverAt }]);
    expect(await listed(stub, "pending")).toEqual([]);
    expect(await statsOf(stub)).toMatchObject({ pending: 0, delayed: 1, blocked: 0, nextAttemptAt: deliverAt });
    expect(Math.abs(((await nativeAlarm(stub)) ?? 0) - deliverAt)).toBeLessThanOrEqual(10);
    await inside(stub, async ({ ledger }, outbox) => {
      expect(ledger.alarms).toBeLessThanOrEqual(3);
      await outbox.flush();
      expect(await outbox.stats()).toMatchObject({ delayed: 1 });
    });
  });

  it("comes in the order of the times, and in put order at the same time", () =>
    unhurried(500, async (ms) => {
      const stub = fresh(backend);
      const at = watched(stub);
      const [early, soon, late] = [1, 2, 3].map((n) => Date.now() + n * ms) as [number, number, number];
      await by(early, async () => {
        await inside(stub, (_, outbox) => {
          const sends = [outbox.send("third", { deliverAt: late }), outbox.send("first", { deliverAt: early })];
          return Promise.all([...sends, ...numbers(150).map((n) => outbox.send(n, { deliverAt: soon })), outbox.send("at once")]);
        });
        await handedOver(stub, 1);
      });
      await by(soon, () => handedOver(stub, 2));
      await idle(stub);
      expect(callsOf(stub).flat()).toEqual(["at once", "first", ...numbers(150), "third"]);
      expect(callsOf(stub).every(({ length }) => length <= 100)).toBe(true);
      expect(at.get("first")).toBeGreaterThanOrEqual(early);
      for (const n of numbers(150)) expect(at.get(n)).toBeGreaterThanOrEqual(soon);
      expect(at.get("third")).toBeGreaterThanOrEqual(late);
    }));

  it("that is due takes its place before what was put later and still waits", async () => {
    const stub = await paused(backend);
    const due = Date.now() + 100;
    await inside(stub, (_, outbox) => Promise.all([outbox.send(1), outbox.send(2, { deliverAt: due }), outbox.send(3)]));
    await eventually(() => Date.now() > due);
    await resumed(stub);
    expect(callsOf(stub).flat()).toEqual([1, 2, 3]);
  });
});

onEitherBackend("a message that expires", (backend) => {
  it.each(["as the message's option", "by the wrapper's default"])(
    "%s is a dead letter if its destination is down too long",
    async (form) => {
      const own = form === "as the message's option";
      const stub = boxWith(backend, own ? {} : { expiresInSeconds: 0.4 });
      stageOf(stub).rest = down;
      await inside(stub, (_, outbox) =>
        Promise.all([outbox.send("short", own ? { expiresInSeconds: 0.4 } : {}), outbox.send("long", { expiresInSeconds: 600 })]),
      );
      await eventually(async () => (await statsOf(stub)).dead === 1);
      stageOf(stub).rest = () => {};
      await idle(stub);
      const [dead, ...others] = await listed(stub, "dead");
      expect(dead).toMatchObject({ msg: "short", sequence: 1, reason: "expired", error: expect.any(String) });
      expect(dead?.attempts).toBe(sent(stub).filter(({ msg }) => msg === "short").length);
      expect(others).toEqual([]);
      expect(sent(stub).at(-1)?.msg).toBe("long");
    },
  );

  describe.each([
    ["as the messages' option", { own: { expiresInSeconds: 60 } }],
    ["by the wrapper's default", { wrapper: { expiresInSeconds: 60 } }],
  ] as [string, { own?: OutboxPutOptions; wrapper?: { expiresInSeconds: number } }][])(
    "a minute after its time, %s,",
    (_, { own, wrapper }) => {
      /** Two that wait for ten minutes, and one that waits behind the second, in the next life of their object. */
      async function waiting(): Promise<Stub> {
        const stub = boxWith(backend, wrapper ?? {});
        const deliverAt = Date.now() + 600_000;
        return crashDurably(stub, (outbox) =>
          Promise.all([
            outbox.put("key", 1, 1, { delaySeconds: 600, ...own }),
            outbox.send(2, { deliverAt, key: "k", ...own }),
            outbox.send(3, { deliverAt, key: "k", ...own }),
          ]),
        );
      }

      it("is delivered at its time, however long the delay", async () => {
        const stub = await waiting();
        forward(630);
        await flush(stub);
        await idle(stub);
        expect(callsOf(stub).flat().sort()).toEqual([1, 2, 3]);
        expect(await deadOf(stub)).toEqual([]);
      });

      it("is a dead letter that was never handed over, when it could not be by then", async () => {
        const stub = await waiting();
        forward(690);
        await flush(stub);
        await idle(stub);
        expect(sent(stub)).toEqual([]);
        expect(await listed(stub, "dead")).toMatchObject([1, 2, 3].map((msg) => ({ msg, reason: "expired", attempts: 0 })));
      });
    },
  );

  it("while the outbox is paused is a dead letter, and its neighbours are delivered in order", async () => {
    const stub = await paused(backend);
    await inside(stub, (_, outbox) => Promise.all(numbers(60).map((n) => outbox.send(n, n % 3 ? {} : { expiresInSeconds: 0.05 }))));
    const end = Date.now() + 100;
    await eventually(() => Date.now() > end);
    await resumed(stub);
    expect(callsOf(stub).flat()).toEqual(numbers(60).filter((n) => n % 3));
    expect(await deadOf(stub)).toEqual(numbers(20).map((n) => n * 3));
  });

  it("lets the next one with its key go", () =>
    unhurried(200, async (ms) => {
      const stub = fresh(backend);
      stageOf(stub).script.push(([first], delivery) => delivery.retry(first?.id ?? "", { delaySeconds: (2 * ms) / 1000 }));
      await by(Date.now() + ms, async () => {
        await inside(stub, (_, outbox) =>
          Promise.all([outbox.send(1, { key: "k", expiresInSeconds: ms / 1000 }), outbox.send(2, { key: "k" })]),
        );
        await handedOver(stub, 1);
      });
      await idle(stub);
      expect(callsOf(stub)).toEqual([[1], [2]]);
      expect(await deadOf(stub)).toEqual([1]);
    }));

  it("and is redriven is delivered", async () => {
    const stub = await paused(backend, { expiresInSeconds: 0.05 });
    await putMany(stub, 3);
    const end = Date.now() + 100;
    await eventually(() => Date.now() > end);
    await resumed(stub);
    expect(await deadOf(stub)).toEqual([1, 2, 3]);
    expect(await inside(stub, (_, outbox) => outbox.redrive())).toBe(3);
    await idle(stub);
    expect(callsOf(stub).flat()).toEqual([1, 2, 3]);
    expect(await deadOf(stub)).toEqual([]);
  });

  it("and is delivered in time is no dead letter, and leaves no alarm", async () => {
    const stub = boxWith(backend, { expiresInSeconds: 600 });
    await putMany(stub, 20);
    await idle(stub);
    expect(await deadOf(stub)).toEqual([]);
    expect(await nativeAlarm(stub)).toBeNull();
  });
});

onEitherBackend("a bad time", (backend) => {
  const bad = (name: string, values: unknown[]) => values.map((value) => ({ [name]: value }));
  const BAD = [
    ...bad("delaySeconds", [-1, -0.001, Number.NaN, Number.POSITIVE_INFINITY, "5", true, {}, 315_360_001]),
    ...bad("deliverAt", ["tomorrow", Number.NaN, Number.POSITIVE_INFINITY, new Date(Number.NaN), true, {}]),
    ...bad("expiresInSeconds", [0, -1, 0.0009, Number.NaN, Number.POSITIVE_INFINITY, "5", new Date(), 315_360_001]),
    { delaySeconds: 1, deliverAt: 4_000_000_000_000 },
    { delaySeconds: 0, deliverAt: new Date(0) },
  ];

  it.each(WRITES)("is a TypeError of %s before anything is written", async (_, write) => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox, state) => {
      for (const options of BAD) {
        const [name, value] = Object.entries(options)[0] ?? [];
        const refused = write(outbox, options as never).catch((error: unknown) => error);
        expect([name, value, await refused]).toEqual([name, value, expect.any(TypeError)]);
        await expect(refused.then(String)).resolves.toContain(name);
      }
      await expectUntouched(state);
    });
    await expectFirst(stub);
  });
});
