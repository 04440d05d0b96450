/** What an account of the end-to-end tests has of each transfer. */
export interface Audit {
  readonly balance: number;
  /** The numbers of those that it has sent. */
  readonly out: number[];
  /** The numbers of those that it has got, and how often. */
  readonly in: [n: number, times: number][];
  /** Messages in its outbox, dead letters too. */
  readonly waiting: number;
}
