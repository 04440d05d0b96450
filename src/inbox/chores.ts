/** What the inbox does when the shared alarm wakes it: forgets ids whose time has come, and tries again what waits although it need not. */

import type { Core } from "../core.js";
import { NEVER } from "../memory.js";
import type { Chore } from "../parts.js";
import { type Inbox, type InboxHandler, RETRY_MS } from "./manager.js";
import { endOf, expiryIn, expiryKey, idKey, run, waitingKey, waitingSource } from "./rows.js";
import { nextWaiting } from "./verdict.js";

/** Ids forgotten in one commit. */
const STEP = 64;
/** Senders looked at in one run. */
const LOOK = 100;
/** All ids of such a share of the retention are forgotten together, so that the alarm rings seldom. */
const STEPS_OF_RETENTION = 16;
/** A message that keeps failing is tried again after twice the time, up to this, in milliseconds. */
const LONGEST_RETRY_MS = 3_600_000;

/** When what is remembered until then is cleaned up. */
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
  /** Where the next look at the senders begins. */
  let from = waitingKey();
  /** A message has failed again since the look began at the first of them. */
  let left = false;
  let delay = RETRY_MS * 2;

  const isReady = async (source: string): Promise<boolean> => (await run(store.native, nextWaiting(source, ordered))) !== undefined;

  /** Goes on with what waits although its turn has come. Gives when that is to be done again: `later`, where something still does. */
  async function retryWaiting(later: number): Promise<number> {
    const own = handler();
    // What waits for a handler waits for the next call of `receive`.
    if (!own) return NEVER;
    for (let looked = 0; looked < LOOK; looked++) {
      const [key] = (await store.native.list({ start: from, end: endOf(waitingKey()), limit: 1 })).keys();
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
      // The handler may be what the isolate dies of: then an alarm stands that has not used up the platform's repetitions.
      while (store.open) await store.open;
      void alarm.setWake(delivery.nextWake(), true);
      await store.saveHeader();
      await inbox.drain(source, own).catch(() => {});
      left ||= await isReady(source);
    }
    return alarm.now();
  }

  /** Forgets a step of the ids whose time has come. Gives when more are to be forgotten, and the rows to write. */
  async function clean(): Promise<{ again: number; rows: Record<string, undefined> }> {
    let keys: string[];
    do {
      while (store.open) await store.open;
      keys = [...(await store.native.list({ start: expiryKey(), end: endOf(expiryKey()), limit: STEP })).keys()];
      // What was read in a transaction may yet be rolled back.
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
    async run() {
      while (store.open) await store.open;
      if (memory.chore > alarm.now()) return;
      // What is written from here on says that there is something left to do: should the object die, or storage fail, it is done again.
      const later = Date.now() + delay;
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
