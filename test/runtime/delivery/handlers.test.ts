/** Handlers that change while an object runs: spies, restored ones, reassignments, and one that is gone. `test/process/wrapped.test.ts` has those of the start. */
import { evictDurableObject, runDurableObjectAlarm } from "cloudflare:test";
import { expect, it, vi } from "vitest";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { again, declared, drained, fresh, handedOver, inside, onBothBackends, redeclared, sent, until } from "../support/harness.ts";
import { Box, type BoxEnv, options, stageOf } from "../support/worker.ts";

onBothBackends("a handler", (backend) => {
  it("that is spied on is called through the spy, and without it once it is restored", async () => {
    const stub = fresh(backend);
    const calls = await inside(stub, async (box, outbox, { storage }) => {
      const send = vi.spyOn(box, "sendMessages");
      const alarm = vi.spyOn(box, "alarm");
      await outbox.send("spied on");
      await storage.setAlarm(Date.now() + 60_000);
      return { send, alarm };
    });
    await drained(stub);
    await runDurableObjectAlarm(stub);
    expect(calls.send).toHaveBeenCalledTimes(1);
    expect(calls.alarm).toHaveBeenCalled();
    expect(stageOf(stub).alarms).toHaveLength(1);
    calls.send.mockRestore();
    calls.alarm.mockRestore();
    await inside(stub, (_, outbox) => outbox.send("restored"));
    await drained(stub);
    await inside(stub, (_, __, { storage }) => storage.setAlarm(Date.now() + 60_000));
    await runDurableObjectAlarm(stub);
    expect(stageOf(stub).alarms).toHaveLength(2);
    expect(sent(stub).map(({ msg }) => msg)).toEqual(["spied on", "restored"]);
  });

  it("that is spied on in the prototype is called through the spy", async () => {
    class Spied extends Box {}
    const Wrapped = withTransactionalOutbox(class extends Spied {}, options);
    for (const { prototype } of [Spied, Wrapped]) {
      const stub = declared(backend, Wrapped);
      await inside(stub, (_, outbox) => outbox.send("not spied on"));
      await drained(stub);
      const spy = vi.spyOn(prototype, "sendMessages");
      await inside(stub, (_, outbox) => outbox.send("spied on"));
      await drained(stub);
      expect(spy).toHaveBeenCalledTimes(1);
      spy.mockRestore();
      await inside(stub, (_, outbox) => outbox.send("restored"));
      await drained(stub);
      expect(spy).not.toHaveBeenCalled();
      expect(sent(stub)).toHaveLength(3);
    }
  });

  it("that is mocked is not called, and what takes its place is", async () => {
    const stub = fresh(backend);
    const got: unknown[] = [];
    await inside(stub, async (box, outbox) => {
      vi.spyOn(box, "sendMessages").mockImplementation(async (messages) => void got.push(...messages.map(({ msg }) => msg)));
      await outbox.send("message");
    });
    await drained(stub);
    expect(got).toEqual(["message"]);
    expect(sent(stub)).toEqual([]);
  });

  it("that is assigned anew is the one that is called, as often as that is done", async () => {
    const stub = fresh(backend);
    const got: string[] = [];
    for (const name of ["first", "second", "third"]) {
      await inside(stub, async (box, outbox, { storage }) => {
        box.sendMessages = async () => void got.push(`${name} sendMessages`);
        box.alarm = async () => void got.push(`${name} alarm`);
        await outbox.send(name);
        await storage.setAlarm(Date.now() + 60_000);
      });
      await drained(stub);
      await runDurableObjectAlarm(stub);
      expect(got.splice(0)).toEqual([`${name} sendMessages`, `${name} alarm`]);
    }
  });

  it("that is put back after it was replaced is the one that is called", async () => {
    const stub = fresh(backend);
    const replaced: string[] = [];
    await inside(stub, async (box, outbox, { storage }) => {
      const { alarm, sendMessages } = box;
      box.alarm = async () => void replaced.push("alarm");
      box.sendMessages = async () => void replaced.push("sendMessages");
      box.alarm = alarm;
      box.sendMessages = sendMessages;
      await outbox.send("message");
      await storage.setAlarm(Date.now() + 60_000);
    });
    await drained(stub);
    await runDurableObjectAlarm(stub);
    expect(replaced).toEqual([]);
    expect(sent(stub)).toHaveLength(1);
    expect(stageOf(stub).alarms).toHaveLength(1);
  });

  it("that calls itself through the instance reaches the class's own", async () => {
    const stub = fresh(backend);
    let depth = 0;
    await inside(stub, async (box, outbox, { storage }) => {
      stageOf(stub).onAlarm = () => (++depth < 3 ? box.alarm() : undefined);
      stageOf(stub).script.push((messages, delivery) => box.sendMessages(messages, delivery));
      await outbox.send("message");
      await storage.setAlarm(Date.now());
    });
    await drained(stub);
    await until(stub, () => stageOf(stub).alarms.length === 3);
    expect(sent(stub).map(({ msg }) => msg)).toEqual(["message", "message"]);
  });

  it("that the class does not have any more is not taken as one that has delivered, whatever is around it", async () => {
    const wrapped = (cls: typeof Box) =>
      class extends withTransactionalOutbox(cls, options) {
        constructor(ctx: DurableObjectState, env: BoxEnv) {
          super(ctx, env);
          const { sendMessages } = this;
          this.sendMessages = (...args) => sendMessages.apply(this, args);
        }
      };
    class Lost extends Box {
      override sendMessages = undefined as never;
    }
    const stub = declared(backend, wrapped(Lost));
    await inside(stub, (_, outbox) => outbox.send("message"));
    await until(stub, async ({ outbox }) => (await outbox.stats()).failures > 0);
    expect(await inside(stub, async (_, outbox) => (await outbox.stats()).pending)).toBe(1);
    await evictDurableObject(stub);
    const next = redeclared(stub, wrapped(class extends Box {}));
    await drained(next);
    expect(sent(again(next)).map(({ msg }) => msg)).toEqual(["message"]);
  });

  it("may be assigned in the constructor of every instance", async () => {
    const assigning = withTransactionalOutbox(
      class extends Box {
        constructor(ctx: DurableObjectState, env: BoxEnv) {
          super(ctx, env);
          const { sendMessages } = this;
          this.sendMessages = (messages, delivery) => {
            stageOf(ctx).alarms.push({ info: undefined, at: 0 });
            return sendMessages.call(this, messages, delivery);
          };
        }
      },
      options,
    );
    for (let n = 0; n < 2; n++) {
      const stub = declared(backend, assigning);
      await inside(stub, (_, outbox) => outbox.send(n));
      expect(await handedOver(stub, 1)).toMatchObject([{ msg: n }]);
      expect(stageOf(stub).alarms).toHaveLength(1);
    }
  });

  it("of a subclass and of a prototype is found there as before", async () => {
    const stub = fresh(backend);
    await inside(stub, (box) => {
      for (let prototype = Object.getPrototypeOf(box); prototype !== Object.prototype; prototype = Object.getPrototypeOf(prototype)) {
        if ("sendMessages" in prototype) expect(prototype.sendMessages).toBe(Box.prototype.sendMessages);
      }
      expect(Object.keys(box)).not.toContain("sendMessages");
      expect(box.sendMessages).toHaveLength(2);
      expect(box.sendMessages.name).toBe("sendMessages");
    });
  });
});
