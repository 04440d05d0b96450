/** Delivery: takes batches in order, hands them to `sendMessages`, and decides what follows. */

import type { AlarmSlot } from "./alarm.js";
import { type Batch, type Entry, handedOver, isAside } from "./batch.js";
import { callOf, type Send, textOf } from "./call.js";
import type { DeadReason, OutboxEvent } from "./events.js";
import { NEVER } from "./memory.js";
import { identify, present, type Stream, sourceOf } from "./message.js";
import type { Settings } from "./options.js";
import { type Queue, queueOf } from "./queue.js";
import { retryDelayMs } from "./retry.js";
import type { Store } from "./store.js";
import { MAX_LANES } from "./take.js";
import type { Timers } from "./timers.js";
import { afterFailure, afterPoison, afterSuccess, inVain, isOver, probeSize, type Trouble } from "./trouble.js";

/** After this long, in milliseconds, a run hands over to the next alarm: far from the platform's limit of 15 minutes. */
const RUN_BUDGET_MS = 60_000;
/** With `dispatch: "immediate"`, the alarm that stands behind the first attempt is this far away, in milliseconds. */
const SAFETY_MS = 10_000;
/** A run that found nothing to do although something seemed due is not repeated before this, in milliseconds. */
const NOTHING_MS = 1000;
/** So many messages are looked through for one that can be tried in place of the head. */
const CONTROL_LOOK = 1000;
/** A message at which the isolate dies so often, each time alone, is a dead letter. */
const MOST_DEATHS = 3;

/** Delivery of one object: runs one at a time; each either empties what is due or ends with the time of the next. */
export interface Delivery {
  /** The object's `sendMessages`. Messages wait while there is none. */
  send: Send | null;
  readonly queue: Queue;
  /** When delivery is to be tried next for what waits now; `NEVER` when nothing does. */
  nextAttempt(): number;
  /** Whether it is to be tried now. */
  isDue(): boolean;
  /** When the alarm must ring: for delivery, or for other work. */
  nextWake(): number;
  /** Starts a run, or joins the one under way. Never rejects. `died` tells that an earlier run ended with its isolate. */
  run(died: boolean): Promise<void>;
  /** With `dispatch: "immediate"`: starts a run as soon as everything that was written is durable. */
  kick(): void;
}

/**
 * @param sync resolves when everything that was written is durable
 * @param abort resets the object: what is not yet committed is gone
 */
