/** The report of an object to its registry: what it says, which shard it goes to, and the check of one that has arrived. */

import { cut, expected } from "../api/errors.js";

/** What an object reports: all that is wrong with it at a moment. A later report takes the place of an earlier one. */
export interface FleetReport {
  /** The name of the namespace, as in the options of `inspector`. */
  readonly namespace: string;
  readonly id: string;
  readonly name?: string;
  /** Greater in each report of an object: about the time in milliseconds since the Unix epoch. */
  readonly version: number;
  /** Empty: all is well. */
  readonly entries: readonly FleetReportEntry[];
}

/** What is wrong with one destination. */
export interface FleetReportEntry {
  readonly destination: string;
  /** See `flagsOf`. */
  readonly flags: number;
  readonly dead: number;
  readonly waiting: number;
  readonly error?: string;
}

/** What the registry says to a report. */
export interface FleetReceipt {
  /** The version that it has now. */
  readonly version: number;
  /**
   * The report was ignored, because its version is not greater than that. It may be the same one: an object that died before its version was durable, and
   * whose clock was set back, gives it to another report.
   */
  readonly isIgnored?: true;
}

/** The shards of a registry, by default. */
export const SHARDS = 16;
/** The most shards. */
export const MOST_SHARDS = 256;
/** The most destinations of one report. */
export const MOST_ENTRIES = 100;
/** The longest name of a namespace, an object or a destination that is kept, and the longest error. */
const NAME_LENGTH = 512;
export const ERROR_LENGTH = 500;

/** The name of a shard's object. */
export function shardName(shard: number): string {
  return `outbox-fleet-${shard}`;
}

/** The shard of an object: FNV-1a over its id. */
export function shardOf(id: string, shards: number): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 0x01000193);
  return (hash >>> 0) % shards;
}

/** A report as the registry keeps it. @throws TypeError when it is none. */
export function checkedReport(given: unknown): FleetReport {
  const { namespace, id, name, version, entries } = Object(given) as { [K in keyof FleetReport]: unknown };
  if (typeof namespace !== "string" || !namespace) throw expected("report.namespace", "a name", namespace);
  if (typeof id !== "string" || !/^[0-9a-f]{64}$/.test(id)) throw expected("report.id", "the id of an object", id);
  if (!Number.isSafeInteger(version)) throw expected("report.version", "a whole number", version);
  if (!Array.isArray(entries) || entries.length > MOST_ENTRIES) {
    throw expected("report.entries", `a list of at most ${MOST_ENTRIES} destinations`, entries);
  }
  return {
    namespace: cut(namespace, NAME_LENGTH),
    id,
    ...(typeof name === "string" && name && { name: cut(name, NAME_LENGTH) }),
    version: version as number,
    entries: entries.map(checkedEntry),
  };
}

function checkedEntry(given: unknown): FleetReportEntry {
  const { destination, flags, dead, waiting, error } = Object(given) as { [K in keyof FleetReportEntry]: unknown };
  if (typeof destination !== "string") throw expected("report.entries.destination", "a name", destination);
  for (const [name, count] of Object.entries({ flags, dead, waiting })) {
    if (!(Number.isSafeInteger(count) && (count as number) >= 0)) throw expected(`report.entries.${name}`, "a whole number from 0", count);
  }
  return {
    destination: cut(destination, NAME_LENGTH),
    flags: (flags as number) & 15,
    dead: dead as number,
    waiting: waiting as number,
    ...(typeof error === "string" && error && { error: cut(error, ERROR_LENGTH) }),
  };
}
