/** The worker: a few JSON routes over the objects, and the consumer of the queue. The page itself is in public/. */

import { OutboxFleet } from "do-transactional-outbox/fleet";
import { consumeQueue } from "do-transactional-outbox/inbox";
import { relayLog } from "do-transactional-outbox/log";
import { Booking } from "./booking.ts";
import { BadInput, parseBookingId, parseDown, parseTable, parseWish, SLOTS } from "./input.ts";
import { inspect } from "./inspect.ts";
import { Ledger, theLedger } from "./ledger.ts";
import { Projections, theProjections } from "./projections.ts";
import { bookingObject, type Env, everything, tableObject } from "./restaurant.ts";
import { Table } from "./table.ts";

export type { Env };
export { Booking, Ledger, OutboxFleet, Projections, Table };

/** How many bookings and arrivals the page shows, and how many bookings a report lists at most. */
const LATEST = 24;
const REPORTED = 10_000;

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    try {
      return await route(request, env);
    } catch (error) {
      if (error instanceof BadInput) return refuse(400, error.message);
      throw error;
    }
  },

  /** The ledger's inbox decides what is new: a queue delivers at least once. */
  async queue(batch: MessageBatch, env: Env): Promise<void> {
    await consumeQueue(batch, env, { route: () => theLedger(env) });
  },
} satisfies ExportedHandler<Env>;

async function route(request: Request, env: Env): Promise<Response> {
  const { pathname } = new URL(request.url);
  const [, kind = "", which = "", action = ""] = pathname.split("/");
  if (kind === "outbox") return inspect(request, env);
  switch (`${request.method} /${kind}`) {
    case "GET /bookings": {
      const booking = await bookingObject(env, parseBookingId(which)).state();
      return booking === null ? refuse(404, `There is no booking ${which}.`) : Response.json(booking);
    }
    case "PUT /bookings": {
      const wish = parseWish(parseBookingId(which), await json(request));
      // Accepted, not confirmed: the table decides, and is asked by a message.
      return Response.json(await bookingObject(env, which).initiate(wish), { status: 202 });
    }
    case "POST /bookings": {
      if (action !== "cancel") break;
      const booking = await bookingObject(env, parseBookingId(which)).cancel();
      if (booking === null) return refuse(404, `There is no booking ${which}.`);
      return booking.state === "cancelled" ? Response.json(booking) : refuse(409, `This booking is ${booking.state}.`);
    }
    case "POST /tables": {
      if (action !== "add" && action !== "open" && action !== "close" && action !== "remove") break;
      const table = tableObject(env, parseTable(which, env.TABLE_COUNT));
      const obstacle = await table.change(action);
      return obstacle === null ? Response.json(await table.state()) : refuse(409, obstacle);
    }
    case "GET /log":
      return relayLog(request, tableObject(env, parseTable(which, env.TABLE_COUNT)));
    case "POST /projections": {
      if (which !== "drop" && which !== "rebuild") break;
      await theProjections(env)[which]();
      return Response.json(await theProjections(env).all());
    }
    case "POST /outage": {
      const down = parseDown(await json(request));
      await theLedger(env).setDown(down);
      return Response.json({ down });
    }
    case "GET /state": {
      const [report, ledger] = await Promise.all([everything(env, LATEST), theLedger(env).state(LATEST)]);
      return Response.json({ slots: SLOTS, slotSeconds: env.SLOT_SECONDS, ...report, ledger });
    }
    case "GET /report":
      return Response.json(await everything(env, REPORTED));
  }
  return refuse(404, `There is no ${request.method} ${pathname} here.`);
}

async function json(request: Request): Promise<unknown> {
  try {
    return await request.json();
  } catch {
    throw new BadInput("The body must be JSON.");
  }
}

function refuse(status: number, error: string): Response {
  return Response.json({ error }, { status });
}
