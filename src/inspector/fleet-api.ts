/**
 * What the inspector's page needs from a fleet: which objects are in trouble, worst first, and actions over many of them. The page and its JSON API know
 * this interface alone; a registry implements it. Everything here is plain data, so that it travels over RPC as it is.
 */

import type { InspectorAction } from "./wire.js";

/** Why a destination of an object is in trouble. */
export type FleetTrouble = "dead" | "breaker" | "stuck" | "paused";

/** One destination of one object that is in trouble, by its latest report. */
export interface FleetEntry {
  /** The name of the namespace, as in the options of `inspector`. */
  readonly namespace: string;
  /** The object's id, and its name where the platform knows it. */
  readonly id: string;
  readonly name?: string;
  readonly destination: string;
  /** Never empty, worst first. */
  readonly troubles: readonly FleetTrouble[];
  readonly dead: number;
  /** Undelivered messages: pending, delayed and blocked. */
  readonly waiting: number;
  /** The last error of the destination, if the report names one: at most 500 characters. */
  readonly error?: string;
  /** Since when it has been in trouble, and when it reported last, in milliseconds since the Unix epoch. */
  readonly since: number;
  readonly reportedAt: number;
}

/** Which entries are meant. Everything that is left out matches all. */
export interface FleetFilter {
  /** A part of the object's name, or the beginning of its id. At most 256 characters. */
  readonly search?: string;
  readonly namespace?: string;
  readonly destination?: string;
  readonly trouble?: FleetTrouble;
}

/** Entries, worst first. */
export interface FleetPage {
  readonly entries: readonly FleetEntry[];
  /** Pass it as `after` for the next page; left out on the last one. */
  readonly next?: string;
  /** How many entries match in all, and how many of these each trouble has. */
  readonly total: number;
  readonly troubles: Readonly<Partial<Record<FleetTrouble, number>>>;
  /** Objects that are not listed, because the registry had no room for all that were in trouble: counted since it began. */
  readonly omitted?: number;
  /** The destinations that occur in entries, for the filter: at most 100. */
  readonly destinations: readonly string[];
}

/** What can be done to many objects at once. */
export type FleetAction = Extract<InspectorAction, "redrive" | "flush" | "pause" | "resume">;

/** An action over all entries that match a filter. */
export interface FleetBatchRequest {
  readonly action: FleetAction;
  readonly filter: FleetFilter;
  /** At most so many objects a second. Default: the registry's. */
  readonly objectsPerSecond?: number;
}

/** How an action over many objects is doing. It continues on its own, also when nobody looks at it, and after a restart where it was. */
export interface FleetBatch {
  readonly id: string;
  readonly action: FleetAction;
  readonly filter: FleetFilter;
  /** `"stopped"`: somebody has stopped it, and it can be resumed. */
  readonly state: "running" | "stopped" | "done";
  readonly startedAt: number;
  readonly endedAt?: number;
  /** Entries that matched when it began, how many of them it has come to, and at how many the action failed. */
  readonly total: number;
  readonly done: number;
  readonly failed: number;
  /** How many messages were changed, as far as the objects said. */
  readonly messages: number;
  /** The last failure: at most 500 characters. */
  readonly error?: string;
}

/** A fleet, as `inspector({ fleet })` takes it. Methods reject with an `Error` whose message a person can read. */
export interface Fleet {
  /** @param query `after` is the `next` of an earlier page; `limit` from 1 to 200, default 50 */
  list(query: FleetFilter & { readonly after?: string; readonly limit?: number }): Promise<FleetPage>;
  /** Starts an action over all entries that match now. */
  start(request: FleetBatchRequest): Promise<FleetBatch>;
  /** Batches that are under way, and the latest that have ended: newest first, at most 20. */
  batches(): Promise<readonly FleetBatch[]>;
  /** Stops a batch, or lets it go on. Resolves to how it is then; `null` when there is none of this id. */
  stop(id: string): Promise<FleetBatch | null>;
  resume(id: string): Promise<FleetBatch | null>;
}
