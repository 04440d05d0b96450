/** This package with several destinations: each message goes to all of them. */
import { DurableObject } from "cloudflare:workers";
import { type OutboxDestinations, type OutboxManager, type OutboxMessage, withTransactionalOutbox } from "../../src/index.ts";
import type { Destination, JobName } from "../words.ts";
import { type Contestant, type Env, KEY, type Message, message, state, Work } from "./work.ts";

abstract class Bare extends DurableObject<Env & { OUTBOX_MANAGER: OutboxManager<Message> }> implements Contestant {
  protected abstract readonly copies: number;

  readonly #work = new Work(this.ctx, this.env, {
    one: (n) => this.env.OUTBOX_MANAGER.put(KEY, state(n), message(n)),
    idle: async () => (await this.env.OUTBOX_MANAGER.stats()).pending === 0,
    copies: () => this.copies,
  });

  /** So many destinations, none of which does anything. */
  protected all(count: number): OutboxDestinations<Message> {
    const send = (messages: OutboxMessage<Message>[]): Promise<void> => this.#work.deliver(messages.map(({ msg }) => msg));
    return Object.fromEntries(Array.from({ length: count }, (_, i) => [`to${i}`, { send }]));
  }

  job(name: JobName, count: number, to: Destination): Promise<ReadableStream | undefined> {
    return this.#work.job(name, count, to);
  }
}

export class BareTo1 extends Bare {
  readonly copies = 1;
  readonly destinations = this.all(1);
}

export class BareTo2 extends Bare {
  readonly copies = 2;
  readonly destinations = this.all(2);
}

export class BareTo5 extends Bare {
  readonly copies = 5;
  readonly destinations = this.all(5);
}

export class BareTo10 extends Bare {
  readonly copies = 10;
  readonly destinations = this.all(10);
}

export const OursTo1: typeof BareTo1 = withTransactionalOutbox(class extends BareTo1 {});
export const OursTo2: typeof BareTo2 = withTransactionalOutbox(class extends BareTo2 {});
export const OursTo5: typeof BareTo5 = withTransactionalOutbox(class extends BareTo5 {});
export const OursTo10: typeof BareTo10 = withTransactionalOutbox(class extends BareTo10 {});
