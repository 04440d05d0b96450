/** What compiles of the inspector and what must not: checked by `tsc -p test`, never run. */
import { DurableObject } from "cloudflare:workers";
import { withTransactionalInbox } from "../../src/inbox/index.ts";
import { type OutboxManager, type OutboxMessage, withTransactionalOutbox } from "../../src/index.ts";
import { type Fleet, type InspectorAction, inspector, withInspector } from "../../src/inspector/index.ts";

type Ordered = { type: "ordered"; order: string };

interface Env {
  ORDERS: DurableObjectNamespace<Orders>;
  OTHERS: DurableObjectNamespace<Others>;
  OUTBOX_MANAGER: OutboxManager<Ordered>;
}

class OrdersBase extends DurableObject<Env> {
  static readonly version = 3;
  async place(order: string): Promise<number> {
    return (await this.env.OUTBOX_MANAGER.send({ type: "ordered", order })).sequence;
  }
  async sendMessages(_: OutboxMessage<Ordered>[]): Promise<void> {}
  receiveMessage(): void {}
}

// In any order, with the statics, the methods and the constructor of its class.
export class Orders extends withInspector(withTransactionalInbox(withTransactionalOutbox(OrdersBase))) {}
export class Within extends withTransactionalOutbox(withInspector(OrdersBase)) {}
export class Others extends withTransactionalOutbox(OrdersBase) {}

export const version: 3 = Orders.version;

export async function called({ ORDERS }: Env): Promise<boolean> {
  const stub = ORDERS.getByName("1007");
  const sequence: number = await stub.place("1007");
  const { ok } = await stub.inspectOutbox({ action: "redrive", destination: String(sequence) });
  // @ts-expect-error There is no such action.
  await stub.inspectOutbox({ action: "purge" });
  return ok;
}

export function mounted(env: Env, fleet: Fleet): ((request: Request) => Promise<Response>)[] {
  const namespaces = { ORDERS: env.ORDERS };
  const some: InspectorAction[] = ["redrive", "retry"];
  // @ts-expect-error Without authorize.
  inspector({ namespaces });
  // @ts-expect-error The class is not wrapped.
  inspector({ namespaces: { OTHERS: env.OTHERS }, authorize: () => null });
  // @ts-expect-error No such right.
  inspector({ namespaces, authorize: () => "admin" });
  // @ts-expect-error No such action.
  inspector({ namespaces, authorize: () => ["purge"] });
  // @ts-expect-error It is not async.
  inspector({ namespaces, authorize: () => "all", redact: async (message) => message });
  return [
    inspector({ namespaces, authorize: () => "all", fleet }),
    inspector({ namespaces, authorize: async () => some, redact: ({ msg: _, ...rest }) => rest }),
    inspector({ namespaces, authorize: ({ headers }) => (headers.has("Cookie") ? "read" : Response.redirect("https://login.example/")) }),
  ];
}
