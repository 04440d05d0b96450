/** What is different on the newest versions, and known to be: see docs/reliability.md. */

export interface Difference {
  /** A part of the full titles of the tests that fail there. */
  readonly title: string;
  readonly why: string;
}

const LARGE_VALUES = "SQLite-backed objects take values of 8 MB, where the pinned runtime refuses what is larger than 2 MiB";

const MINIFLARE_5 = "Miniflare 5 takes its options in another form; the demo is written for the pinned version";

export const KNOWN: readonly Difference[] = [
  { title: "Durable Object storage (sqlite) takes values up to 2 MiB", why: LARGE_VALUES },
  { title: "a value (sqlite) over the platform's limit is refused by the platform", why: LARGE_VALUES },
  { title: "transactionSync() by backend (sqlite) throws at a value that is too large", why: LARGE_VALUES },
  { title: "npm run demo books no slot twice", why: MINIFLARE_5 },
];
