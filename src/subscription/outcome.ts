/** Outcomes: calls the handler with messages, and decides what becomes of each by what it said. */

import { textOf } from "../api/errors.js";
import type { DeadReason } from "../api/events.js";
import type { OutboxMessage } from "../api/message.js";
import type { Settings } from "../api/options.js";
import { isScheduled, payloadOf, present, type Stream, sourceOf } from "../storage/message.js";
import type { Store } from "../storage/store.js";
import type { Timers } from "../timers.js";
import { type Entry, handedOver } from "./batch.js";
import { callOf } from "./call.js";
import type { Delivery } from "./delivery.js";
import type { Reader } from "./reader.js";
import { about } from "./reporting.js";
import { retryDelayMs } from "./retry.js";
import { MAX_LANES } from "./take.js";
import type { Versions } from "./versions.js";

export interface Outcomes {
  /** Calls the handler. Returns the error if it failed, and gives its fate to each message that was settled: to all when it returned. */
  hand(entries: Entry[]): Promise<{ error: unknown } | null>;
  /** A message failed by itself: it waits out its own backoff, or its attempts are used up. */
  fail(entry: Entry, more: Entry["more"], cause: unknown, delayMs?: number, counted?: boolean): void;
  /** A message becomes a dead letter. */
  bury(entry: Entry, reason: DeadReason, cause: unknown): void;
}

/** @param delivery what it is of, when that is made */
export function outcomesOf(
  store: Store,
  reader: Reader,
  settings: Settings,
  timers: Timers,
  versions: Versions,
  delivery: () => Delivery,
): Outcomes {
  const { emit } = settings;

  /** Calls `sendMessages`. Gives the error when it failed, and its fate to each message that was settled: to all when it returned. */
  async function hand(entries: Entry[]): Promise<{ error: unknown } | null> {
    let stream: Stream | undefined;
    let source = "";
    const presented = (entry: Entry): OutboxMessage => {
      const attempts = Math.max(handedOver(reader, entry), entry.attempts ?? 0) + 1;
      entry.attempts = attempts;
      // One text for all messages of a row.
      if (entry.stream !== stream) {
        stream = entry.stream;
        source = sourceOf(stream);
      }
      const current = entry.current ?? versions.current(entry);
      const message = present(
        entry.given && !current?.made ? { ...entry, msg: payloadOf(entry.stored) } : entry,
        attempts,
        source,
        current,
      );
      if (entry.current) entry.current = undefined;
      entry.given = true;
      return message;
    };
    let messages: OutboxMessage[];
    try {
      messages = entries.map(presented);
    } catch (error) {
      // An upcaster has thrown that did not before: the next run makes a dead letter of its message.
      return { error };
    }
    // What becomes of the list and of its messages in there is not our affair.
    const ids = messages.map(({ id }) => id);
    delivery().pace.spend(messages.length);
    const call = callOf(
      messages,
      ids,
      reader.name,
      delivery().settings.timeoutSeconds,
      settings.around,
      timers,
      delivery().send,
      (id, outcome) => {
        const entry = entries[ids.indexOf(id)];
        emit({ type: "late_outcome", destination: reader.name, ...(entry ? about(entry) : { id }), outcome });
      },
    );
    let failed = await call.settled;
    const ended = failed === null;
    const { outcomes } = call;
    for (let i = 0; i < entries.length; i++) {
      const entry = entries[i] as Entry;
      const outcome = outcomes.size > 0 ? outcomes.get(ids[i] as string) : undefined;
      if (ended && !outcome) entry.fate = outcomes.size > 0 && waitsBehind(entry, entries) ? "aside" : "gone";
      if (outcome?.type === "ack") {
        entry.fate = "gone";
        entry.cause = outcome.cause;
      }
      if (outcome?.type === "retry") fail(entry, entry.more, outcome.cause, outcome.delayMs, outcome.countAttempt);
      if (outcome?.type === "reject") bury(entry, "rejected", outcome.cause);
      if (ended && !entry.fate) failed = { error: new Error(`Messages of ${MAX_LANES} ordering keys are waiting already.`) };
    }
    return failed;
  }

  /** Whether so many ordering keys wait already that this one can't. */
  function isFull(key: string | undefined): boolean {
    return key !== undefined && !reader.lanes.has(key) && reader.lanes.size >= MAX_LANES;
  }

  /** A message failed by itself: it waits out its own backoff, or its attempts are used up. */
  function fail(entry: Entry, more: Entry["more"], cause: unknown, delayMs?: number, counted = true): void {
    // With so many keys that wait already it is the destination that is in trouble: the message stays where it is.
    if (isFull(more.key)) return;
    const { tries: before = 0 } = more;
    const tries = before + (counted ? 1 : 0);
    if (tries > 0) entry.more = { ...more, tries };
    if (counted && tries >= delivery().settings.retry.maxAttempts) {
      bury(entry, "max_attempts", cause);
      return;
    }
    const last = store.now();
    const attempts = entry.attempts ?? handedOver(reader, entry);
    const due = last + (delayMs ?? retryDelayMs(delivery().settings.retry, counted ? tries : Math.max(1, attempts), Math.random()));
    const from = isScheduled(more) ? { from: more.due } : {};
    entry.more = { ...entry.more, ...from, attempts, error: textOf(cause), first: more.first ?? last, last, due };
    entry.cause = cause;
    entry.fate = "aside";
  }

  function bury(entry: Entry, reason: DeadReason, cause: unknown): void {
    if (reader.holdsKeys && isFull(entry.more.key)) return;
    const last = store.now();
    const { more } = entry;
    const attempts = entry.attempts ?? handedOver(reader, entry);
    entry.more = { ...more, attempts, reason, error: textOf(cause), first: more.first ?? last, last };
    entry.cause = cause;
    entry.fate = "dead";
  }

  /** Whether an earlier message of its key has to wait, or is waited for, since this call: then it was handed over too early, and comes again. */
  function waitsBehind(entry: Entry, handed: Entry[]): boolean {
    const { key } = entry.more;
    const blocks = ({ fate }: Entry): boolean => fate === "aside" || (fate === "dead" && reader.holdsKeys);
    return key !== undefined && handed.some((each) => blocks(each) && each.more.key === key && each.position < entry.position);
  }

  return { hand, fail, bury };
}
