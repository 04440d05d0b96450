/** Who follows a table: each destination has its own place in the table's log, so that one that is down holds up no other. */

import type { OutboxDestinations, OutboxManager } from "do-transactional-outbox";
import { toDurableObject } from "do-transactional-outbox/destinations";
import { type AnnouncementsEnv, toAnnouncements } from "./announcements.ts";
import type { Booking } from "./booking.ts";
import { type FromTable, TABLE_EVENTS } from "./messages.ts";
import { PROJECTIONS, type Projections } from "./projections.ts";
import { toStatistics } from "./statistics.ts";
import type { Table } from "./table.ts";

export interface TableEnv extends AnnouncementsEnv {
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

export function tableDestinations(env: TableEnv): OutboxDestinations<FromTable> {
  return {
    booking: {
      send: toDurableObject<FromTable & { bookingId: string }>(env.BOOKING, ({ msg }) => msg.bookingId),
      types: ["slot_locked", "slot_refused", "slot_over"],
    },
    itself: { send: toDurableObject<FromTable>(env.TABLE, ({ msg }) => String(msg.table)), types: ["slot_passed"] },
    announcements: {
      send: toAnnouncements(env),
      types: ["slot_unlocked"],
      ordering: "batch",
      expiresInSeconds: env.ANNOUNCEMENT_SECONDS ?? 86_400,
    },
    // Of those that make something of all events a dead letter holds up the later ones: what is missing would never be right again.
    projections: { send: toDurableObject(env.PROJECTIONS, () => PROJECTIONS), types: TABLE_EVENTS, onDead: "hold" },
    statistics: { send: toStatistics(env.STATISTICS), types: ["table_lock_placed", "slot_unlocked"], onDead: "hold" },
  } satisfies OutboxDestinations<FromTable>;
}
