/** What can be seen of the restaurant from outside: bookings, tables, and what their outboxes hold. */

/** Which booking, and where. Every message says it, too. */
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

/** What a booking is: `initiated` until its table has answered, and `over` when its slot has passed. */
export interface BookingState extends Wish {
  readonly state: "initiated" | "confirmed" | "refused" | "cancelled" | "over";
  readonly reason?: Refusal;
}

/** What a table is. Only an open one locks slots; a closed one keeps those that are locked. */
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
  /** How often it has failed by itself. */
  readonly attempts: number;
}

/** What an object shows of its outbox. */
export interface Health {
  /** A message that waits for its time, and not for its destination, is not among them. */
  readonly waiting: readonly Waiting[];
  /** Dead letters. */
  readonly dead: number;
  readonly breaker: "closed" | "open";
}

/** Everything that can be known: what the bookings believe, and what the tables do. */
export interface Report {
  readonly bookings: readonly (BookingState & Health)[];
  readonly tables: readonly (TableState & Health)[];
}
