/** Event sourcing with this package: an aggregate whose commands add one event each, as it is and with a schema. */
import { DurableObject } from "cloudflare:workers";
import { aggregate, type Decider } from "../../src/event-sourcing/index.ts";
import { type OutboxManager, type StandardSchema, withTransactionalOutbox } from "../../src/index.ts";
import type { Destination, JobName } from "../words.ts";
import { type Contestant, type Env, type Message, message, Work } from "./work.ts";

interface Orders {
  readonly count: number;
  readonly total: number;
}

/** A command is the number of an order. */
const orders: Decider<Orders, number, Message> = {
  initialState: () => ({ count: 0, total: 0 }),
  decide: (n) => message(n),
  evolve: ({ count, total }, { data }) => ({ count: count + 1, total: total + data.total }),
};

class Bare extends DurableObject<Env & { OUTBOX_MANAGER: OutboxManager<Message> }> implements Contestant {
  readonly destinations = {};
  readonly #orders = aggregate(this.env.OUTBOX_MANAGER, orders);
  readonly #work = new Work(this.ctx, this.env, { one: (n) => this.#orders.handle(n) });

  async job(name: JobName, count: number, to: Destination): Promise<ReadableStream | undefined> {
    if (name !== "commands") return this.#work.job(name, count, to);
    for (let n = 0; n < count; n++) await this.#orders.handle(n);
    return undefined;
  }
}

const accepting: StandardSchema<Message, Message> = {
  "~standard": { version: 1, vendor: "bench", validate: (value) => ({ value: value as Message }) },
};

export const OursEvents: typeof Bare = withTransactionalOutbox(class extends Bare {}, { retain: "all" });
export const OursEventsChecked: typeof Bare = withTransactionalOutbox(class extends Bare {}, {
  retain: "all",
  messages: { order_created: accepting },
});
