/** Blame: whether one message is what breaks its call, or what the isolate died of, or the destination is in trouble. */

import { textOf } from "../api/errors.js";
import type { Settings } from "../api/options.js";
import { isThrottled } from "../api/verdict.js";
import type { Store } from "../storage/store.js";
import { type Batch, type Entry, handedOver, isAside } from "./batch.js";
import { afterPoison, afterSuccess, type Breaker, inVain } from "./breaker.js";
import type { Delivery } from "./delivery.js";
import type { Outcomes } from "./outcome.js";
import type { Reader } from "./reader.js";
import { about, failure, idOf } from "./reporting.js";

/** So many messages are looked through for one that can be tried in place of the head. */
const CONTROL_LOOK = 1000;
/** A message at which the isolate dies so often, each time alone, is a dead letter. */
const MOST_DEATHS = 3;

/** What the search for a message needs of the run that it is part of. */
export interface Search extends Outcomes {
  take(limit: number, onePerKey: boolean, allowIsolated: boolean, beside: boolean): Promise<Batch>;
  untilConfirmed(): Promise<void>;
}

export interface Blame {
  /** Whether one message is to blame for a failed call. Returns the batch as it is to be settled: what has no fate yet is kept. */
  judgeFailure(given: Batch, before: Breaker, error: unknown): Promise<Batch>;
  /** The run before this one died with its isolate: the platform tells by calling again. Returns whether one message is to blame. */
  judgeDeath(batch: Batch): boolean;
}

/** @param delivery what it is of, when that is made */
export function blameOf(store: Store, reader: Reader, { emit }: Settings, delivery: () => Delivery, search: Search): Blame {
  const { take, untilConfirmed, hand, fail, bury } = search;

  /** Whether one message is to blame for a failed call. Gives the batch as it is to be settled: what has no fate yet is kept. */
  async function judgeFailure(given: Batch, before: Breaker, error: unknown): Promise<Batch> {
    const kept = given.handed.filter(({ fate }) => !fate);
    const [head] = kept;
    if (!head) {
      // Each message was settled before the call failed, so the destination is well.
      reader.breaker = afterSuccess(before, given.handed.length);
      emit({ type: "failed", destination: reader.name, ids: [], ...failure(error), failures: 0, retryAt: 0 });
      return given;
    }
    if (kept.length < given.handed.length || !delivery().send || isThrottled(error)) return given;
    let batch = given;
    let found = head;
    // One that has been found out before is only tried while all is well, or when nothing else is left to try.
    const isAlone = kept.length === 1;
    let judged = isAlone && (head.more.alone === true || before.proven);
    // Most failures pass: the destination gets two chances before another message is tried.
    if ((before.failures > 1 || before.controls > 0) && !judged && !before.proven) {
      const { lanes } = reader;
      const tried = await withControl(given, before.controls);
      await untilConfirmed();
      ({ batch } = tried);
      const { control } = tried;
      found = batch.handed[0] ?? head;
      judged = control !== undefined && !(await hand([control])) && isAlone;
      // A dead letter of its key has been redriven meanwhile, and comes before it.
      const { key = "" } = found.more;
      judged &&= reader.lanes.get(key) === lanes.get(key);
      // The destination may have come back between the two: once more, now that it is known to be well.
      if (judged) await hand([found]);
      while (store.open) await store.open;
      if (control && !control.fate) countControl(control);
      else if (control) batch.handed = [...batch.handed, control];
    }
    if (judged) {
      if (!found.fate) fail(found, { ...found.more, alone: true }, textOf(error));
      reader.breaker = afterPoison(reader.breaker);
    }
    return batch;
  }

  /** Another message was tried in place of those that failed, and failed as well. It stays where it is. */
  function countControl(control: Entry): void {
    const { position, attempts = 1 } = control;
    if (isAside(control)) {
      control.more = { ...control.more, attempts };
      control.changed = true;
    } else reader.breaker = { ...reader.breaker, ...inVain(reader.breaker, position, reader.cursor.ackFloor, position) };
  }

  /**
   * The messages of a failed call again, and another one, whose success would tell that the destination is well. It is taken far
   * from them, and each time from somewhere else, in case it breaks its call as well; and of each ordering key only the first.
   */
  async function withControl(before: Batch, controls: number): Promise<{ batch: Batch; control?: Entry | undefined }> {
    const batch = await take(CONTROL_LOOK, false, false, true);
    // What else is due has been read for nothing.
    if (reader.delayedCount + reader.blockedCount > 0) reader.delayedDueAt = 0;
    const attempts = new Map(before.handed.map(({ position, attempts = 1 }) => [position, attempts]));
    const suspects = batch.handed.filter(({ position }) => attempts.has(position));
    const [head] = suspects;
    if (!head || suspects.length < attempts.size) {
      delivery().queue.batch = before;
      return { batch: before };
    }
    const keys = new Set([head.more.key]);
    const others = batch.handed.filter((entry) => {
      const { key, alone } = entry.more;
      if (entry === head || alone || (key !== undefined && keys.has(key))) return false;
      keys.add(key);
      return true;
    });
    // One of the suspects' keys that has been redriven meanwhile goes first: then nobody is tried in this run.
    const waits = batch.handed.some(({ more: { key }, position }) =>
      suspects.some((suspect) => key !== undefined && suspect.more.key === key && position < suspect.position && !attempts.has(position)),
    );
    const beyond = others.filter(({ position }) => !attempts.has(position));
    const control = waits ? undefined : farthest(beyond, controls);
    if (control) reader.breaker = { ...reader.breaker, controls: controls + 1 };
    for (const suspect of suspects) suspect.attempts = attempts.get(suspect.position) as number;
    batch.handed = suspects;
    batch.entries = [...batch.entries.filter(({ fate }) => fate === "dead"), ...suspects];
    if (control) batch.entries.push(control);
    return { batch, control };
  }

  /** What the platform tells by calling again: the run before this one died with its isolate. Returns whether one message is to blame. */
  function judgeDeath(batch: Batch): boolean {
    const { breaker } = reader;
    const entry = breaker.alone ? batch.entries.find(({ position }) => position === breaker.alone) : undefined;
    if (!entry) return false;
    const deaths = (entry.more.deaths ?? 0) + 1;
    entry.attempts = handedOver(reader, entry) + 1;
    const error = "The isolate died while this message was handed over alone.";
    if (deaths >= MOST_DEATHS) bury(entry, "killed", error);
    else fail(entry, { ...entry.more, alone: true, deaths }, error);
    // What has expired before it goes as well: none of its key may come behind it.
    batch.entries = batch.entries.filter((each) => each === entry || each.fate === "dead");
    batch.handed = [];
    // What else was due has been read for nothing.
    if (reader.delayedCount + reader.blockedCount > 0) reader.delayedDueAt = 0;
    reader.breaker = afterPoison(breaker);
    const { attempts } = entry;
    const { failures } = breaker;
    emit({
      type: "died",
      destination: reader.name,
      ids: [idOf(entry)],
      ...about(entry),
      attempts,
      error,
      failures,
      retryAt: entry.more.due ?? 0,
    });
    return entry.fate !== undefined;
  }

  return { judgeFailure, judgeDeath };
}

/** One of these, far from their beginning, and another one for each number: the last, the middle, the quarters, and so on. */
function farthest<T>(items: readonly T[], number: number): T | undefined {
  let place = 0;
  for (let rest = number, share = 0.5; rest > 0; rest >>= 1, share /= 2) if (rest & 1) place += share;
  return items[number === 0 ? items.length - 1 : Math.floor(place * items.length)];
}
