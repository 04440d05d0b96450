/** The words of the kill loop: what the loop, its worker and its receiver tell each other. */

/** One object each: a backend, and a `sendMessages` with one parameter or with two. */
export const CLASSES = ["SqlitePlain", "SqliteSettling", "KvPlain", "KvSettling"] as const;
export type ClassName = (typeof CLASSES)[number];

/** The option `batchSize` of every class: small, so that kills find batches at every stage. */
export const BATCH_SIZE = 20;
/** The option `timeoutSeconds` of every class, in milliseconds. */
export const TIMEOUT_MS = 1000;

/** One request of the load: how something is written, and with which options. */
export interface Way {
  readonly kind: "put" | "burst" | "send" | "wide" | "delete" | "transaction" | "transactionSync";
  /** How many messages a burst has. */
  readonly count?: number;
  /** How long a text each message carries. */
  readonly bytes?: number;
  /** How the closure of a transaction ends: only the first leaves anything. */
  readonly end?: "return" | "throw" | "rollback";
  readonly key?: string;
  readonly delaySeconds?: number;
  readonly id?: string;
}

/** The answer to a request: labels whose writes have succeeded, and those that were undone on purpose. */
export interface Written {
  readonly confirmed: readonly number[];
  readonly undone: readonly number[];
}

/** What stands in an object: the states by label, and complaints of what is stored in part. */
export interface Committed {
  readonly states: readonly (readonly [label: number, way: Way])[];
  readonly torn: readonly string[];
  /** Messages that are neither delivered nor dead. */
  readonly waiting: number;
  /** What the platform has armed. */
  readonly alarm: number | null;
}

export interface Dead {
  readonly label: number;
  readonly sequence: number;
  readonly source: string;
  readonly reason: string;
}

/** A message on its way to the receiver. */
export type SentMessage = readonly [label: number, id: string, sequence: number, attempts: number, source: string];

/** What an object sends: the messages of one call, and what the destination can't see. */
export interface Sent {
  /** Which call of this object in this life it is, from 1. */
  readonly call: number;
  /** Its calls in this life that have run out of time, or had no answer: whatever the destination took of them comes again. */
  readonly failed: readonly number[];
  readonly messages: readonly SentMessage[];
}

/** What the destination answers. The lists hold places in the batch. */
export interface Order {
  readonly end: "return" | "throw" | "hang";
  readonly acked: readonly number[];
  readonly retried: readonly number[];
  readonly rejected: readonly number[];
}

/** A line of the receiver's log. */
export type Line =
  | (Sent & {
      readonly type: "send";
      readonly kind: ClassName;
      readonly life: number;
      /** What the clock showed, in milliseconds since the Unix epoch. */
      readonly at: number;
      readonly order: Order;
    })
  /** The process is gone, and nothing of it can arrive any more. */
  | { readonly type: "crash"; readonly life: number };

/** A small seeded generator (mulberry32): from 0 to 1. */
export function generator(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
