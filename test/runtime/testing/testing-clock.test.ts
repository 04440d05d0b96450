/** The testing subpath: time that passes only when a test says so, and everything that is due by then. */
import { evictDurableObject } from "cloudflare:test";
import { expect, it, vi } from "vitest";
import { type OutboxOptions, withTransactionalOutbox } from "../../../src/index.ts";
import { advance, caughtUp, drain, expectNothing, failing, sent } from "../../../src/testing/index.ts";
import { type Backend, crash, declared, inside, native, onBothBackends, type Stub } from "../support/harness.ts";
import { foreign, hand, inboxOf, STACKS } from "../support/inbox.ts";
import { seamed } from "../support/seam.ts";
import { Box, stageOf } from "../support/worker.ts";

seamed();

const YEAR_MS = 31_536_000_000;
const RETRY = { minDelaySeconds: 2, factor: 2, maxDelaySeconds: 60, jitter: 0 };

/** A box with the options of a user, and those over them. */
const box = (backend: Backend, chosen: OutboxOptions<"OUTBOX_MANAGER"> = {}): Stub =>
  declared(backend, withTransactionalOutbox(class extends Box {}, { retry: RETRY, ...chosen }));

const send = (stub: Stub, msg: unknown, options = {}) => inside(stub, (_, outbox) => outbox.send(msg, options));
const texts = async (stub: Stub): Promise<unknown[]> => (await sent(stub)).map(({ msg }) => msg);

