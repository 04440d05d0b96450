/** The worker of `wrapped.test.ts`: one class whose handlers are wrapped from outside and from inside, in every form in which that is done. */
import { DurableObject } from "cloudflare:workers";
import { type OutboxEnvelope, withTransactionalInbox } from "../../../src/inbox/index.ts";
import { type OutboxManager, type OutboxMessage, withTransactionalOutbox } from "../../../src/index.ts";

interface Env {
  OUTBOX_MANAGER: OutboxManager<string>;
}

type Call = (...args: unknown[]) => unknown;
type Loose = Record<string, Call>;
// biome-ignore lint/suspicious/noExplicitAny: classes that are wrapped, extended and proxied in every way
type Class = new (...args: any[]) => any;

const HANDLERS = ["alarm", "sendMessages", "receiveMessage"] as const;

/** What was called, by object and in order. */
const logs = new Map<string, string[]>();

function note(ctx: DurableObjectState, what: string): void {
  const id = ctx.id.toString();
  logs.set(id, [...(logs.get(id) ?? []), what]);
}

class Base extends DurableObject<Env> {
  #secret = "kept";

  async go(): Promise<void> {
    await this.ctx.storage.setAlarm(Date.now());
    await this.env.OUTBOX_MANAGER.send("m");
  }

  log(): string[] {
    return logs.get(this.ctx.id.toString()) ?? [];
  }

  override async alarm(info?: AlarmInvocationInfo): Promise<void> {
    note(this.ctx, `own alarm, ${this.#secret}, ${typeof info?.scheduledTime}`);
  }

  async sendMessages(messages: OutboxMessage<string>[]): Promise<void> {
    note(this.ctx, `own sendMessages of ${messages.map(({ msg }) => msg)}, ${this.#secret}`);
  }

  async receiveMessage({ id }: OutboxEnvelope): Promise<void> {
    note(this.ctx, `own receiveMessage of ${id}, ${this.#secret}`);
  }
}

/** The same with its handlers as instance properties. */
class Fields extends DurableObject<Env> {
  go(): Promise<void> {
    return Base.prototype.go.call(this as never);
  }
  override alarm = async (info?: AlarmInvocationInfo): Promise<void> => note(this.ctx, `own alarm, kept, ${typeof info?.scheduledTime}`);
  sendMessages = async (messages: OutboxMessage<string>[]): Promise<void> =>
    note(this.ctx, `own sendMessages of ${messages.map(({ msg }) => msg)}, kept`);
  receiveMessage = async ({ id }: OutboxEnvelope): Promise<void> => note(this.ctx, `own receiveMessage of ${id}, kept`);
  log(): string[] {
    return logs.get(this.ctx.id.toString()) ?? [];
  }
}
/** Puts a wrapper around each handler that an instance has, as instrumentation does. */
function instrument(instance: Loose & { ctx: DurableObjectState }, tag: string): void {
  for (const name of HANDLERS) {
    const before = instance[name];
    if (typeof before !== "function") continue;
    instance[name] = (...args) => {
      note(instance.ctx, `${tag} ${name}`);
      return before.apply(instance, args);
    };
  }
}

const subclass = (cls: Class, tag = "wrapped"): Class =>
  class extends cls {
    constructor(ctx: unknown, env: unknown) {
      super(ctx, env);
      instrument(this as never, tag);
    }
  };

/** As Sentry does it: a proxy of the class, whose instances are constructed as those of the class that is asked for. */
const proxied = (cls: Class, tag = "wrapped"): Class =>
  new Proxy(cls, {
    construct(target, [ctx, env], newTarget) {
      const instance = Reflect.construct(target, [ctx, env], newTarget);
      instrument(instance, tag);
      return instance;
    },
  });

/** As Sentry did it up to 10.8: whatever extends the class is not asked. */
const proxiedAlone = (cls: Class, tag = "wrapped"): Class =>
  new Proxy(cls, {
    construct(target, [ctx, env]) {
      const instance = new target(ctx, env);
      instrument(instance, tag);
      return instance;
    },
  });

