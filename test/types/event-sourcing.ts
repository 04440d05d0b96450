/** Aggregates: what compiles and what must not. Checked by `tsc -p test`, never run. */
import { DurableObject } from "cloudflare:workers";
import {
  type Aggregate,
  aggregate,
  type Decider,
  type EmmettEvent,
  type EventStream,
  emmettEventStore,
  eventStream,
} from "../../src/event-sourcing/index.ts";
import { type OutboxManager, withTransactionalOutbox } from "../../src/index.ts";

type Command = { type: "open" } | { type: "deposit"; cents: number };
type Event = { type: "opened" } | { type: "deposited"; cents: number };
type Answer = { type: "answered"; to: string };

const account: Decider<number, Command, Event> = {
  initialState: () => 0,
  decide: (command) => (command.type === "open" ? { type: "opened" } : [{ type: "deposited", cents: command.cents }]),
  evolve: (cents, event) => (event.type === "opened" ? cents : cents + event.cents),
};

class AccountBase extends DurableObject<{ OUTBOX_MANAGER: OutboxManager<Event | Answer> }> {
  destinations = {};
  // The object sends other messages as well.
  readonly #account = aggregate(this.env.OUTBOX_MANAGER, account, {
    types: ["opened", "deposited"],
    messageOptions: (event) => ({ key: event.type }),
  });

  async deposit(cents: number): Promise<number> {
    const { state, events, exists } = await this.#account.handle([{ type: "open" }, { type: "deposit", cents }]);
    const types: ("opened" | "deposited")[] = events.map(({ type }) => type);
    void [types, exists satisfies boolean, (await this.#account.load(this.ctx.storage)).version satisfies number];
    await this.env.OUTBOX_MANAGER.transaction((txn) => this.#account.handle({ type: "open" }, { txn }));
    return state;
  }
}
export class Account extends withTransactionalOutbox(AccountBase, { retain: "all" }) {}

declare const one: Aggregate<number, Command, Event>;
// @ts-expect-error It has no such command.
void one.handle({ type: "close" });

declare const other: OutboxManager<Answer>;
// @ts-expect-error The manager does not take the events.
aggregate<number, Command, Event>(other, account);

declare const outbox: OutboxManager<Event>;
// @ts-expect-error An event that is not one.
aggregate<number, Command, Event>(outbox, { ...account, decide: () => ({ type: "closed" }) });
// @ts-expect-error Each event is stored: it can't have an id that is known.
aggregate(outbox, account, { messageOptions: () => ({ id: "own" }) });
// @ts-expect-error A decision does not wait.
aggregate<number, Command, Event>(outbox, { ...account, decide: async () => ({ type: "opened" }) });

class CartBase extends DurableObject<{ OUTBOX_MANAGER: OutboxManager<EmmettEvent> }> {
  destinations = {};
  readonly #stream = eventStream(this.env.OUTBOX_MANAGER);
  readEvents(...args: Parameters<EventStream["readEvents"]>): ReturnType<EventStream["readEvents"]> {
    return this.#stream.readEvents(...args);
  }
  appendEvents(...args: Parameters<EventStream["appendEvents"]>): ReturnType<EventStream["appendEvents"]> {
    return this.#stream.appendEvents(...args);
  }
}
export class Cart extends withTransactionalOutbox(CartBase, { retain: "all" }) {}

declare const carts: DurableObjectNamespace<Cart>;
export const there: Promise<boolean> = emmettEventStore((name) => carts.getByName(name)).streamExists("a");
declare const accounts: DurableObjectNamespace<Account>;
// @ts-expect-error That object has no stream.
emmettEventStore((name) => accounts.getByName(name));
