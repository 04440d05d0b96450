/** This package, in its ways to deliver and to check. */
import { DurableObject } from "cloudflare:workers";
import * as v from "valibot";
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

  async job(name: JobName, count: number, to: Destination): Promise<ReadableStream | undefined> {
    if (name === "pause") await this.env.OUTBOX_MANAGER.pause();
    return this.#work.job(name, count, to);
  }

  override async fetch(): Promise<Response> {
    return this.#work.connected();
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
const created = v.object({
  type: v.literal("order_created"),
  data: v.object({ ordernr: v.number(), customer: v.string(), total: v.number() }),
});
/** With a schema of a library, which looks at each field. */
export const OursValibot: typeof BareOurs = withTransactionalOutbox(class extends BareOurs {}, { messages: { order_created: created } });
export const OursImmediate: typeof BareOurs = withTransactionalOutbox(class extends BareOurs {}, { dispatch: "immediate" });
/** Deliveries are recorded with the next put, or so many seconds later. */
export const OursSettled: typeof BareOurs = withTransactionalOutbox(class extends BareOurs {}, {
  dispatch: "immediate",
  settleWithinSeconds: 10,
});
export const OursSync: typeof BareOursSync = withTransactionalOutbox(class extends BareOursSync {});
