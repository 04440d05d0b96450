/** The ledger: lists the bookings, and collects the announcements, each message once. */

import { DurableObject } from "cloudflare:workers";
import { type InboxOutcome, type OutboxEnvelope, withTransactionalInbox } from "do-transactional-outbox/inbox";
import { type Announcement, TO_LEDGER, type ToLedger } from "./messages.ts";
import { INBOX } from "./settings.ts";

/** There is one for the whole restaurant. */
export const LEDGER = "ledger";

/** How many announcements are kept. */
const KEPT = 1000;

/** One announcement as it arrived. */
export type Arrival = Announcement & { readonly id: string; readonly correlationId: string | null };

export interface LedgerState {
  /** The newest announcements, newest first. */
  readonly latest: Arrival[];
  /** The number of all announcements that ever arrived, each counted once. */
  readonly arrived: number;
  /** Copies of messages that had already arrived: they changed nothing. */
  readonly duplicates: number;
  /** Whether the queue pretends to be down. */
  readonly down: boolean;
}

class Book extends DurableObject<unknown> {
  constructor(ctx: DurableObjectState, env: unknown) {
    super(ctx, env);
    ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS bookings (position INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT)");
    ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS announcements (position INTEGER PRIMARY KEY AUTOINCREMENT, arrival TEXT)");
  }

  /** Called by the inbox, once per message, in a transaction: there is no need to check for duplicates. */
  receiveMessage({ id, msg, headers }: OutboxEnvelope<ToLedger>): void {
    const { sql } = this.ctx.storage;
    if (msg.type === "booking_initiated") {
      sql.exec("INSERT INTO bookings (id) VALUES (?)", msg.bookingId);
      return;
    }
    const arrival: Arrival = { id, ...msg, correlationId: headers?.["correlation-id"] ?? null };
    sql.exec("INSERT INTO announcements (arrival) VALUES (?)", JSON.stringify(arrival));
    sql.exec("DELETE FROM announcements WHERE position <= (SELECT max(position) FROM announcements) - ?", KEPT);
  }

  /** The ids of the newest bookings, newest first. */
  bookings(limit: number): string[] {
    const rows = this.ctx.storage.sql.exec<{ id: string }>("SELECT id FROM bookings ORDER BY position DESC LIMIT ?", limit);
    return rows.toArray().map(({ id }) => id);
  }

  state(limit: number): LedgerState {
    const { sql, kv } = this.ctx.storage;
    const rows = sql.exec<{ arrival: string }>("SELECT arrival FROM announcements ORDER BY position DESC LIMIT ?", limit).toArray();
    const { arrived } = sql.exec<{ arrived: number }>("SELECT coalesce(max(position), 0) AS arrived FROM announcements").one();
    const duplicates = kv.get<number>("duplicates") ?? 0;
    return { latest: rows.map(({ arrival }) => JSON.parse(arrival)), arrived, duplicates, down: this.isDown() };
  }

  isDown(): boolean {
    return this.ctx.storage.kv.get("down") === true;
  }

  setDown(down: boolean): void {
    this.ctx.storage.kv.put("down", down);
  }
}

/** With an inbox, and no outbox: the ledger sends nothing. */
export class Ledger extends withTransactionalInbox(Book, { ...INBOX, messages: TO_LEDGER }) {
  /** Counts the duplicates that the inbox has recognised, for the page. */
  override async receiveMessages(envelopes: OutboxEnvelope[]): Promise<InboxOutcome[]> {
    const outcomes = await super.receiveMessages(envelopes);
    const copies = outcomes.filter(({ status }) => status === "duplicate").length;
    const { kv } = this.ctx.storage;
    if (copies > 0) kv.put("duplicates", (kv.get<number>("duplicates") ?? 0) + copies);
    return outcomes;
  }
}

export function theLedger(env: { LEDGER: DurableObjectNamespace<Ledger> }): DurableObjectStub<Ledger> {
  return env.LEDGER.getByName(LEDGER);
}