/** With a state that inherits from the platform's. */
const derived = (cls: Class): Class =>
  new Proxy(cls, {
    construct(target, [ctx, env], newTarget) {
      const { storage } = ctx;
      const state = Object.create(ctx, {
        storage: { get: () => storage, configurable: true },
        blockConcurrencyWhile: { value: (body: () => Promise<unknown>) => ctx.blockConcurrencyWhile(body), configurable: true },
        abort: { value: (reason: string) => ctx.abort(reason), configurable: true },
      });
      return Reflect.construct(target, [state, env], newTarget);
    },
  });

/** As OpenTelemetry's instrumentation does it: a proxy around each instance, which hands out bound wrappers. */
const around = (cls: Class, tag = "wrapped"): Class =>
  new Proxy(cls, {
    construct(target, args, newTarget) {
      const instance = Reflect.construct(target, args, newTarget);
      return new Proxy(instance, {
        get(target, name) {
          const value = Reflect.get(target, name);
          if (typeof value !== "function") return value;
          if (name !== "alarm") return value.bind(target);
          return (...args: unknown[]) => {
            note(target.ctx, `${tag} alarm`);
            return value.apply(target, args);
          };
        },
      });
    },
  });

const outbox = (cls: Class): Class => withTransactionalOutbox(cls as never, { retry: { minDelaySeconds: 0.05, jitter: 0 } }) as never;
const inbox = (cls: Class): Class => withTransactionalInbox(cls as never) as never;
const both = (cls: Class): Class => inbox(outbox(cls));
const bothTurned = (cls: Class): Class => outbox(inbox(cls));

/** Overrides as methods, each of which calls the one that it overrides. */
const overriding = (cls: Class): Class =>
  class extends cls {
    alarm(...args: unknown[]) {
      note(this.ctx, "wrapped alarm");
      return super.alarm(...args);
    }
    sendMessages(...args: unknown[]) {
      note(this.ctx, "wrapped sendMessages");
      return super.sendMessages(...args);
    }
    receiveMessage(...args: unknown[]) {
      note(this.ctx, "wrapped receiveMessage");
      return super.receiveMessage(...args);
    }
  };

/** Fields that wrap what they find. */
const fielded = (cls: Class): Class =>
  class extends cls {
    alarm = this.around("alarm");
    sendMessages = this.around("sendMessages");
    receiveMessage = this.around("receiveMessage");
    around(name: string): Call {
      const before = this[name];
      return (...args) => {
        note(this.ctx, `wrapped ${name}`);
        return before.apply(this, args);
      };
    }
  };

/** Accessors on the prototype. */
const accessors = (cls: Class): Class => {
  const { prototype } = class extends cls {};
  const Accessed = class extends cls {};
  for (const name of HANDLERS) {
    const get = function (this: Base): Call {
      return (...args) => {
        note(this.ctx, `wrapped ${name}`);
        return prototype[name].apply(this, args);
      };
    };
    Object.defineProperty(Accessed.prototype, name, { get });
  }
  return Accessed;
};

/** As the Agents SDK defines its handlers: properties that can't be written. */
const readonly = (cls: Class): Class =>
  class extends cls {
    constructor(ctx: unknown, env: unknown) {
      super(ctx, env);
      for (const name of HANDLERS) {
        const before = this[name];
        const value = (...args: unknown[]) => {
          note(this.ctx, `wrapped ${name}`);
          return before.apply(this, args);
        };
        Object.defineProperty(this, name, { value, configurable: true });
      }
    }
  };

/** Its own handlers in the place of those that it finds, by assignment: these are the class's own then. */
const replacing = (cls: Class): Class =>
  class extends cls {
    constructor(ctx: DurableObjectState, env: unknown) {
      super(ctx, env);
      this.alarm = async (info?: AlarmInvocationInfo) => note(ctx, `own alarm, kept, ${typeof info?.scheduledTime}`);
      this.sendMessages = async (messages: OutboxMessage<string>[]) =>
        note(ctx, `own sendMessages of ${messages.map(({ msg }) => msg)}, kept`);
      this.receiveMessage = async ({ id }: OutboxEnvelope) => note(ctx, `own receiveMessage of ${id}, kept`);
    }
  };

