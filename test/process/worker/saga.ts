/** The example's worker under test: the test may have what its objects hear come twice, reversed, late, or at their death. */
import type { DurableObject } from "cloudflare:workers";
import example, { Booking, type Env, Ledger, Projections, Table } from "../../../example-worker/index.ts";
import type { InboxOutcome, InboxReceiver, OutboxEnvelope } from "../../../src/inbox/index.ts";
import { addTo, Cart } from "./carts.ts";

/** What a call of `receiveMessages` is told to do. */
export interface Order {
  /** The object does not hear it at all. */
  readonly fail?: boolean;
  readonly reversed?: boolean;
  readonly twice?: boolean;
  /** What happens after the object has heard it, and before the sender learns of that. */
  readonly end?: "abort" | "kill";
}

type Heard = new (ctx: DurableObjectState, env: unknown) => DurableObject & InboxReceiver;

function heardBy(name: string, cls: unknown): Heard {
  return class extends (cls as Heard) {
    override async receiveMessages(envelopes: OutboxEnvelope[]): Promise<InboxOutcome[]> {
      const { WATCH } = this.env as unknown as { WATCH: Fetcher };
      const body = JSON.stringify({ by: `${name} ${this.ctx.id.name}`, envelopes });
      const response = await WATCH.fetch("http://watch/heard", { method: "POST", body });
      const { fail, reversed, twice, end }: Order = await response.json();
      if (fail) throw new Error("The test lets nobody in.");
      const list = reversed ? [...envelopes].reverse() : envelopes;
      const outcomes = await super.receiveMessages(list);
      if (twice) await super.receiveMessages(list);
      if (end === "kill") await WATCH.fetch("http://watch/kill");
      if (end === "abort") this.ctx.abort("The test aborts.");
      return reversed ? [...outcomes].reverse() : outcomes;
    }
  };
}

/** A database of which the test hears before and after each batch: there it may kill the process, or have the table believe that it failed. */
function heardDatabase(db: D1Database, name: string, watch: Fetcher): Pick<D1Database, "prepare" | "batch"> {
  return {
    prepare: (query) => db.prepare(query),
    async batch<T>(statements: D1PreparedStatement[]): Promise<D1Result<T>[]> {
      const body = JSON.stringify({ by: `statistics of table ${name}`, envelopes: [] });
      const { fail, end }: Order = await (await watch.fetch("http://watch/heard", { method: "POST", body })).json();
      const results = await db.batch<T>(statements);
      if (end === "kill") await watch.fetch("http://watch/kill");
      if (fail) throw new Error("The test loses the answer.");
      return results;
    },
  };
}

const HeardBooking: Heard = heardBy("booking", Booking);
const HeardTable: Heard = heardBy(
  "table",
  class extends Table {
    constructor(...[ctx, env]: ConstructorParameters<typeof Table>) {
      const { WATCH } = env as unknown as { WATCH: Fetcher };
      super(ctx, { ...env, STATISTICS: heardDatabase(env.STATISTICS, String(ctx.id.name), WATCH) as D1Database });
    }

    /** The test may have the answer be old when it arrives. */
    override async history(after: number): ReturnType<Table["history"]> {
      const page = await super.history(after);
      const { WATCH } = this.env as unknown as { WATCH: Fetcher };
      const body = JSON.stringify({ by: `history of table ${this.ctx.id.name}`, envelopes: [] });
      await (await WATCH.fetch("http://watch/heard", { method: "POST", body })).text();
      return page;
    }
  },
);
const HeardLedger: Heard = heardBy("ledger", Ledger);
const HeardProjections: Heard = heardBy("projections", Projections);

export { OutboxFleet } from "../../../src/fleet/index.ts";
export { Cart, HeardBooking as Booking, HeardLedger as Ledger, HeardProjections as Projections, HeardTable as Table };

/** All events of a table, a page after the other. */
async function historyOf(table: Pick<DurableObjectStub<Table>, "history">): Promise<unknown[]> {
  const events: unknown[] = [];
  for (let through = 0, isWhole = false; !isWhole; ) {
    const page = await table.history(through);
    events.push(...page.events);
    ({ through, isWhole } = page);
  }
  return events;
}

export default {
  ...example,
  /** `GET /history/3` shows all events of a table. `POST /inject/table/3` hands messages that the test has made itself to an object's inbox. */
  async fetch(request: Request, env: Env & { CART: DurableObjectNamespace<Cart> }): Promise<Response> {
    const [, inject, kind, name = ""] = new URL(request.url).pathname.split("/");
    if (inject === "carts") return Response.json(await addTo(env.CART, kind ?? "", await request.json()));
    if (inject === "history") return Response.json(await historyOf(env.TABLE.getByName(kind ?? "")));
    if (inject !== "inject") return example.fetch(request, env);
    const stub = kind === "table" ? env.TABLE.getByName(name) : env.BOOKING.getByName(name);
    return Response.json(await stub.receiveMessages(await request.json()));
  },
};
