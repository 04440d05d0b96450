/** The verdict on a message that comes in: new, known, or too early, and what is written to remember it. */

import type { OutboxEnvelope } from "../api/envelope.js";
import { OutboxError } from "../api/errors.js";
import { after, filled, type Gap, type Heard, isMissing, MOST_GAPS, NOTHING_HEARD } from "./heard.js";
import { endOf, expiryKey, idKey, pageKey, type Steps, senderKey, waitingKey } from "./rows.js";

export type Verdict =
  | { readonly status: "duplicate" }
  /** Its predecessors have not arrived: it is stored under this key, and waits. */
  | { readonly status: "waiting"; readonly key: string; readonly rows: Rows; readonly expected: number }
  | {
      readonly status: "new";
      readonly rows: Rows;
      /** The time until which its id is remembered. */
      readonly until?: number;
      /** How many messages of its sender wait, without this one. */
      readonly waiting: number;
    };

/** Rows to write; `undefined` deletes. */
export type Rows = Record<string, unknown>;

export interface Rules {
  readonly ordered: boolean;
  readonly maxWaiting: number;
  readonly retentionSeconds: number;
}

/** Judges a message. Its rows must be written in the transaction in which it read. */
export function* judge(envelope: OutboxEnvelope, rules: Rules, now: number): Steps<Verdict> {
  const { id, source, sequence } = envelope;
  if (source === undefined || sequence === undefined) {
    // An expired one may not have been deleted yet.
    if (((yield idKey(id)) as number | undefined) !== undefined) return { status: "duplicate" };
    const until = now + Math.ceil(rules.retentionSeconds * 1000);
    return { status: "new", until, rows: { [idKey(id)]: until, [expiryKey(until, id)]: 0 }, waiting: 0 };
  }
  const heard = ((yield senderKey(source)) as Heard | undefined) ?? NOTHING_HEARD;
  if (rules.ordered && sequence > heard.high + 1) return yield* early(source, sequence, heard, rules);
  const rows = sequence <= heard.paged ? yield* inPages(source, sequence) : besideHigh(source, sequence, heard);
  if (!rows) return { status: "duplicate" };
  const { waiting } = heard;
  const waits = waitingKey(source, sequence);
  if (waiting === 0 || (yield waits) === undefined) return { status: "new", rows, waiting };
  // It has arrived once more, or its turn has come: either way it no longer waits.
  const next = (rows[senderKey(source)] as Heard | undefined) ?? heard;
  return {
    status: "new",
    rows: { ...rows, [senderKey(source)]: { ...next, waiting: waiting - 1 }, [waits]: undefined },
    waiting: waiting - 1,
  };
}

function* early(source: string, sequence: number, heard: Heard, rules: Rules): Steps<Verdict> {
  const key = waitingKey(source, sequence);
  if ((yield key) !== undefined) return { status: "duplicate" };
  if (heard.waiting >= rules.maxWaiting) {
    throw new OutboxError(
      "inbox_full",
      `Too many messages of ${source} wait for number ${heard.high + 1}: maxWaiting is ${rules.maxWaiting}.`,
    );
  }
  const rows = { [senderKey(source)]: { ...heard, waiting: heard.waiting + 1 } };
  return { status: "waiting", key, rows, expected: heard.high + 1 };
}

/** A number above all pages. Returns nothing if it is known. */
function besideHigh(source: string, sequence: number, heard: Heard): Rows | undefined {
  if (sequence <= heard.high && !isMissing(heard.gaps, sequence)) return undefined;
  const { heard: next, page } = after(heard, sequence);
  return { [senderKey(source)]: next, ...pageRow(source, page) };
}

/** A number that is older than the gaps beside the highest. Returns nothing if it is known. */
function* inPages(source: string, sequence: number): Steps<Rows | undefined> {
  const start = pageKey(source);
  const found = (yield { start, end: pageKey(source, sequence + 1), reverse: true, limit: 1 }) as Map<string, Gap[]>;
  const [[key, gaps] = ["", []]] = found;
  if (!isMissing(gaps, sequence)) return undefined;
  const rest = filled(gaps, sequence);
  const more = rest.length > MOST_GAPS ? rest.splice(MOST_GAPS / 2) : [];
  return { [key]: rest.length > 0 ? rest : undefined, ...pageRow(source, more) };
}

/** A page is stored under the first of its numbers, so that the last page up to a number is the one that would contain it. */
function pageRow(source: string, page: readonly Gap[]): Rows {
  const [oldest] = page;
  return oldest ? { [pageKey(source, oldest[0])]: page } : {};
}

/** The waiting message of a sender whose turn it is. If order has been given up, it is the turn of all waiting ones. */
export function* nextWaiting(source: string, ordered: boolean): Steps<OutboxEnvelope | undefined> {
  const heard = (yield senderKey(source)) as Heard | undefined;
  if (!heard || heard.waiting === 0) return undefined;
  if (ordered) return envelopeIn(yield waitingKey(source, heard.high + 1));
  const start = waitingKey(source);
  const [first] = ((yield { start, end: endOf(start), limit: 1 }) as Map<string, unknown>).values();
  return envelopeIn(first);
}

/** A waiting message is stored as one string if JSON can represent it. */
function envelopeIn(stored: unknown): OutboxEnvelope | undefined {
  return (typeof stored === "string" ? JSON.parse(stored) : stored) as OutboxEnvelope | undefined;
}
