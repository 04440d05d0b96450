/** G6 and G8: the object stays itself, in every form in which a class can be written, and shares its outbox with no other. */
import { evictDurableObject, runInDurableObject } from "cloudflare:test";
import { DurableObject, env as shared } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { type OutboxOptions, withTransactionalOutbox } from "../../../src/index.ts";
import {
  again,
  by,
  declared,
  drained,
  env,
  eventually,
  fresh,
  handedOver,
  inside,
  native,
  onBothBackends,
  redeclared,
  type Stub,
  sent,
  unhurried,
} from "../support/harness.ts";
import { Box, type BoxEnv, options, type Sent, stageOf } from "../support/worker.ts";
import { expectFired, expectNoOther, getAlarm, setIn } from "../support/worlds.ts";

onBothBackends("objects in one isolate", (backend) => {
  it("deliver each their own messages, of one class and of two", async () => {
    const make = (namespace: typeof backend.namespace) => namespace.get(namespace.newUniqueId());
    const stubs = [fresh(backend), fresh(backend), make(backend.other), make(backend.other)];
    await Promise.all(
      stubs.map((stub) =>
        inside(stub, async (_, outbox) => {
          for (let n = 0; n < 20; n++) await outbox.put(`key:${n}`, n, `${stub.id} ${n}`);
        }),
      ),
    );
    for (const stub of stubs) {
      await drained(stub);
      expect(sent(stub).map(({ msg }) => msg)).toEqual(Array.from({ length: 20 }, (_, n) => `${stub.id} ${n}`));
    }
    const managers = await Promise.all(stubs.map((stub) => inside(stub, (_, outbox) => outbox)));
    expect(new Set(managers).size).toBe(4);
  });

  it("leave the env that all share as it is", async () => {
    await inside(fresh(backend), (box) => {
      expect(box.outbox).toBeDefined();
      expect("OUTBOX_MANAGER" in shared).toBe(false);
    });
    expect("OUTBOX_MANAGER" in env).toBe(false);
  });
});

