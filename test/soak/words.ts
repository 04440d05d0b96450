/** The words of the load: what the object tells whoever measures it. */

/** What was done below the outbox since the last look. */
export interface Costs {
  /** Keys put and deleted, those of the object's own state included. */
  rows: number;
  /** Calls that read. */
  reads: number;
  /** Keys that were read. */
  read: number;
  alarms: number;
}

/** What has been delivered. */
export interface Delivered {
  readonly delivered: number;
  /** Messages that came out of their order, or again. */
  readonly disordered: number;
}

/** Messages of a page. */
export const PAGE = 100;
