/** One table: an event-sourced aggregate. It locks each of its slots for one booking, frees it again, and tells everyone who follows it. */

import { DurableObject } from "cloudflare:workers";
import { type OutboxDestinations, type OutboxManager, type OutboxTransaction, withTransactionalOutbox } from "do-transactional-outbox";
import { toDurableObject } from "do-transactional-outbox/destinations";
import { aggregate } from "do-transactional-outbox/event-sourcing";
import { type OutboxEnvelope, withTransactionalInbox } from "do-transactional-outbox/inbox";
import { withInspector } from "do-transactional-outbox/inspector";
import { serveLog, withLogRelay } from "do-transactional-outbox/log";
import { type AnnouncementsEnv, toAnnouncements } from "./announcements.ts";
import type { Booking } from "./booking.ts";
import { healthOf } from "./health.ts";
import { FROM_TABLE, type FromTable, inOrder, type LockSlot, TABLE_EVENTS, type TableEvent, TO_TABLE, type ToTable } from "./messages.ts";
import { PROJECTIONS, type Projections } from "./projections.ts";
import { INBOX, OUTBOX } from "./settings.ts";
import type { Health, History, Refusal, TableState } from "./states.ts";
import { toStatistics } from "./statistics.ts";
import * as decider from "./table-decider.ts";

interface TableEnv extends AnnouncementsEnv {
  OUTBOX_MANAGER: OutboxManager<FromTable>;
  BOOKING: DurableObjectNamespace<Booking>;
  TABLE: DurableObjectNamespace<Table>;
  PROJECTIONS: DurableObjectNamespace<Projections>;
  STATISTICS: D1Database;
  /** The tables that exist from the beginning: numbers 1 to this. */
  TABLE_COUNT: number;
  /** How long a slot stays locked, in seconds. */
  SLOT_SECONDS: number;
  /** An announcement that the queue has not taken in so many seconds is a dead letter. Default: a day. */
  ANNOUNCEMENT_SECONDS?: number;
}

class TableBase extends DurableObject<TableEnv> {
  readonly #number = Number(this.ctx.id.name);
  /** Its state is what its events make of it. They have one ordering key, so that nobody sees a later one before an earlier one. */
  readonly #table = aggregate<decider.TableNow, decider.TableCommand, TableEvent>(this.env.OUTBOX_MANAGER, decider, {
    types: TABLE_EVENTS,
    messageOptions: () => inOrder("events"),
  });

  /** Who gets what. Each has its own place in the table's log, so that one that is down holds up no other. */
  destinations = {
    booking: {
      send: toDurableObject<FromTable & { bookingId: string }>(this.env.BOOKING, ({ msg }) => msg.bookingId),
      types: ["slot_locked", "slot_refused", "slot_over"],
    },
    itself: { send: toDurableObject<FromTable>(this.env.TABLE, ({ msg }) => String(msg.table)), types: ["slot_passed"] },
    announcements: {
      send: toAnnouncements(this.env),
      types: ["slot_unlocked"],
      ordering: "batch",
      expiresInSeconds: this.env.ANNOUNCEMENT_SECONDS ?? 86_400,
    },
    projections: { send: toDurableObject(this.env.PROJECTIONS, () => PROJECTIONS), types: TABLE_EVENTS },
    // A dead letter holds up what comes after it: a number that is missing would never be right again.
    statistics: { send: toStatistics(this.env.STATISTICS), types: ["table_lock_placed", "slot_unlocked"], onDead: "hold" },
  } satisfies OutboxDestinations<FromTable>;

  constructor(ctx: DurableObjectState, env: TableEnv) {
    super(ctx, env);
    ctx.blockConcurrencyWhile(async () => {
      if (this.#number <= env.TABLE_COUNT && !(await this.#table.load(ctx.storage)).exists) await this.change("add");
    });
  }

  /** Called by the inbox, once per message: everything it does and the mark "seen" are one commit. */
  async receiveMessage({ msg }: OutboxEnvelope<ToTable>, txn: OutboxTransaction<FromTable>): Promise<void> {
    const { type, bookingId, table, slot } = msg;
    if (type === "lock_slot") return this.#lock(msg, txn);
    const reason = type === "slot_passed" ? "passed" : "cancelled";
    const { events } = await this.#table.handle({ type: "unlock", bookingId, table, slot, reason }, { txn });
    if (events.length > 0 && reason === "passed") await txn.send({ type: "slot_over", bookingId, table, slot }, inOrder(bookingId));
  }

  async #lock({ bookingId, table, slot }: LockSlot, txn: OutboxTransaction<FromTable>): Promise<void> {
    const subject = { bookingId, table, slot };
    const until = Date.now() + this.env.SLOT_SECONDS * 1000;
    try {
      const { events } = await this.#table.handle({ type: "lock", ...subject, until }, { txn });
      // Without the booking's ordering key: messages with the same key would wait behind this one until the slot is over.
      if (events.length > 0) await txn.send({ type: "slot_passed", ...subject }, { deliverAt: until });
      await txn.send({ type: "slot_locked", ...subject }, inOrder(bookingId));
    } catch (error) {
      // A refusal is an answer. Anything else is a failure: nothing is written, and the request comes again.
      await txn.send({ type: "slot_refused", ...subject, reason: reasonOf(error) }, inOrder(bookingId));
    }
  }

  /** Returns why that is impossible, or `null` when it is done. */
  async change(action: "add" | "open" | "close" | "remove"): Promise<string | null> {
    try {
      await this.#table.handle({ type: action, table: this.#number });
      return null;
    } catch (error) {
      if (error instanceof decider.TableRefusal) return error.message;
      throw error;
    }
  }

  /** The table's log. Everybody may read it, as everything here. */
  override fetch(request: Request): Promise<Response> {
    return serveLog(request, { source: this.env.OUTBOX_MANAGER, authorize: () => true });
  }

  async state(): Promise<TableState & Health> {
    const { state } = await this.#table.load(this.ctx.storage);
    const locks = Object.entries(state.locks).map(([slot, lock]) => ({ slot, ...lock }));
    return { table: this.#number, status: state.status, locks, ...(await healthOf(this.env.OUTBOX_MANAGER)) };
  }

  /** What has happened to it behind that position, a page at a time: for whoever makes a picture of it from the beginning. */
  async history(after: number): Promise<History> {
    const options = { from: after + 1, types: TABLE_EVENTS, limit: 1000, committed: true };
    const { messages, next, upToDate } = await this.env.OUTBOX_MANAGER.read(options);
    return { events: messages.map(({ msg }) => msg as TableEvent), through: next - 1, isWhole: upToDate };
  }
}

const WithOutbox = withTransactionalOutbox(TableBase, { ...OUTBOX, messages: FROM_TABLE, retain: "all" });
const WithBoth = withTransactionalInbox(WithOutbox, { ...INBOX, messages: TO_TABLE });

/** The table's log is its history: everything is kept. Those who follow it do not keep the table in memory. */
export class Table extends withLogRelay(withInspector(WithBoth)) {}

/** @throws what is no refusal. */
function reasonOf(error: unknown): Refusal {
  if (error instanceof decider.TableNotFound) return "no such table";
  if (error instanceof decider.TableClosed) return "closed";
  if (error instanceof decider.SlotTaken) return "taken";
  throw error;
}
