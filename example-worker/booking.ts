/** One booking: asks its table for a slot, is confirmed or refused, and may be cancelled. */

import { DurableObject } from "cloudflare:workers";
import { type OutboxManager, type OutboxTransaction, withTransactionalOutbox } from "do-transactional-outbox";
import { byType, toDurableObject } from "do-transactional-outbox/destinations";
import { withFleetReports } from "do-transactional-outbox/fleet";
import { type OutboxEnvelope, withTransactionalInbox } from "do-transactional-outbox/inbox";
import { withInspector } from "do-transactional-outbox/inspector";
import { type AnnouncementsEnv, toAnnouncements } from "./announcements.ts";
import { healthOf } from "./health.ts";
import { LEDGER } from "./ledger.ts";
import { FROM_BOOKING, type FromBooking, inOrder, TO_BOOKING, type ToBooking, unasked } from "./messages.ts";
import { FLEET, INBOX, OUTBOX } from "./settings.ts";
import type { BookingState, Health, Subject, Wish } from "./states.ts";
import type { Table } from "./table.ts";

interface BookingEnv extends AnnouncementsEnv {
  OUTBOX_MANAGER: OutboxManager<FromBooking>;
  TABLE: DurableObjectNamespace<Table>;
}

class BookingBase extends DurableObject<BookingEnv> {
  readonly #toTable = toDurableObject(this.env.TABLE, ({ msg }) => String(msg.table));
  readonly #toLedger = toDurableObject(this.env.LEDGER, () => LEDGER);
  readonly #announce = toAnnouncements(this.env);

  /** Called by the outbox: each message takes the route of its type, and is sent again if that fails. */
  sendMessages = byType<FromBooking>({
    lock_slot: this.#toTable,
    unlock_slot: this.#toTable,
    booking_initiated: this.#toLedger,
    booking_confirmed: this.#announce,
    booking_refused: this.#announce,
    booking_cancelled: this.#announce,
  });

  /** A request that got no answer can be repeated: a booking that exists answers with its current state. */
  async initiate(wish: Wish): Promise<BookingState> {
    return this.env.OUTBOX_MANAGER.transaction(async (txn) => {
      const known = await txn.get<BookingState>("booking");
      if (known) return known;
      const { bookingId } = wish;
      // One commit: the booking never exists without the request to its table, and the request never without the booking.
      const booking = await become(txn, { ...wish, state: "initiated" });
      await txn.send({ type: "booking_initiated", ...subjectOf(wish) }, unasked(bookingId));
      await txn.send({ type: "lock_slot", ...subjectOf(wish) }, { ...unasked(bookingId), ...inOrder(bookingId) });
      return booking;
    });
  }

  /** Returns the booking as it is afterwards: a refused one stays refused. `null` if there is none. */
  async cancel(): Promise<BookingState | null> {
    return this.env.OUTBOX_MANAGER.transaction(async (txn) => {
      const booking = await txn.get<BookingState>("booking");
      if (booking?.state !== "initiated" && booking?.state !== "confirmed") return booking ?? null;
      const { bookingId } = booking;
      await txn.send({ type: "booking_cancelled", ...subjectOf(booking) }, unasked(bookingId));
      // The table may not have answered yet, but that does not matter: this arrives after `lock_slot`, and finds the slot locked.
      await txn.send({ type: "unlock_slot", ...subjectOf(booking) }, { ...unasked(bookingId), ...inOrder(bookingId) });
      return become(txn, { ...booking, state: "cancelled" });
    });
  }

  /** Called by the inbox, once per message from the table: everything it does and the mark "seen" are one commit. */
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
          // Cancelled in the meantime: the slot is no longer wanted.
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
}

const WithOutbox = withTransactionalOutbox(BookingBase, { ...OUTBOX, messages: FROM_BOOKING });
const WithBoth = withTransactionalInbox(WithOutbox, { ...INBOX, messages: TO_BOOKING });

export class Booking extends withFleetReports(withInspector(WithBoth), { ...FLEET, namespace: "BOOKING" }) {}

async function become(txn: OutboxTransaction<FromBooking>, booking: BookingState): Promise<BookingState> {
  await txn.put("booking", booking);
  return booking;
}

function subjectOf({ bookingId, table, slot }: Subject): Subject {
  return { bookingId, table, slot };
}
