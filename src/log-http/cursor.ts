/** Cursors of live reads: they change with time, so that no cache answers the same request for ever. */

/** Intervals are counted from here: 2024-10-09, in milliseconds since the Unix epoch (protocol, section 10.1). */
const START = 1_728_432_000_000;
const INTERVAL_MS = 20_000;
/** How far a cursor moves that would repeat the client's, in seconds at most. */
const MOST_JITTER = 3600;

/**
 * The cursor of a response: later than the client's own.
 *
 * @param given the client's, if it has sent one
 * @param random from 0, below 1
 */
export function cursorAfter(given: string | null, now: number, random: number): string {
  const current = Math.floor((now - START) / INTERVAL_MS);
  const own = /^[0-9]{1,15}$/.test(given ?? "") ? Number(given) : -1;
  if (own < current) return String(current);
  return String(own + Math.max(1, Math.ceil((random * MOST_JITTER * 1000) / INTERVAL_MS)));
}
