/** The messages between the objects: every message of the choreography, with its sender and receiver, as schemas that both of them check it with. */

import type { MessageSchemas, MessagesOf, OutboxPutOptions } from "do-transactional-outbox";
import { z } from "zod";
import type { TableEvent } from "./states.ts";

/** Every message says which booking it is about, and where. */
const subject = z.object({ bookingId: z.string(), table: z.number().int(), slot: z.string() });
const refused = subject.extend({ reason: z.enum(["taken", "closed", "no such table"]) });
/** Why a table is free again. */
const unlocked = subject.extend({ reason: z.enum(["cancelled", "passed"]) });

/** To whom it may concern, through the queue. */
const BOOKING_ANNOUNCEMENTS = { booking_confirmed: subject, booking_refused: refused, booking_cancelled: subject } satisfies MessageSchemas;
const TABLE_ANNOUNCEMENTS = {
  // The first version had no reason: tables were unlocked only when a booking was cancelled. What is stored of it arrives with that.
  slot_unlocked: { schema: unlocked, version: 2, upcast: { 1: (old) => ({ ...old, reason: "cancelled" }) } },
} satisfies MessageSchemas;

/** What happens to a table: its events, of which its state is made. */
const table = z.object({ table: z.number().int() });
export const PROJECTED = {
  table_added: table,
  table_removed: table,
  table_opened: table,
  table_closed: table,
  /** `until`: when the slot is over, in milliseconds since the Unix epoch. */
  table_lock_placed: subject.extend({ until: z.number() }),
  ...TABLE_ANNOUNCEMENTS,
} satisfies MessageSchemas;
export const TABLE_EVENTS = Object.keys(PROJECTED) as TableEvent["type"][];

/** From a booking to its table. */
const REQUESTS = { lock_slot: subject, unlock_slot: subject } satisfies MessageSchemas;
/** From a table to a booking. */
const ANSWERS = { slot_locked: subject, slot_refused: refused, slot_over: subject } satisfies MessageSchemas;
/** From a table to itself: sent when a slot is locked, delivered when it is over. */
const REMINDERS = { slot_passed: subject } satisfies MessageSchemas;
/** From a booking to the ledger, directly: the ledger records bookings, so that they can be listed. */
const RECORDS = { booking_initiated: subject } satisfies MessageSchemas;

/** The messages that each object sends. */
export const FROM_BOOKING = { ...REQUESTS, ...RECORDS, ...BOOKING_ANNOUNCEMENTS };
export const FROM_TABLE = { ...REMINDERS, ...ANSWERS, ...PROJECTED };
export type FromBooking = MessagesOf<typeof FROM_BOOKING>;
export type FromTable = MessagesOf<typeof FROM_TABLE>;

/** The messages that each object receives. */
export const TO_TABLE = { ...REQUESTS, ...REMINDERS };
export const TO_BOOKING = ANSWERS;
export const TO_LEDGER = { ...RECORDS, ...BOOKING_ANNOUNCEMENTS, ...TABLE_ANNOUNCEMENTS };
export type ToTable = MessagesOf<typeof TO_TABLE>;
export type ToBooking = MessagesOf<typeof TO_BOOKING>;
export type ToLedger = MessagesOf<typeof TO_LEDGER>;

export type Announcement = MessagesOf<typeof BOOKING_ANNOUNCEMENTS & typeof TABLE_ANNOUNCEMENTS>;
export type LockSlot = Extract<ToTable, { type: "lock_slot" }>;

/**
 * A message that a booking starts begins a correlation under the booking's id. Answers belong to the same correlation automatically: the inbox passes the
 * header on to every message that is sent while one is processed.
 */
export function unasked(bookingId: string): OutboxPutOptions & { headers: Record<string, string> } {
  return { headers: { "correlation-id": bookingId } };
}

/** Messages between a booking and its table arrive in the order in which they were sent, and so do a table's events. */
export function inOrder(key: string): OutboxPutOptions & { key: string } {
  return { key };
}
