/** The messages between the objects: every message of the choreography, with its sender and receiver. */

import type { OutboxPutOptions } from "../src/index.ts";
import type { Refusal, Subject } from "./states.ts";

type Message<Type extends string, More = unknown> = { readonly type: Type } & Subject & More;

/** Why a table is free again. */
export type Release = "cancelled" | "passed";

/** From a booking to its table. */
export type LockSlot = Message<"lock_slot">;
export type UnlockSlot = Message<"unlock_slot">;
/** From a table to itself: sent when a slot is locked, delivered when it is over. */
export type SlotPassed = Message<"slot_passed">;
/** From a table to a booking. */
export type SlotLocked = Message<"slot_locked">;
export type SlotRefused = Message<"slot_refused", { readonly reason: Refusal }>;
export type SlotOver = Message<"slot_over">;
/** From a booking to the ledger, directly: the ledger records bookings, so that they can be listed. */
export type BookingInitiated = Message<"booking_initiated">;

/** To whom it may concern, through the queue. */
export type Announcement =
  | Message<"booking_confirmed">
  | Message<"booking_refused", { readonly reason: Refusal }>
  | Message<"booking_cancelled">
  | Message<"slot_unlocked", { readonly reason: Release }>;

/** The messages that each object receives. */
export type ToTable = LockSlot | UnlockSlot | SlotPassed;
export type ToBooking = SlotLocked | SlotRefused | SlotOver;
export type ToLedger = BookingInitiated | Announcement;

/** The messages that each object sends. */
export type FromBooking = LockSlot | UnlockSlot | BookingInitiated | Extract<Announcement, { type: `booking_${string}` }>;
export type FromTable = SlotPassed | ToBooking | Extract<Announcement, { type: "slot_unlocked" }>;

/**
 * A message that a booking starts begins a correlation under the booking's id. Answers belong to the same correlation automatically: the inbox passes the
 * header on to every message that is sent while one is processed.
 */
export function unasked(bookingId: string): OutboxPutOptions & { headers: Record<string, string> } {
  return { headers: { "correlation-id": bookingId } };
}

/** Messages between a booking and its table arrive in the order in which they were sent. */
export function inOrder(bookingId: string): OutboxPutOptions & { key: string } {
  return { key: bookingId };
}
