/** The parts of one object's outbox, as those who work with several of them get them. */

import type { AlarmSlot } from "./alarm.js";
import type { Delivery } from "./delivery.js";
import type { Settings } from "./options.js";
import type { Store } from "./store.js";
import type { Timers } from "./timers.js";

export interface Parts {
  readonly ctx: DurableObjectState;
  readonly store: Store;
  readonly alarm: AlarmSlot;
  readonly delivery: Delivery;
  readonly settings: Settings;
  readonly timers: Timers;
  /** Settles when the outbox has read what the object left behind: `null` from then on. */
  loading: Promise<void> | null;
}