onBothBackends("time", (backend) => {
  it("stands still: no alarm of the platform is near, and nothing is delivered before a test says so", async () => {
    const stub = box(backend);
    await send(stub, "now");
    await send(stub, "soon", { delaySeconds: 0.001 });
    const alarm = await inside(stub, (_, __, state) => native(state).getAlarm());
    expect(alarm).toBeGreaterThan(Date.now() + 19 * YEAR_MS);
    expect(await texts(stub)).toEqual([]);
    await drain(stub);
    expect(await texts(stub)).toEqual(["now"]);
    expect(await caughtUp(stub)).toBe(false);
    await advance(stub, 0.001);
    expect(await texts(stub)).toEqual(["now", "soon"]);
    expect(await caughtUp(stub)).toBe(true);
  });

  it("brings each attempt when it would come", async () => {
    const stub = box(backend);
    const at: number[] = [];
    await inside(stub, (instance) => {
      instance.sendMessages = failing(async () => {}, {
        throws: () => {
          at.push(at.length);
          return at.length <= 4;
        },
      }) as never;
    });
    await send(stub, 1);
    await drain(stub);
    expect(at).toHaveLength(1);
    for (const [seconds, attempts] of [
      [1.9, 1],
      [0.1, 2],
      [4, 3],
      [7.9, 3],
      [0.1, 4],
      [16, 5],
    ] as const) {
      await advance(stub, seconds);
      expect(at).toHaveLength(attempts);
    }
    expect(await sent(stub)).toMatchObject([{ msg: 1, attempts: 5 }]);
  });

  it("brings all attempts of an hour in an hour", async () => {
    const stub = box(backend);
    stageOf(stub).rest = () => Promise.reject(new Error("down"));
    vi.spyOn(console, "warn").mockImplementation(() => {});
    await send(stub, 1);
    await advance(stub, 3600);
    // 2, 4, 8, 16, 32, and then one a minute.
    expect(stageOf(stub).calls.length).toBe(1 + 5 + Math.floor((3600 - 62) / 60));
    vi.restoreAllMocks();
  });

  it("brings an expiry", async () => {
    const stub = box(backend);
    vi.spyOn(console, "error").mockImplementation(() => {});
    await send(stub, "late", { delaySeconds: 60, expiresInSeconds: 10 });
    await inside(stub, (_, outbox) => outbox.pause());
    await advance(stub, 71);
    await inside(stub, (_, outbox) => outbox.resume());
    expect(await drain(stub)).toEqual({ delivered: 0, dead: 1 });
    expect(await inside(stub, (_, outbox) => outbox.list({ state: "dead" }))).toMatchObject([{ msg: "late", reason: "expired" }]);
    vi.restoreAllMocks();
  });

  it("brings the object's own alarm, with its time, once", async () => {
    const stub = box(backend);
    const time = Date.now() + 3_600_000;
    await inside(stub, (_, __, { storage }) => storage.setAlarm(time));
    expect(await inside(stub, (_, __, { storage }) => storage.getAlarm())).toBe(time);
    await send(stub, "beside");
    await advance(stub, 3599);
    expect(stageOf(stub).alarms).toHaveLength(0);
    expect(await inside(stub, (_, __, { storage }) => storage.getAlarm())).toBe(time);
    await advance(stub, 2);
    expect(stageOf(stub).alarms).toHaveLength(1);
    expect(await inside(stub, (_, __, { storage }) => storage.getAlarm())).toBeNull();
    await advance(stub, 86_400);
    expect(stageOf(stub).alarms).toHaveLength(1);
  });

  it("brings the retries of an own alarm that fails, and says what it has thrown", async () => {
    const stub = box(backend);
    let failures = 2;
    stageOf(stub).onAlarm = () => {
      if (failures-- > 0) throw new Error("the alarm is broken");
    };
    await inside(stub, (_, __, { storage }) => storage.setAlarm(Date.now() + 1000));
    await expect(advance(stub, 1.1)).rejects.toThrow("the alarm is broken");
    await expect(advance(stub, 2)).rejects.toThrow("the alarm is broken");
    await advance(stub, 4);
    expect(stageOf(stub).alarms).toHaveLength(3);
    await advance(stub, 86_400);
    expect(stageOf(stub).alarms).toHaveLength(3);
  });

  it("that user code names is as far away as it says, also after the clock has moved", async () => {
    const stub = box(backend);
    await send(stub, "first");
    await advance(stub, 86_400);
    await send(stub, "in an hour", { deliverAt: Date.now() + 3_600_000 });
    await inside(stub, (_, __, { storage }) => storage.setAlarm(Date.now() + 3_600_000));
    await advance(stub, 3590);
    expect(await texts(stub)).toEqual(["first"]);
    expect(stageOf(stub).alarms).toHaveLength(0);
    await advance(stub, 20);
    expect(await texts(stub)).toEqual(["first", "in an hour"]);
    expect(stageOf(stub).alarms).toHaveLength(1);
  });

  it("has passed also in the object's next life", async () => {
    const stub = box(backend);
    await send(stub, "in two hours", { delaySeconds: 7200 });
    await advance(stub, 3600);
    await evictDurableObject(stub);
    await advance(stub, 3599);
    expect(await texts(stub)).toEqual([]);
    const next = await crash(stub);
    await advance(next, 1);
    expect(await texts(next)).toEqual(["in two hours"]);
  });

  it.each(STACKS)("makes an inbox forget what it need not remember: %s", async (stack) => {
    const { stub } = inboxOf(backend, stack, { retentionSeconds: 3600 });
    const statuses = async () => (await hand(stub, [foreign("a")])).map(({ status }) => status);
    expect([await statuses(), await statuses()]).toEqual([["processed"], ["duplicate"]]);
    await advance(stub, 3500);
    expect(await statuses()).toEqual(["duplicate"]);
    // Up to a sixteenth longer.
    await advance(stub, 325);
    expect(await statuses()).toEqual(["processed"]);
  });

  it("passes for one object alone", async () => {
    const [one, other] = [box(backend), box(backend)];
    for (const stub of [one, other]) await send(stub, "later", { delaySeconds: 60 });
    await advance(one, 60);
    expect([await texts(one), await texts(other)]).toEqual([["later"], []]);
  });
});

onBothBackends("a handler that hangs", (backend) => {
  it("is said to by drain, and times out as time passes", async () => {
    const stub = box(backend, { timeoutSeconds: 30 });
    vi.spyOn(console, "warn").mockImplementation(() => {});
    await inside(stub, (instance) => {
      instance.sendMessages = failing(instance.sendMessages, { hangs: 1 }) as never;
    });
    await send(stub, 1);
    await expect(drain(stub)).rejects.toThrow("has not settled");
    await advance(stub, 29);
    expect(await sent(stub)).toEqual([]);
    await advance(stub, 1);
    expect(await inside(stub, async (_, outbox) => (await outbox.stats()).failures)).toBe(1);
    await advance(stub, 2);
    expect(await sent(stub)).toMatchObject([{ msg: 1, attempts: 2 }]);
    vi.restoreAllMocks();
  });

  it("is found to, when nobody has said so", async () => {
    const stub = box(backend, { timeoutSeconds: 30 });
    vi.spyOn(console, "warn").mockImplementation(() => {});
    stageOf(stub).script.push(() => new Promise(() => {}));
    await send(stub, 1);
    await advance(stub, 32);
    expect(await sent(stub)).toMatchObject([{ msg: 1, attempts: 2 }]);
    vi.restoreAllMocks();
  });
});

