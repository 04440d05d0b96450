/** The verdict on a report: whether the bookings and the tables agree. Pure. */

import type { BookingState, Report } from "./states.ts";

export interface Verdict {
  /** How many bookings there are in each state. */
  readonly count: Readonly<Record<BookingState["state"], number>>;
  /** Messages that are still on their way, and dead letters. */
  readonly waiting: number;
  readonly dead: number;
  /** Slots for which more than one booking is confirmed. */
  readonly doubleBooked: string[];
  /** Confirmed bookings whose slot is not locked for them, and locks whose booking is not confirmed. Only meaningful when no message is waiting. */
  readonly atOdds: string[];
}

export function judge({ bookings, tables }: Report): Verdict {
  const count = { initiated: 0, confirmed: 0, refused: 0, cancelled: 0, over: 0 };
  for (const { state } of bookings) count[state]++;
  const confirmed = bookings.filter(({ state }) => state === "confirmed").map((booking) => ({ ...booking, place: placeOf(booking) }));
  const locks = tables.flatMap(({ table, locks }) => locks.map((lock) => ({ ...lock, place: placeOf({ table, ...lock }) })));
  const believed = new Set(confirmed.map(({ bookingId, place }) => `${place} for ${bookingId}`));
  const locked = new Set(locks.map(({ bookingId, place }) => `${place} for ${bookingId}`));
  const places = confirmed.map(({ place }) => place);
  return {
    count,
    waiting: [...bookings, ...tables].reduce((sum, { waiting }) => sum + waiting.length, 0),
    dead: [...bookings, ...tables].reduce((sum, { dead }) => sum + dead, 0),
    doubleBooked: [...new Set(places.filter((place, index) => places.indexOf(place) < index))],
    atOdds: [
      ...[...believed].filter((one) => !locked.has(one)).map((one) => `confirmed, not locked: ${one}`),
      ...[...locked].filter((one) => !believed.has(one)).map((one) => `locked, not confirmed: ${one}`),
    ],
  };
}

export function placeOf({ table, slot }: { readonly table: number; readonly slot: string }): string {
  return `table ${table} at ${slot}`;
}
