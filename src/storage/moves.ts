/** Moves: where messages have been in a state that somebody walks over, so that a walk shows each of them once. */

import { byStorage } from "./read.js";
import type { Kind } from "./rows.js";

/** A place in the order of a kind of rows. It is one also when no message is there any more. */
export interface Place {
  readonly kind: Kind;
  /** The row's key, where the order is that of times, and what it begins with, where it is that of ordering keys. */
  readonly key: string;
  readonly position: number;
}

interface Move {
  /** How many moves came before. */
  readonly number: number;
  readonly from: Place;
}

/** So many messages that have moved are remembered. A walk may show one that moved before them twice. */
const MOST_MOVED = 10_000;

/** The moves of one object, as far as anybody walks. */
export class Moves {
  /** How many there were. */
  count = 0;
  /** Whether anybody walks. */
  watched = false;
  readonly #moves = new Map<number, Move[]>();

  /** A message leaves a place for another. */
  note(position: number, from: Place): void {
    if (!this.watched) return;
    const moves = this.#moves.get(position) ?? [];
    moves.push({ number: this.count++, from });
    this.#moves.set(position, moves);
    const [oldest = 0] = this.#moves.keys();
    if (this.#moves.size > MOST_MOVED) this.#moves.delete(oldest);
  }

  of(position: number): readonly Move[] {
    return this.#moves.get(position) ?? [];
  }
}

/** A walk over a state: through which places it has come, and how many moves there were by then. */
export class Walk {
  readonly #kinds: readonly Kind[];
  readonly #moves: Moves;
  readonly #begun: number;
  readonly #passes: { read: number; through: Place }[] = [];
  /** Shown after all others, because they had moved to where the walk had been. */
  readonly late: Set<number> = new Set<number>();

  constructor(kinds: readonly Kind[], moves: Moves) {
    this.#kinds = kinds;
    this.#moves = moves;
    this.#begun = moves.count;
    moves.watched = true;
  }

  /** Whether anything has moved since it began. */
  get isDisturbed(): boolean {
    return this.#moves.count > this.#begun;
  }

  /** It has come through a place, as that was when there were so many moves. */
  pass(read: number, through: Place): void {
    const last = this.#passes.at(-1);
    if (last?.read === read) last.through = through;
    else this.#passes.push({ read, through });
  }

  /** Whether it has shown a message: at one of the places where that was, or at this one. */
  hasShown(position: number, place?: Place): boolean {
    const moves = this.#moves.of(position);
    const came = (at: Place): number => this.#passes.find(({ through }) => this.#compare(at, through) <= 0)?.read ?? -1;
    let since = -1;
    for (const { number, from } of moves) {
      const read = came(from);
      if (read > since && read <= number) return true;
      since = number;
    }
    return this.late.has(position) || (place !== undefined && (since < this.#begun || came(place) > since));
  }

  #compare(a: Place, b: Place): number {
    const kinds = this.#kinds.indexOf(a.kind) - this.#kinds.indexOf(b.kind);
    return kinds || byStorage(a.key, b.key) || a.position - b.position;
  }
}

/** The end of rows of a kind. */
export function endOf(kind: Kind): Place {
  return { kind, key: "\u{10FFFF}\u{10FFFF}", position: Number.POSITIVE_INFINITY };
}
