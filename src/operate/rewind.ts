/** Rewinding a destination: it gets again what the log has kept from a position on. */

import { expected, OutboxError } from "../api/errors.js";
import { known } from "../api/known.js";
import { within } from "../api/within.js";
import { type OutboxContext, untilWritable } from "../context.js";
import { acksKey } from "../storage/rows.js";
import { inHandler } from "../subscription/call.js";
import { cursorBehind, openUpTo } from "../subscription/cursor.js";
import type { Delivery } from "../subscription/delivery.js";

/** Where a destination goes back to. */
export interface OutboxRewindOptions {
  /** The position of the first message that it gets again: not before what the log has kept, and not behind the next that it would get. */
  to: number;
}

/**
 * Moves a destination back, between two of its runs and in one commit. Resolves to how many messages it has yet to get, at most.
 *
 * @param wake arms the next wake-up, and is called in the turn of the writes
 */
export async function rewind(
  parts: OutboxContext,
  { reader, queue, pull, join }: Delivery,
  options: OutboxRewindOptions,
  wake: () => unknown,
): Promise<number> {
  const { store, settings } = parts;
  const { memory, log } = store;
  const { to } = known("options", options, ["to"]);
  const wanted = within("options.to", to, [Number.NaN, 1, Number.MAX_SAFE_INTEGER, 1]);
  if (Number.isNaN(wanted)) throw expected("options.to", "a position", to);
  if (!settings.retain) throw new OutboxError("unsupported", "rewind() needs a log that is kept: set the option `retain`.");
  if (store.open) throw new OutboxError("unsupported", "rewind() can't be called in a transaction.");
  if (queue.batch && inHandler()) throw new OutboxError("unsupported", "rewind() in a handler would wait for itself: call it later.");
  // What is settled later would move it on again: the batch of a run, and what a consumer has received.
  return await pull.alone(async () => {
    const busy = (): Promise<unknown> | null => untilWritable(parts) ?? store.open ?? (queue.batch ? join() : null);
    for (let first = busy(); first; first = busy()) await first;
    const next = (reader.queuedCount === 0 ? memory.position : reader.cursor.ackFloor) + 1;
    if (wanted < log.earliest() || wanted > next) throw expected("options.to", `a position from ${log.earliest()} to ${next}`, to);
    pull.endAll();
    const written = store.commit((rows) => {
      reader.cursor = cursorBehind(wanted - 1, memory.holes);
      reader.segment = 0;
      // What of it the destination takes is found out by looking.
      reader.queuedCount = openUpTo(reader.cursor, memory.position);
      reader.timedCount = 0;
      reader.queueDueAt = 0;
      if (reader.acksAtRest) rows[acksKey(reader.prefix)] = undefined;
      reader.acksAtRest = false;
      rows[memory.key] = store.header();
    });
    wake();
    await written;
    return reader.queuedCount;
  });
}