class Wrong extends DurableObject<Env> {
  go(): Promise<void> {
    return Base.prototype.go.call(this as never);
  }
  log(): string[] {
    return logs.get(this.ctx.id.toString()) ?? [];
  }
  override alarm = async (): Promise<void> => note(this.ctx, "replaced");
  sendMessages = async (): Promise<void> => note(this.ctx, "replaced");
  receiveMessage = async (): Promise<void> => note(this.ctx, "replaced");
}

/** Wraps its handlers while it runs: when it is first called. */
const late = (cls: Class): Class =>
  class extends cls {
    #done = false;
    go() {
      if (!this.#done) instrument(this as never, "wrapped");
      this.#done = true;
      return super.go();
    }
  };

/** A field of a class that extends the wrapped one, where the platform finds it in place of ours. */
const replacedAlarm = (cls: Class): Class =>
  class extends cls {
    alarm = async (): Promise<void> => note(this.ctx, "replaced");
  };

const FORMS: Record<string, Class> = {
  Plain: both(class extends Base {}),
  PlainTurned: bothTurned(class extends Base {}),
  Properties: both(class extends Fields {}),
  Subclass: subclass(both(class extends Base {})),
  SubclassTurned: subclass(bothTurned(class extends Base {})),
  SubclassOfProperties: subclass(both(class extends Fields {})),
  SubclassTwice: subclass(subclass(both(class extends Base {})), "outer"),
  Inside: both(subclass(class extends Base {})),
  InsideTurned: bothTurned(subclass(class extends Base {})),
  Between: inbox(subclass(outbox(class extends Base {}))),
  BetweenTurned: outbox(subclass(inbox(class extends Base {}))),
  OnAllSides: subclass(both(subclass(class extends Base {})), "outer"),
  Proxied: proxied(both(class extends Base {})),
  ProxiedInside: both(proxied(class extends Base {})),
  ProxiedProperties: both(proxied(Fields)),
  ProxiedBetween: inbox(proxied(outbox(class extends Base {}))),
  ProxiedAlone: proxiedAlone(both(class extends Base {})),
  ProxiedAloneInside: both(proxiedAlone(class extends Base {})),
  Derived: inbox(derived(outbox(class extends Base {}))),
  DerivedTurned: derived(bothTurned(class extends Base {})),
  Overriding: overriding(both(class extends Base {})),
  OverridingInside: both(overriding(class extends Base {})),
  Fielded: fielded(both(class extends Base {})),
  FieldedInside: both(fielded(class extends Base {})),
  FieldedBetween: inbox(fielded(outbox(class extends Base {}))),
  Accessors: accessors(both(class extends Base {})),
  AccessorsInside: both(accessors(class extends Base {})),
  Readonly: readonly(both(class extends Base {})),
  ReadonlyInside: both(readonly(class extends Base {})),
  Replacing: replacing(both(class extends Wrong {})),
  ReplacingTurned: replacing(bothTurned(class extends Wrong {})),
  ReplacingAndWrapped: subclass(replacing(both(class extends Wrong {}))),
  Late: late(both(class extends Base {})),
  Around: around(both(class extends Base {})),
  AroundInside: both(around(class extends Base {})),
  AroundBetween: inbox(around(outbox(class extends Base {}))),
  ReplacedAlarm: replacedAlarm(both(class extends Base {})),
};

/** The class whose form is the object's name. */
const formed = (): Class =>
  new Proxy(class extends DurableObject {}, {
    construct(_, [ctx, env]) {
      const Form = FORMS[ctx.id.name ?? ""];
      if (!Form) throw new Error(`There is no form ${ctx.id.name}.`);
      return new Form(ctx, env);
    },
  });

export const Sqlite: Class = formed();
export const Kv: Class = formed();

export default {
  /** `/` lists the forms; `/<backend>/<form>/<method>` with the arguments as JSON. */
  async fetch(request: Request, env: Record<string, DurableObjectNamespace>): Promise<Response> {
    const [backend = "", form = "", method = ""] = new URL(request.url).pathname.slice(1).split("/");
    if (backend === "") return Response.json(Object.keys(FORMS));
    const stub = env[backend === "sqlite" ? "SQLITE" : "KV"]?.getByName(form) as unknown as Record<string, Call>;
    try {
      return Response.json({ got: (await stub[method]?.(...((await request.json()) as unknown[]))) ?? null });
    } catch (error) {
      return Response.json({ threw: String(error) });
    }
  },
};
