/** The verdict on a message that comes in: new, known, or too early, and what is written to remember it. */

import { OutboxError } from "../errors.js";
import type { OutboxEnvelope } from "../wire.js";
import { after, filled, type Gap, type Heard, isMissing, NOTHING_HEARD } from "./heard.js";
import { expiryKey, idKey, pageKey, type Steps, senderKey, waitingKey } from "./rows.js";

export type Verdict =
  | { readonly status: "duplicate" }
  /** Its predecessors have not come: it is stored, and waits. */
  | { readonly status: "waiting"; readonly rows: Rows; readonly expected: number }
  | { readonly status: "new"; readonly rows: Rows /** An id that is remembered until then. */; readonly until?: number };

/** What is written; `undefined` deletes. */
export type Rows = Record<string, unknown>;

export interface Rules {
  readonly ordered: boolean;
  readonly maxWaiting: number;
  readonly retentionSeconds: number;
}

/** Judges a message. What it gives is to be written in the transaction in which it was read. */
export function* judge(envelope: OutboxEnvelope, rules: Rules, now: number): Steps<Verdict> {
  const { id, source, sequence } = envelope;
  if (source === undefined || sequence === undefined) {
    // One whose time has come may not have been deleted yet.
    if (((yield idKey(id)) as number | undefined) !== undefined) return { status: "duplicate" };
    const until = now + Math.ceil(rules.retentionSeconds * 1000);
    return { status: "new", until, rows: { [idKey(id)]: until, [expiryKey(until, id)]: 0 } };
  }
  const heard = ((yield senderKey(source)) as Heard | undefined) ?? NOTHING_HEARD;
  if (rules.ordered && sequence > heard.high + 1) return yield* early(envelope, source, sequence, heard, rules);
  if (sequence <= heard.paged) return yield* inPages(source, sequence);
  if (sequence <= heard.high && !isMissing(heard.gaps, sequence)) return { status: "duplicate" };
  const { heard: next, page } = after(heard, sequence);
  const [oldest] = page;
  return { status: "new", rows: { [senderKey(source)]: next, ...(oldest && { [pageKey(source, oldest[0])]: page }) } };
}

function* early(envelope: OutboxEnvelope, source: string, sequence: number, heard: Heard, rules: Rules): Steps<Verdict> {
  const key = waitingKey(source, sequence);
  if ((yield key) !== undefined) return { status: "duplicate" };
  if (heard.waiting >= rules.maxWaiting) {
    throw new OutboxError("inbox_full", `${rules.maxWaiting} messages of ${source} wait for number ${heard.high + 1} already.`);
  }
  const rows = { [key]: envelope, [senderKey(source)]: { ...heard, waiting: heard.waiting + 1 } };
  return { status: "waiting", rows, expected: heard.high + 1 };
}

/** A number that is older than the gaps beside the highest. */
function* inPages(source: string, sequence: number): Steps<Verdict> {
  const start = pageKey(source);
  const found = (yield { start, end: pageKey(source, sequence + 1), reverse: true, limit: 1 }) as Map<string, Gap[]>;
  const [[key, gaps] = ["", []]] = found;
  if (!isMissing(gaps, sequence)) return { status: "duplicate" };
  const rest = filled(gaps, sequence);
  return { status: "new", rows: { [key]: rest.length > 0 ? rest : undefined } };
}

/** The message of a sender that waits and whose turn it is now. */
export function* nextWaiting(source: string): Steps<OutboxEnvelope | undefined> {
  const heard = (yield senderKey(source)) as Heard | undefined;
  if (!heard || heard.waiting === 0) return undefined;
  return (yield waitingKey(source, heard.high + 1)) as OutboxEnvelope | undefined;
}

/** What is written when one that waited has been processed, beside what its verdict says. */
export function released(source: string, sequence: number, rows: Rows): Rows {
  const key = senderKey(source);
  const heard = rows[key] as Heard;
  return { ...rows, [key]: { ...heard, waiting: heard.waiting - 1 }, [waitingKey(source, sequence)]: undefined };
}
