/** How the objects of this restaurant deliver, and what they tell the log. */

import type { InboxOptions } from "../src/inbox/index.ts";
import type { OutboxOptions } from "../src/index.ts";

/** Somebody is watching: try again sooner than the defaults would, and for an hour at least. */
export const OUTBOX: OutboxOptions<"OUTBOX_MANAGER"> = { retry: { minDelaySeconds: 0.5, maxDelaySeconds: 4, maxAttempts: 1000 } };

/** A message that came twice has its effect once. The log tells of it, and `npm run demo` counts these lines. */
export const INBOX: InboxOptions = {
  onEvent({ type, id }) {
    if (type === "duplicate") console.log(`duplicate ${id}`);
  },
};
