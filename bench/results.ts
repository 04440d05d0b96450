/** What a run of the benchmarks gives: written as JSON, drawn as a chart, printed as tables. */
import type { EntrantName } from "./contestants.ts";

/** The median and the quartiles of repeated measurements. */
export interface Spread {
  readonly median: number;
  readonly low: number;
  readonly high: number;
}

/** Something done again and again, contestants in turn. */
export interface Rates {
  readonly name: string;
  readonly rounds: number;
  /** Operations a second. */
  readonly rates: Partial<Record<EntrantName, Spread>>;
  /** The rate of `base` over that of each other contestant, by round. */
  readonly base: EntrantName;
  readonly ratios: Partial<Record<EntrantName, Spread>>;
}

/** Puts that are followed by their delivery. */
export interface Burst extends Rates {
  readonly to: "nothing" | "queue" | "object";
  readonly size: number;
}

/** From the commit to the delivery, in milliseconds, seen from outside. */
export interface Latency {
  readonly entrant: EntrantName;
  /** Messages a second that the object gets meanwhile; 0 is one at a time with pauses. */
  readonly load: number;
  readonly count: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

/** What a message costs in billed operations, counted, the put of its state included. */
export interface Operations {
  readonly entrant: EntrantName;
  readonly burst: number;
  readonly rowsWritten: number;
  readonly rowsRead: number;
  readonly alarmsSet: number;
  /** Runs of the alarm: each is billed as a request. */
  readonly alarmRuns: number;
}

/** The same, where messages come at a steady rate. */
export interface Steady extends Omit<Operations, "burst"> {
  readonly perSecond: number;
  /** That were counted. */
  readonly messages: number;
}

/** What one more message costs with so many destinations. */
export interface Destinations {
  readonly counts: readonly Operations[];
  readonly puts: Rates;
  readonly bursts: readonly Burst[];
}

/** A log that is read to its end, in pages. */
export interface Reading {
  readonly direction: "forward" | "backward";
  /** One message in so many is of the type that was asked for; 1: all were wanted. */
  readonly matching: number;
  /** Messages that were found a second. */
  readonly rates: Rates;
  /** Rows that were read for each message that was found, counted. */
  readonly rowsRead: Partial<Record<EntrantName, number>>;
}

export interface Log {
  /** In the log. */
  readonly messages: number;
  readonly readings: readonly Reading[];
  /** From the commit to the line of `tailStream()`, and to a delivery beside it. */
  readonly tail: readonly Latency[];
}

/** A distribution of times, in milliseconds. */
export interface Times {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly most: number;
  /** How many were in each bucket of the histogram that has any: its upper bound, and the count. Ascending. */
  readonly buckets: readonly (readonly [upTo: number, count: number])[];
}

/** Latencies of very many messages, from several objects at a steady rate. */
export interface Distribution {
  readonly entrant: EntrantName;
  readonly messages: number;
  readonly objects: number;
  /** Of each object. */
  readonly perSecond: number;
  /** From the request to the commit. */
  readonly put: Times;
  /** From the commit to the delivery, of those that deliver. */
  readonly delivery: Times | null;
}

/** What one more message costs while so many wait. */
export interface Backlog {
  readonly pending: number;
  readonly rowsPerPut: number;
  readonly rowsPerDelivery: number;
  readonly readsPerDelivery: number;
  readonly microsecondsPerPut: number;
  readonly microsecondsPerDelivery: number;
  /** The most memory that workerd has had up to here, in MiB. */
  readonly peakMiB: number;
}

/** The heap of an object's isolate while so many messages wait, in MiB: the least and the most that was seen, garbage included. */
export interface Memory {
  readonly pending: number;
  readonly leastMiB: number;
  readonly mostMiB: number;
}

/** From a SIGKILL to the first message, and to the last, in milliseconds; the start of the process is told apart. */
export interface Recovery {
  readonly pending: number;
  readonly startMs: number;
  readonly firstMs: number;
  readonly allMs: number;
  readonly lost: number;
}

/** What a wrapped object that waits for nothing costs at its start. */
export interface Startup {
  /** Calls that read storage, counted. */
  readonly reads: number;
  /** Rows written and alarms set, counted. */
  readonly writes: number;
  /** A first request to an object that is not in memory, in microseconds: the class as it is, and wrapped. */
  readonly bareMicroseconds: Spread;
  readonly wrappedMicroseconds: Spread;
  /** The median of the differences, by round. */
  readonly moreMicroseconds: number;
}

/** A bundle, in bytes. */
export interface Size {
  readonly name: string;
  readonly minified: number;
  readonly gzipped: number;
}

/** What was to be reached. */
export interface Target {
  readonly name: string;
  readonly value: number;
  readonly limit: number;
  readonly is: "at least" | "at most";
  readonly met: boolean;
  /** Timed values depend on the machine; counted ones do not, and are never missed without a reason. */
  readonly counted: boolean;
}

export interface Results {
  readonly machine: {
    readonly cpus: number;
    readonly model: string;
    readonly workerd: string;
    readonly node: string;
    readonly date: string;
  };
  /** A run of a few seconds: to see that everything works, not for its numbers. */
  readonly quick: boolean;
  readonly puts: Rates;
  readonly bursts: readonly Burst[];
  readonly latencies: readonly Latency[];
  /** From the request to the delivery, and of the raw pair to the answer. */
  readonly wholes?: readonly Latency[];
  readonly operations: readonly Operations[];
  readonly deliveries: readonly Burst[];
  readonly steady: { readonly costs: readonly Steady[]; readonly latencies: readonly Latency[] };
  readonly destinations: Destinations;
  readonly log: Log;
  readonly commands: Rates;
  readonly distributions: readonly Distribution[];
  readonly backlogs: readonly Backlog[];
  readonly memory?: Memory;
  readonly recovery: Recovery;
  readonly startup: Startup;
  readonly sizes: readonly Size[];
  readonly targets: readonly Target[];
}

export function spread(values: readonly number[]): Spread {
  return { median: quantile(values, 0.5), low: quantile(values, 0.25), high: quantile(values, 0.75) };
}

/** Between the two nearest, in proportion. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const place = (sorted.length - 1) * share;
  const below = sorted[Math.floor(place)] ?? Number.NaN;
  return below + ((sorted[Math.ceil(place)] ?? Number.NaN) - below) * (place % 1);
}
