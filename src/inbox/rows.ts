/** The inbox in storage: its keys in the reserved range, and how they are read, asynchronously and synchronously. */

import { RESERVED } from "../storage/rows.js";

const INBOX: string = `${RESERVED}inbox/`;

/** Every safe integer in sixteen digits, so that strings sort as numbers do: senders may begin with any number. */
const DIGITS = 16;
const digits = (number: number): string => String(number).padStart(DIGITS, "0");

/** What is known of a sender. */
export const senderKey = (source: string): string => `${INBOX}s${JSON.stringify(source)}`;

/** A sender's older missing numbers: a page of gaps, starting with a number. Without one, where the pages begin. */
export const pageKey = (source: string, first?: number): string =>
  `${INBOX}p${JSON.stringify(source)}${first === undefined ? "" : digits(first)}`;

/** A message that waits for its predecessors. Without a number, where those of a sender begin; without a sender, where all begin. */
export const waitingKey = (source?: string, sequence?: number): string =>
  `${INBOX}w${source === undefined ? "" : JSON.stringify(source)}${sequence === undefined ? "" : digits(sequence)}`;

/** The sender in such a key. */
export const waitingSource = (key: string): string => JSON.parse(key.slice(INBOX.length + 1, -DIGITS)) as string;

/** An id that was seen without a number. Its value is the time until which it is remembered. */
export const idKey = (id: string): string => `${INBOX}i${JSON.stringify(id)}`;

/** The same by that time, in milliseconds since the Unix epoch. Without one, where they begin. */
export const expiryKey = (until?: number, id?: string): string =>
  `${INBOX}t${until === undefined ? "" : digits(until) + JSON.stringify(id)}`;

/** The time and the id in such a key. */
export function expiryIn(key: string): { until: number; id: string } {
  const begin = INBOX.length + 1;
  return { until: Number(key.slice(begin, begin + DIGITS)), id: JSON.parse(key.slice(begin + DIGITS)) as string };
}

/** The end of the range of keys with a prefix. */
export const endOf = (prefix: string): string => `${prefix}\u{10FFFF}`;

/** One read: of a row, or of part of a range. */
export type Read = string | DurableObjectListOptions;

/** Steps that read and then return something: the same for both kinds of storage. */
export type Steps<R> = Generator<Read, R, unknown>;

type Reader = Pick<DurableObjectTransaction, "get" | "list">;

export async function run<R>(storage: Reader, steps: Steps<R>): Promise<R> {
  for (let step = steps.next(); ; ) {
    if (step.done) return step.value;
    const read = step.value;
    step = steps.next(typeof read === "string" ? await storage.get(read) : await storage.list(read));
  }
}

export function runSync<R>(kv: SyncKvStorage, steps: Steps<R>): R {
  for (let step = steps.next(); ; ) {
    if (step.done) return step.value;
    const read = step.value;
    step = steps.next(typeof read === "string" ? kv.get(read) : new Map(kv.list(read as SyncKvListOptions)));
  }
}
