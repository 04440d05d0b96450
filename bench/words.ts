/** What both sides of the wire say: the benchmarks outside, and the contestants inside of workerd. */

/** Where messages go: nowhere, to the local queue, or to another object. */
export type Destination = "nothing" | "queue" | "object";

/** `puts`: that many in sequence. `burst`: the same until the last has arrived. `one`: the put with this number. `clean`: until nothing waits. */
export type JobName = "puts" | "burst" | "one" | "clean" | "arrivals";

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
