/** What the restaurant talks about: reservations, the messages that tell of them, and how input becomes one. */

/** The times at which a table can be had tonight. They bound what one table can store. */
export const SLOTS: readonly string[] = ["18:00", "18:30", "19:00", "19:30", "20:00", "20:30", "21:00", "21:30"];

const MAX_GUEST_LENGTH = 40;
const MAX_SEATS = 8;

/** What a guest asks for. */
export interface Booking {
  readonly slot: string;
  readonly guest: string;
  readonly seats: number;
}

/** What a table stores. */
export interface Reservation extends Booking {
  readonly id: string;
  /** In milliseconds since the Unix epoch. */
  readonly bookedAt: number;
}

/** What a table tells the world, in the same write that changes the reservation. */
export interface ReservationMessage {
  readonly type: "booked" | "cancelled";
  readonly table: number;
  readonly reservation: Reservation;
}

/** The same on its way: with the outbox's id, by which a receiver knows a message that it has seen before. */
export interface ReservationEvent extends ReservationMessage {
  readonly id: string;
}

/** Input that can't be served. Its message is for the person who sent it. */
export class BadInput extends Error {}

/** Checks input before any object is asked, so that what is wrong writes nothing anywhere. */
export function parseBooking(input: unknown): Booking {
  const { guest, seats } = fields(input);
  const name = typeof guest === "string" ? guest.trim() : "";
  if (name === "" || name.length > MAX_GUEST_LENGTH) {
    throw new BadInput(`"guest" must be a name of 1 to ${MAX_GUEST_LENGTH} characters.`);
  }
  if (typeof seats !== "number" || !Number.isInteger(seats) || seats < 1 || seats > MAX_SEATS) {
    throw new BadInput(`"seats" must be an integer from 1 to ${MAX_SEATS}.`);
  }
  return { slot: parseSlot(input), guest: name, seats };
}

export function parseSlot(input: unknown): string {
  const { slot } = fields(input);
  if (typeof slot !== "string" || !SLOTS.includes(slot)) throw new BadInput(`"slot" must be one of ${SLOTS.join(", ")}.`);
  return slot;
}

/** Tables are numbered from 1, and there are only so many: nobody can create objects by inventing numbers. */
export function parseTable(text: string, tableCount: number): number {
  const table = /^[1-9]\d{0,4}$/.test(text) ? Number(text) : 0;
  if (table < 1 || table > tableCount) throw new BadInput(`The table must be a number from 1 to ${tableCount}.`);
  return table;
}

export function fields(input: unknown): Record<string, unknown> {
  if (typeof input !== "object" || input === null || Array.isArray(input)) throw new BadInput("The body must be a JSON object.");
  return { ...input };
}
