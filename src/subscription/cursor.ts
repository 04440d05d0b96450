/** A reader's cursor: how far it has come in the log, and what it is done with beyond that. Immutable, so that a rollback restores it. */

/** The first and the last position of a range. */
export type Range = readonly [first: number, last: number];

export interface Cursor {
  /** The reader is done with every position up to here: delivered, set aside in a row of its own, dead, cancelled, or holding no message. */
  readonly ackFloor: number;
  /** Positions beyond the floor that it is done with as well. Ascending; between two ranges, and below the first, there is a position that is not. */
  readonly acked: readonly Range[];
}

/** So many ranges are kept in the header. The others have a row of their own. */
export const MAX_RANGES = 32;

/** The cursor of a reader that is done with everything up to a position. */
export function cursorAt(ackFloor: number): Cursor {
  return { ackFloor, acked: [] };
}

export function isAcked({ ackFloor, acked }: Cursor, position: number): boolean {
  return position <= ackFloor || acked.some(([first, last]) => first <= position && position <= last);
}

/** How many positions up to one the reader is not done with. */
export function openUpTo({ ackFloor, acked }: Cursor, position: number): number {
  return acked.reduce((open, [first, last]) => open - (last - first + 1), position - ackFloor);
}

/** The cursor of a reader that begins behind a position. `holes` are positions of the log that no reader gets. */
export function cursorBehind(ackFloor: number, holes: readonly number[]): Cursor {
  return holes.reduce((cursor, position) => ack(cursor, position), cursorAt(ackFloor));
}

/** The cursor after a range of positions. */
export function ack(cursor: Cursor, first: number, last: number = first): Cursor {
  if (last <= cursor.ackFloor || last < first) return cursor;
  let from = first;
  let to = last;
  const before: Range[] = [];
  const after: Range[] = [];
  for (const range of cursor.acked) {
    if (range[1] < from - 1) before.push(range);
    else if (range[0] > to + 1) after.push(range);
    else {
      from = Math.min(from, range[0]);
      to = Math.max(to, range[1]);
    }
  }
  return from <= cursor.ackFloor + 1 ? { ackFloor: to, acked: after } : { ...cursor, acked: [...before, [from, to], ...after] };
}

/**
 * The cursor after everything up to a position but the messages that stay.
 *
 * @param kept their positions, ascending
 */
export function ackThrough(cursor: Cursor, through: number, kept: readonly number[]): Cursor {
  let next = cursor;
  let from = cursor.ackFloor + 1;
  for (const position of kept) {
    if (position < from) continue;
    if (position > through) break;
    next = ack(next, from, position - 1);
    from = position + 1;
  }
  return ack(next, from, through);
}
