/** What billed operations cost, by Cloudflare's published prices. */
import type { EntrantName } from "./contestants.ts";
import type { Operations } from "./results.ts";

export interface Price {
  /** Dollars for a million of `unit`, on the Workers Paid plan, beyond what it includes. */
  readonly dollarsPerMillion: number;
  readonly unit: string;
}

/**
 * On the Workers Paid plan. Read on 2026-11-21, from stored copies of
 *
 * - https://developers.cloudflare.com/durable-objects/platform/pricing/ for Durable Objects
 * - https://developers.cloudflare.com/d1/platform/pricing/ for how rows are counted, which is the same
 * - https://developers.cloudflare.com/queues/platform/pricing/ for Queues
 */
export const PRICES = {
  /** Of SQLite-backed objects. A deleted row, a written index row and a `setAlarm()` each count as one row written. */
  rowsWritten: { dollarsPerMillion: 1, unit: "rows written" },
  rowsRead: { dollarsPerMillion: 0.001, unit: "rows read" },
  /** HTTP requests, RPC sessions, and runs of the alarm. */
  requests: { dollarsPerMillion: 0.15, unit: "requests to an object" },
  /** KV-backed objects: each 4 KB begun of what is written. A `setAlarm()` counts as one. */
  kvWrites: { dollarsPerMillion: 1, unit: "write request units of 4 KB" },
  /** Each 4 KB begun of what is read, or looked at by a `list()`; a list that finds nothing counts as one. */
  kvReads: { dollarsPerMillion: 0.2, unit: "read request units of 4 KB" },
  /** Of whatever size. */
  kvDeletes: { dollarsPerMillion: 1, unit: "delete requests" },
  /** Each 64 KB begun of a message that is written, read or deleted: a small message that is delivered at the first attempt is three. */
  queueOperations: { dollarsPerMillion: 0.4, unit: "queue operations of 64 KB" },
} as const satisfies Record<string, Price>;

/** What a million messages cost, in dollars. */
export interface DollarRow {
  readonly entrant: EntrantName;
  readonly burst: number;
  /** Alarms set included. */
  readonly rowsWritten: number;
  readonly rowsRead: number;
  readonly alarmRuns: number;
  readonly sum: number;
}

/**
 * On SQLite-backed objects, the row of the state included.
 *
 * Left out are what the plan includes for free, duration (it depends on what else keeps the object in memory), the request that brought the
 * put, and what the destination costs.
 */
export function dollars(operations: readonly Operations[]): DollarRow[] {
  return operations.map((each) => {
    // For each message there are so many operations: for a million messages, so many millions.
    const rowsWritten = (each.rowsWritten + each.alarmsSet) * PRICES.rowsWritten.dollarsPerMillion;
    const rowsRead = each.rowsRead * PRICES.rowsRead.dollarsPerMillion;
    const alarmRuns = each.alarmRuns * PRICES.requests.dollarsPerMillion;
    return { entrant: each.entrant, burst: each.burst, rowsWritten, rowsRead, alarmRuns, sum: rowsWritten + rowsRead + alarmRuns };
  });
}
