/** One booking: asks its table for a slot, is confirmed or refused, and may be cancelled. */

import { DurableObject } from "cloudflare:workers";
import { byType, type InboxNamespace, toDurableObject } from "../src/destinations/index.ts";
import { type OutboxEnvelope, withTransactionalInbox } from "../src/inbox/index.ts";
import { type OutboxManager, type OutboxTransaction, withTransactionalOutbox } from "../src/index.ts";
import { type AnnouncementsEnv, toAnnouncements } from "./announcements.ts";
import { healthOf } from "./health.ts";
import { LEDGER } from "./ledger.ts";
import { type FromBooking, inOrder, type ToBooking, unasked } from "./messages.ts";
import { INBOX, OUTBOX } from "./settings.ts";
import type { BookingState, Health, Subject, Wish } from "./states.ts";

interface BookingEnv extends AnnouncementsEnv {
  OUTBOX_MANAGER: OutboxManager<FromBooking>;
  TABLE: InboxNamespace;
}

export const Booking = withTransactionalInbox(
  withTransactionalOutbox(
    class Booking extends DurableObject<BookingEnv> {
      readonly #toTable = toDurableObject<FromBooking>(this.env.TABLE, ({ msg }) => String(msg.table));
      readonly #toLedger = toDurableObject<FromBooking>(this.env.LEDGER, () => LEDGER);
      readonly #announce = toAnnouncements(this.env);

      /** Called by the outbox: each message goes its way, and comes again when that way is blocked. */
      sendMessages = byType<FromBooking>({
        lock_slot: this.#toTable,
        unlock_slot: this.#toTable,
        booking_initiated: this.#toLedger,
        booking_confirmed: this.#announce,
        booking_refused: this.#announce,
        booking_cancelled: this.#announce,
      });

      /** Asked again, it answers with what it has become meanwhile: a request that had no answer can be repeated. */
      async initiate(wish: Wish): Promise<BookingState> {
        return this.env.OUTBOX_MANAGER.transaction(async (txn) => {
          const known = await txn.get<BookingState>("booking");
          if (known) return known;
          const { bookingId } = wish;
          // One commit. There is no moment at which the booking exists and nobody will ask the table, nor the other way round.
          const booking = await become(txn, { ...wish, state: "initiated" });
          await txn.send({ type: "booking_initiated", ...subjectOf(wish) }, unasked(bookingId));
          await txn.send({ type: "lock_slot", ...subjectOf(wish) }, { ...unasked(bookingId), ...inOrder(bookingId) });
          return booking;
        });
      }

      /** Gives what the booking is afterwards: a refused one stays refused. `null` when there is none. */
      async cancel(): Promise<BookingState | null> {
        return this.env.OUTBOX_MANAGER.transaction(async (txn) => {
          const booking = await txn.get<BookingState>("booking");
          if (booking?.state !== "initiated" && booking?.state !== "confirmed") return booking ?? null;
          const { bookingId } = booking;
          await txn.send({ type: "booking_cancelled", ...subjectOf(booking) }, unasked(bookingId));
          // The table may not have answered yet, and that is no matter: behind `lock_slot`, this finds the slot locked.
          await txn.send({ type: "unlock_slot", ...subjectOf(booking) }, { ...unasked(bookingId), ...inOrder(bookingId) });
          return become(txn, { ...booking, state: "cancelled" });
        });
      }

      /** Called by the inbox, once for each message of the table: all that it does is one commit with the mark "seen". */
      async receiveMessage({ msg }: OutboxEnvelope<ToBooking>, txn: OutboxTransaction<FromBooking>): Promise<void> {
        const booking = await txn.get<BookingState>("booking");
        if (!booking) throw new Error(`There is no booking ${msg.bookingId}.`);
        const { state } = booking;
        const subject = subjectOf(booking);
        switch (msg.type) {
          case "slot_locked":
            if (state === "initiated") {
              await become(txn, { ...booking, state: "confirmed" });
              await txn.send({ type: "booking_confirmed", ...subject });
            } else if (state !== "confirmed") {
              // Cancelled meanwhile: nobody wants the slot any more.
              await txn.send({ type: "unlock_slot", ...subject }, inOrder(booking.bookingId));
            }
            break;
          case "slot_refused":
            if (state !== "initiated") break;
            await become(txn, { ...booking, state: "refused", reason: msg.reason });
            await txn.send({ type: "booking_refused", ...subject, reason: msg.reason });
            break;
          case "slot_over":
            if (state === "initiated" || state === "confirmed") await become(txn, { ...booking, state: "over" });
        }
      }

      async state(): Promise<(BookingState & Health) | null> {
        const booking = await this.ctx.storage.get<BookingState>("booking");
        return booking ? { ...booking, ...(await healthOf(this.env.OUTBOX_MANAGER)) } : null;
      }
    },
    OUTBOX,
  ),
  INBOX,
);

export type Booking = InstanceType<typeof Booking>;

async function become(txn: OutboxTransaction<FromBooking>, booking: BookingState): Promise<BookingState> {
  await txn.put("booking", booking);
  return booking;
}

function subjectOf({ bookingId, table, slot }: Subject): Subject {
  return { bookingId, table, slot };
}
