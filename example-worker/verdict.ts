/** The verdict on a report: whether the bookings, the tables and what was made of their events agree. Pure. */

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
  /** Where the catalogue, the calendar and the statistics are not what the tables say. Only meaningful when no message is waiting. */
  readonly projectionErrors: string[];
}

export function judge(report: Report): Verdict {
  const { bookings, tables } = report;
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
    projectionErrors: errorsOf(report),
  };
}

function errorsOf({ tables, projected, statistics }: Report): string[] {
  const locked = tables.flatMap(({ table, locks }) => locks.map((lock) => `${placeOf({ table, ...lock })} for ${lock.bookingId}`));
  // What was locked more often than it was freed is locked now.
  const counted = statistics.flatMap((slot) => Array<string>(slot.locked - slot.cancelled - slot.passed).fill(placeOf(slot)));
  return [
    ...differences("catalogue", projected.catalogue.map(nameOf), tables.map(nameOf)),
    ...differences(
      "calendar",
      projected.calendar.map((lock) => `${placeOf(lock)} for ${lock.bookingId}`),
      locked,
    ),
    ...differences(
      "statistics",
      counted,
      locked.map((lock) => lock.slice(0, lock.indexOf(" for "))),
    ),
  ];
}

function differences(name: string, made: readonly string[], meant: readonly string[]): string[] {
  const [has, should] = [made, meant].map((list) => [...list].sort());
  return JSON.stringify(has) === JSON.stringify(should) ? [] : [`${name}: ${has?.join("; ")}, in place of: ${should?.join("; ")}`];
}

function nameOf({ table, status }: { readonly table: number; readonly status: string }): string {
  return `table ${table} is ${status}`;
}

export function placeOf({ table, slot }: { readonly table: number; readonly slot: string }): string {
  return `table ${table} at ${slot}`;
}
