/** How the objects of this restaurant deliver, and what they log. */

import type { OutboxOptions } from "do-transactional-outbox";
import type { FleetReportOptions } from "do-transactional-outbox/fleet";
import type { InboxOptions } from "do-transactional-outbox/inbox";

/** Someone is watching: retry sooner than the defaults would, and for at least an hour. */
export const OUTBOX: OutboxOptions<"OUTBOX_MANAGER"> = { retry: { minDelaySeconds: 0.5, maxDelaySeconds: 4, maxAttempts: 1000 } };

/** Objects report trouble to one registry, and soon: this is a small house. */
export const FLEET: Omit<FleetReportOptions, "namespace"> & { readonly shards: number } = {
  shards: 1,
  delaySeconds: 1,
  stuckAfterSeconds: 60,
};

/** A message that arrives twice has its effect once. The log says so, and `npm run demo` counts these lines. */
export const INBOX: InboxOptions = {
  onEvent({ type, id }) {
    if (type === "duplicate") console.log(`duplicate ${id}`);
  },
};
