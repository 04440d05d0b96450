/** The verdict on a message that comes in: new, known, or too early, and what is written to remember it. */

import type { OutboxEnvelope } from "../envelope.js";
import { OutboxError } from "../errors.js";
import { after, filled, type Gap, type Heard, isMissing, MOST_GAPS, NOTHING_HEARD } from "./heard.js";
import { endOf, expiryKey, idKey, pageKey, type Steps, senderKey, waitingKey } from "./rows.js";

export type Verdict =
  | { readonly status: "duplicate" }
  /** Its predecessors have not come: it is stored, and waits. */
  | { readonly status: "waiting"; readonly rows: Rows; readonly expected: number }
  | {
      readonly status: "new";
      readonly rows: Rows;
      /** An id that is remembered until then. */
      readonly until?: number;
      /** So many messages of its sender wait, without this one. */
      readonly waiting: number;
    };

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
    return { status: "new", until, rows: { [idKey(id)]: until, [expiryKey(until, id)]: 0 }, waiting: 0 };
  }
  const heard = ((yield senderKey(source)) as Heard | undefined) ?? NOTHING_HEARD;
  if (rules.ordered && sequence > heard.high + 1) return yield* early(envelope, source, sequence, heard, rules);
  const rows = sequence <= heard.paged ? yield* inPages(source, sequence) : besideHigh(source, sequence, heard);
  if (!rows) return { status: "duplicate" };
  const { waiting } = heard;
  const waits = waitingKey(source, sequence);
  if (waiting === 0 || (yield waits) === undefined) return { status: "new", rows, waiting };
  // It comes once more, or its turn has come: either way it waits no longer.
  const next = (rows[senderKey(source)] as Heard | undefined) ?? heard;
  return {
    status: "new",
    rows: { ...rows, [senderKey(source)]: { ...next, waiting: waiting - 1 }, [waits]: undefined },
    waiting: waiting - 1,
  };
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

/** A number above all pages. Gives nothing when it has been heard. */
function besideHigh(source: string, sequence: number, heard: Heard): Rows | undefined {
  if (sequence <= heard.high && !isMissing(heard.gaps, sequence)) return undefined;
  const { heard: next, page } = after(heard, sequence);
  return { [senderKey(source)]: next, ...pageRow(source, page) };
}

/** A number that is older than the gaps beside the highest. Gives nothing when it has been heard. */
function* inPages(source: string, sequence: number): Steps<Rows | undefined> {
  const start = pageKey(source);
  const found = (yield { start, end: pageKey(source, sequence + 1), reverse: true, limit: 1 }) as Map<string, Gap[]>;
  const [[key, gaps] = ["", []]] = found;
  if (!isMissing(gaps, sequence)) return undefined;
  const rest = filled(gaps, sequence);
  const more = rest.length > MOST_GAPS ? rest.splice(MOST_GAPS / 2) : [];
  return { [key]: rest.length > 0 ? rest : undefined, ...pageRow(source, more) };
}

/** A page stands under the first of its numbers, so that the last page up to a number is the one that would name it. */
function pageRow(source: string, page: readonly Gap[]): Rows {
  const [oldest] = page;
  return oldest ? { [pageKey(source, oldest[0])]: page } : {};
}

/** The message of a sender that waits and whose turn it is now. Where order has been given up, it is the turn of all that waited for it. */
export function* nextWaiting(source: string, ordered: boolean): Steps<OutboxEnvelope | undefined> {
  const heard = (yield senderKey(source)) as Heard | undefined;
  if (!heard || heard.waiting === 0) return undefined;
  if (ordered) return (yield waitingKey(source, heard.high + 1)) as OutboxEnvelope | undefined;
  const start = waitingKey(source);
  const [first] = ((yield { start, end: endOf(start), limit: 1 }) as Map<string, OutboxEnvelope>).values();
  return first;
}
