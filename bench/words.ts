/** What both sides of the wire say: the benchmarks outside, and the contestants inside of workerd. */

/** Where messages go: nowhere, to the local queue, or to another object. */
export type Destination = "nothing" | "queue" | "object";

/**
 * `puts`: that many in sequence. `rest`: until what they put has arrived. `burst`: both at once. `one`: the put with this number. `clean`: until nothing
 * waits. `pause`: nothing is delivered from then on. `commands`: that many, of an aggregate. The others read a log to its end, which must give that many messages.
 */
export type JobName = "puts" | "rest" | "burst" | "one" | "clean" | "pause" | "arrivals" | "commands" | ReadingName;

/** Forwards or backwards, everything or one message in `MATCHING`. */
export type ReadingName = "forward" | "backward" | "forwardSome" | "backwardSome";

/** Of so many messages in a log one is of the type that is asked for. */
export const MATCHING = 10;
/** Messages of a page. */
export const PAGE = 100;

/** What was done to storage since the last look. */
export interface Costs {
  rowsWritten: number;
  rowsRead: number;
  /** Calls that read, whatever they find. */
  reads: number;
  /** Each is billed as a row written, and not counted there. */
  alarmsSet: number;
  /** Runs of the alarm: each is billed as a request. */
  alarmRuns: number;
}
