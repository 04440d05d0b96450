/** The read side: a catalogue of the tables and a calendar of the bookings, made of the tables' events, each of which counts once. */

import { DurableObject } from "cloudflare:workers";
import { type OutboxEnvelope, withTransactionalInbox } from "do-transactional-outbox/inbox";
import { PROJECTED } from "./messages.ts";
import { INBOX } from "./settings.ts";
import type { Projected, TableEvent, TableStatus } from "./states.ts";
import type { Table } from "./table.ts";
import { evolve, initialState, type TableNow } from "./table-decider.ts";

/** There is one for the whole restaurant. */
export const PROJECTIONS = "projections";

interface ProjectionsEnv {
  TABLE: DurableObjectNamespace<Table>;
  TABLE_COUNT: number;
}

/** The status of a table after an event that changes it. */
const STATUS = { table_added: "open", table_opened: "open", table_closed: "closed", table_removed: "removed" } as const;

class ProjectionsBase extends DurableObject<ProjectionsEnv> {
  readonly #sql = this.ctx.storage.sql;

  constructor(ctx: DurableObjectState, env: ProjectionsEnv) {
    super(ctx, env);
    // `through`: the table's last message that these rows contain.
    this.#sql.exec("CREATE TABLE IF NOT EXISTS catalogue (number INTEGER PRIMARY KEY, status TEXT, through INTEGER NOT NULL)");
    this.#sql.exec("CREATE TABLE IF NOT EXISTS calendar (number INTEGER, slot TEXT, booking TEXT, PRIMARY KEY (number, slot))");
  }

  /** Called by the inbox, once per event: its effect and the mark "seen" are one commit. */
  receiveMessage({ msg, sequence = 0 }: OutboxEnvelope<TableEvent>): void {
    const { table } = msg;
    // What a rebuild has read already.
    if (sequence <= this.#through(table)) return;
    this.#sql.exec(
      `INSERT INTO catalogue (number, status, through) VALUES (?, ?, ?)
       ON CONFLICT (number) DO UPDATE SET status = coalesce(excluded.status, status), through = excluded.through`,
      ...[table, msg.type in STATUS ? STATUS[msg.type as keyof typeof STATUS] : null, sequence],
    );
    if (msg.type === "table_lock_placed") this.#lock(table, msg.slot, msg.bookingId);
    if (msg.type === "slot_unlocked") this.#sql.exec("DELETE FROM calendar WHERE number = ? AND slot = ?", table, msg.slot);
  }

  #lock(table: number, slot: string, bookingId: string): void {
    this.#sql.exec("INSERT OR REPLACE INTO calendar (number, slot, booking) VALUES (?, ?, ?)", table, slot, bookingId);
  }

  /** The table's last message that is taken into account. */
  #through(table: number): number {
    return this.#sql.exec<{ through: number }>("SELECT through FROM catalogue WHERE number = ?", table).toArray()[0]?.through ?? 0;
  }

  all(): Projected {
    const catalogue = this.#sql.exec<{ table: number; status: TableStatus }>(
      "SELECT number AS [table], status FROM catalogue WHERE status IS NOT NULL ORDER BY number",
    );
    const calendar = this.#sql.exec<{ table: number; slot: string; bookingId: string }>(
      "SELECT number AS [table], slot, booking AS bookingId FROM calendar ORDER BY number, slot",
    );
    return { catalogue: catalogue.toArray(), calendar: calendar.toArray() };
  }

  /** Forgets everything. From then on only new events are in it, until it is rebuilt. */
  drop(): void {
    this.#sql.exec("DELETE FROM catalogue");
    this.#sql.exec("DELETE FROM calendar");
  }

  /** Makes it anew of the tables' logs, one table after the other, while guests book and cancel. If it is cut off, call it again. */
  async rebuild(): Promise<void> {
    for (let table = 1; table <= this.env.TABLE_COUNT; table++) await this.#rebuild(table);
  }

  async #rebuild(table: number): Promise<void> {
    let now = initialState();
    for (let through = 0, isDone = false; !isDone; ) {
      const page = await this.env.TABLE.getByName(String(table)).history(through);
      now = page.events.reduce(evolve, now);
      ({ through } = page);
      isDone = page.isWhole && this.ctx.storage.transactionSync(() => this.#replace(table, now, through));
    }
  }

  /** Returns false if the inbox has been faster: then there is more to read. What it brings later is behind what was read. */
  #replace(table: number, { status, locks }: TableNow, through: number): boolean {
    if (this.#through(table) > through) return false;
    this.#sql.exec("INSERT OR REPLACE INTO catalogue (number, status, through) VALUES (?, ?, ?)", table, status, through);
    this.#sql.exec("DELETE FROM calendar WHERE number = ?", table);
    for (const [slot, { bookingId }] of Object.entries(locks)) this.#lock(table, slot, bookingId);
    return true;
  }
}

export class Projections extends withTransactionalInbox(ProjectionsBase, { ...INBOX, messages: PROJECTED }) {}

export function theProjections(env: { PROJECTIONS: DurableObjectNamespace<Projections> }): DurableObjectStub<Projections> {
  return env.PROJECTIONS.getByName(PROJECTIONS);
}
