/** The parts of one object's outbox, as those who work with several of them get them. */

import type { AlarmSlot } from "./alarm/slot.js";
import type { Settings } from "./api/options.js";
import type { Store } from "./storage/store.js";
import type { Dispatch } from "./subscription/dispatch.js";
import type { Timers } from "./timers.js";

export interface OutboxContext {
  readonly ctx: DurableObjectState;
  readonly store: Store;
  readonly alarm: AlarmSlot;
  readonly delivery: Dispatch;
  readonly settings: Settings;
  readonly timers: Timers;
  readonly sqlite: boolean;
  /** `ctx.storage.kv` without its shadows: throws on a KV-backed object. */
  readonly kv: SyncKvStorage;
  /** Settles when the outbox has read what the object left behind, or when `deleteAll()` has done so: `null` from then on. */
  loading: Promise<unknown> | null;
  /** Settles when `deleteAll()` knows which keys there are, and has deleted them: what the object's own code calls meanwhile comes after it. */
  erasing: Promise<unknown> | null;
  /** Settles when the puts have written that had to read first, in their order: `null` while there are none. */
  turn: Promise<void> | null;
}

/** Returns what a call that reads or writes the outbox's rows must wait for first; `null` when it may begin. */
export function untilWritable({ loading, sqlite, store }: OutboxContext): Promise<unknown> | null {
  // On a KV-backed object a transaction that is about to commit would overwrite what is written beside it.
  return loading ?? (store.closing && !sqlite ? store.open : null);
}
