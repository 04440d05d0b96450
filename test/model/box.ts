/** The object under test: its own code is nothing but what the story asks it for. */

import {
  type OutboxDeadLetter,
  type OutboxManager,
  type OutboxMessage,
  type OutboxTransaction,
  withTransactionalOutbox,
} from "../../src/index.ts";
import type { Msg } from "./destination.ts";
import type { Story } from "./story.ts";
import type { ObjectClass } from "./world.ts";

export interface Box {
  readonly ctx: DurableObjectState;
  readonly outbox: OutboxManager<Msg>;
}

/** The wrapped class, with the options that the story has now. `parameters` is how many its `sendMessages` declares. */
export function boxOf(story: Story, parameters: 1 | 2): ObjectClass<Box> {
  const Plain = class {
    readonly outbox: OutboxManager<Msg>;
    constructor(
      readonly ctx: DurableObjectState,
      env: { OUTBOX_MANAGER: OutboxManager<Msg> },
    ) {
      this.outbox = env.OUTBOX_MANAGER;
    }
    alarm(info: AlarmInvocationInfo): unknown {
      story.wrapper.left("alarm");
      const dies = story.own.called(info);
      const die = (): never => this.abort("the object's own alarm dies with it", { retryAlarm: !story.own.abandons });
      const work = story.onAlarm?.(this);
      if (!dies) return work;
      return work ? work.then(die) : die();
    }
    abort(reason: string, options: object): never {
      return (this.ctx.abort as unknown as (reason: string, options: object) => never)(reason, options);
    }
  };
  const Handling = class extends Plain {
    deadMessage(letter: OutboxDeadLetter<Msg>, _: string, txn: OutboxTransaction<Msg>): Promise<void> {
      return story.dead.handle(this.ctx, letter, txn);
    }
  };
  const Base = story.dead.how ? Handling : Plain;
  const One = class extends Base {
    sendMessages(messages: OutboxMessage<Msg>[]): Promise<void> {
      story.wrapper.left("sendMessages");
      return story.destination.receive(story.world, this.ctx, messages);
    }
  };
  const Two = class extends Base {
    sendMessages(messages: OutboxMessage<Msg>[], delivery: never): Promise<void> {
      story.wrapper.left("sendMessages");
      return story.destination.receive(story.world, this.ctx, messages, delivery);
    }
  };
  // One that can't settle a single message may have several of a key in a call.
  const [cls, ordering] = parameters === 1 ? ([One, "batch"] as const) : ([Two, "strict"] as const);
  const Wrapped = withTransactionalOutbox(cls as never, { ...story.options, ordering }) as unknown as Handling;
  const Reporting = story.registry?.around(Wrapped as never) ?? Wrapped;
  return around(story.wrapper, Reporting as never) as unknown as ObjectClass<Box>;
}

/** A class with both handlers, as its subclass sees it. */
interface Handlers {
  alarm(...args: unknown[]): unknown;
  sendMessages(...args: unknown[]): unknown;
}
type Handling = new (...args: unknown[]) => Handlers;

/** How a subclass, or an instrumentation library, wraps the handlers: it calls `super`, or replaces what it finds in its constructor. */
export type Wrapping = "none" | "super" | "constructor";

/** Whether each call of a handler comes through what is wrapped around it, once. */
export class Wrapper {
  readonly #inside = new Map<string, number>();

  constructor(
    readonly how: Wrapping,
    readonly wrong: string[],
  ) {}

  entered(name: string): void {
    this.#inside.set(name, (this.#inside.get(name) ?? 0) + 1);
  }

  /** The class's own handler has been reached. */
  left(name: string): void {
    const times = this.#inside.get(name) ?? 0;
    this.#inside.delete(name);
    if (times !== (this.how === "none" ? 0 : 1)) this.wrong.push(`${name} was called through its wrapper ${times} times`);
  }
}

function around(wrapper: Wrapper, Base: Handling): Handling {
  if (wrapper.how === "none") return Base;
  if (wrapper.how === "super") {
    return class extends Base {
      override alarm(...args: unknown[]): unknown {
        wrapper.entered("alarm");
        return super.alarm(...args);
      }
      override sendMessages(...args: unknown[]): unknown {
        wrapper.entered("sendMessages");
        return super.sendMessages(...args);
      }
    };
  }
  return class extends Base {
    constructor(...args: unknown[]) {
      super(...args);
      for (const name of ["alarm", "sendMessages"] as const) {
        const inner = this[name];
        this[name] = (...given) => {
          wrapper.entered(name);
          return inner.apply(this, given);
        };
      }
    }
  };
}
