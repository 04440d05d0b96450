/** The worker: a few JSON routes over the tables, and the consumer of the queue. The page itself is in public/. */

import { Ledger, theLedger } from "./ledger.ts";
import { BadInput, fields, parseBooking, parseSlot, parseTable, type ReservationEvent, SLOTS } from "./reservation.ts";
import { Table, type TableState } from "./table.ts";

export { Ledger, Table };

interface Env {
  TABLE: DurableObjectNamespace<Table>;
  LEDGER: DurableObjectNamespace<Ledger>;
  TABLE_COUNT: number;
}

/** How many arrivals the page shows, and how many a report lists at most. */
const LATEST = 12;
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

  /** What throws here comes again by itself: the queue retries whatever was not acknowledged. */
  async queue(batch: MessageBatch<ReservationEvent>, env: Env): Promise<void> {
    await theLedger(env).record(batch.messages.map(({ body }) => body));
    batch.ackAll();
  },
} satisfies ExportedHandler<Env, ReservationEvent>;

async function route(request: Request, env: Env): Promise<Response> {
  const { pathname } = new URL(request.url);
  const [, number, action] = /^\/tables\/([^/]+)\/(book|cancel)$/.exec(pathname) ?? [];
  const name = `${request.method} ${number === undefined ? pathname : `/tables/:n/${action}`}`;
  switch (name) {
    case "POST /tables/:n/book": {
      const table = parseTable(number ?? "", env.TABLE_COUNT);
      const booking = parseBooking(await json(request));
      const reservation = await stub(env, table).book(table, booking);
      if (reservation === null) return refuse(409, `Table ${table} is taken at ${booking.slot}.`);
      return Response.json({ table, reservation }, { status: 201 });
    }
    case "POST /tables/:n/cancel": {
      const table = parseTable(number ?? "", env.TABLE_COUNT);
      const slot = parseSlot(await json(request));
      const reservation = await stub(env, table).cancel(table, slot);
      if (reservation === null) return refuse(409, `Table ${table} is not booked at ${slot}.`);
      return Response.json({ table, reservation });
    }
    case "POST /outage": {
      const { down } = fields(await json(request));
      if (typeof down !== "boolean") throw new BadInput('"down" must be true or false.');
      await theLedger(env).setDown(down);
      return Response.json({ down });
    }
    case "GET /state": {
      const [tables, ledger] = await Promise.all([allTables(env), theLedger(env).state(LATEST)]);
      return Response.json({ slots: SLOTS, tables, ledger });
    }
    case "GET /report":
      return report(env);
    default:
      return refuse(404, `There is no ${request.method} ${pathname} here.`);
  }
}

/** Everything that was committed beside everything that arrived, so that the two can be compared. */
async function report(env: Env): Promise<Response> {
  const [tables, ledger] = await Promise.all([allTables(env), theLedger(env).state(REPORTED)]);
  return Response.json({
    committed: tables.flatMap(({ table, reservations }) => reservations.map((reservation) => ({ table, reservation }))),
    pending: tables.reduce((sum, { pending }) => sum + pending, 0),
    arrived: ledger.latest,
    duplicates: ledger.duplicates,
  });
}

function allTables(env: Env): Promise<({ table: number } & TableState)[]> {
  const numbers = Array.from({ length: env.TABLE_COUNT }, (_, index) => index + 1);
  return Promise.all(numbers.map(async (table) => ({ table, ...(await stub(env, table).state()) })));
}

function stub(env: Env, table: number): DurableObjectStub<Table> {
  return env.TABLE.getByName(`table ${table}`);
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
