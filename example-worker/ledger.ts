/** The receiving side: what arrived through the queue, each message once. */

import { DurableObject } from "cloudflare:workers";
import type { ReservationEvent } from "./reservation.ts";

/** The newest arrivals that are kept. A message that comes again after so many others would count as a new one. */
const KEPT = 10_000;

/** What arrived. */
export interface LedgerState {
  /** Messages, each counted once. */
  readonly arrived: number;
  /** Copies of messages that had arrived before. */
  readonly duplicates: number;
  /** The newest messages, newest first. */
  readonly latest: ReservationEvent[];
  /** Whether the queue pretends to be down. */
  readonly down: boolean;
}

export class Ledger extends DurableObject<unknown> {
  constructor(ctx: DurableObjectState, env: unknown) {
    super(ctx, env);
    ctx.storage.sql.exec(`
      CREATE TABLE IF NOT EXISTS arrivals (position INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, event TEXT, copies INTEGER)
    `);
  }

  /** Delivery is at least once, so the receiver has the last word: an id that it knows changes nothing but a count. */
  record(events: ReservationEvent[]): void {
    for (const event of events) {
      this.ctx.storage.sql.exec(
        "INSERT INTO arrivals (id, event, copies) VALUES (?, ?, 1) ON CONFLICT (id) DO UPDATE SET copies = copies + 1",
        event.id,
        JSON.stringify(event),
      );
    }
    this.ctx.storage.sql.exec("DELETE FROM arrivals WHERE position <= (SELECT max(position) FROM arrivals) - ?", KEPT);
  }

  async state(limit: number): Promise<LedgerState> {
    const { sql } = this.ctx.storage;
    const counts = sql
      .exec<{ arrived: number; copies: number }>("SELECT count(*) AS arrived, coalesce(sum(copies), 0) AS copies FROM arrivals")
      .one();
    const rows = sql.exec<{ event: string }>("SELECT event FROM arrivals ORDER BY position DESC LIMIT ?", limit).toArray();
    const latest = rows.map(({ event }): ReservationEvent => JSON.parse(event));
    return { arrived: counts.arrived, duplicates: counts.copies - counts.arrived, latest, down: await this.isDown() };
  }

  async isDown(): Promise<boolean> {
    return (await this.ctx.storage.get("down")) === true;
  }

  async setDown(down: boolean): Promise<void> {
    await this.ctx.storage.put("down", down);
  }
}

/** There is one ledger for the whole restaurant. */
export function theLedger(env: { LEDGER: DurableObjectNamespace<Ledger> }): DurableObjectStub<Ledger> {
  return env.LEDGER.getByName("ledger");
}
