/** One table: an event-sourced aggregate. It locks each of its slots for one booking, frees it again, and tells everyone who follows it. */

import { DurableObject } from "cloudflare:workers";
import { type OutboxTransaction, withTransactionalOutbox } from "do-transactional-outbox";
import { aggregate } from "do-transactional-outbox/event-sourcing";
import { withFleetReports } from "do-transactional-outbox/fleet";
import { type OutboxEnvelope, withTransactionalInbox } from "do-transactional-outbox/inbox";
import { withInspector } from "do-transactional-outbox/inspector";
import { serveLog, withLogRelay } from "do-transactional-outbox/log";
import { healthOf } from "./health.ts";
import { FROM_TABLE, type FromTable, inOrder, type LockSlot, TABLE_EVENTS, TO_TABLE, type ToTable } from "./messages.ts";
import { FLEET, INBOX, OUTBOX } from "./settings.ts";
import type { Health, History, Refusal, TableEvent, TableState } from "./states.ts";
import * as decider from "./table-decider.ts";
import { type TableEnv, tableDestinations } from "./table-destinations.ts";

class TableBase extends DurableObject<TableEnv> {
  readonly #number = Number(this.ctx.id.name);
  /** Its state is what its events make of it. They have one ordering key, so that nobody sees a later one before an earlier one. */
  readonly #table = aggregate(this.env.OUTBOX_MANAGER, decider, {
    types: TABLE_EVENTS,
    messageOptions: () => inOrder("events"),
  });

  /** Who gets what it puts: called by the outbox, again and again until each has it. */
  destinations = tableDestinations(this.env);

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

  /** What has happened to it behind that position, a page at a time: for a projection that is built from the beginning. */
  async history(after: number): Promise<History> {
    const options = { from: after + 1, types: TABLE_EVENTS, limit: 1000, committed: true };
    const { messages, next, upToDate } = await this.env.OUTBOX_MANAGER.read(options);
    return { events: messages.map(({ msg }) => msg as TableEvent), through: next - 1, isWhole: upToDate };
  }
}

const WithOutbox = withTransactionalOutbox(TableBase, { ...OUTBOX, messages: FROM_TABLE, retain: "all" });
const WithBoth = withTransactionalInbox(WithOutbox, { ...INBOX, messages: TO_TABLE });

/** The table's log is its history: everything is kept. Those who follow it do not keep the table in memory. */
export class Table extends withFleetReports(withLogRelay(withInspector(WithBoth)), { ...FLEET, namespace: "TABLE" }) {}

/** @throws what is no refusal. */
function reasonOf(error: unknown): Refusal {
  if (error instanceof decider.TableNotFound) return "no such table";
  if (error instanceof decider.TableClosed) return "closed";
  if (error instanceof decider.SlotTaken) return "taken";
  throw error;
}
