/** Chores: work of extensions that shares the object's alarm and header. The core knows none of them. */

import { type Memory, NEVER } from "./memory.js";

/** Work that is not delivery: the inbox's, or that of reports to a fleet. */
export interface Chore {
  /** What it is for. An object has at most one of each kind. */
  readonly kind: string;
  /**
   * When it is to run next, in milliseconds since the Unix epoch; `NEVER` while there is nothing to do. By what memory says at this moment: the alarm is
   * set before the header is written, and `look` must not find something else.
   */
  dueAt(): number;
  /** The object has started: the outbox has read what an earlier life left behind, and is about to set its alarm. */
  started?(): void;
  /** The header is about to be written: may change what memory holds for it, in this turn. Must be cheap, because every put comes here. */
  look?(): void;
  /** Whether `deleteAll()` must keep the outbox's rows for it. */
  keepsRows(): boolean;
  /** Does what is due, if anything is, in bounded steps, and sets when more is. Must not keep delivery waiting for long. */
  run(): Promise<unknown>;
}

/**
 * Whether the header says that an alarm may be set for an extension which this deployment does not have: it must not be taken for the object's own. What
 * an extension keeps has `at` for that, while it wants to be woken.
 */
export function hasOrphans({ chore, extensions }: Pick<Memory, "chore" | "extensions">, chores: readonly Chore[]): boolean {
  const isKnown = (kind: string): boolean => chores.some((each) => each.kind === kind);
  if (chore < NEVER && !isKnown("inbox")) return true;
  return Object.entries(extensions).some(([kind, state]) => !isKnown(kind) && (state as { at?: unknown } | null)?.at !== undefined);
}

/** Adds a chore, in place of one of its kind: a dev server constructs another instance for the same state. */
export function addChore(chores: Chore[], chore: Chore): void {
  const at = chores.findIndex(({ kind }) => kind === chore.kind);
  chores.splice(at < 0 ? chores.length : at, 1, chore);
}
