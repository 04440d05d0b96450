/** Writing through `storage.kv`: the rows of one message on a SQLite-backed object, row by row and at once. */

import type { OutboxContext } from "../context.js";

/**
 * Writes the rows that a message has made, and the header, of which `rows` has none yet.
 *
 * @param key the caller's own row among them, the only one that storage may refuse: then it throws, and what is written is a segment, which
 * `retract` keeps. Should it refuse one of the outbox's, memory is ahead of storage, and the object is reset: nothing of the turn is committed.
 */
export function writeSync({ ctx, kv, store }: OutboxContext, rows: Record<string, unknown>, key?: string): undefined {
  const own = (write: () => void): void => {
    try {
      write();
    } catch (error) {
      ctx.abort(String(error));
      throw error;
    }
  };
  const { memory } = store;
  own(() => {
    for (const row of Object.keys(rows)) if (row !== key) kv.put(row, rows[row]);
  });
  if (key !== undefined) kv.put(key, rows[key]);
  // The header last: nothing else counts before it stands. What the value's own getters have put meanwhile is in it as well.
  own(() => kv.put(memory.key, store.header()));
}
