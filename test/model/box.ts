/** The object under test: its own code is nothing but what the story asks it for. */

import { type OutboxManager, type OutboxMessage, withTransactionalOutbox } from "../../src/index.ts";
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
    alarm(info: AlarmInvocationInfo): void {
      story.own.called(info);
    }
  };
  const One = class extends Plain {
    sendMessages(messages: OutboxMessage<Msg>[]): Promise<void> {
      return story.destination.receive(story.world, this.ctx, messages);
    }
  };
  const Two = class extends Plain {
    sendMessages(messages: OutboxMessage<Msg>[], delivery: never): Promise<void> {
      return story.destination.receive(story.world, this.ctx, messages, delivery);
    }
  };
  return withTransactionalOutbox(parameters === 1 ? One : (Two as never), story.options) as unknown as ObjectClass<Box>;
}