onBothBackends("a wrapped class", (backend) => {
  it("serves RPC methods, getters, fetch and private fields", async () => {
    const stub = fresh(backend);
    expect(await stub.hello("you")).toBe("hello you, kept");
    expect(await stub.greeting).toBe("a getter");
    expect(await (await stub.fetch("http://object/path")).text()).toBe("fetched /path");
  });

  it.runIf(backend.name === "sqlite")("uses sql and kv beside the outbox", async () => {
    const stub = fresh(backend);
    await inside(stub, async (_, outbox, { storage }) => {
      storage.sql.exec("CREATE TABLE orders (id INTEGER)");
      storage.sql.exec("INSERT INTO orders VALUES (1)");
      storage.kv.put("key", "value");
      await outbox.send("message");
      expect(storage.sql.exec("SELECT id FROM orders").one()).toEqual({ id: 1 });
      expect([...storage.kv.list({ end: "\u{10FFFF}" })]).toEqual([["key", "value"]]);
    });
    await drained(stub);
    expect(sent(stub)).toHaveLength(1);
  });

  it("can put, read and set its alarm while its constructor blocks concurrency, in every life", async () => {
    class Eager extends Box {
      constructor(ctx: DurableObjectState, env: BoxEnv) {
        super(ctx, env);
        ctx.blockConcurrencyWhile(async () => {
          await this.outbox.put("starts", ((await ctx.storage.get<number>("starts")) ?? 0) + 1, "started");
          if ((await ctx.storage.getAlarm()) === null) await ctx.storage.setAlarm(Date.now() + 600_000);
        });
        void this.outbox.send("from the constructor");
      }
    }
    const stub = declared(backend, withTransactionalOutbox(Eager, options));
    const first = await getAlarm(stub);
    expect(first).toBeGreaterThan(Date.now());
    await handedOver(stub, 2);
    await drained(stub);
    await evictDurableObject(stub);
    await drained(again(stub));
    expect(await getAlarm(again(stub))).toBe(first);
    expect(await inside(again(stub), (_, __, { storage }) => storage.get("starts"))).toBe(2);
    expect(sent(stub).map(({ sequence }) => sequence)).toEqual([1, 2, 3, 4]);
  });

  it("hibernates with its WebSockets", async () => {
    class Sockets extends Box {
      override async fetch() {
        const { 0: client, 1: server } = new WebSocketPair();
        this.ctx.acceptWebSocket(server);
        return new Response(null, { status: 101, webSocket: client });
      }
      override async webSocketMessage(socket: WebSocket, text: string) {
        await this.outbox.put("last", text, text);
        socket.send(`echo ${text}`);
      }
    }
    const stub = declared(backend, withTransactionalOutbox(Sockets, options));
    const { webSocket } = await stub.fetch("http://object/", { headers: { Upgrade: "websocket" } });
    const echoes: unknown[] = [];
    webSocket?.addEventListener("message", ({ data }) => echoes.push(data));
    webSocket?.accept();
    webSocket?.send("one");
    await eventually(() => echoes.length === 1);
    await handedOver(stub, 1);
    await drained(stub);
    await evictDurableObject(stub);
    webSocket?.send("two");
    await eventually(() => echoes.length === 2);
    await handedOver(stub, 2);
    expect(echoes).toEqual(["echo one", "echo two"]);
    expect(sent(stub).map(({ msg }) => msg)).toEqual(["one", "two"]);
    webSocket?.close();
  });

  it("may name the manager as it likes", async () => {
    class Named extends DurableObject<{ MAIL: BoxEnv["OUTBOX_MANAGER"] }> {
      readonly stage = stageOf(this.ctx);
      get outbox() {
        return this.env.MAIL;
      }
      sendMessages(messages: Sent) {
        expect("OUTBOX_MANAGER" in this.env).toBe(false);
        this.stage.calls.push(messages);
      }
    }
    const stub = declared(backend, withTransactionalOutbox(Named, { binding: "MAIL" }));
    await inside(stub, (_, outbox) => outbox.send("message"));
    await drained(stub);
    expect(sent(stub)).toHaveLength(1);
  });

  it("works on when its listener throws or rejects", async () => {
    for (const onEvent of [
      () => {
        throw new Error("listener");
      },
      () => Promise.reject(new Error("listener")) as never,
    ]) {
      const stub = declared(backend, withTransactionalOutbox(class extends Box {}, { ...options, onEvent }));
      stageOf(stub).script.push(() => Promise.reject(new Error("down")));
      await inside(stub, (_, outbox) => outbox.send("message"));
      await drained(stub);
      expect(sent(stub).map(({ attempts }) => attempts)).toEqual([1, 2]);
    }
  });
});

/** Handlers that note what they are called with on the stage of `this.ctx`. */
function handlers(ctx: DurableObjectState) {
  const stage = stageOf(ctx);
  return {
    sendMessages: async (messages: Sent): Promise<void> => {
      stage.calls.push(messages);
    },
    alarm: async (info?: AlarmInvocationInfo) => {
      const { retryCount = 0, isRetry = false, scheduledTime = 0 } = info ?? {};
      stage.alarms.push({ info: info && { retryCount, isRetry, scheduledTime }, at: Date.now() });
    },
  };
}

class Plain {
  constructor(
    readonly ctx: DurableObjectState,
    readonly env: BoxEnv,
  ) {}
  get outbox() {
    return this.env.OUTBOX_MANAGER;
  }
  sendMessages(messages: Sent) {
    return handlers(this.ctx).sendMessages(messages);
  }
  alarm(info?: AlarmInvocationInfo) {
    return handlers(this.ctx).alarm(info);
  }
}

class WithProperties extends DurableObject<BoxEnv> {
  get outbox() {
    return this.env.OUTBOX_MANAGER;
  }
  sendMessages = handlers(this.ctx).sendMessages;
  override alarm = handlers(this.ctx).alarm;
}

class Silent extends Plain {
  override sendMessages(_: Sent): Promise<void> {
    return Promise.reject(new Error("overridden"));
  }
  override alarm(): Promise<void> {
    return Promise.reject(new Error("overridden"));
  }
}