onBothBackends("drain", (backend) => {
  it("goes on until a time, through every delay", async () => {
    for (const until of [3600, new Date(Date.now() + 3_600_000)]) {
      const stub = box(backend);
      for (const delaySeconds of [0, 60, 3000, 3700]) await send(stub, delaySeconds, { delaySeconds });
      expect(await drain(stub, { until })).toEqual({ delivered: 3, dead: 0 });
      expect(await texts(stub)).toEqual([0, 60, 3000]);
      // The whole hour has passed.
      await advance(stub, 110);
      expect(await texts(stub)).toEqual([0, 60, 3000, 3700]);
    }
  });

  it("goes on until a function says so, or nothing is left to do", async () => {
    const stub = box(backend);
    for (const delaySeconds of [0, 60, 120]) await send(stub, delaySeconds, { delaySeconds });
    await drain(stub, { until: async () => (await sent(stub)).length === 2 });
    expect(await texts(stub)).toEqual([0, 60]);
    await drain(stub, { until: () => false });
    expect(await texts(stub)).toEqual([0, 60, 120]);
  });

  it("delivers what is put by its own deliveries, and gives up on what has no end", async () => {
    let hops = 3;
    class Hopping extends Box {
      override async sendMessages(): Promise<void> {
        if (hops-- > 0) await this.outbox.send(`hop ${hops}`);
      }
    }
    const stub = declared(backend, withTransactionalOutbox(Hopping, {}));
    await send(stub, "first");
    await drain(stub);
    expect(await texts(stub)).toEqual(["first", "hop 2", "hop 1", "hop 0"]);
    hops = Number.POSITIVE_INFINITY;
    await send(stub, "for ever");
    await expect(drain(stub, { limit: 50 })).rejects.toThrow("drain() has delivered 50 messages, and there are more.");
  });

  it("counts what was delivered since it was called last", async () => {
    const stub = box(backend, { dispatch: "immediate" });
    await send(stub, 1);
    await send(stub, 2, { delaySeconds: 60 });
    expect(await drain(stub)).toEqual({ delivered: 1, dead: 0 });
    await advance(stub, 60);
    expect(await drain(stub)).toEqual({ delivered: 1, dead: 0 });
    expect(await drain(stub)).toEqual({ delivered: 0, dead: 0 });
  });

  it.each([
    ["an unknown option", { recursiv: true }, /`options`.*recursive/],
    ["a limit of none", { limit: 0 }, /`options.limit`/],
    ["a time that is none", { until: "tomorrow" }, /`options.until`/],
    ["a negative time", { until: -1 }, /`options.until`/],
  ])("refuses %s", async (_, options, message) => {
    await expect(drain(box(backend), options as never)).rejects.toThrow(message);
  });

  it("refuses unknown options of sent() and expectNothing(), which would select nothing", async () => {
    for (const asked of [sent, expectNothing])
      await expect(asked(box(backend), { destinations: "billing" } as never)).rejects.toThrow("did you mean `destination`?");
  });

  it("refuses the stub of an object that is not wrapped, and what is no stub", async () => {
    const stub = declared(backend, Box as never);
    await expect(drain(stub)).rejects.toThrow("an object whose class is wrapped with withTransactionalOutbox()");
    await expect(sent({} as never)).rejects.toThrow("a Durable Object stub");
  });
});

onBothBackends("expectNothing", (backend) => {
  it("holds of an object that has sent nothing", async () => {
    await expectNothing(box(backend));
  });

  it("says what it has found", async () => {
    const stub = box(backend);
    await send(stub, { type: "paid" });
    await expect(expectNothing(stub)).rejects.toThrow("Expected no message, found 1 waiting.");
    await drain(stub);
    await expect(expectNothing(stub, { destination: "default" })).rejects.toThrow('found 1 delivered: {"type":"paid"}.');
    await expectNothing(stub, { destination: "another" });
  });
});
