/** The restaurant as seen from outside: bookings, tables, and the contents of their outboxes. */

/** Which booking, and where. Every message contains it, too. */
export interface Subject {
  readonly bookingId: string;
  readonly table: number;
  readonly slot: string;
}

/** Why a table refuses a booking. */
export type Refusal = "taken" | "closed" | "no such table";

/** Why a slot is free again. */
export type Release = "cancelled" | "passed";

/** What a guest asks for. */
export interface Wish extends Subject {
  readonly guest: string;
  readonly seats: number;
}

/** The state of a booking: `initiated` until its table has answered, and `over` when its slot has passed. */
export interface BookingState extends Wish {
  readonly state: "initiated" | "confirmed" | "refused" | "cancelled" | "over";
  readonly reason?: Refusal;
}

/** The state of a table. Only an open one locks slots; a closed one keeps those that are locked. */
export type TableStatus = "open" | "closed" | "removed";

/** What holds a slot. A slot without a lock is free. */
export interface Lock {
  readonly bookingId: string;
  /** In milliseconds since the Unix epoch. */
  readonly until: number;
}

export interface TableState {
  readonly table: number;
  readonly status: TableStatus;
  readonly locks: readonly (Lock & { readonly slot: string })[];
}

/** A message that is not delivered yet. */
export interface Waiting {
  readonly id: string;
  readonly type: string;
  readonly bookingId: string;
  /** How often it has failed on its own. */
  readonly attempts: number;
}

/** What an object reports about its outbox. */
export interface Health {
  /** Without messages that wait for their own time, not for their destination. */
  readonly waiting: readonly Waiting[];
  /** Dead letters. */
  readonly dead: number;
  readonly breaker: "closed" | "open";
}

/** What happens to a table: its events, of which its state is made. Their schemas are in messages.ts. */
export type TableEvent =
  | { readonly type: "table_added" | "table_removed" | "table_opened" | "table_closed"; readonly table: number }
  | ({ readonly type: "table_lock_placed"; readonly until: number } & Subject)
  | ({ readonly type: "slot_unlocked"; readonly reason: Release } & Subject);

/** A page of a table's history. */
export interface History {
  readonly events: TableEvent[];
  /** The position of the last message that was looked at: the next page is behind it. */
  readonly through: number;
  /** Whether there is nothing more at the moment. */
  readonly isWhole: boolean;
}

/** The catalogue of the tables and the calendar of the bookings, as the tables' events make them. */
export interface Projected {
  readonly catalogue: readonly { readonly table: number; readonly status: TableStatus }[];
  readonly calendar: readonly { readonly table: number; readonly slot: string; readonly bookingId: string }[];
}

/** How often a slot was locked for a booking, and freed because that was cancelled, or because it was over. */
export interface SlotStatistics {
  readonly table: number;
  readonly slot: string;
  readonly locked: number;
  readonly cancelled: number;
  readonly passed: number;
}

/** Everything at once: what the bookings have stored, what the tables have stored, and what was made of the tables' events. */
export interface Report {
  readonly bookings: readonly (BookingState & Health)[];
  readonly tables: readonly (TableState & Health)[];
  readonly projected: Projected;
  readonly statistics: readonly SlotStatistics[];
}
