/** A worker with the inspector, and objects in every state that the page shows. */
import { DurableObject } from "cloudflare:workers";
import { type OutboxDelivery, type OutboxManager, type OutboxMessage, withTransactionalOutbox } from "../../src/index.ts";
import { type InspectorAction, inspector, withInspector } from "../../src/inspector/index.ts";
import { fleetOf } from "../support/fleet.ts";
import { HOSTILE } from "../support/hostile.ts";

type Order = { type: string; [name: string]: unknown };

interface OrdersEnv {
  ORDERS: DurableObjectNamespace<Orders>;
  OUTBOX_MANAGER: OutboxManager<Order>;
}

/** Objects whose class has lost a destination, from their next life on; and destinations that refuse everything, by object. */
const lost = new Set<string>();
const down = new Set<string>();

class OrdersBase extends DurableObject<OrdersEnv> {
  readonly #name = this.ctx.id.name ?? "";
  readonly #send = (name: string) => async (messages: OutboxMessage<Order>[], delivery: OutboxDelivery) => {
    if (down.has(`${this.#name} ${name}`)) throw new Error(`connect ECONNREFUSED: the ${name} service does not answer`);
    for (const { id, msg } of messages) {
      if (msg.fails === "reject") delivery.reject(id, "422 Unprocessable: the postcode is not one of this country");
      if (msg.fails === "retry") delivery.retry(id, { delaySeconds: 3600, reason: "429 Too Many Requests" });
    }
  };

  destinations = {
    search: { types: ["order_created", "order_paid"], send: this.#send("search") },
    billing: { types: ["order_paid", "invoice_sent", "hostile"], send: this.#send("billing") },
    ...(!lost.has(this.#name) && { legacy: { types: ["legacy"], send: this.#send("legacy") } }),
    jobs: { pull: true as const, types: ["job"] },
  };

  /** Fills an object with one thing of each kind. */
  async fill(): Promise<void> {
    const outbox = this.env.OUTBOX_MANAGER;
    const headers = { traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "correlation-id": "checkout-77" };
    const order = { order: 1007, total: 129_950n, currency: "EUR", placedAt: new Date("2026-11-27T18:05:11.250Z") };
    await outbox.send(
      {
        type: "order_created",
        ...order,
        items: [
          { sku: "chair-oak", quantity: 4 },
          { sku: "table", quantity: 1 },
        ],
      },
      { headers },
    );
    for (const country of ["NL", "DE", "FR", "IT", "ES", "PT"]) {
      const address = { city: "Utrecht", postcode: "12345", country };
      await outbox.send(
        { type: "invoice_sent", order: 1007, address, signature: new Uint8Array([137, 80, 78, 71, 13, 10]), fails: "reject" },
        { headers },
      );
    }
    await outbox.send({ type: "invoice_sent", order: 1008, fails: "retry" }, { key: "customer-31" });
    await outbox.send({ type: "invoice_sent", order: 1009 }, { key: "customer-31" });
    await outbox.send({ type: "invoice_sent", order: 1011, reminder: true }, { delaySeconds: 86_400 });
    await outbox.send({ type: "job", resize: "chair-oak.jpg" });
    await outbox.send({ type: "legacy", order: 1 }, { delaySeconds: 3600 });
  }

  async more(): Promise<void> {
    for (let n = 1; n <= 4; n++)
      await this.env.OUTBOX_MANAGER.send(
        { type: "order_paid", order: 1020 + n, card: "ending in 4242" },
        { headers: { "correlation-id": `checkout-${n}` } },
      );
  }

  /** Twenty payloads that are no good, all of them dead letters. */
  async hostile(): Promise<void> {
    for (const [n, payload] of HOSTILE.entries()) {
      const options = { headers: { "x-evil": "<img src=x onerror=hacked()>" }, key: `<b>key ${n}</b>\u202e` };
      await this.env.OUTBOX_MANAGER.send({ type: "hostile", n, payload, fails: "reject" }, options);
    }
  }

  stats(): Promise<unknown> {
    return this.env.OUTBOX_MANAGER.stats();
  }

  end(): void {
    this.ctx.abort("the end that the test wants");
  }
}

export class Orders extends withInspector(
  withTransactionalOutbox(OrdersBase, { retain: "all", retry: { minDelaySeconds: 45, maxDelaySeconds: 900, jitter: 0 } }),
) {}

const fleet = fleetOf();

export default {
  async fetch(request: Request, env: OrdersEnv): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    if (pathname === "/admin/outbox") {
      const rights = searchParams.get("rights") ?? "all";
      return inspector({
        namespaces: { ORDERS: env.ORDERS },
        authorize: () =>
          rights === "none" ? null : rights === "all" || rights === "read" ? rights : (rights.split(",") as InspectorAction[]),
        ...(searchParams.get("fleet") && { fleet }),
        redact: (message) => (searchParams.get("redact") ? { ...message, msg: { type: "hidden" } } : message),
      })(request);
    }
    const name = searchParams.get("object") ?? "";
    const stub = env.ORDERS.getByName(name);
    switch (pathname) {
      case "/down":
        down.add(`${name} ${searchParams.get("destination")}`);
        break;
      case "/up":
        for (const each of [...down]) if (each.startsWith(`${name} `)) down.delete(each);
        break;
      case "/lose":
        lost.add(name);
        await stub.end().catch(() => {});
        break;
      case "/stats":
        return Response.json(await stub.stats());
      default:
        await stub[pathname.slice(1) as "fill" | "more" | "hostile"]();
    }
    return Response.json({});
  },
} satisfies ExportedHandler<OrdersEnv>;
