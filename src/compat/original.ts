/** The type names of the original package, version 0.1.0, kept so that code written for it compiles. */

import type { OutboxProcessor } from "../api/message.js";
import type { OutboxManager } from "../manager.js";

/** A Durable Object class with `sendMessages`, for `implements`. */
export type TOB_DurableObject = DurableObject & OutboxProcessor<never>;

/** An env with the manager. */
export interface TOB_Env {
  OUTBOX_MANAGER: OutboxManager;
}
