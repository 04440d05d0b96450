/** The restaurant: how each of its objects is reached, and everything that they say at once. */

import type { OutboxFleet } from "do-transactional-outbox/fleet";
import type { Booking } from "./booking.ts";
import { type Ledger, theLedger } from "./ledger.ts";
import { type Projections, theProjections } from "./projections.ts";
import type { Report } from "./states.ts";
import { statisticsIn } from "./statistics.ts";
import type { Table } from "./table.ts";

export interface Env {
  BOOKING: DurableObjectNamespace<Booking>;
  TABLE: DurableObjectNamespace<Table>;
  LEDGER: DurableObjectNamespace<Ledger>;
  PROJECTIONS: DurableObjectNamespace<Projections>;
  OUTBOX_FLEET: DurableObjectNamespace<OutboxFleet>;
  STATISTICS: D1Database;
  TABLE_COUNT: number;
  SLOT_SECONDS: number;
}

export async function everything(env: Env, mostBookings: number): Promise<Report> {
  const ids = await theLedger(env).bookings(mostBookings);
  const numbers = Array.from({ length: env.TABLE_COUNT }, (_, index) => index + 1);
  const [bookings, tables] = await Promise.all([
    Promise.all(ids.map((id) => bookingObject(env, id).state())),
    Promise.all(numbers.map((number) => tableObject(env, number).state())),
  ]);
  // Later than the tables: what those have delivered is in it.
  const [projected, statistics] = await Promise.all([theProjections(env).all(), statisticsIn(env.STATISTICS)]);
  return { bookings: bookings.filter((booking) => booking !== null), tables, projected, statistics };
}

export function bookingObject(env: Env, id: string): DurableObjectStub<Booking> {
  return env.BOOKING.getByName(id);
}

export function tableObject(env: Env, number: number): DurableObjectStub<Table> {
  return env.TABLE.getByName(String(number));
}
