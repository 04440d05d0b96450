/** Classes with named destinations that a test scripts from outside. */
import { DurableObject } from "cloudflare:workers";
import { type OutboxDelivery, type OutboxMessage, type OutboxOptions, withTransactionalOutbox } from "../../../src/index.ts";
import { type Backend, declared, inside, redeclared, type Stub } from "./harness.ts";
import { counted, type Ledger } from "./ledger.ts";
import { type BoxEnv, events, type Form, options as quick } from "./worker.ts";

/** What a test sees of one destination of one object, over all of its lives. */
export interface Receiver {
  /** Every call, in order. */
  readonly calls: OutboxMessage[][];
  /** What calls do: by default they succeed. */
  rest: (messages: OutboxMessage[], delivery: OutboxDelivery) => unknown;
}

/** What was handed over, message by message. */
export const got = ({ calls }: Receiver): unknown[] => calls.flat().map(({ msg }) => msg);

/** The receivers of an object that does not exist yet, by the names of its destinations. */
export function receivers<Name extends string>(...names: Name[]): Record<Name, Receiver> {
  return Object.fromEntries(names.map((name) => [name, { calls: [], rest: () => {} }])) as unknown as Record<Name, Receiver>;
}

/** The options of each destination, beside `send`. */
type Destinations = Readonly<Record<string, object>>;

/** A class with these destinations. What it is handed reaches the receivers; those named `default` by its `sendMessages`. */
export function classWith(all: Record<string, Receiver>, destinations: Destinations, options: OutboxOptions<"OUTBOX_MANAGER"> = {}): Form {
  const sendOf = (name: string) => async (messages: OutboxMessage[], delivery: OutboxDelivery) => {
    const receiver = all[name] as Receiver;
    receiver.calls.push(structuredClone(messages));
    await receiver.rest(messages, delivery);
  };
  class Named extends DurableObject<BoxEnv> {
    ledger?: Ledger;
    destinations = Object.fromEntries(Object.entries(destinations).map(([name, given]) => [name, { send: sendOf(name), ...given }]));
    get outbox() {
      return this.env.OUTBOX_MANAGER;
    }
  }
  class Both extends Named {
    sendMessages = sendOf("default");
  }
  const wrapped = withTransactionalOutbox(("default" in all ? Both : Named) as typeof Both, { ...quick, ...options });
  return class extends wrapped {
    constructor(ctx: DurableObjectState, env: BoxEnv) {
      const ledger = counted(ctx.storage);
      super(ctx, env);
      this.ledger = ledger;
    }
  } as unknown as Form;
}

/** An object of such a class. */
export function objectWith(
  backend: Backend,
  all: Record<string, Receiver>,
  destinations: Destinations,
  options: OutboxOptions<"OUTBOX_MANAGER"> = {},
): Stub {
  return declared(backend, classWith(all, destinations, options));
}

/** The same object in its next life, with another class: as after a deployment. */
export async function deployed(
  stub: Stub,
  all: Record<string, Receiver>,
  destinations: Destinations,
  options: OutboxOptions<"OUTBOX_MANAGER"> = {},
): Promise<Stub> {
  await inside(stub, (_, __, state) => state.abort("the deployment that the test wants")).catch(() => {});
  return redeclared(stub, classWith(all, destinations, options));
}

/** The events of an object, by type. */
export function told(stub: Stub, type: string): readonly object[] {
  return events.filter((event) => event.object === stub.id.toString() && event.type === type);
}
