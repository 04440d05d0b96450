/** One table: locks each of its slots for one booking, and frees it again. */

import { DurableObject } from "cloudflare:workers";
import { byType, toDurableObject } from "../src/destinations/index.ts";
import { type OutboxEnvelope, withTransactionalInbox } from "../src/inbox/index.ts";
import { type OutboxManager, type OutboxTransaction, withTransactionalOutbox } from "../src/index.ts";
import { type AnnouncementsEnv, toAnnouncements } from "./announcements.ts";
import type { Booking } from "./booking.ts";
import { healthOf } from "./health.ts";
import { FROM_TABLE, type FromTable, inOrder, type LockSlot, type Release, TO_TABLE, type ToTable } from "./messages.ts";
import { INBOX, OUTBOX } from "./settings.ts";
import type { Health, Lock, Refusal, TableState, TableStatus } from "./states.ts";

interface TableEnv extends AnnouncementsEnv {
  OUTBOX_MANAGER: OutboxManager<FromTable>;
  BOOKING: DurableObjectNamespace<Booking>;
  TABLE: DurableObjectNamespace<Table>;
  /** The tables that exist from the beginning: numbers 1 to this. */
  TABLE_COUNT: number;
  /** How long a slot stays locked, in seconds. */
  SLOT_SECONDS: number;
}

/** The state of a table after a change. */
const AFTER = { add: "open", open: "open", close: "closed", remove: "removed" } as const;

class TableBase extends DurableObject<TableEnv> {
  readonly #toBooking = toDurableObject(this.env.BOOKING, ({ msg }) => msg.bookingId);
  readonly #toItself = toDurableObject(this.env.TABLE, ({ msg }) => String(msg.table));

  /** Called by the outbox: each message takes the route of its type, and is sent again if that fails. */
  sendMessages = byType<FromTable>({
    slot_locked: this.#toBooking,
    slot_refused: this.#toBooking,
    slot_over: this.#toBooking,
    slot_passed: this.#toItself,
    slot_unlocked: toAnnouncements(this.env),
  });

  /** Called by the inbox, once per message: everything it does and the mark "seen" are one commit. */
  async receiveMessage({ msg }: OutboxEnvelope<ToTable>, txn: OutboxTransaction<FromTable>): Promise<void> {
    switch (msg.type) {
      case "lock_slot":
        return this.#lock(msg, txn);
      case "unlock_slot":
        return this.#unlock(msg, txn, "cancelled");
      case "slot_passed":
        return this.#unlock(msg, txn, "passed");
    }
  }

  async #lock({ bookingId, table, slot }: LockSlot, txn: OutboxTransaction<FromTable>): Promise<void> {
    const subject = { bookingId, table, slot };
    const lock = await txn.get<Lock>(`lock:${slot}`);
    if (lock?.bookingId !== bookingId) {
      const reason = refusal(await this.#status(txn), lock);
      if (reason) {
        await txn.send({ type: "slot_refused", ...subject, reason }, inOrder(bookingId));
        return;
      }
      const until = Date.now() + this.env.SLOT_SECONDS * 1000;
      await txn.put<Lock>(`lock:${slot}`, { bookingId, until });
      // Without the booking's ordering key: messages with the same key would wait behind this one until the slot is over.
      await txn.send({ type: "slot_passed", ...subject }, { deliverAt: until });
    }
    await txn.send({ type: "slot_locked", ...subject }, inOrder(bookingId));
  }

  /** Does nothing if the slot is not locked for this booking: it has already been unlocked, or was never locked. */
  async #unlock({ bookingId, table, slot }: ToTable, txn: OutboxTransaction<FromTable>, reason: Release): Promise<void> {
    const lock = await txn.get<Lock>(`lock:${slot}`);
    if (lock?.bookingId !== bookingId) return;
    await txn.delete(`lock:${slot}`);
    await txn.send({ type: "slot_unlocked", bookingId, table, slot, reason });
    if (reason === "passed") await txn.send({ type: "slot_over", bookingId, table, slot }, inOrder(bookingId));
  }

  async #status(storage: Pick<DurableObjectTransaction, "get">): Promise<TableStatus> {
    const status = await storage.get<TableStatus>("status");
    return status ?? (Number(this.ctx.id.name) <= this.env.TABLE_COUNT ? "open" : "removed");
  }

  /** Returns why that is impossible, or `null` when it is done. A closed table keeps its locks; a locked table can't be removed. */
  async change(action: "add" | "open" | "close" | "remove"): Promise<string | null> {
    const { name } = this.ctx.id;
    const status = await this.#status(this.ctx.storage);
    const [first] = await this.#locks();
    if (action === "add" && status !== "removed") return `There is already a table ${name}.`;
    if (action !== "add" && status === "removed") return `There is no table ${name}.`;
    if (action === "remove" && first) return `Table ${name} is locked at ${first.slot}.`;
    // No slot has been locked since: while an object reads its storage, it handles no other call.
    await this.ctx.storage.put("status", AFTER[action]);
    return null;
  }

  async state(): Promise<TableState & Health> {
    const [status, locks, health] = await Promise.all([this.#status(this.ctx.storage), this.#locks(), healthOf(this.env.OUTBOX_MANAGER)]);
    return { table: Number(this.ctx.id.name), status, locks, ...health };
  }

  async #locks(): Promise<TableState["locks"]> {
    const locks = await this.ctx.storage.list<Lock>({ prefix: "lock:" });
    return Array.from(locks, ([key, lock]) => ({ slot: key.slice("lock:".length), ...lock }));
  }
}

export class Table extends withTransactionalInbox(withTransactionalOutbox(TableBase, { ...OUTBOX, messages: FROM_TABLE }), {
  ...INBOX,
  messages: TO_TABLE,
}) {}

function refusal(status: TableStatus, lock: Lock | undefined): Refusal | null {
  if (status === "removed") return "no such table";
  if (status === "closed") return "closed";
  return lock ? "taken" : null;
}
