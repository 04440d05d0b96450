/** What a table decides, and what its events make of it: the aggregate's own code, which knows of no storage and no message. Pure. */

import type { Lock, Release, TableEvent, TableStatus } from "./states.ts";

/** What can be asked of a table. */
export type TableCommand =
  | { readonly type: "add" | "remove" | "open" | "close"; readonly table: number }
  | { readonly type: "lock"; readonly table: number; readonly slot: string; readonly bookingId: string; readonly until: number }
  | { readonly type: "unlock"; readonly table: number; readonly slot: string; readonly bookingId: string; readonly reason: Release };

/** A table as its events make it. One that was never added is as one that was removed. */
export interface TableNow {
  readonly status: TableStatus;
  /** What holds each slot that is not free. */
  readonly locks: Readonly<Record<string, Lock>>;
}

/** Why a table does not do what it is asked: an error of the restaurant's own. Its message is for the person who asked. */
export abstract class TableRefusal extends Error {}
export class TableAlreadyExists extends TableRefusal {}
export class TableNotFound extends TableRefusal {}
export class TableLocked extends TableRefusal {}
export class TableClosed extends TableRefusal {}
export class SlotTaken extends TableRefusal {}

export function initialState(): TableNow {
  return { status: "removed", locks: {} };
}

/** Returns what happens, which may be nothing. @throws TableRefusal. */
export function decide(command: TableCommand, { status, locks }: TableNow): TableEvent | TableEvent[] {
  const { table } = command;
  if (command.type === "add") {
    if (status !== "removed") throw new TableAlreadyExists(`There is already a table ${table}.`);
    return { type: "table_added", table };
  }
  if (command.type === "unlock") {
    const { slot, bookingId, reason } = command;
    // Only its own booking opens a lock. It may have been opened before, or never have been there.
    return locks[slot]?.bookingId === bookingId ? { type: "slot_unlocked", bookingId, table, slot, reason } : [];
  }
  if (command.type === "lock") return lock(command, status, locks[command.slot]);
  if (status === "removed") throw new TableNotFound(`There is no table ${table}.`);
  switch (command.type) {
    case "remove": {
      const [locked] = Object.keys(locks).sort();
      if (locked !== undefined) throw new TableLocked(`Table ${table} is locked at ${locked}.`);
      return { type: "table_removed", table };
    }
    case "open":
      return status === "open" ? [] : { type: "table_opened", table };
    case "close":
      // A closed table keeps its locks.
      return status === "closed" ? [] : { type: "table_closed", table };
  }
}

function lock(command: TableCommand & { type: "lock" }, status: TableStatus, held: Lock | undefined): TableEvent | TableEvent[] {
  const { table, slot, bookingId, until } = command;
  // Asked twice by one booking, it has the lock that it asks for.
  if (held?.bookingId === bookingId) return [];
  if (status === "removed") throw new TableNotFound(`There is no table ${table}.`);
  if (status === "closed") throw new TableClosed(`Table ${table} is closed.`);
  if (held) throw new SlotTaken(`Table ${table} is locked at ${slot}.`);
  return { type: "table_lock_placed", bookingId, table, slot, until };
}

export function evolve(table: TableNow, event: TableEvent): TableNow {
  switch (event.type) {
    case "table_added":
    case "table_opened":
      return { ...table, status: "open" };
    case "table_closed":
      return { ...table, status: "closed" };
    case "table_removed":
      return { ...table, status: "removed" };
    case "table_lock_placed": {
      const { slot, bookingId, until } = event;
      return { ...table, locks: { ...table.locks, [slot]: { bookingId, until } } };
    }
    case "slot_unlocked": {
      const { [event.slot]: _, ...locks } = table.locks;
      return { ...table, locks };
    }
  }
}
