/** Input from outside: checked before any object is called, so that bad input writes nothing anywhere. */

import type { Wish } from "./states.ts";

/** The times at which a table can be booked tonight. They limit what one table can store. */
export const SLOTS: readonly string[] = ["18:00", "18:30", "19:00", "19:30", "20:00", "20:30", "21:00", "21:30"];

const MAX_GUEST_LENGTH = 40;
const MAX_SEATS = 8;
/** A guest may ask for a table that does not exist, and is refused by it, but only up to this number. */
const MAX_TABLE = 9999;

/** Input that can't be served. Its message is for the person who sent it. */
export class BadInput extends Error {}

export function parseWish(bookingId: string, input: unknown): Wish {
  const { table, slot, guest, seats } = fields(input);
  const name = typeof guest === "string" ? guest.trim() : "";
  if (name === "" || name.length > MAX_GUEST_LENGTH) throw new BadInput(`"guest" must be a name of 1 to ${MAX_GUEST_LENGTH} characters.`);
  if (typeof slot !== "string" || !SLOTS.includes(slot)) throw new BadInput(`"slot" must be one of ${SLOTS.join(", ")}.`);
  return { bookingId, table: integer("table", table, MAX_TABLE), slot, guest: name, seats: integer("seats", seats, MAX_SEATS) };
}

/** The client chooses each booking's id, so that a request that got no answer can be repeated. */
export function parseBookingId(text: string): string {
  if (!/^[\w-]{8,64}$/.test(text)) throw new BadInput("A booking's id must be 8 to 64 letters, digits, hyphens or underscores.");
  return text;
}

/** Tables that can be changed are numbered from 1, up to a limit. */
export function parseTable(text: string, tableCount: number): number {
  return integer("table", Number(text), tableCount);
}

export function parseDown(input: unknown): boolean {
  const { down } = fields(input);
  if (typeof down !== "boolean") throw new BadInput('"down" must be true or false.');
  return down;
}

function integer(name: string, value: unknown, max: number): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= max) return value;
  throw new BadInput(`"${name}" must be an integer from 1 to ${max}.`);
}

function fields(input: unknown): Record<string, unknown> {
  if (typeof input !== "object" || input === null || Array.isArray(input)) throw new BadInput("The body must be a JSON object.");
  return { ...input };
}
