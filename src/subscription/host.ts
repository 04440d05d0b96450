/** The host: what a reader's delivery shares with those of the object's other readers. */

import type { Entry } from "./batch.js";
import type { DeadMessages } from "./dead-message.js";
import type { Delivery } from "./delivery.js";
import type { Reader } from "./reader.js";

/** What a reader's delivery shares with those of the object's other readers. */
export interface Host {
  /**
   * Arms the next wake-up for all of them, in this turn.
   *
   * @param now arm it although the platform would repeat its call
   * @param own when this one wants to be woken, where `nextAttempt` does not say
   */
  wake(now?: boolean, own?: { readonly delivery: Delivery; readonly time: number }): void;
  /** Waits until a handler may be called. Resolves to what tells that it need not be called, or has ended. */
  enter(): Promise<() => void>;
  /**
   * Calls `change` in a commit, which results of others that come at the same time share, and then `then` in its turn. `mayWait`: where nothing but the
   * header changes, that may be written later.
   */
  commit(change: (rows: Record<string, unknown>) => void, then: () => void, mayWait: () => boolean): Promise<unknown>;
  /** The class's `deadMessage`. */
  deadMessages(): DeadMessages | null;
  /** Whether any other reader has yet to deliver a message of the log. */
  isWanted(entry: Entry, by: Reader): boolean;
  /** The invocation has no subrequests left: its runs take no further batch. */
  spend(): void;
  readonly isSpent: boolean;
}
