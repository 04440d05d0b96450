/** Replacing: takes back a message that no handler has had, in the commit that stores another one of its id. */

import { type OutboxContext, untilWritable } from "../context.js";
import type { Found } from "../log/ids.js";
import { numberedKey } from "../storage/rows.js";
import { scanOf } from "../storage/scan.js";
import type { Delivery } from "../subscription/delivery.js";
import { cancellerOf, type Removal } from "./cancel.js";

/** What a put with `replace` does beside storing its message. */
export interface Replacement {
  /** What is known of the id, if anything is. */
  readonly found: Found | undefined;
  /** A message that was handed over, or is a dead letter, keeps the id: the new one gets an id of its own. */
  readonly isSecond: boolean;
  /** Takes back the messages that are replaced, in memory and in the rows that the caller writes. */
  change(rows: Record<string, unknown>): void;
}

/** Calls `put` when it is known what is replaced, in a turn in which that is true and nothing else reads and then writes. */
export type Replace = <T>(id: string, put: (replacement: Replacement) => Promise<T>) => Promise<T>;

export function replacerOf(parts: OutboxContext): Replace {
  const { store, delivery } = parts;

  /** Runs what reads and then writes rows of several readers. Always in the same order, so that no two wait for each other. */
  const aloneWith = <T>(all: readonly Delivery[], work: () => Promise<T>): Promise<T> => {
    const [first, ...rest] = all;
    return first ? first.queue.alone(() => aloneWith(rest, work)) : work();
  };

  /** Whether any destination has the message at a position as a dead letter. */
  async function isDead(position: number): Promise<boolean> {
    for (const { reader } of delivery.all) {
      if (reader.deadCount === 0) continue;
      const [row] = await store.page(reader, "d", numberedKey(reader.prefix, "d", position), position, 1);
      if (row) return true;
    }
    return false;
  }

  async function planned(id: string): Promise<(Replacement & { check(): boolean | null }) | null> {
    const { transactions, rollbacks } = store;
    const found = await store.ids.lookup(id);
    const removals: Removal[] = [];
    let isSecond = false;
    if (found) {
      // The id may have gone to a later message than the one that bears it.
      const current = found.row[3]?.id ?? id;
      for (const each of delivery.all) {
        const removal = await cancellerOf(parts, each, scanOf(store, each.reader), () => {}).find(current);
        if (removal) removals.push(removal);
      }
      isSecond = await isDead(found.row[0]);
    }
    if (store.transactions !== transactions || store.rollbacks !== rollbacks) return null;
    const tried = removals.filter((removal) => removal.isTried());
    const untried = removals.filter((removal) => !removal.isTried());
    return {
      found,
      isSecond: isSecond || tried.length > 0,
      check: () => untried.reduce<boolean | null>((all, removal) => all && removal.check(), true),
      change: (rows) => {
        for (const removal of untried) removal.change(rows);
      },
    };
  }

  return async (id, put) => {
    for (;;) {
      const begun = await aloneWith(delivery.all, async () => {
        const replacement = await planned(id);
        if (untilWritable(parts) || !replacement?.check()) return null;
        // Not awaited in here: what else reads and then writes need not wait until it is durable.
        return { done: put(replacement) };
      });
      if (begun) return await begun.done;
      await untilWritable(parts);
    }
  };
}
