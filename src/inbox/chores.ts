/** What the inbox does when the shared alarm wakes it: forgets ids whose time has come, and tries again what waits although it need not. */

import type { Core } from "../core.js";
import type { Chore } from "../parts.js";
import { NEVER } from "../store.js";
import type { OutboxEnvelope } from "../wire.js";
import { type Inbox, type InboxHandler, RETRY_MS } from "./manager.js";
import { endOf, expiryIn, expiryKey, idKey, run, waitingKey } from "./rows.js";
import { nextWaiting } from "./verdict.js";

/** Ids forgotten in one commit. */
const STEP = 64;
/** Waiting messages looked at in one run. */
const LOOK = 100;
/** All ids of such a share of the retention are forgotten together, so that the alarm rings seldom. */
const STEPS_OF_RETENTION = 16;

/** When what is remembered until then is cleaned up. */
export function cleaning(retentionSeconds: number): (until: number) => number {
  const step = (retentionSeconds * 1000) / STEPS_OF_RETENTION;
  return (until) => Math.ceil(Math.ceil(until / step) * step);
}

/** @param handler the class's own, if it has one */
export function choreOf(core: Core, inbox: Inbox, cleanAt: (until: number) => number, handler: () => InboxHandler | null): Chore {
  const { store, alarm } = core;
  const { memory } = store;

  /** Goes on with what waits although its turn has come. Returns whether something still does. */
  async function retryWaiting(): Promise<boolean> {
    const rows = await store.native.list<OutboxEnvelope>({ start: waitingKey(), end: endOf(waitingKey()), limit: LOOK });
    const sources = new Set([...rows.values()].flatMap(({ source }) => source ?? []));
    let left = false;
    for (const source of sources) {
      const own = handler();
      if (own) await inbox.drain(source, own).catch(() => {});
      left ||= (await run(store.native, nextWaiting(source))) !== undefined;
    }
    return left;
  }

  return {
    async run() {
      while (store.open) await store.open;
      if (memory.chore > alarm.now()) return;
      // What comes in from here on sets it again.
      memory.chore = NEVER;
      const waits = await retryWaiting();
      const keys = [...(await store.native.list({ start: expiryKey(), end: endOf(expiryKey()), limit: STEP })).keys()];
      while (store.open) await store.open;
      const expired = keys.filter((key) => expiryIn(key).until <= alarm.now());
      const next = keys[expired.length];
      const clean = next !== undefined ? cleanAt(expiryIn(next).until) : keys.length === STEP ? alarm.now() : NEVER;
      memory.chore = Math.min(memory.chore, clean, waits ? Date.now() + RETRY_MS : NEVER);
      memory.foreign = Math.max(0, memory.foreign - expired.length);
      const rows = Object.fromEntries(expired.flatMap((key) => [key, idKey(expiryIn(key).id)]).map((key) => [key, undefined]));
      await store.write({ ...rows, [memory.key]: store.header() });
    },
  };
}
