/** An account as an aggregate: small enough that a test can say what it must be. */
import { type Aggregate, type AggregateOptions, aggregate, type Decider, type EventLog } from "../../../src/event-sourcing/index.ts";
import type { OutboxManager } from "../../../src/index.ts";

export type Command =
  | { readonly do: "open" }
  | { readonly do: "deposit" | "withdraw"; readonly cents: number }
  | { readonly do: "nothing" };
export type Event = { readonly type: "opened" } | { readonly type: "deposited" | "withdrawn" | "charged"; readonly cents: number };
export interface Account {
  readonly isOpen: boolean;
  readonly cents: number;
}

export class AlreadyExists extends Error {
  override readonly name = "AlreadyExists";
}
export class DoesNotExist extends Error {
  override readonly name = "DoesNotExist";
}

/** What a withdrawal costs: it is an event of its own, so that one command has two. */
export const FEE = 1;

/** How often `evolve` was called, by all accounts of this isolate. */
export const seen = { evolved: 0, decided: 0 };

export const account: Decider<Account, Command, Event> = {
  initialState: () => ({ isOpen: false, cents: 0 }),
  decide(command, { isOpen, cents }) {
    seen.decided++;
    if (command.do === "open") {
      if (isOpen) throw new AlreadyExists("The account is open.");
      return { type: "opened" };
    }
    if (!isOpen) throw new DoesNotExist("There is no account.");
    if (command.do === "nothing") return [];
    if (command.do === "deposit") return { type: "deposited", cents: command.cents };
    if (command.cents + FEE > cents) throw new RangeError("Not enough money.");
    return [
      { type: "withdrawn", cents: command.cents },
      { type: "charged", cents: FEE },
    ];
  },
  evolve(state, event) {
    seen.evolved++;
    if (event.type === "opened") return { ...state, isOpen: true };
    return { ...state, cents: event.type === "deposited" ? state.cents + event.cents : state.cents - event.cents };
  },
};

/** What the events make of an account. */
export const foldOf = (events: readonly Event[]): Account => events.reduce(account.evolve, account.initialState());

export function accountOf(outbox: OutboxManager, options?: AggregateOptions<Event>): Aggregate<Account, Command, Event> {
  return aggregate(outbox as EventLog<Event>, account, options);
}

/** All that the log has, from its first message. */
export async function logOf(outbox: OutboxManager): Promise<Event[]> {
  const events: Event[] = [];
  for (let from = 1; ; ) {
    const { messages, next, upToDate } = await outbox.read({ from, limit: 1000 });
    events.push(...messages.map(({ msg }) => msg as Event));
    if (upToDate) return events;
    from = next;
  }
}
