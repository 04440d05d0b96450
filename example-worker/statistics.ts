/** Statistics in D1: how often each slot was locked and freed. A database knows no inbox, and counts each event once all the same. */

import type { OutboxMessage } from "do-transactional-outbox";
import type { Destination } from "do-transactional-outbox/destinations";
import type { SlotStatistics, TableEvent } from "./states.ts";

type Counted = Extract<TableEvent, { type: "table_lock_placed" | "slot_unlocked" }>;

const SCHEMA = [
  `CREATE TABLE IF NOT EXISTS slots (number INTEGER, slot TEXT, locked INTEGER, cancelled INTEGER, passed INTEGER, PRIMARY KEY (number, slot))`,
  `CREATE TABLE IF NOT EXISTS positions (source TEXT PRIMARY KEY, sequence INTEGER)`,
];
/** An event counts if it is behind the last one of its table. */
const COUNT = `INSERT INTO slots (number, slot, locked, cancelled, passed)
  SELECT ?1, ?2, ?3, ?4, ?5 WHERE NOT EXISTS (SELECT 1 FROM positions WHERE source = ?6 AND sequence >= ?7)
  ON CONFLICT (number, slot) DO UPDATE
  SET locked = locked + excluded.locked, cancelled = cancelled + excluded.cancelled, passed = passed + excluded.passed`;
const REMEMBER = `INSERT INTO positions (source, sequence) VALUES (?1, ?2)
  ON CONFLICT (source) DO UPDATE SET sequence = excluded.sequence WHERE sequence < excluded.sequence`;

/**
 * Counts, and remembers the position of the last event that was counted: in one batch, which is one transaction. An event that comes again is not behind
 * that position. None can be skipped, since a table's events come in their order: they have one ordering key.
 */
export function toStatistics(db: D1Database): Destination<Counted> {
  let tables: Promise<unknown> | undefined;
  const send = async (messages: OutboxMessage<Counted>[]): Promise<void> => {
    tables ??= db.batch(SCHEMA.map((statement) => db.prepare(statement)));
    await tables.catch((error: unknown) => {
      tables = undefined;
      throw error;
    });
    const [count, remember] = [db.prepare(COUNT), db.prepare(REMEMBER)];
    await db.batch(
      messages.flatMap(({ msg, source, sequence }) => {
        const reason = msg.type === "slot_unlocked" ? msg.reason : "locked";
        const counts = ["locked", "cancelled", "passed"].map((each) => Number(each === reason));
        return [count.bind(msg.table, msg.slot, ...counts, source, sequence), remember.bind(source, sequence)];
      }),
    );
  };
  // The whole call succeeds or fails, so it may have several events of one table.
  return Object.assign(send, { ordering: "batch" as const });
}

export async function statisticsIn(db: D1Database): Promise<SlotStatistics[]> {
  const query = "SELECT number AS [table], slot, locked, cancelled, passed FROM slots ORDER BY number, slot";
  const results = await db.batch<SlotStatistics>([...SCHEMA, query].map((statement) => db.prepare(statement)));
  return results.at(-1)?.results ?? [];
}