export function deliveryOf(
  store: Store,
  alarm: AlarmSlot,
  settings: Settings,
  timers: Timers,
  sync: () => Promise<void>,
  abort: (reason: string) => void,
): Delivery {
  const { batchSize, retry, immediate, emit, listening } = settings;
  const { memory } = store;
  const queue = queueOf(store);
  let active: Promise<void> | null = null;
  let kicked = false;

  async function run(died: boolean): Promise<void> {
    const deadline = Date.now() + RUN_BUDGET_MS;
    let leased = died || memory.trouble.lease;
    do {
      const { trouble } = memory;
      // Who takes a second argument can set a single message aside, and the next of its key must not be under way with it.
      const distinct = delivery.send?.length !== 1;
      const calm = leased || isOver(trouble);
      let batch = await take(batchSize, distinct, calm);
      if (batch.entries.length === 0 && !calm) {
        // What was looked at in vain is looked at again.
        if (memory.aside + memory.laned > 0) memory.due = 0;
        batch = await take(batchSize, distinct, true);
      }
      if (leased && judgeDeath(batch)) {
        leased = false;
        await settle(batch);
        continue;
      }
      if (leased) await lease(batch);
      else {
        cut(batch, probeSize(trouble, batchSize));
        if (batch.handed[0]?.more.deaths) {
          // It has killed before: should it again, the next run must know whom to blame.
          memory.trouble = { ...trouble, lease: true, alone: batch.handed[0].position };
          await store.saveHeader();
        }
      }
      if (memory.paused) batch.entries = batch.handed = [];
      const before = leased ? { ...memory.trouble, suspects: trouble.suspects } : trouble;
      const failed = batch.handed.length > 0 ? await hand(batch.handed) : null;
      if (failed) batch = await judgeFailure(batch, before, failed.error);
      // A batch of which nothing could be handed over tells nothing of the destination.
      else if (batch.handed.length > 0) memory.trouble = afterSuccess(before, batch.handed.length);
      const rest = batch.handed.filter(({ fate }) => !fate);
      if (failed && rest.length > 0) {
        await backOff(batch, rest, failed.error);
        return;
      }
      const lanes = memory.lanes.size;
      const idle = !batch.entries.some(({ fate }) => fate);
      // A lane of which nothing is left has ended, and makes room.
      if (idle && batch.lanes.length > 0) await settle(batch);
      if (idle && memory.lanes.size < lanes) continue;
      // Nothing to do, although something seemed due.
      if (idle) {
        const wake = delivery.nextAttempt();
        return void alarm.setWake(Math.min(Math.max(memory.chore, Date.now()), wake > Date.now() ? wake : Date.now() + NOTHING_MS));
      }
      await settle(batch, before !== memory.trouble && !(isOver(before) && isOver(memory.trouble)));
      if (before.failures > 0 && memory.trouble.failures === 0) emit({ type: "breaker_closed" });
      // After a lease the next run has the platform's own retries behind it again, which tell a death without a row being written.
    } while (!leased && store.due() <= alarm.now() && Date.now() < deadline);
  }

  /** Whether one message is to blame for a failed call. Gives the batch as it is to be settled: what has no fate yet is kept. */
  async function judgeFailure(given: Batch, before: Trouble, error: unknown): Promise<Batch> {
    let batch = given;
    const [head] = batch.handed;
    if (!head || head.fate || batch.handed.length > 1 || !delivery.send) {
      if (batch.handed.some(({ fate }) => !fate)) return batch;
      // Each message was settled before the call failed, so the destination is well.
      memory.trouble = afterSuccess(before, batch.handed.length);
      emit({ type: "failed", ids: [], error, failures: 0, retryAt: 0 });
      return batch;
    }
    // One that has been found out before is only tried while all is well, or when nothing else is left to try.
    let judged = head.more.alone === true || (before.suspects === 1 && before.proven);
    if (!judged && before.suspects === 1) {
      batch = await withControl(batch, head, before.controls);
      const [found, control] = batch.handed;
      if (found && control && !(await hand([control]))) {
        judged = true;
        // The destination may have come back between the two: once more, now that it is known to be well.
        await hand([found]);
      }
    }
    if (judged) {
      const [found = head] = batch.handed;
      if (!found.fate) fail(found, { ...found.more, alone: true }, textOf(error));
      memory.trouble = afterPoison(memory.trouble);
    }
    return batch;
  }

  async function take(limit: number, distinct: boolean, calm: boolean): Promise<Batch> {
    for (;;) {
      while (store.open) await store.open;
      const { retracted } = store;
      const batch = await queue.take(limit, alarm.now(), distinct, calm);
      if (!store.open && store.retracted === retracted) return batch;
      // What was read of a transaction that is still open may yet be rolled back. What storage refuses it refuses at once, and then the
      // message is taken back before this read is over. Either way all of it is read again.
      memory.due = 0;
    }
  }

  /** Only the first `size` messages are handed over; what was read behind them is as if it had not been. */
  function cut(batch: Batch, size: number): void {
    const last = batch.handed[size - 1];
    if (!last || batch.handed.length <= size) return;
    batch.handed = batch.handed.slice(0, size);
    if (memory.aside + memory.laned > 0) memory.due = 0;
    batch.entries = batch.entries.slice(0, batch.entries.indexOf(last) + 1);
  }

  /** Calls `sendMessages`. Gives the error when it failed, and its fate to each message that was settled: to all when it returned. */
  async function hand(entries: Entry[]): Promise<{ error: unknown } | null> {
    let stream: Stream | undefined;
    let source = "";
    const messages = entries.map((entry) => {
      const attempts = Math.max(handedOver(memory, entry), entry.attempts ?? 0) + 1;
      entry.attempts = attempts;
      // One text for all messages of a row.
      if (entry.stream !== stream) {
        stream = entry.stream;
        source = sourceOf(stream);
      }
      return present(entry, attempts, source);
    });
    // What becomes of the list and of its messages in there is not our affair.
    const ids = messages.map(({ id }) => id);
    const call = callOf(messages, ids, settings, timers, delivery.send);
    let failed = await call.settled;
    const ended = failed === null;
    const { outcomes } = call;
    for (let i = 0; i < entries.length; i++) {
      const entry = entries[i] as Entry;
      const outcome = outcomes.size > 0 ? outcomes.get(ids[i] as string) : undefined;
      if (ended && !outcome) entry.fate = outcomes.size > 0 && waitsBehind(entry, entries) ? "aside" : "gone";
      if (outcome?.type === "ack") entry.fate = "gone";
      if (outcome?.type === "retry") fail(entry, entry.more, "sendMessages asked for a retry.", outcome.delayMs);
      if (outcome?.type === "reject") bury(entry, "rejected", outcome.reason);
      if (ended && !entry.fate) failed = { error: new Error(`Messages of ${MAX_LANES} ordering keys wait already.`) };
    }
    return failed;
  }

  /** A message failed by itself: it waits out its own backoff, or its attempts are used up. */
  function fail(entry: Entry, more: Entry["more"], error: string, delayMs?: number): void {
    // With so many keys that wait already it is the destination that is in trouble: the message stays where it is.
    if (more.key !== undefined && !memory.lanes.has(more.key) && memory.lanes.size >= MAX_LANES) return;
    const tries = (more.tries ?? 0) + 1;
    entry.more = { ...more, tries };
    if (tries >= retry.maxAttempts) {
      bury(entry, "max_attempts", error);
      return;
    }
    const last = Date.now();
    const due = last + (delayMs ?? retryDelayMs(retry, tries, Math.random()));
    entry.more = { ...entry.more, attempts: entry.attempts ?? handedOver(memory, entry), error, first: more.first ?? last, last, due };
    entry.fate = "aside";
  }

  function bury(entry: Entry, reason: DeadReason, error: string): void {
    const last = Date.now();
    const { more } = entry;
    entry.more = { ...more, attempts: entry.attempts ?? handedOver(memory, entry), reason, error, first: more.first ?? last, last };
    entry.fate = "dead";
  }

  /** Whether an earlier message of its key was set aside in the same call: then it was handed over too early, and comes again. */
  function waitsBehind(entry: Entry, handed: Entry[]): boolean {
    const { key } = entry.more;
    return (
      key !== undefined && handed.some(({ fate, more, position }) => fate === "aside" && more.key === key && position < entry.position)
    );
  }

  /**
   * The head again, and another message beside it, whose success would tell that the destination is well: each time
   * another one, in case it breaks its call as well, and of each ordering key only the first.
   */
  async function withControl(before: Batch, { position, attempts = 1 }: Entry, controls: number): Promise<Batch> {
    const batch = await take(CONTROL_LOOK, false, false);
    // What else is due has been read for nothing.
    if (memory.aside + memory.laned > 0) memory.due = 0;
    const head = batch.handed.find((entry) => entry.position === position);
    if (!head) {
      queue.batch = before;
      return before;
    }
    const keys = new Set([head.more.key]);
    // One of its key that has been redriven meanwhile goes first: then nobody is tried in this run.
    const waits = batch.handed.some(
      ({ more, position }) => more.key !== undefined && more.key === head.more.key && position < head.position,
    );
    const others = batch.handed.filter((entry) => {
      if (waits) return false;
      const { key, alone } = entry.more;
      if (entry === head || alone || (key !== undefined && keys.has(key))) return false;
      keys.add(key);
      return true;
    });
    const control = others[controls % others.length];
    if (control) memory.trouble = { ...memory.trouble, controls: controls + 1 };
    head.attempts = attempts;
    batch.handed = control ? [head, control] : [head];
    batch.entries = [...batch.entries.filter(({ fate }) => fate === "dead"), ...batch.handed];
    return batch;
  }

  /** What the platform tells by calling again: the run before this one died with its isolate. Returns whether one message is to blame. */
  function judgeDeath(batch: Batch): boolean {
    const { trouble } = memory;
    const entry = trouble.alone ? batch.entries.find(({ position }) => position === trouble.alone) : undefined;
    if (!entry) return false;
    const deaths = (entry.more.deaths ?? 0) + 1;
    entry.attempts = handedOver(memory, entry) + 1;
    const error = "The isolate died while this message was handed over alone.";
    if (deaths >= MOST_DEATHS) bury(entry, "killed", error);
    else fail(entry, { ...entry.more, alone: true, deaths }, error);
    // What has expired before it goes as well: none of its key may come behind it.
    batch.entries = batch.entries.filter((each) => each === entry || each.fate === "dead");
    batch.handed = [];
    // What else was due has been read for nothing.
    if (memory.aside + memory.laned > 0) memory.due = 0;
    memory.trouble = afterPoison(trouble);
    emit({ type: "died", ids: [present(entry, 1).id], error, failures: trouble.failures, retryAt: entry.more.due ?? 0 });
    return entry.fate !== undefined;
  }

  /** An earlier run died. From now on an alarm stands before user code runs, and the batch is half of that one. */
  function lease(batch: Batch): Promise<unknown> {
    const { trouble } = memory;
    for (const entry of batch.handed) {
      if (!isAside(entry)) continue;
      entry.more = { ...entry.more, attempts: handedOver(memory, entry) + 1 };
      entry.changed = true;
    }
    const full = batch.handed;
    cut(batch, probeSize({ ...trouble, lease: true, suspects: trouble.suspects || full.length }, batchSize));
    const { handed } = batch;
    const next = afterFailure(trouble, handed.length, false, retryAt());
    memory.trouble = {
      ...next,
      // The run that died may have had any of the queue in hand.
      ...inVain(trouble, memory.position, memory.done),
      lease: true,
      alone: handed.length === 1 ? (handed[0]?.position ?? 0) : 0,
    };
    for (const entry of batch.entries) {
      if (entry.fate === "aside" && !isAside(entry)) entry.more = { ...entry.more, attempts: handedOver(memory, entry) };
    }
    const written = store.put({ ...queue.changed({ ...batch, entries: full }), [memory.key]: store.header() });
    tell("died", [], undefined, trouble.failures);
    return written;
  }

  /** The destination is in trouble: what was not settled is kept, and the outbox begins again at the same head, later. */
  async function backOff(batch: Batch, kept: Entry[], error: unknown): Promise<void> {
    const { trouble } = memory;
    const { handed } = batch;
    // Messages that would have moved behind others of their key stay, because those stay.
    for (const entry of batch.entries) if (entry.fate === "aside" && !handed.includes(entry)) delete entry.fate;
    for (const entry of kept) {
      if (!isAside(entry)) continue;
      entry.more = { ...entry.more, attempts: entry.attempts ?? 1 };
      entry.changed = true;
    }
    const failures = trouble.lease ? trouble.failures - 1 : trouble.failures;
    // A destination may have said when it wants to be asked again.
    const asked = askedSeconds(error);
    memory.trouble = {
      ...afterFailure(
        { ...trouble, failures },
        kept.length,
        handed.some(({ fate }) => fate),
        Math.max(retryAt(failures), Date.now() + Math.min(asked, retry.maxDelaySeconds) * 1000),
      ),
      ...inVain(trouble, lastOf(handed), memory.done),
    };
    await settle(batch, true, () => tell("failed", kept, error, failures));
  }

  function retryAt(failures: number = memory.trouble.failures): number {
    return Date.now() + retryDelayMs(retry, failures + 1, Math.random());
  }

  /** The last position of the queue among these, or 0. */
  function lastOf(handed: Entry[]): number {
    return Math.max(0, ...handed.filter((entry) => !isAside(entry)).map(({ position }) => position));
  }

  function tell(type: "failed" | "died", kept: Entry[], error: unknown, before: number): void {
    const { failures, retryAt } = memory.trouble;
    void alarm.setWake(delivery.nextWake(), true);
    const ids = kept.map((entry) => present(entry, 1).id);
    emit({ type, ids, error, failures, retryAt });
    if (before > 0) return;
    emit({ type: "breaker_opened", error, retryAt });
    const what = type === "died" ? "A run died with its isolate" : `sendMessages failed: ${textOf(error)}`;
    const seconds = Math.ceil((retryAt - Date.now()) / 1000);
    console.warn(
      `[do-transactional-outbox] ${what}. ${store.undelivered()} messages of object ${memory.object} wait, the next attempt is in ${seconds} s. Nothing is lost: mend the destination, or call flush() to try now.`,
    );
  }

  /** Does what the fates say, and arms the next wake-up in the same turn: an alarm must not outlive what it was armed for. */
  async function settle(batch: Batch, save = false, then: () => void = () => void alarm.setWake(delivery.nextWake())): Promise<void> {
    while (store.open) await store.open;
    const { entries } = batch;
    const written = queue.settle(batch, save);
    then();
    // A row that storage refuses: nothing of this commit may stay, and the object begins again from what is stored.
    await written.catch((error) => {
      abort(String(error));
      throw error;
    });
    if (listening) for (const event of eventsOf(entries)) emit(event);
  }

  const delivery: Delivery = {
    send: null,
    queue,

    nextWake: () => Math.min(delivery.nextAttempt(), Math.max(memory.chore, Date.now())),

    isDue: () => store.due() <= alarm.now() && (memory.trouble.retryAt === 0 || delivery.nextAttempt() <= alarm.now()),

    nextAttempt() {
      const now = Date.now();
      let due = store.due();
      // What is in hand and stands outside the queue is due until it is settled.
      if (due > now && store.waits() && queue.batch?.entries.some(isAside)) due = 0;
      const { retryAt } = memory.trouble;
      if (due === NEVER) return NEVER;
      // A clock that was wrong when the backoff began must not make it longer than the longest.
      if (retryAt) return Math.max(due, now, Math.min(retryAt, now + retry.maxDelaySeconds * 1000));
      return due > now ? due : immediate ? now + SAFETY_MS : now;
    },

    run(died) {
      active ??= run(died)
        // Storage failed, not the destination. What waits is still stored; try again as after any failure.
        .catch((error) => {
          memory.due = memory.next = 0;
          return backOff({ entries: [], handed: [], rows: [], lanes: [] }, [], error);
        })
        .catch(() => {})
        .then(() => {
          active = null;
          queue.batch = null;
          delivery.kick();
        });
      return active;
    },

    kick() {
      if (!immediate || kicked || active || store.open || memory.trouble.retryAt || store.due() > Date.now()) return;
      kicked = true;
      const begin = () => {
        kicked = false;
        if (store.due() <= Date.now()) void delivery.run(false);
      };
      // Where storage fails the object is broken, and its next life has the alarm.
      sync().then(begin, () => {});
    },
  };
  return delivery;
}

/** What an error says of the time to wait, whatever it is. */
function askedSeconds(error: unknown): number {
  try {
    return Number((error as { retryAfterSeconds?: unknown } | null | undefined)?.retryAfterSeconds) || 0;
  } catch {
    return 0;
  }
}

/** What the fates of these messages tell an operator. */
function eventsOf(entries: Entry[]): OutboxEvent[] {
  const events: OutboxEvent[] = [];
  const delivered: string[] = [];
  const aside: string[] = [];
  for (const entry of entries) {
    const { fate, more } = entry;
    const { id } = identify(entry.stream, entry.position, more.id);
    const { attempts = 0, error = "", due = 0, reason } = more;
    if (fate === "gone") delivered.push(id);
    else if (fate === "dead" && reason) events.push({ type: "dead", id, reason, error });
    else if (fate === "aside" && more.last && entry.attempts) events.push({ type: "retried", id, attempts, retryAt: due, error });
    else if (fate === "aside") aside.push(id);
  }
  if (aside.length > 0) events.unshift({ type: "set_aside", ids: aside });
  if (delivered.length > 0) events.unshift({ type: "delivered", ids: delivered });
  return events;
}
