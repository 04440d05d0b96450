/** Metrics: a listener that writes what happens to Workers Analytics Engine, as one data point for each run of a destination. */

import { cut, expected } from "../api/errors.js";
import type { OutboxEvent } from "../api/events.js";
import { known } from "../api/known.js";

/** Options of `toAnalyticsEngine`, all optional. */
export interface AnalyticsOptions {
  /** What `blob1` says: the name of the class, say, where several write to one dataset. At most 256 characters. Default: nothing. */
  name?: string;
}

/** What a run did, by the number of its double. */
const DOUBLES = [
  "delivered",
  "failed",
  "retried",
  "dead",
  "breaker_opened",
  "breaker_closed",
  "died",
  "paused",
  "set_aside",
  "version_ahead",
  "dead_letters_deleted",
  "late_outcome",
] as const;
type Counted = (typeof DOUBLES)[number];

/** Events of a destination within this time, in milliseconds, are one point: those of a run, or of a part of a long one. */
const TOGETHER_MS = 1000;
/** The longest index that Analytics Engine takes, in bytes. */
const INDEX_BYTES = 96;
/** So many destinations of so many objects are waited for at a time. One more is written at once. */
const MOST_POINTS = 1000;
const ERROR_LENGTH = 500;

interface Point {
  readonly object: string;
  readonly destination: string;
  readonly counts: Partial<Record<Counted, number>>;
  error: string;
  messageType: string;
  reason: string;
}

/**
 * Returns a listener for the option `onEvent` that writes one data point for each run of a destination (for each second of a long one): how many messages
 * were delivered, failed, and so on. Puts write none. docs/fleet.md names the columns, and queries.
 *
 * A point is written a second after its first event. What an object has counted since is lost when its isolate dies.
 *
 * @param dataset the binding
 * @throws TypeError when it is none, or an option is wrong
 *
 * @example
 * export class Orders extends withTransactionalOutbox(OrdersBase, { onEvent: toAnalyticsEngine(env.METRICS, { name: "orders" }) }) {}
 */
export function toAnalyticsEngine(dataset: AnalyticsEngineDataset, options: AnalyticsOptions = {}): (event: OutboxEvent) => void {
  if (typeof dataset?.writeDataPoint !== "function") throw expected("dataset", "a binding of Analytics Engine", dataset);
  const { name = "" } = known("options", options, ["name"]);
  if (typeof name !== "string" || name.length > 256) throw expected("options.name", "a string of at most 256 characters", name);
  const points = new Map<string, Point>();

  function write({ object, destination, counts, error, messageType, reason }: Point): void {
    dataset.writeDataPoint({
      indexes: [indexOf(object)],
      blobs: [name, object, destination, error, messageType, reason],
      doubles: DOUBLES.map((type) => counts[type] ?? 0),
    });
  }

  function pointOf(object: string, destination: string): Point {
    const key = JSON.stringify([object, destination]);
    const begun = points.get(key);
    if (begun) return begun;
    const point: Point = { object, destination, counts: {}, error: "", messageType: "", reason: "" };
    const end = (): void => {
      points.delete(key);
      write(point);
    };
    if (points.size >= MOST_POINTS) void Promise.resolve().then(() => write(point));
    else {
      points.set(key, point);
      setTimeout(end, TOGETHER_MS);
    }
    return point;
  }

  return (event) => {
    if (!("destination" in event) || !(DOUBLES as readonly string[]).includes(event.type)) return;
    const point = pointOf(event.object, event.destination);
    const type = event.type as Counted;
    // What failed as a whole is one call; what was delivered are so many messages.
    const isMany = type === "delivered" || type === "set_aside" || type === "dead_letters_deleted";
    point.counts[type] = (point.counts[type] ?? 0) + (isMany && "ids" in event ? event.ids.length : 1);
    if ("error" in event) point.error = cut(event.error, ERROR_LENGTH);
    if ("messageType" in event && event.messageType !== undefined) point.messageType = event.messageType;
    if (event.type === "dead") point.reason = event.reason;
  };
}

/** As much of a name as an index holds. */
function indexOf(name: string): string {
  let text = cut(name, INDEX_BYTES);
  while (new TextEncoder().encode(text).length > INDEX_BYTES) text = cut(text, text.length - 1);
  return text;
}
