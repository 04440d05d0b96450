/** The inbox's work when the shared alarm wakes it: forgets expired ids, and retries messages that are still waiting although their turn has come. */

import type { Core } from "../compose.js";
import type { Chore } from "../storage/chore.js";
import { NEVER } from "../storage/memory.js";
import { type Inbox, type InboxHandler, RETRY_MS } from "./manager.js";
import { endOf, expiryIn, expiryKey, idKey, run, waitingKey, waitingSource } from "./rows.js";
import { nextWaiting } from "./verdict.js";

/** How many ids are forgotten in one commit. */
const STEP = 64;
/** How many senders are checked in one run. */
const LOOK = 100;
/** Ids are forgotten together in steps of this fraction of the retention, so that the alarm fires rarely. */
const STEPS_OF_RETENTION = 16;
/** The delay for a message that keeps failing doubles up to this, in milliseconds. */
const LONGEST_RETRY_MS = 3_600_000;

/** When ids that are remembered until a given time are cleaned up. */
export function cleaning(retentionSeconds: number): (until: number) => number {
  const step = (retentionSeconds * 1000) / STEPS_OF_RETENTION;
  return (until) => Math.ceil(Math.ceil(until / step) * step);
}

/** @param handler the class's own, if it has one */
export function choreOf(
  core: Core,
  inbox: Inbox,
  ordered: boolean,
  cleanAt: (until: number) => number,
  handler: () => InboxHandler | null,
): Chore {
  const { store, alarm, delivery } = core;
  const { memory } = store;
  /** Where the next pass over the senders begins. */
  let from = waitingKey();
  /** A message has failed again since the pass began at the first of them. */
  let left = false;
  let delay = RETRY_MS * 2;

  /** A sender that can't be read does not stop the others. */
  const isReady = (source: string): Promise<boolean> =>
    run(store.native, nextWaiting(source, ordered)).then(
      (next) => next !== undefined,
      (error) => {
        store.unreadable(waitingKey(source), error);
        return false;
      },
    );

  /** Continues with messages that wait although their turn has come. Returns when to do so again: `later`, if some are left. */
  async function retryWaiting(later: number): Promise<number> {
    const own = handler();
    // Without a handler they wait for the next call of `receive`.
    if (!own) return NEVER;
    for (let looked = 0; looked < LOOK; looked++) {
      const [[key] = []] = await store.reading.values({ start: from, end: endOf(waitingKey()), limit: 1 });
      if (key === undefined) {
        const again = left ? later : NEVER;
        delay = left ? Math.min(delay * 2, LONGEST_RETRY_MS) : RETRY_MS * 2;
        left = false;
        from = waitingKey();
        return again;
      }
      const source = waitingSource(key);
      from = endOf(waitingKey(source));
      if (!(await isReady(source))) continue;
      // In case the handler crashes the isolate, an alarm is set that has not used up the platform's retries.
      while (store.open) await store.open;
      void alarm.setWake(delivery.nextWake(), true);
      await store.saveHeader();
      await inbox.drain(source, own).catch(() => {});
      left ||= await isReady(source);
    }
    return alarm.now();
  }

  /** Forgets one step of the expired ids. Returns when to forget more, and the rows to write. */
  async function clean(): Promise<{ again: number; rows: Record<string, undefined> }> {
    let keys: string[];
    do {
      while (store.open) await store.open;
      keys = (await store.reading.values({ start: expiryKey(), end: endOf(expiryKey()), limit: STEP })).map(([key]) => key);
      // Rows read during a transaction may yet be rolled back.
    } while (store.open);
    const expired = keys.filter((key) => expiryIn(key).until <= alarm.now());
    memory.foreign = Math.max(0, memory.foreign - expired.length);
    const next = keys[expired.length];
    return {
      again: next !== undefined ? cleanAt(expiryIn(next).until) : keys.length === STEP ? alarm.now() : NEVER,
      rows: Object.fromEntries(expired.flatMap((key) => [key, idKey(expiryIn(key).id)]).map((key) => [key, undefined])),
    };
  }

  return {
    kind: "inbox",

    dueAt: () => memory.chore,

    // Its marks say what has been processed: they outlive the object's own state.
    keepsRows: () => true,

    async run() {
      while (store.open) await store.open;
      if (memory.chore > alarm.now()) return;
      // Every header written from here on says that work is left: if the object crashes, or storage fails, it is done again.
      const later = store.now() + delay;
      memory.chore = later;
      inbox.asked = NEVER;
      try {
        const waits = await retryWaiting(later);
        const { again, rows } = await clean();
        memory.chore = Math.min(inbox.asked, again, waits);
        await store.write({ ...rows, [memory.key]: store.header() });
      } catch (error) {
        memory.chore = Math.min(inbox.asked, later);
        store.unreadable(waitingKey(), error);
      }
    },
  };
}
