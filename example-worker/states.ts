/** The restaurant as seen from outside: bookings, tables, and the contents of their outboxes. */

/** Which booking, and where. Every message contains it, too. */
export interface Subject {
  readonly bookingId: string;
  readonly table: number;
  readonly slot: string;
}

/** Why a table refuses a booking. */
export type Refusal = "taken" | "closed" | "no such table";

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

/** Everything at once: what the bookings have stored, and what the tables have stored. */
export interface Report {
  readonly bookings: readonly (BookingState & Health)[];
  readonly tables: readonly (TableState & Health)[];
}