const FORMS = [
  { form: "that does not extend DurableObject", cls: withTransactionalOutbox(Plain, options) },
  { form: "with handlers as instance properties", cls: withTransactionalOutbox(WithProperties, options) },
  { form: "that inherits its handlers", cls: withTransactionalOutbox(class extends Plain {}, options) },
  { form: "that extends a wrapped class", cls: class extends withTransactionalOutbox(Plain, options) {} },
  {
    form: "that extends a wrapped class and overrides its methods",
    cls: class extends withTransactionalOutbox(Silent, options) {
      override sendMessages(messages: Sent) {
        return handlers(this.ctx).sendMessages(messages);
      }
      override alarm(info?: AlarmInvocationInfo) {
        return handlers(this.ctx).alarm(info);
      }
    },
  },
  {
    form: "that extends a wrapped class and overrides its methods with instance properties",
    cls: class extends withTransactionalOutbox(Silent, options) {
      override sendMessages = handlers(this.ctx).sendMessages;
      constructor(ctx: DurableObjectState, env: BoxEnv) {
        super(ctx, env);
        this.alarm = handlers(ctx).alarm;
      }
    },
  },
];

onBothBackends("a class", (backend) => {
  describe.concurrent.each(FORMS)("$form", ({ cls }) => {
    it("delivers, keeps its own alarm, and does both in its next life", () =>
      unhurried(300, async (ms) => {
        const stub = declared(backend, cls);
        const first = await setIn(stub, ms);
        await inside(stub, (_, outbox) => outbox.put("a", 1, "one"));
        await handedOver(stub, 1);
        await expectFired(stub, 1, first);
        const second = await setIn(stub, ms);
        await by(second, async () => {
          await evictDurableObject(stub);
          await inside(again(stub), (_, outbox) => outbox.send("two"));
        });
        await handedOver(stub, 2);
        await expectFired(stub, 2, second);
        await expectNoOther(again(stub), 2);
        expect(sent(stub).map(({ msg }) => msg)).toEqual(["one", "two"]);
      }));
  });

  it("without an alarm handler can't set an alarm, as on the platform, and delivers", async () => {
    class NoAlarm {
      constructor(
        readonly ctx: DurableObjectState,
        readonly env: BoxEnv,
      ) {}
      get outbox() {
        return this.env.OUTBOX_MANAGER;
      }
      sendMessages(messages: Sent) {
        return handlers(this.ctx).sendMessages(messages);
      }
    }
    const stub = declared(backend, withTransactionalOutbox(NoAlarm, options));
    await inside(stub, async (_, outbox, state) => {
      await expect(state.storage.setAlarm(Date.now() + 100)).rejects.toThrow(/alarm/);
      expect(await native(state).getAlarm()).toBeNull();
      await outbox.send("one");
      await expect(state.storage.setAlarm(Date.now() + 100)).rejects.toThrow(/alarm/);
      expect(await state.storage.getAlarm()).toBeNull();
    });
    await drained(stub);
    expect(await inside(stub, (_, __, state) => native(state).getAlarm())).toBeNull();
    expect(sent(stub)).toHaveLength(1);
  });

  it("that has lost its sendMessages keeps its messages for a class that has one", async () => {
    // The text of the class names it, so that it can be wrapped: sendMessages.
    class Forgetful {
      readonly comment = "no sendMessages here";
      constructor(
        readonly ctx: DurableObjectState,
        readonly env: BoxEnv,
      ) {}
      get outbox() {
        return this.env.OUTBOX_MANAGER;
      }
      alarm(info?: AlarmInvocationInfo) {
        return handlers(this.ctx).alarm(info);
      }
    }
    const errors: unknown[] = [];
    const onEvent: OutboxOptions["onEvent"] = (event) => void (event.type === "failed" && errors.push(event.cause));
    const stub = declared(backend, withTransactionalOutbox(Forgetful as never, { ...options, onEvent }));
    await inside(stub, (_, outbox) => outbox.send("kept"));
    await expectFired(stub, 1, await setIn(stub, 200));
    await eventually(() => errors.length >= 2);
    expect(errors[0]).toMatchObject({ name: "OutboxError", code: "send_messages_missing" });
    await evictDurableObject(stub);
    const later: Stub = redeclared(stub, withTransactionalOutbox(Plain, options));
    await drained(later);
    expect(sent(stub).map(({ msg }) => msg)).toEqual(["kept"]);
  });

  it("whose env binds the name already fails when it starts, and says so", async () => {
    const stub = declared(backend, withTransactionalOutbox(class extends Box {}, { binding: "BOX_KV" as string }));
    await expect(runInDurableObject(stub, () => {})).rejects.toThrow(/BOX_KV/);
    await expect(runInDurableObject(again(stub), () => {})).rejects.toThrow(TypeError);
  });
});
