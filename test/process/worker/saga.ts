/** The example's worker under test: the test may have what its objects hear come twice, reversed, late, or at their death. */
import type { DurableObject } from "cloudflare:workers";
import example, { Booking, type Env, Ledger, Table } from "../../../example-worker/index.ts";
import type { InboxOutcome, InboxReceiver, OutboxEnvelope } from "../../../src/inbox/index.ts";

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

const HeardBooking: Heard = heardBy("booking", Booking);
const HeardTable: Heard = heardBy("table", Table);
const HeardLedger: Heard = heardBy("ledger", Ledger);

export { HeardBooking as Booking, HeardLedger as Ledger, HeardTable as Table };

export default {
  ...example,
  /** `POST /inject/table/3` hands messages that the test has made itself to an object's inbox. */
  async fetch(request: Request, env: Env): Promise<Response> {
    const [, inject, kind, name = ""] = new URL(request.url).pathname.split("/");
    if (inject !== "inject") return example.fetch(request, env);
    const stub = kind === "table" ? env.TABLE.getByName(name) : env.BOOKING.getByName(name);
    return Response.json(await stub.receiveMessages(await request.json()));
  },
};
