/** This package, in its three ways. */
import { DurableObject } from "cloudflare:workers";
import { type OutboxManager, type OutboxMessage, type StandardSchema, withTransactionalOutbox } from "../../src/index.ts";
import type { Destination, JobName } from "../words.ts";
import { type Contestant, type Env, KEY, type Message, message, state, Work } from "./work.ts";

abstract class Bare extends DurableObject<Env & { OUTBOX_MANAGER: OutboxManager<Message> }> implements Contestant {
  readonly #work = new Work(this.ctx, this.env, {
    one: (n) => this.one(n),
    idle: async () => (await this.env.OUTBOX_MANAGER.stats()).pending === 0,
  });

  one(n: number): Promise<unknown> {
    return this.env.OUTBOX_MANAGER.put(KEY, state(n), message(n));
  }

  async sendMessages(messages: OutboxMessage<Message>[]): Promise<void> {
    await this.#work.deliver(messages.map(({ msg }) => msg));
  }

  job(name: JobName, count: number, to: Destination): Promise<ReadableStream | undefined> {
    return this.#work.job(name, count, to);
  }
}

/** `put`, delivered by the alarm. */
export class BareOurs extends Bare {}

/** `transactionSync`. */
export class BareOursSync extends Bare {
  override async one(n: number): Promise<void> {
    this.env.OUTBOX_MANAGER.transactionSync(({ kv, send }) => {
      kv.put(KEY, state(n));
      send(message(n));
    });
  }
}

export const Ours: typeof BareOurs = withTransactionalOutbox(class extends BareOurs {});
const accepting: StandardSchema<Message, Message> = {
  "~standard": { version: 1, vendor: "bench", validate: (value) => ({ value: value as Message }) },
};
/** With a schema that accepts at once: what is left is what the outbox itself does for a message that is checked. */
export const OursChecked: typeof BareOurs = withTransactionalOutbox(class extends BareOurs {}, {
  messages: { order_created: accepting },
});
export const OursImmediate: typeof BareOurs = withTransactionalOutbox(class extends BareOurs {}, { dispatch: "immediate" });
export const OursSync: typeof BareOursSync = withTransactionalOutbox(class extends BareOursSync {});
